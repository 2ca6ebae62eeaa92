//! Bytes that must not be seen.

use zeroize::Zeroize;

use crate::EngineError;

/// A secret of `N` bytes: zeroized on drop, without Debug, Display or Clone.
///
/// It lies on the heap, so that moving it leaves no copy behind.
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// All zeros, to be filled in place.
    #[must_use]
    pub fn zeroed() -> Self {
        Self(Box::new([0; N]))
    }

    /// Fresh bytes from the operating system.
    ///
    /// # Errors
    /// [`EngineError::Random`].
    pub fn generate() -> Result<Self, EngineError> {
        let mut secret = Self::zeroed();
        getrandom::fill(secret.0.as_mut_slice())?;
        Ok(secret)
    }

    /// A copy of `bytes`, when there are `N` of them.
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != N {
            return None;
        }
        let mut secret = Self::zeroed();
        secret.0.copy_from_slice(bytes);
        Some(secret)
    }

    /// The bytes. Whoever asks must not let them out.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// The bytes, to be filled in place.
    pub fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
