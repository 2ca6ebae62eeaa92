//! The six suites over plain slices, from the RustCrypto crates.
//!
//! Sealing in production draws its nonce from [the operating system](crate::Session) and then runs
//! the code of this module; [`seal_with_nonce`] exists for test vectors alone.

use ::aead::inout::InOutBuf;
use ::aead::{AeadInOut, KeyInit, Nonce, Tag, consts::U12};
use aes_gcm::{Aes256Gcm, AesGcm};
use aes_gcm_siv::Aes256GcmSiv;
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};
use xaes_256_gcm::Xaes256Gcm;
use zeroize::Zeroize;

pub use sealwire_protocol::Suite;

/// SM4 in Galois/Counter Mode, RFC 8998, section 3.1.
type Sm4Gcm = AesGcm<sm4::Sm4, U12>;

/// Bytes of every suite's tag.
pub(crate) const TAG_LEN: usize = Suite::MAX_TAG_LEN;

/// What a suite refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AeadError {
    /// The key has another length than [`Suite::key_len`].
    #[error("the key's length is not the suite's")]
    KeyLength,
    /// The nonce has another length than [`Suite::nonce_len`].
    #[error("the nonce's length is not the suite's")]
    NonceLength,
    /// Message or AAD are longer than the suite allows.
    #[error("message or associated data are longer than the suite allows")]
    TooLong,
    /// The tag does not verify: changed bytes, another key, nonce or AAD.
    #[error("the tag does not verify")]
    Auth,
}

/// Opens `ct_and_tag`, the ciphertext followed by its tag of 16 bytes.
///
/// # Errors
/// [`AeadError`]. Nothing of the plaintext is left anywhere after [`AeadError::Auth`].
pub fn open(
    suite: Suite,
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    ct_and_tag: &[u8],
) -> Result<Vec<u8>, AeadError> {
    let cipher = Cipher::new(suite, key)?;
    check_nonce(suite, nonce)?;
    let length = ct_and_tag.len().checked_sub(TAG_LEN).ok_or(AeadError::Auth)?;
    let (ciphertext, tag) = ct_and_tag.split_at(length);
    let mut buffer = ciphertext.to_vec();
    cipher.open_in_place(nonce, aad, &mut buffer, tag)?;
    Ok(buffer)
}

