//! The chip: what seals the root key for the disk, so that a restart needs no custodian.
//!
//! Each chip gives a *seal key*, which seals the root key into `root.sealed`; `docs/card.md` has the
//! bytes. So the root key itself is never handed to a token, or to the library that speaks to it.

mod pkcs11;
mod sealed;
mod software;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::TokenError;
use crate::{EngineError, RootKey, RootKeyId, Vault};

pub use pkcs11::TokenChip;
use sealed::Format;
pub(super) use sealed::{Seal, sealed_root_of};

/// What seals the root key for the disk.
#[derive(Debug, Clone)]
pub enum Chip {
    /// Nothing: cards at every start.
    None,
    /// A key file outside the data folder. A stolen machine opens itself.
    Software {
        /// The key file: 32 bytes, mode 0600.
        key_file: PathBuf,
    },
    /// An AES key in a token, which cannot leave it.
    Pkcs11(Box<TokenChip>),
}

/// Why a chip did not open the root key. The cards still do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChipError {
    /// A file of the chip could not be read or written.
    #[error("{what} {path}")]
    File {
        /// What it is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file of the chip is readable by others, or of another size.
    #[error("{what} {path}: {problem}")]
    Unsafe {
        /// What it is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// The token refused.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The sealed root key does not open with this chip.
    #[error(
        "root.sealed does not open with this chip: it was changed, or sealed by another one; unseal with the key \
         cards, and it is sealed anew"
    )]
    DoesNotOpen,
    /// The data folder could not be read.
    #[error("data folder {path}")]
    Folder {
        /// The data folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Chip {
    /// The name in the configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Software { .. } => "software",
            Self::Pkcs11(_) => "pkcs11",
        }
    }

    /// Prepares to seal a root key for the disk; `None` when the chip is none. Makes the chip's key when
    /// there is none yet. This is the slow part, and the one that fails: the root key is not needed for it.
    pub(super) fn prepare(&self, root: RootKeyId, data: &Path) -> Result<Option<Seal>, ChipError> {
        match self {
            Self::None => Ok(None),
            Self::Software { key_file } => {
                let key = software::key(key_file, data, software::Missing::Make)?;
                Seal::prepare(Format::Software, root, |_, _| Ok(key)).map(Some)
            }
            Self::Pkcs11(chip) => {
                let token = chip.token()?;
                Seal::prepare(Format::Pkcs11, root, |header, part| {
                    pkcs11::make_seal_key(&token, header, part)
                })
                .map(Some)
            }
        }
    }

    /// Opens a root key that was sealed by this chip.
    pub(super) fn open(
        &self,
        sealed: &[u8],
        data: &Path,
        vault: &Arc<Vault>,
    ) -> Result<RootKey, ChipError> {
        match self {
            Self::None => Err(ChipError::DoesNotOpen),
            Self::Software { key_file } => sealed::open(Format::Software, sealed, vault, |_, _| {
                software::key(key_file, data, software::Missing::Refuse)
            }),
            Self::Pkcs11(chip) => sealed::open(Format::Pkcs11, sealed, vault, |header, part| {
                pkcs11::seal_key(&chip.token()?, header, part)
            }),
        }
    }
}
