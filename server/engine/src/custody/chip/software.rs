//! The software chip: a key file outside the data folder.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::ChipError;
use crate::Secret;
use crate::custody::folder;

const KEY_FILE: &str = "key file";

/// What to do when there is no key file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make one.
    Make,
    /// Say so.
    Refuse,
}

/// The key of the file.
pub(super) fn key(path: &Path, data: &Path, missing: Missing) -> Result<Secret<32>, ChipError> {
    let what = KEY_FILE;
    let failed = |source| ChipError::File { what, path: path.to_owned(), source };
    let refused = |problem| ChipError::Unsafe { what, path: path.to_owned(), problem };
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = fs::canonicalize(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    let data = fs::canonicalize(data)
        .map_err(|source| ChipError::Folder { path: data.to_owned(), source })?;
    let target = fs::canonicalize(path).unwrap_or_else(|_| folder.clone());
    if folder.starts_with(&data) || target.starts_with(&data) {
        return Err(refused("it must not lie in the data folder, which it protects"));
    }
    if missing == Missing::Make && !path.try_exists().map_err(failed)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| refused("it has no name"))?;
        folder::write(&folder, name, Secret::<32>::generate()?.expose()).map_err(failed)?;
    }
    let bytes = read_private(what, path)?;
    Secret::copy_from(&bytes).ok_or_else(|| refused("it has not 32 bytes"))
}

/// Reads a small file that nobody else may read.
pub(super) fn read_private(
    what: &'static str,
    path: &Path,
) -> Result<Zeroizing<Vec<u8>>, ChipError> {
    let failed = |source| ChipError::File { what, path: path.to_owned(), source };
    let refused = |problem| ChipError::Unsafe { what, path: path.to_owned(), problem };
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(refused("others may read it: chmod 600"));
    }
    if metadata.len() > 4096 {
        return Err(refused("it is too long"));
    }
    Ok(Zeroizing::new(fs::read(path).map_err(failed)?))
}