/// Seals `plaintext` under a nonce of the caller's choice, for test vectors: a nonce that repeats
/// under one key gives messages away. Returns the ciphertext followed by its tag of 16 bytes.
///
/// # Errors
/// [`AeadError::KeyLength`], [`AeadError::NonceLength`], [`AeadError::TooLong`].
#[cfg(feature = "hazmat")]
pub fn seal_with_nonce(
    suite: Suite,
    key: &[u8],
    nonce: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, AeadError> {
    let cipher = Cipher::new(suite, key)?;
    check_nonce(suite, nonce)?;
    let mut buffer = [plaintext, &[0; TAG_LEN]].concat();
    let (message, tag) = buffer.split_at_mut(plaintext.len());
    cipher.seal_in_place(nonce, aad, message, tag)?;
    Ok(buffer)
}

fn check_nonce(suite: Suite, nonce: &[u8]) -> Result<(), AeadError> {
    if nonce.len() == suite.nonce_len() { Ok(()) } else { Err(AeadError::NonceLength) }
}

/// A suite with its expanded key. Zeroized on drop by the crates' own `zeroize` features.
pub(crate) enum Cipher {
    Aes256Gcm(Aes256Gcm),
    Xaes256Gcm(Xaes256Gcm),
    Aes256GcmSiv(Aes256GcmSiv),
    ChaCha20Poly1305(ChaCha20Poly1305),
    XChaCha20Poly1305(XChaCha20Poly1305),
    Sm4Gcm(Sm4Gcm),
}

impl Cipher {
    /// Expands a key of [`Suite::key_len`] bytes.
    pub(crate) fn new(suite: Suite, key: &[u8]) -> Result<Self, AeadError> {
        fn keyed<C: KeyInit>(key: &[u8]) -> Result<C, AeadError> {
            C::new_from_slice(key).map_err(|_| AeadError::KeyLength)
        }
        Ok(match suite {
            Suite::Aes256Gcm => Self::Aes256Gcm(keyed(key)?),
            Suite::Xaes256Gcm => Self::Xaes256Gcm(keyed(key)?),
            Suite::Aes256GcmSiv => Self::Aes256GcmSiv(keyed(key)?),
            Suite::ChaCha20Poly1305 => Self::ChaCha20Poly1305(keyed(key)?),
            Suite::XChaCha20Poly1305 => Self::XChaCha20Poly1305(keyed(key)?),
            Suite::Sm4Gcm => Self::Sm4Gcm(keyed(key)?),
        })
    }

    /// Seals `buffer` in place and writes the tag into `tag`, which has [`TAG_LEN`] bytes.
    #[inline]
    pub(crate) fn seal_in_place(
        &self,
        nonce: &[u8],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), AeadError> {
        match self {
            Self::Aes256Gcm(cipher) => seal(cipher, nonce, aad, buffer, tag),
            Self::Xaes256Gcm(cipher) => seal(cipher, nonce, aad, buffer, tag),
            Self::Aes256GcmSiv(cipher) => seal(cipher, nonce, aad, buffer, tag),
            Self::ChaCha20Poly1305(cipher) => seal(cipher, nonce, aad, buffer, tag),
            Self::XChaCha20Poly1305(cipher) => seal(cipher, nonce, aad, buffer, tag),
            Self::Sm4Gcm(cipher) => seal(cipher, nonce, aad, buffer, tag),
        }
    }

    /// Opens `buffer` in place. When the tag does not verify, `buffer` is all zeros afterwards: no
    /// plaintext that was not authenticated is ever left in it.
    #[inline]
    pub(crate) fn open_in_place(
        &self,
        nonce: &[u8],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8],
    ) -> Result<(), AeadError> {
        let opened = match self {
            Self::Aes256Gcm(cipher) => unseal(cipher, nonce, aad, buffer, tag),
            Self::Xaes256Gcm(cipher) => unseal(cipher, nonce, aad, buffer, tag),
            Self::Aes256GcmSiv(cipher) => unseal(cipher, nonce, aad, buffer, tag),
            Self::ChaCha20Poly1305(cipher) => unseal(cipher, nonce, aad, buffer, tag),
            Self::XChaCha20Poly1305(cipher) => unseal(cipher, nonce, aad, buffer, tag),
            Self::Sm4Gcm(cipher) => unseal(cipher, nonce, aad, buffer, tag),
        };
        if opened.is_err() {
            buffer.zeroize();
        }
        opened
    }
}

#[inline]
fn seal<C: AeadInOut>(
    cipher: &C,
    nonce: &[u8],
    aad: &[u8],
    buffer: &mut [u8],
    tag: &mut [u8],
) -> Result<(), AeadError> {
    let nonce = <&Nonce<C>>::try_from(nonce).map_err(|_| AeadError::NonceLength)?;
    let made = cipher
        .encrypt_inout_detached(nonce, aad, InOutBuf::from(buffer))
        .map_err(|_| AeadError::TooLong)?;
    tag.copy_from_slice(&made);
    Ok(())
}

#[inline]
fn unseal<C: AeadInOut>(
    cipher: &C,
    nonce: &[u8],
    aad: &[u8],
    buffer: &mut [u8],
    tag: &[u8],
) -> Result<(), AeadError> {
    let nonce = <&Nonce<C>>::try_from(nonce).map_err(|_| AeadError::NonceLength)?;
    let tag = <&Tag<C>>::try_from(tag).map_err(|_| AeadError::Auth)?;
    cipher
        .decrypt_inout_detached(nonce, aad, InOutBuf::from(buffer), tag)
        .map_err(|_| AeadError::Auth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_plaintext_is_left_when_the_tag_is_wrong() {
        for suite in Suite::ALL {
            let key = [7; 32];
            let cipher = Cipher::new(suite, &key[..suite.key_len()]).expect("key");
            let nonce = [9; Suite::MAX_NONCE_LEN];
            let nonce = &nonce[..suite.nonce_len()];
            let mut buffer = *b"a message that must not be seen";
            let mut tag = [0; TAG_LEN];
            cipher.seal_in_place(nonce, b"aad", &mut buffer, &mut tag).expect("seals");
            tag[15] ^= 1;
            let refused = cipher.open_in_place(nonce, b"aad", &mut buffer, &tag);
            assert_eq!(refused, Err(AeadError::Auth), "{suite}");
            assert!(buffer.iter().all(|byte| *byte == 0), "{suite}");
        }
    }
}
