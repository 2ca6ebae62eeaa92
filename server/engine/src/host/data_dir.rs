//! The data folder, and who has it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::HostError;

/// Makes the data folder, mode 0700, or checks that others cannot get in.
///
/// # Errors
/// [`HostError`].
pub fn make(path: &Path) -> Result<(), HostError> {
    let failed = |error| HostError::new(format!("data folder {}", path.display()), error);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(failed(io::Error::other(format!(
            "it is open to others (mode {mode:o}): chmod 700"
        ))));
    }
    Ok(())
}

/// Takes the data folder for this process: a second server on it ends here, before it has opened or
/// changed anything.
///
/// # Errors
/// [`HostError`].
pub fn lock(path: &Path) -> Result<File, HostError> {
    let file_name = path.join("lock");
    let file = File::create(&file_name)
        .map_err(|error| HostError::new(format!("lock {}", file_name.display()), error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        HostError::new(format!("another server runs on {}", path.display()), error)
    })?;
    Ok(file)
}
