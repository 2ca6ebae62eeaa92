//! Writes the chain of audit records of a process: see [`sealwire_engine::audit`].
//!
//! What happens beside a change of a document is a *note* first, in the data folder: it is there when the keystore is
//! away, and becomes a record as soon as that can be written. A change of a document and its record are
//! written together, or not at all.
//!
//! | module | what it does |
//! |---|---|
//! | `notes` | what is to become records, in a file |
//! | `chain` | what comes next in the chain, and how far it goes |
//! | `counts` | what is counted, rather than recorded each time |
//! | `heads` | how far the chain goes, told outside the database |

mod chain;
mod counts;
mod heads;
mod notes;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use sealwire_engine::audit::{AuditActor, AuditEvent, AuditHead, AuditRole, AuditWriterKind};
use sealwire_engine::{EngineError, Site};
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{Keystore, KeystoreError};
pub use chain::Appending;
use chain::{Chain, MAX_BEHIND};
pub use counts::Counts;
use counts::{Refusals, Uses};
use heads::Heads;
pub use heads::SignedHead;
use notes::Notes;

/// Notes that wait in memory for being written down.
const QUEUE: usize = 65_536;

/// Notes that are written down at once.
const BATCH: usize = 1024;

/// Time between two looks at what waits.
const TICK: Duration = Duration::from_secs(1);

/// Time for what waits when the process stops.
const GRACE: Duration = Duration::from_secs(3);

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The file of notes cannot be read or written.
    #[error("{path}: the notes for the audit cannot be read or written")]
    Notes {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// There is no thread for the heads.
    #[error("the thread that writes the heads of the audit cannot be started")]
    Thread(#[source] std::io::Error),
    /// There is no room for more notes.
    #[error("the notes for the audit have filled their place, since none of them can be recorded")]
    Full,
    /// The chain's heads cannot be written.
    #[error("{0}: the heads of the audit have not been written for {MAX_BEHIND} records")]
    Heads(PathBuf),
    /// The engine does not sign.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The keystore does not take records.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
}

/// How much waits, at most.
#[derive(Debug, Clone, Copy)]
pub struct AuditLimits {
    /// Bytes of notes.
    pub notes: u64,
    /// Bytes of notes of what was refused to strangers: they do not take the others' place.
    pub refusals: u64,
}

impl AuditLimits {
    fn of(&self, event: &AuditEvent) -> u64 {
        if event.is_refusal() { self.refusals } else { self.notes }
    }
}

impl Default for AuditLimits {
    fn default() -> Self {
        Self { notes: 64 * 1024 * 1024, refusals: 4 * 1024 * 1024 }
    }
}

/// Where things are.
#[derive(Debug, Clone)]
pub struct AuditSettings {
    /// The data folder.
    pub folder: PathBuf,
    /// The file of heads.
    pub heads: PathBuf,
    /// How much waits, at most.
    pub limits: AuditLimits,
}

/// Who knows the site's keys.
#[async_trait]
pub trait SiteSource: Send + Sync {
    /// The site's keys; `None` while they cannot be had.
    async fn site(&self) -> Option<Arc<Site>>;
}

/// Writes a chain.
pub struct Auditor {
    role: AuditRole,
    keystore: Arc<dyn Keystore>,
    notes: Notes,
    heads: Heads,
    heads_path: PathBuf,
    chain: AsyncMutex<Chain>,
    queue: mpsc::Sender<(u64, AuditEvent)>,
    queued: Mutex<Option<mpsc::Receiver<(u64, AuditEvent)>>>,
    refusals: Mutex<Refusals>,
    uses: Mutex<Uses>,
    noted: Notify,
    lost: AtomicU64,
    lost_ever: AtomicU64,
}

/// What operators watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHealth {
    /// Bytes of notes that wait for being recorded.
    pub waiting_bytes: u64,
    /// Notes that were lost since the start.
    pub lost: u64,
    /// Records that no head outside the database tells of, because none can be written.
    pub behind: u64,
}

