//! The vault: memory for the root key and its shares.
//!
//! A secret is *kept* encrypted, under a key hashed from a random pre-key of 16 KiB: whoever reads less
//! than all of the pre-key reads nothing. It is *clear* only within [`Vault::enter`], which runs on a
//! stack of its own that is wiped afterwards. Pre-key, kept secrets and stack lie in pages that are not
//! swapped, not dumped, and not inherited by a fork; with `memfd_secret` no other process reads them
//! either, root's included.

mod pages;

use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::EngineError;
use crate::aead::{Cipher, Suite, TAG_LEN};
use pages::{PAGE, Pages, Stack};

/// Bytes that the vault's key is hashed from.
const PRE_KEY: usize = 16 * 1024;

/// Deep enough for a ceremony in a debug build.
const STACK: usize = 32 * PAGE;

/// A kept secret: nonce, ciphertext and tag, rounded up.
const SLOT: usize = 64;
const NONCE: usize = 12;
const SEALED: usize = NONCE + 32;
const SLOTS: usize = 4 * PAGE / SLOT;

const LABEL: &[u8] = b"sealwire vault key v1";

/// How the vault's pages are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// `memfd_secret` (Linux 5.14): no other process reads the pages, not even through the kernel.
    MemfdSecret,
    /// Locked into memory and left out of dumps; root can still read them.
    Mlock,
    /// Ordinary memory, secrets in clear: only to see that a search of memory finds what is there.
    Unprotected,
}

impl Protection {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MemfdSecret => "memfd-secret",
            Self::Mlock => "mlock",
            Self::Unprotected => "unprotected",
        }
    }
}

/// See the module.
pub struct Vault {
    protection: Protection,
    pre_key: Pages,
    kept: Mutex<Slots>,
    stack: Mutex<Stack>,
}

struct Slots {
    pages: Pages,
    used: Box<[bool]>,
}

impl Vault {
    /// A vault with this protection; with the best one that the machine has when `None`.
    ///
    /// # Errors
    /// When the pages cannot be had so: the kernel has no `memfd_secret`, or the process may not lock
    /// as much (`ulimit -l`, systemd's `LimitMEMLOCK`; a vault takes 192 KiB).
    pub fn new(protection: Option<Protection>) -> io::Result<Arc<Self>> {
        match protection {
            Some(protection) => Self::with(protection),
            None => Self::with(Protection::MemfdSecret).or_else(|_| Self::with(Protection::Mlock)),
        }
    }

    fn with(protection: Protection) -> io::Result<Arc<Self>> {
        let mut pre_key = Pages::map(PRE_KEY, protection)?;
        getrandom::fill(pre_key.bytes_mut()).map_err(io::Error::other)?;
        let pages = Pages::map(SLOTS * SLOT, protection)?;
        let kept = Mutex::new(Slots { pages, used: vec![false; SLOTS].into_boxed_slice() });
        let stack = Mutex::new(Stack::map(STACK, protection)?);
        Ok(Arc::new(Self { protection, pre_key, kept, stack }))
    }

    /// How the pages are protected.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.protection
    }

    /// Runs `work` where secrets may be clear. One at a time; `work` must neither wait for anything nor
    /// enter again, and what it returns cannot hold a clear secret.
    pub(crate) fn enter<T>(&self, work: impl FnOnce(&Inside) -> T) -> T {
        let inside = Inside(());
        match self.protection {
            Protection::Unprotected => work(&inside),
            Protection::MemfdSecret | Protection::Mlock => {
                let mut stack = self.stack.lock().unwrap_or_else(PoisonError::into_inner);
                stack.run(|| work(&inside))
            }
        }
    }

    /// Keeps a secret.
    ///
    /// # Errors
    /// [`EngineError::Random`]; [`EngineError::VaultFull`] when 256 secrets are kept.
    pub(crate) fn keep(
        self: &Arc<Self>,
        inside: &Inside,
        secret: &[u8; 32],
    ) -> Result<Kept, EngineError> {
        let mut slot = Zeroizing::new([0; SLOT]);
        getrandom::fill(&mut slot[..NONCE])?;
        slot[NONCE..SEALED].copy_from_slice(secret);
        if self.protection != Protection::Unprotected {
            let (nonce, rest) = slot.split_at_mut(NONCE);
            let (body, tag) = rest.split_at_mut(32);
            self.cipher(inside)?.seal_in_place(nonce, LABEL, body, &mut tag[..TAG_LEN])?;
        }
        let mut kept = self.kept();
        let number = kept.used.iter().position(|used| !used).ok_or(EngineError::VaultFull)?;
        kept.used[number] = true;
        kept.pages.bytes_mut()[number * SLOT..][..SLOT].copy_from_slice(slot.as_slice());
        Ok(Kept { vault: self.clone(), number })
    }

    fn cipher(&self, _: &Inside) -> Result<Cipher, EngineError> {
        let mut key: [u8; 32] =
            Sha256::new().chain_update(LABEL).chain_update(self.pre_key.bytes()).finalize().into();
        let cipher = Cipher::new(Suite::Aes256GcmSiv, &key);
        key.zeroize();
        Ok(cipher?)
    }

    fn kept(&self) -> MutexGuard<'_, Slots> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Proof of being within [`Vault::enter`]: whatever handles a clear root key or share takes one.
