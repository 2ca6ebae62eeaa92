//! The manager's pin: the root key id of the engine that it works with. An engine that is open under
//! another root key gets nothing to sign.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sealwire_engine::RootKeyId;
use sealwire_engine::custody::write_whole;

use crate::ManagerError;

const NAME: &str = "manager.pin";

/// The root key id that a manager is pinned to: a line in `manager.pin` of its data folder.
#[derive(Debug, Clone)]
pub struct RootPin {
    folder: PathBuf,
}

impl RootPin {
    /// The pin in a data folder.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Checks the engine's root key. The first one that is seen is pinned; during a root rotation, the pin
    /// follows from `previous` to `current`.
    pub(crate) fn check(
        &self,
        current: RootKeyId,
        previous: Option<RootKeyId>,
    ) -> Result<(), ManagerError> {
        let failed = |source| ManagerError::Pin { path: self.folder.join(NAME), source };
        match self.read().map_err(failed)? {
            Some(pinned) if pinned == current => Ok(()),
            Some(pinned) if Some(pinned) != previous => {
                Err(ManagerError::OtherRoot { pinned, found: current })
            }
            _ => write_whole(&self.folder, NAME, format!("{current}\n").as_bytes()).map_err(failed),
        }
    }

    fn read(&self) -> io::Result<Option<RootKeyId>> {
        match fs::read_to_string(self.folder.join(NAME)) {
            Ok(text) => text.trim().parse().map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_root_key_is_pinned_and_only_a_rotation_moves_the_pin() {
        let folder = tempfile::tempdir().expect("a folder");
        let pin = RootPin::new(folder.path().to_owned());
        let [one, two, three] = [1, 2, 3].map(|byte| RootKeyId::from_bytes([byte; 16]));
        pin.check(one, None).expect("the first");
        pin.check(one, None).expect("the same");
        for previous in [None, Some(three)] {
            let error = pin.check(two, previous).expect_err("another");
            assert!(
                matches!(error, ManagerError::OtherRoot { pinned, found } if pinned == one && found == two)
            );
        }
        pin.check(two, Some(one)).expect("a rotation");
        assert!(pin.check(one, None).is_err());
    }
}