impl Auditor {
    /// Opens the notes in the data folder.
    ///
    /// # Errors
    /// [`AuditError::Notes`].
    pub async fn open(
        settings: &AuditSettings,
        role: AuditRole,
        keystore: Arc<dyn Keystore>,
    ) -> Result<Arc<Self>, AuditError> {
        let notes = Notes::open_or_begin(&settings.folder, role.kind(), settings.limits).await?;
        let head = notes.head(role.kind()).await?;
        let (queue, queued) = mpsc::channel(QUEUE);
        let auditor = Self {
            role,
            keystore,
            notes,
            heads: Heads::new(settings.heads.clone()).map_err(AuditError::Thread)?,
            heads_path: settings.heads.clone(),
            chain: AsyncMutex::new(Chain { head, doubted: true }),
            queue,
            queued: Mutex::new(Some(queued)),
            refusals: Mutex::default(),
            uses: Mutex::default(),
            noted: Notify::new(),
            lost: AtomicU64::new(0),
            lost_ever: AtomicU64::new(0),
        };
        auditor.tell(AuditEvent::Started { version: env!("CARGO_PKG_VERSION").to_owned() });
        Ok(Arc::new(auditor))
    }

    /// Has the next start of a server over this data folder begin other chains, since the database was put back; and
    /// notes that, with these words. What is noted and not recorded yet is kept. For a server that is stopped.
    ///
    /// # Errors
    /// [`AuditError::Notes`].
    pub async fn begin_anew(folder: &Path, act: &str, detail: String) -> Result<(), AuditError> {
        for kind in [AuditWriterKind::Gateway, AuditWriterKind::Manager] {
            if !notes::is_there(folder, kind) {
                continue;
            }
            let notes = Notes::open(folder, kind, AuditLimits::default()).await?;
            notes.forget_chain().await?;
            // A manager's: gateways do not tell of such.
            if kind == AuditWriterKind::Manager {
                let (by, act, detail) = (AuditActor::Manager, act.to_owned(), Some(detail.clone()));
                notes.add(&[(now(), AuditEvent::Done { by, act, detail })]).await?;
            }
            notes.close().await;
        }
        Ok(())
    }

    /// The head of this process's chain, as far as it knows.
    pub async fn head(&self) -> AuditHead {
        self.chain.lock().await.head
    }

    /// What operators watch.
    #[must_use]
    pub fn health(&self) -> AuditHealth {
        AuditHealth {
            waiting_bytes: self.notes.bytes(),
            lost: self.lost_ever.load(Ordering::Relaxed),
            behind: self.heads.behind(),
        }
    }

    /// Notes something, without waiting for it. When there is no room, that is counted, and recorded as soon as there
    /// is some.
    pub fn tell(&self, event: AuditEvent) {
        if self.queue.try_send((now(), event)).is_err() {
            self.count_lost(1);
        }
    }

    /// Counts a login that was refused. The first one of its kind in a minute is recorded by itself.
    pub fn tell_refused(&self, who: &str, from: Option<IpAddr>, why: &str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let events = refusals.refused(now(), (who, from), why);
        drop(refusals);
        events.into_iter().for_each(|event| self.tell(event));
    }