pub(crate) struct Inside(());

/// A secret in clear. It borrows from [`Inside`], so it cannot leave.
pub(crate) struct Clear<'a>(Zeroizing<[u8; 32]>, PhantomData<&'a Inside>);

impl<'a> Clear<'a> {
    pub(crate) fn zeroed(_: &'a Inside) -> Self {
        Self(Zeroizing::new([0; 32]), PhantomData)
    }

    pub(crate) fn generate(inside: &'a Inside) -> Result<Self, EngineError> {
        let mut clear = Self::zeroed(inside);
        getrandom::fill(clear.expose_mut())?;
        Ok(clear)
    }

    pub(crate) fn copy_from(inside: &'a Inside, bytes: &[u8]) -> Option<Self> {
        let mut clear = Self::zeroed(inside);
        (bytes.len() == 32).then(|| clear.expose_mut().copy_from_slice(bytes))?;
        Some(clear)
    }

    pub(crate) fn copy(&self, inside: &'a Inside) -> Self {
        let mut copy = Self::zeroed(inside);
        copy.expose_mut().copy_from_slice(self.expose());
        copy
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn expose_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }
}

/// A kept secret: wiped when dropped.
pub(crate) struct Kept {
    vault: Arc<Vault>,
    number: usize,
}

impl Kept {
    /// The secret, in clear.
    ///
    /// # Errors
    /// [`EngineError::Vault`] when the memory was changed.
    pub(crate) fn open<'a>(&self, inside: &'a Inside) -> Result<Clear<'a>, EngineError> {
        let mut slot = Zeroizing::new([0; SLOT]);
        slot.copy_from_slice(&self.vault.kept().pages.bytes()[self.number * SLOT..][..SLOT]);
        let mut clear = Clear::zeroed(inside);
        clear.expose_mut().copy_from_slice(&slot[NONCE..SEALED]);
        if self.vault.protection != Protection::Unprotected {
            let tag = &slot[SEALED..SEALED + TAG_LEN];
            self.vault
                .cipher(inside)?
                .open_in_place(&slot[..NONCE], LABEL, clear.expose_mut(), tag)
                .map_err(|_| EngineError::Vault)?;
        }
        Ok(clear)
    }

    /// The vault that keeps it.
    pub(crate) fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut kept = self.vault.kept();
        kept.pages.bytes_mut()[self.number * SLOT..][..SLOT].zeroize();
        kept.used[self.number] = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_kept_encrypted_and_comes_back() {
        for protection in [Protection::MemfdSecret, Protection::Mlock] {
            let vault = Vault::new(Some(protection)).expect("a vault");
            let kept = vault.enter(|inside| vault.keep(inside, &[0x5A; 32])).expect("kept");
            let lies = |vault: &Vault| {
                vault.kept().pages.bytes().windows(32).any(|window| window == [0x5A; 32])
            };
            assert!(!lies(&vault), "{protection:?}");
            let same =
                vault.enter(|inside| kept.open(inside).map(|clear| *clear.expose() == [0x5A; 32]));
            assert_eq!(same, Ok(true), "{protection:?}");
            drop(kept);
            assert!(vault.kept().pages.bytes().iter().all(|byte| *byte == 0), "{protection:?}");
        }
    }

    #[test]
    fn an_unprotected_vault_keeps_secrets_in_clear() {
        let vault = Vault::new(Some(Protection::Unprotected)).expect("a vault");
        let _kept = vault.enter(|inside| vault.keep(inside, &[0x5A; 32])).expect("kept");
        assert!(vault.kept().pages.bytes().windows(32).any(|window| window == [0x5A; 32]));
    }

    #[test]
    fn a_changed_slot_does_not_open_and_a_full_vault_says_so() {
        let vault = Vault::new(None).expect("a vault");
        let kept = vault.enter(|inside| vault.keep(inside, &[1; 32])).expect("kept");
        vault.kept().pages.bytes_mut()[NONCE] ^= 1;
        let opened = vault.enter(|inside| kept.open(inside).map(drop));
        assert_eq!(opened, Err(EngineError::Vault));
        let more: Vec<_> = (1..SLOTS)
            .map(|_| vault.enter(|inside| vault.keep(inside, &[2; 32])).expect("kept"))
            .collect();
        let full = vault.enter(|inside| vault.keep(inside, &[3; 32]).map(drop));
        assert_eq!(full, Err(EngineError::VaultFull));
        drop(more);
        assert!(vault.enter(|inside| vault.keep(inside, &[3; 32])).is_ok());
    }
}
