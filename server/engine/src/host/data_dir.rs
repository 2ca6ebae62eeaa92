//! The data folder, and who has it.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

/// Makes the data folder, mode 0700, or checks that others cannot get in.
pub(crate) fn make(path: &Path) -> Result<()> {
    let context = || format!("data folder {}", path.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(context)?;
    let mode = std::fs::metadata(path).with_context(context)?.permissions().mode();
    anyhow::ensure!(
        mode & 0o077 == 0,
        "data folder {} is open to others (mode {:o}): chmod 700",
        path.display(),
        mode & 0o777
    );
    Ok(())
}

/// Takes the data folder for this process: a second server on it ends here, before it has opened or
/// changed anything.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file_name = path.join("lock");
    let context = || format!("lock {}", file_name.display());
    let file = File::create(&file_name).with_context(context)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("another server runs on {}", path.display()))?;
    Ok(file)
}
