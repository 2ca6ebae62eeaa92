//! Heads: how far a chain goes, with the engine's MAC, said outside the database, so that a chain that was cut off
//! is seen: in a file, which belongs on another machine, or in the system's log.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sealwire_engine::audit::AuditHead;
use serde::{Deserialize, Serialize};

/// Least time between two heads.
const PAUSE: Duration = Duration::from_secs(1);

/// A head, and the engine's MAC over it: a line of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// The head.
    pub head: AuditHead,
    /// HMAC-SHA256.
    #[serde(with = "mac")]
    pub mac: [u8; 32],
}

/// A MAC in hex.
mod mac {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(mac: &[u8; 32], out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&hex::encode(mac))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(input)?;
        let mut mac = [0; 32];
        hex::decode_to_slice(text, &mut mac).map_err(D::Error::custom)?;
        Ok(mac)
    }
}

/// Where heads go.
pub(super) struct Heads {
    path: PathBuf,
    state: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// What is to be told, and since which record.
    waiting: Option<(SignedHead, u64)>,
    last: Option<Instant>,
    /// How long the file was when it was written last.
    length: Option<u64>,
    failing: bool,
}

impl Heads {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, state: Mutex::default() }
    }

    /// Tells a head, at once or within a second.
    pub(super) fn tell(&self, head: SignedHead) {
        let mut told = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let since = told.waiting.map_or(head.head.sequence, |(_, since)| since);
        told.waiting = Some((head, since));
        if told.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            self.write(&mut told);
        }
    }

    /// Tells what has waited.
    pub(super) fn flush(&self) {
        self.write(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Records that no head tells of, because none can be written.
    pub(super) fn behind(&self) -> u64 {
        let told = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = told.waiting.filter(|_| told.failing);
        waiting.map_or(0, |(head, since)| head.head.sequence - since + 1)
    }

    fn write(&self, told: &mut Told) {
        let Some((head, _)) = told.waiting else { return };
        told.last = Some(Instant::now());
        match self.append(&head, told.length) {
            Ok(length) => {
                told.length = Some(length);
                told.waiting = None;
                if std::mem::take(&mut told.failing) {
                    tracing::info!(path = %self.path.display(), "audit: heads are written again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut told.failing, true) {
                    tracing::error!(%error, path = %self.path.display(), "audit: heads cannot be written");
                }
            }
        }
    }

    /// Writes a line, and gives the file's length.
    fn append(&self, head: &SignedHead, known: Option<u64>) -> io::Result<u64> {
        let mut line = serde_json::to_vec(head)?;
        line.push(b'\n');
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        let length = file.metadata()?.len();
        if known.is_some_and(|known| length < known) {
            tracing::warn!(
                path = %self.path.display(),
                "audit: the file of heads was removed, moved or cut off since it was written last"
            );
        }
        let written = file.write_all(&line).and_then(|()| file.sync_data());
        // Half a line would spoil the next one.
        written.inspect_err(|_| drop(file.set_len(length)))?;
        Ok(length + line.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use sealwire_engine::audit::{AuditWriter, AuditWriterKind};

    use super::*;

    fn head(sequence: u64) -> SignedHead {
        let writer = AuditWriter { kind: AuditWriterKind::Manager, id: [7; 8] };
        let head = AuditHead { sequence, ..AuditHead::none(writer) };
        SignedHead { head, mac: [9; 32] }
    }

    #[test]
    fn a_head_is_told_once_and_what_cannot_be_told_is_counted() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("missing").join("heads");
        let heads = Heads::new(path.clone());
        heads.tell(head(1));
        heads.tell(head(2));
        heads.tell(head(3));
        assert_eq!(heads.behind(), 3, "nothing could be written");
        std::fs::create_dir(path.parent().expect("parent")).expect("folder");
        heads.flush();
        assert_eq!(heads.behind(), 0);
        heads.flush();
        let text = std::fs::read_to_string(&path).expect("file");
        let lines: Vec<SignedHead> =
            text.lines().map(|line| serde_json::from_str(line).expect("a head")).collect();
        assert_eq!(lines, [head(3)]);
    }
}