    /// Counts what an app has done since it was counted last: ENC, DEC and REENC by key.
    pub fn tell_used(&self, who: &str, used: impl Iterator<Item = (u32, Counts)>) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let events = uses.used(now(), who, used);
        drop(uses);
        events.into_iter().for_each(|event| self.tell(event));
    }

    /// Notes the counts of a minute that is over.
    fn end_minute(&self, at: u64) {
        let refused = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).end_minute(at);
        let used = self.uses.lock().unwrap_or_else(PoisonError::into_inner).end_minute(at);
        refused.into_iter().chain(used).for_each(|event| self.tell(event));
    }

    /// Notes something: it is in the file when this returns.
    ///
    /// # Errors
    /// [`AuditError::Full`], [`AuditError::Notes`].
    pub async fn note(&self, event: AuditEvent) -> Result<(), AuditError> {
        let written = self.notes.add(&[(now(), event)]).await?;
        self.noted.notify_one();
        if written == 1 { Ok(()) } else { Err(AuditError::Full) }
    }

    /// Writes notes down and records them, until `stop`.
    pub async fn run(self: Arc<Self>, source: Arc<dyn SiteSource>, stop: CancellationToken) {
        let queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut queued = queued.expect("it runs once");
        let mut trouble = Trouble::default();
        let mut waiting = Vec::with_capacity(BATCH);
        let mut more = false;
        let mut ends_by = None;
        loop {
            let stopping = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                _ = queued.recv_many(&mut waiting, BATCH) => false,
                () = self.noted.notified() => false,
                () = tokio::time::sleep(if more { Duration::ZERO } else { TICK }) => false,
            };
            // What was counted in the minute that has begun is told when it is over, or now.
            self.end_minute(if stopping { u64::MAX } else { now() });
            if stopping {
                while queued.try_recv().map(|note| waiting.push(note)).is_ok() {}
            }
            let written = self.write_down(&mut waiting).await;
            // One batch a turn: what happens meanwhile is written down in between.
            let settled = match self.settle_with(&*source).await {
                Ok(more) => written.map(|()| more),
                Err(error) => Err(error),
            };
            more = matches!(settled, Ok(true));
            trouble.note(settled.err());
            if stopping {
                let by = *ends_by.get_or_insert_with(|| Instant::now() + GRACE);
                if !more || Instant::now() >= by {
                    self.heads.end().await;
                    return self.notes.close().await;
                }
            }
        }
    }

    /// Records a batch of notes; whether there are more.
    async fn settle_with(&self, source: &dyn SiteSource) -> Result<bool, AuditError> {
        if self.notes.bytes() == 0 {
            return Ok(false);
        }
        let Some(site) = source.site().await else { return Ok(false) };
        let mut chain = self.chain.lock().await;
        self.settle_batch(&site, &mut chain).await
    }

    /// Writes notes down; what there is no room for is counted.
    async fn write_down(&self, waiting: &mut Vec<(u64, AuditEvent)>) -> Result<(), AuditError> {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let told = self.notes.add(&[(now(), AuditEvent::Lost { notes: lost })]).await;
            if !matches!(told, Ok(1)) {
                self.lost.fetch_add(lost, Ordering::Relaxed);
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
        let written = self.notes.add(waiting).await;
        // A disk that is full may have room later: as many as can wait in memory, do.
        if written.is_ok() || waiting.len() >= QUEUE {
            let missing = waiting.len() - written.as_ref().copied().unwrap_or(0);
            self.count_lost(u64::try_from(missing).unwrap_or(u64::MAX));
            waiting.clear();
        }
        written.map(drop)
    }

    fn count_lost(&self, notes: u64) {
        self.lost.fetch_add(notes, Ordering::Relaxed);
        self.lost_ever.fetch_add(notes, Ordering::Relaxed);
    }
}

/// Says once what is wrong, and once that it is over.
#[derive(Default)]
struct Trouble(Option<String>);

impl Trouble {
    fn note(&mut self, error: Option<AuditError>) {
        // A sealed engine is no trouble of the audit's.
        let error = error.filter(|error| {
            !matches!(error, AuditError::Engine(EngineError::Sealed | EngineError::Away(_)))
        });
        let error = error.map(|error| sealwire_engine::chain(&error));
        match (&self.0, &error) {
            (known, Some(error)) if known.as_ref() != Some(error) => {
                tracing::error!(error, "audit: nothing can be recorded; notes are kept");
            }
            (Some(_), None) => tracing::info!("audit: records are written again"),
            _ => {}
        }
        self.0 = error;
    }
}

/// Unix time in milliseconds.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
