//! Whether the site has operators. The first one is made over the socket by whoever may open it; from then on
//! the socket asks who calls. That stays so when the operators' rows are removed from the database: who can do
//! that must not open the socket by it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use sealwire_engine::custody::write_whole;

use crate::ManagerError;

const NAME: &str = "manager.claimed";

const TEXT: &[u8] = b"This site has operators: the manager's socket asks who calls.\n";

/// The note in the manager's data folder.
pub(crate) struct Claim {
    folder: PathBuf,
    known: AtomicBool,
}

impl Claim {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, known: AtomicBool::new(false) }
    }

    /// Whether there was ever an operator, as far as this machine knows.
    pub(crate) fn is_made(&self) -> Result<bool, ManagerError> {
        if self.known.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let made = match fs::metadata(self.folder.join(NAME)) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(self.failed(error)),
        };
        self.known.store(made, Ordering::Relaxed);
        Ok(made)
    }

    /// Notes that there is an operator. On disk when this returns.
    pub(crate) fn make(&self) -> Result<(), ManagerError> {
        if !self.is_made()? {
            write_whole(&self.folder, NAME, TEXT).map_err(|error| self.failed(error))?;
            self.known.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> ManagerError {
        ManagerError::Claim { path: self.folder.join(NAME), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_made_once_and_outlives_the_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let claim = || Claim::new(folder.path().to_owned());
        let first = claim();
        assert!(!first.is_made().expect("read"));
        first.make().expect("written");
        first.make().expect("once is enough");
        assert!(first.is_made().expect("read") && claim().is_made().expect("read"));
        // Where it cannot be looked for, nothing is assumed.
        let nowhere = Claim::new(folder.path().join(NAME));
        assert!(nowhere.is_made().is_err());
    }
}
