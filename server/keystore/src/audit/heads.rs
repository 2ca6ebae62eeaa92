//! Heads: how far a chain goes, with the engine's MAC, said outside the database, so that a chain that was cut off
//! is seen: in a file, which belongs on another machine.
//!
//! A thread of its own writes them: a disk, or a share, that hangs keeps nobody else waiting.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sealwire_engine::audit::AuditHead;
use serde::{Deserialize, Serialize};

/// Least time between two heads.
const PAUSE: Duration = Duration::from_secs(1);

/// Time after which a head that is not written yet is late.
const LATE: Duration = Duration::from_secs(10);

/// Time for the last head, when the process stops.
const GRACE: Duration = Duration::from_secs(2);

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

/// What the thread is told.
enum Word {
    /// There is a head.
    Head,
    /// Write what waits, and end.
    End(Sender<()>),
}

impl State {
    fn waiting(&self) -> MutexGuard<'_, Option<SignedHead>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where heads go.
pub(super) struct Heads {
    words: Mutex<Sender<Word>>,
    state: Arc<State>,
}

/// How far it has come. Records are counted over the chains of this process.
#[derive(Default)]
struct State {
    /// The newest head that is not written yet.
    waiting: Mutex<Option<SignedHead>>,
    told: AtomicU64,
    written: AtomicU64,
    /// When the oldest head that is not written yet was told, in [`milliseconds`] and 1; 0 for none.
    waiting_since: AtomicU64,
}

impl Heads {
    pub(super) fn new(path: PathBuf) -> io::Result<Self> {
        let (words, heard) = channel();
        let state = Arc::new(State::default());
        let writer = Writer { path, state: state.clone(), length: None, failing: false };
        std::thread::Builder::new().name("audit heads".into()).spawn(move || writer.run(&heard))?;
        Ok(Self { words: Mutex::new(words), state })
    }

    /// Tells a head behind so many more records: it is written within a second.
    pub(super) fn tell(&self, head: SignedHead, records: u64) {
        self.state.told.fetch_add(records, Ordering::AcqRel);
        let now = milliseconds() + 1;
        let since = &self.state.waiting_since;
        let _ = since.compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed);
        let before = self.state.waiting().replace(head);
        if before.is_none() {
            let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
            // A thread that has ended has panicked: then none is written, which is noticed as late.
            let _ = words.send(Word::Head);
        }
    }

    /// Records that no head tells of, although there was time for one.
    pub(super) fn behind(&self) -> u64 {
        let since = self.state.waiting_since.load(Ordering::Acquire);
        let late = u64::try_from(LATE.as_millis()).unwrap_or(u64::MAX);
        if since == 0 || (milliseconds() + 1).saturating_sub(since) < late {
            return 0;
        }
        let told = self.state.told.load(Ordering::Acquire);
        told.saturating_sub(self.state.written.load(Ordering::Acquire))
    }

    /// Has what waits written, when the process stops.
    pub(super) async fn end(&self) {
        let (done, ended) = channel();
        let sent = self.words.lock().unwrap_or_else(PoisonError::into_inner).send(Word::End(done));
        if sent.is_ok() {
            let waited = tokio::task::spawn_blocking(move || ended.recv_timeout(GRACE));
            if !matches!(waited.await, Ok(Ok(()))) {
                tracing::warn!("audit: the last head was not written in time");
            }
        }
    }
}

/// Milliseconds of a clock that nobody sets.
fn milliseconds() -> u64 {
    static BORN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    u64::try_from(BORN.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The thread.
struct Writer {
    path: PathBuf,
    state: Arc<State>,
    /// How long the file was when it was written last.
    length: Option<u64>,
    failing: bool,
}

impl Writer {
    fn run(mut self, heard: &Receiver<Word>) {
        let mut last = None::<Instant>;
        loop {
            match heard.recv_timeout(PAUSE) {
                Ok(Word::Head) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Word::End(done)) => {
                    self.write();
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return self.write(),
            }
            if last.is_none_or(|last| last.elapsed() >= PAUSE) && self.state.waiting().is_some() {
                last = Some(Instant::now());
                self.write();
            }
        }
    }

    fn write(&mut self) {
        // What is told while this is written, is told of by the next one.
        let told = self.state.told.load(Ordering::Acquire);
        let since = self.state.waiting_since.load(Ordering::Acquire);
        let Some(head) = self.state.waiting().take() else { return };
        match append(&self.path, &head, self.length) {
            Ok(length) => {
                self.length = Some(length);
                self.state.written.store(told, Ordering::Release);
                let still = self.state.waiting().is_some();
                let next = if still { milliseconds() + 1 } else { 0 };
                let waiting_since = &self.state.waiting_since;
                let _ = waiting_since.compare_exchange(
                    since,
                    next,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
                if std::mem::take(&mut self.failing) {
                    tracing::info!(path = %self.path.display(), "audit: heads are written again");
                }
            }
            Err(error) => {
                self.state.waiting().get_or_insert(head);
                // It is not waited for whether it mends itself.
                let late = u64::try_from(LATE.as_millis()).unwrap_or(u64::MAX);
                let since = (milliseconds() + 1).saturating_sub(late).max(1);
                self.state.waiting_since.store(since, Ordering::Release);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, path = %self.path.display(), "audit: heads cannot be written");
                }
            }
        }
    }
}

/// Writes a line, and gives the file's length. Each begins on a line of its own, also behind one that was cut off.
fn append(path: &Path, head: &SignedHead, known: Option<u64>) -> io::Result<u64> {
    let mut line = serde_json::to_vec(head)?;
    line.push(b'\n');
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    match known {
        Some(known) if length < known => tracing::warn!(
            path = %path.display(),
            "audit: the file of heads was removed, moved or cut off since it was written last"
        ),
        // Somebody else's line, or half of one's own.
        Some(known) if length == known => {}
        _ if length > 0 => line.insert(0, b'\n'),
        _ => {}
    }
    file.write_all(&line)?;
    file.sync_data()?;
    Ok(length + line.len() as u64)
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

    fn lines(path: &Path) -> Vec<SignedHead> {
        let text = std::fs::read_to_string(path).expect("file");
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    #[tokio::test]
    async fn what_cannot_be_told_is_counted_and_told_later() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("missing").join("heads");
        let heads = Heads::new(path.clone()).expect("a thread");
        (1..=3).for_each(|sequence| heads.tell(head(sequence), 1));
        let begun = Instant::now();
        while heads.behind() < 3 {
            assert!(begun.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        std::fs::create_dir(path.parent().expect("parent")).expect("folder");
        while heads.behind() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        heads.tell(head(4), 1);
        heads.end().await;
        assert_eq!(lines(&path), [head(3), head(4)]);
    }

    #[test]
    fn a_line_that_was_cut_off_spoils_no_other() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("heads");
        let length = append(&path, &head(1), None).expect("written");
        let half = std::fs::read(&path).expect("read")[..20].to_vec();
        OpenOptions::new().append(true).open(&path).expect("opens").write_all(&half).expect("half");
        append(&path, &head(2), Some(length)).expect("written");
        assert_eq!(lines(&path), [head(1), head(2)]);
    }
}
