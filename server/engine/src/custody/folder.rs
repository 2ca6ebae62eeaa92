//! The engine's data folder: the pin, and the root key sealed by a chip.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::CardSet;
use super::chip::sealed_root_of;
use crate::{EngineError, KeyBinding, RootKeyId, WrappedKey};

const PIN: &str = "root.pin";
const SEALED: &str = "root.sealed";
const NEXT: &str = "root.sealed.next";

/// The root key that an engine opens under, and no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pin {
    pub(super) root: RootKeyId,
    /// The card set of the last ceremony that made or adopted one here.
    pub(super) set: PinnedSet,
    /// While a root rotation lasts: the root key of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<PinnedPrevious>,
    /// Root keys that rotations have left behind: they never come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) forgotten: Vec<RootKeyId>,
}

/// A card set, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedSet {
    /// The set's id, hexadecimal.
    pub id: String,
    /// How many cards give the root key.
    pub threshold: u8,
    /// How many cards there are.
    pub cards: u8,
    /// Unix time in seconds at which it came into force here.
    pub since: u64,
}

impl PinnedSet {
    pub(super) fn new(set: &CardSet, since: u64) -> Self {
        Self { id: set.name(), threshold: set.threshold, cards: set.cards, since }
    }
}

/// The root key of before, wrapped under the pinned one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PinnedPrevious {
    root: RootKeyId,
    /// Base64.
    wrapped: String,
}

impl PinnedPrevious {
    pub(super) fn new(root: RootKeyId, wrapped: &WrappedKey) -> Self {
        Self { root, wrapped: STANDARD.encode(wrapped.blob()) }
    }

    pub(super) fn root(&self) -> RootKeyId {
        self.root
    }

    pub(super) fn wrapped(&self) -> Result<WrappedKey, EngineError> {
        let blob = STANDARD.decode(&self.wrapped).map_err(|_| EngineError::Unwrap("root key"))?;
        WrappedKey::new(KeyBinding::of_root(self.root), &blob)
    }
}

/// Why a pin is not known to be in force.
#[derive(Debug)]
pub(super) enum NotInstalled {
    /// The old one is, as before.
    Old(io::Error),
    /// It cannot be told which one is.
    Unknown(io::Error),
}

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

    /// The pin; `None` before the first ceremony.
    pub(super) fn pin(&self) -> io::Result<Option<Pin>> {
        let path = self.0.join(PIN);
        let Some(text) = read(&path)? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let text = format!(
                "{}: {error}; if it is broken, remove it, and take the root key from its cards with \
                 `sealwire root adopt`",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    /// Replaces the pin.
    pub(super) fn set_pin(&self, pin: &Pin) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(pin)?;
        text.push(b'\n');
        write(&self.0, PIN, &text)
    }

    /// Brings a pin into force together with its sealed root key: after a crash, the old ones or the
    /// new ones are found, whichever pin is there.
    ///
    /// # Errors
    /// The outer one when the old pin is in force as before; the inner one when the new pin is, and only
    /// the sealed root key is not where it belongs yet.
    pub(super) fn install(
        &self,
        pin: &Pin,
        sealed: Option<&[u8]>,
    ) -> Result<io::Result<()>, NotInstalled> {
        if let Some(sealed) = sealed {
            write(&self.0, NEXT, sealed).map_err(NotInstalled::Old)?;
        }
        if let Err(error) = self.set_pin(pin) {
            match self.pin() {
                Ok(found) if found.as_ref() == Some(pin) => {}
                Ok(_) => return Err(NotInstalled::Old(error)),
                Err(_) => return Err(NotInstalled::Unknown(error)),
            }
        }
        Ok(match sealed {
            Some(_) => self.promote(),
            None => self.remove_sealed(),
        })
    }

    /// The root key that a chip has sealed here, once it was in force. What is only prepared does not
    /// count: a ceremony that was cut off has left it.
    pub(super) fn sealed_root(&self) -> io::Result<Option<RootKeyId>> {
        Ok(read(&self.0.join(SEALED))?.as_deref().and_then(sealed_root_of))
    }

    /// The sealed root key of the pin; `None` when no chip has sealed it.
    pub(super) fn sealed(&self, pin: &Pin) -> io::Result<Option<Vec<u8>>> {
        let next = read(&self.0.join(NEXT))?;
        if let Some(next) = next.filter(|next| sealed_root_of(next) == Some(pin.root)) {
            self.promote()?;
            return Ok(Some(next));
        }
        read(&self.0.join(SEALED))
    }

    /// Replaces the sealed root key.
    pub(super) fn set_sealed(&self, bytes: &[u8]) -> io::Result<()> {
        write(&self.0, SEALED, bytes)
    }

    /// Removes what an earlier chip has sealed.
    pub(super) fn remove_sealed(&self) -> io::Result<()> {
        for name in [NEXT, SEALED] {
            match fs::remove_file(self.0.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sync(&self.0)
    }

    fn promote(&self) -> io::Result<()> {
        fs::rename(self.0.join(NEXT), self.0.join(SEALED))?;
        sync(&self.0)
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file, mode 0600, so that after a crash either the old one or the new one is there, whole.
///
/// # Errors
/// What the operating system says; the old file is as it was.
pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.new"));
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    sync(folder)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(byte: u8) -> Pin {
        let root = RootKeyId::from_bytes([byte; 16]);
        let set = PinnedSet { id: hex::encode([byte; 16]), threshold: 2, cards: 2, since: 0 };
        Pin { root, set, previous: None, forgotten: Vec::new() }
    }

    fn sealed(byte: u8) -> Vec<u8> {
        [b"SEALROOT\x01".as_slice(), &[byte; 16], &[0; 60]].concat()
    }

    /// A folder in which `install` of the second pin was cut off after a number of its steps.
    fn cut_off(steps: usize) -> (tempfile::TempDir, Folder) {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(temporary.path().to_owned());
        folder.install(&pin(1), Some(&sealed(1))).expect("installed").expect("tidied");
        if steps > 0 {
            write(folder.path(), NEXT, &sealed(2)).expect("written");
        }
        if steps > 1 {
            folder.set_pin(&pin(2)).expect("written");
        }
        if steps > 2 {
            folder.promote().expect("renamed");
        }
        (temporary, folder)
    }

    #[test]
    fn wherever_install_is_cut_off_pin_and_sealed_root_key_belong_together() {
        for steps in 0..=3 {
            let (_temporary, folder) = cut_off(steps);
            let found = folder.pin().expect("read").expect("a pin");
            let expected = if steps < 2 { 1 } else { 2 };
            assert_eq!(found, pin(expected), "{steps}");
            for _ in 0..2 {
                let chip = folder.sealed(&found).expect("read").expect("sealed");
                assert_eq!(chip, sealed(expected), "{steps}");
            }
            // And the next install goes through from there.
            folder.install(&pin(3), Some(&sealed(3))).expect("installed").expect("tidied");
            assert_eq!(folder.sealed(&pin(3)).expect("read"), Some(sealed(3)));
        }
    }

    #[test]
    fn without_a_chip_nothing_sealed_is_left() {
        let (_temporary, folder) = cut_off(1);
        folder.install(&pin(2), None).expect("installed").expect("tidied");
        assert_eq!(folder.sealed_root().expect("read"), None);
    }
}
