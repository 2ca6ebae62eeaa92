//! Whether the site has operators, and a second root-officer. The first operator is made over the socket by whoever
//! may open it; from then on the socket asks who calls. As long as there was never a second root-officer, the first
//! one decides alone. Both stay noted when the operators' rows are removed from the database: who can do that must
//! gain nothing by it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use sealwire_engine::custody::write_whole;

use crate::ManagerError;

/// What is noted: a file in the manager's data folder.
struct Note {
    name: &'static str,
    text: &'static str,
    known: AtomicBool,
}

/// The notes in the manager's data folder.
pub(crate) struct Claim {
    folder: PathBuf,
    operators: Note,
    second: Note,
}

impl Claim {
    pub(crate) fn new(folder: PathBuf) -> Self {
        let note = |name, text| Note { name, text, known: AtomicBool::new(false) };
        let operators = note(
            "manager.claimed",
            "This site has operators: the manager's socket asks who calls.\n",
        );
        let second = note(
            "manager.paired",
            "This site has had a second root-officer: no root-officer decides alone.\n",
        );
        Self { folder, operators, second }
    }

    /// Whether there was ever an operator, as far as this machine knows.
    pub(crate) fn is_made(&self) -> Result<bool, ManagerError> {
        self.holds(&self.operators)
    }

    /// Notes that there is an operator. On disk when this returns.
    pub(crate) fn make(&self) -> Result<(), ManagerError> {
        self.write(&self.operators)
    }

    /// Whether there was ever a second root-officer, as far as this machine knows.
    pub(crate) fn had_second(&self) -> Result<bool, ManagerError> {
        self.holds(&self.second)
    }

    /// Notes that there is a second root-officer. On disk when this returns.
    pub(crate) fn note_second(&self) -> Result<(), ManagerError> {
        self.write(&self.second)
    }

    fn holds(&self, note: &Note) -> Result<bool, ManagerError> {
        if note.known.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let made = match fs::metadata(self.folder.join(note.name)) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(self.failed(note, error)),
        };
        note.known.store(made, Ordering::Relaxed);
        Ok(made)
    }

    fn write(&self, note: &Note) -> Result<(), ManagerError> {
        if !self.holds(note)? {
            let written = write_whole(&self.folder, note.name, note.text.as_bytes());
            written.map_err(|error| self.failed(note, error))?;
            note.known.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn failed(&self, note: &Note, source: io::Error) -> ManagerError {
        ManagerError::Claim { path: self.folder.join(note.name), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_made_once_and_outlives_the_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let claim = || Claim::new(folder.path().to_owned());
        let first = claim();
        assert!(!first.is_made().expect("read"));
        first.make().expect("written");
        first.make().expect("once is enough");
        assert!(first.is_made().expect("read") && claim().is_made().expect("read"));
        assert!(!claim().had_second().expect("read"));
        claim().note_second().expect("written");
        assert!(first.had_second().expect("read"));
        // Where it cannot be looked for, nothing is assumed.
        let nowhere = Claim::new(folder.path().join("manager.claimed"));
        assert!(nowhere.is_made().is_err());
    }
}
