//! The chip: what seals the root key for the disk, so that a restart needs no custodian.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::folder;
use crate::aead::{Cipher, Suite};
use crate::{EngineError, RootKey, RootKeyId, Secret, kdf};

const MAGIC: &[u8; 8] = b"SEALROOT";
const FORMAT: u8 = 1;
const LABEL: &str = "sealwire software chip v1";
const HEADER_LEN: usize = 37;
const SEALED_LEN: usize = HEADER_LEN + 32 + 16;

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
}

/// Why a chip did not open the root key. The cards still do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChipError {
    /// The key file could not be read or written.
    #[error("key file {path}")]
    KeyFile {
        /// The key file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The key file is readable by others, or of another size.
    #[error("key file {path}: {problem}")]
    Unsafe {
        /// The key file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// The sealed root key does not open with this chip.
    #[error("root.sealed does not open with this chip: it was changed, or sealed by another one")]
    DoesNotOpen,
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
        }
    }

    /// Seals a root key for the disk; `None` when the chip is none. Makes the key file when there
    /// is none yet.
    pub(super) fn seal(&self, root: &RootKey, data: &Path) -> Result<Option<Vec<u8>>, ChipError> {
        let Self::Software { key_file } = self else { return Ok(None) };
        let mut bytes = vec![0; SEALED_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = FORMAT;
        bytes[9..25].copy_from_slice(&root.id().to_bytes());
        getrandom::fill(&mut bytes[25..HEADER_LEN]).map_err(EngineError::from)?;
        let cipher = cipher(&software_key(key_file, data, true)?, root.id())?;
        let (header, body) = bytes.split_at_mut(HEADER_LEN);
        let (secret, tag) = body.split_at_mut(32);
        secret.copy_from_slice(root.secret().expose());
        cipher.seal_in_place(&header[25..], header, secret, tag).map_err(EngineError::from)?;
        Ok(Some(bytes))
    }

    /// Opens a root key that [`Chip::seal`] has sealed.
    pub(super) fn open(&self, sealed: &[u8], data: &Path) -> Result<RootKey, ChipError> {
        let Self::Software { key_file } = self else { return Err(ChipError::DoesNotOpen) };
        if sealed.len() != SEALED_LEN || !sealed.starts_with(MAGIC) || sealed[8] != FORMAT {
            return Err(ChipError::DoesNotOpen);
        }
        let id: [u8; 16] = sealed[9..25].try_into().expect("16 bytes");
        let cipher = cipher(&software_key(key_file, data, false)?, RootKeyId::from_bytes(id))?;
        let (header, body) = sealed.split_at(HEADER_LEN);
        let mut secret = Secret::<32>::zeroed();
        secret.expose_mut().copy_from_slice(&body[..32]);
        cipher
            .open_in_place(&header[25..], header, secret.expose_mut(), &body[32..])
            .map_err(|_| ChipError::DoesNotOpen)?;
        Ok(RootKey::from_secret(secret))
    }
}

fn cipher(key: &Secret<32>, root: RootKeyId) -> Result<Cipher, ChipError> {
    let key: Secret<32> = kdf::derive(key.expose(), LABEL, &[&root.to_bytes()]);
    Ok(Cipher::new(Suite::Aes256GcmSiv, key.expose()).map_err(EngineError::from)?)
}

fn software_key(path: &Path, data: &Path, create: bool) -> Result<Secret<32>, ChipError> {
    let failed = |source| ChipError::KeyFile { path: path.to_owned(), source };
    let refused = |problem| ChipError::Unsafe { path: path.to_owned(), problem };
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = fs::canonicalize(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    let data = fs::canonicalize(data).map_err(failed)?;
    let target = fs::canonicalize(path).unwrap_or_else(|_| folder.clone());
    if folder.starts_with(&data) || target.starts_with(&data) {
        return Err(refused("it must not lie in the data folder, which it protects"));
    }
    if create && !path.try_exists().map_err(failed)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| refused("it has no name"))?;
        folder::write(&folder, name, Secret::<32>::generate()?.expose()).map_err(failed)?;
    }
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(refused("others may read it: chmod 600"));
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(failed)?);
    Secret::copy_from(&bytes).ok_or_else(|| refused("it has not 32 bytes"))
}
