//! The engine's data folder: the pinned root key id, and the root key sealed by a chip.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::RootKeyId;

const PIN: &str = "root.id";
const SEALED: &str = "root.sealed";

/// The engine's data folder.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The pinned root key id; `None` before the first ceremony.
    pub(super) fn pin(&self) -> io::Result<Option<RootKeyId>> {
        let Some(text) = read(&self.0.join(PIN))? else { return Ok(None) };
        let text = String::from_utf8_lossy(&text);
        text.trim().parse().map(Some).map_err(|error| {
            let path = self.0.join(PIN);
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
        })
    }

    pub(super) fn set_pin(&self, id: RootKeyId) -> io::Result<()> {
        write(&self.0, PIN, format!("{id}\n").as_bytes())
    }

    /// The sealed root key; `None` when no chip has sealed one.
    pub(super) fn sealed(&self) -> io::Result<Option<Vec<u8>>> {
        read(&self.0.join(SEALED))
    }

    pub(super) fn set_sealed(&self, bytes: &[u8]) -> io::Result<()> {
        write(&self.0, SEALED, bytes)
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file so that after a crash either the old one or the new one is there, whole.
pub(super) fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.new"));
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    File::open(folder)?.sync_all()
}
