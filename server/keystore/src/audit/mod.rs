//! Writes the chain of audit records of a process: see [`sealwire_engine::audit`].
//!
//! What happens beside a change of a document is a *note* first, in the data folder: it is there when the keystore is
//! away, and becomes a record as soon as that can be written. A change of a document and its record are
//! written together, or not at all.
//!
//! | module | what it does |
//! |---|---|
//! | `notes` | what is to become records, in a file |
//! | `counts` | what is counted, rather than recorded each time |
//! | `heads` | how far the chain goes, told outside the database |

mod counts;
mod heads;
mod notes;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use sealwire_engine::audit::{
    AuditEvent, AuditHead, AuditRecord, AuditRole, AuditSigned, MAX_AUDIT_BATCH,
};
use sealwire_engine::{EngineError, Site};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{AuditRow, Keystore, KeystoreError};
use counts::{Refusals, Uses};
use heads::Heads;
pub use heads::SignedHead;
use notes::{Note, Notes};

/// Notes that wait in memory for being written down.
const QUEUE: usize = 65_536;

/// Notes that are written down at once.
const BATCH: usize = 1024;

/// Time between two looks at what waits.
const TICK: Duration = Duration::from_secs(1);

/// Time for what waits when the process stops.
const GRACE: Duration = Duration::from_secs(3);

/// Records without a head outside the database after which nothing more is managed.
const MAX_BEHIND: u64 = 1000;

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

/// The chain as this process knows it.
struct Chain {
    head: AuditHead,
    /// Whether the keystore may hold more of it: after a start, and after a commit that may have been done.
    doubted: bool,
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
        let notes = Notes::open(&settings.folder, role.kind(), settings.limits).await?;
        let head = notes.head(role.kind()).await?;
        let (queue, queued) = mpsc::channel(QUEUE);
        let auditor = Self {
            role,
            keystore,
            notes,
            heads: Heads::new(settings.heads.clone()),
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

    /// Removes the notes of a data folder: the next start begins another chain. For a server that is stopped.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn forget(folder: &Path) -> std::io::Result<()> {
        notes::forget(folder)
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
    pub fn tell_used(&self, who: &str, used: impl Iterator<Item = (u32, [u64; 3])>) {
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
        loop {
            let stopping = tokio::select! {
                _ = queued.recv_many(&mut waiting, BATCH) => false,
                () = self.noted.notified() => false,
                () = tokio::time::sleep(TICK) => false,
                () = stop.cancelled() => true,
            };
            // What was counted in the minute that has begun is told when it is over, or now.
            self.end_minute(if stopping { u64::MAX } else { now() });
            if stopping {
                while queued.try_recv().map(|note| waiting.push(note)).is_ok() {}
            }
            self.write_down(&mut waiting).await;
            let settled = match stopping {
                false => self.settle_with(&*source).await,
                true => tokio::time::timeout(GRACE, self.settle_with(&*source))
                    .await
                    .unwrap_or(Err(AuditError::Keystore(KeystoreError::Slow))),
            };
            trouble.note(settled.err());
            self.heads.flush();
            if stopping {
                return self.notes.close().await;
            }
        }
    }

    async fn settle_with(&self, source: &dyn SiteSource) -> Result<(), AuditError> {
        if self.notes.bytes() == 0 {
            return Ok(());
        }
        match source.site().await {
            Some(site) => self.begin(&site).await.map(drop),
            None => Ok(()),
        }
    }

    /// Writes notes down; what there is no room for is counted.
    async fn write_down(&self, waiting: &mut Vec<(u64, AuditEvent)>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            waiting.insert(0, (now(), AuditEvent::Lost { notes: lost }));
        }
        if waiting.is_empty() {
            return;
        }
        let written = self.notes.add(waiting).await;
        let written = written.inspect_err(|error| tracing::error!(%error, "audit")).unwrap_or(0);
        let missing = u64::try_from(waiting.len() - written).unwrap_or(u64::MAX);
        // The note of what was lost before was not one that happened.
        let again = u64::from(lost > 0 && missing > 0);
        self.lost.fetch_add(if again == 1 { lost } else { 0 }, Ordering::Relaxed);
        self.count_lost(missing - again);
        waiting.clear();
    }

    fn count_lost(&self, notes: u64) {
        self.lost.fetch_add(notes, Ordering::Relaxed);
        self.lost_ever.fetch_add(notes, Ordering::Relaxed);
    }

    /// Records every note, and gives the end of the chain for a record that is written together with a change.
    ///
    /// # Errors
    /// [`AuditError`]: nothing more can be recorded then, and nothing must be done that has to be.
    pub async fn begin<'a>(&'a self, site: &'a Site) -> Result<Appending<'a>, AuditError> {
        let mut chain = self.chain.lock().await;
        if self.heads.behind() > MAX_BEHIND {
            return Err(AuditError::Heads(self.heads_path.clone()));
        }
        if chain.doubted {
            self.find_end(site, &mut chain).await?;
        }
        loop {
            let notes = self.notes.oldest(MAX_AUDIT_BATCH).await?;
            let Some(last) = notes.last().map(|note| note.number) else { break };
            let records = records(&chain.head, notes);
            let (rows, signed) = self.sign(site, &records).await?;
            match self.keystore.append(&rows).await {
                Ok(()) => self.settled(&mut chain, &signed, Some(last)).await?,
                Err(error) => {
                    chain.doubted = true;
                    return Err(error.into());
                }
            }
        }
        Ok(Appending { auditor: self, site, chain, signed: None })
    }

    /// Finds out how far the chain goes. What this process remembers is believed: if the keystore holds less, or
    /// something else, then that was tampered with, and stays visible.
    async fn find_end(&self, site: &Site, chain: &mut Chain) -> Result<(), AuditError> {
        let known = chain.head;
        let newest = self.keystore.newest_record(&known.writer.to_string()).await?;
        let found = newest.as_ref().map_or(0, |row| row.sequence);
        if found < known.sequence {
            tracing::error!(
                writer = %known.writer, found, known = known.sequence,
                "audit: the newest records of this process's chain are missing: the database was cut off, or put back"
            );
        }
        if let Some(row) = newest.filter(|_| found > known.sequence) {
            let genuine = self.is_own(site, &row).await?;
            let upto = genuine.as_ref().and_then(|record| record.note);
            if genuine.is_none() {
                tracing::error!(
                    writer = %known.writer, sequence = row.sequence,
                    "audit: a record of this process's chain was written by somebody else"
                );
            }
            let hash = sealwire_engine::audit::AuditHash::of(&row.body);
            let (sequence, at) = (row.sequence, row.at);
            chain.head = AuditHead { writer: known.writer, sequence, hash, at };
            self.notes.settled(&chain.head, upto).await?;
        }
        chain.doubted = false;
        Ok(())
    }

    /// A row's record, if the engine has signed it for this process.
    async fn is_own(&self, site: &Site, row: &AuditRow) -> Result<Option<AuditRecord>, AuditError> {
        let Ok(record) = AuditRecord::decode(&row.body) else { return Ok(None) };
        match self.role.sign(site, std::slice::from_ref(&record)).await {
            Ok((_, signed)) => Ok((signed.macs == [row.mac]).then_some(record)),
            Err(EngineError::Role | EngineError::Document(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn sign(
        &self,
        site: &Site,
        records: &[AuditRecord],
    ) -> Result<(Vec<AuditRow>, AuditSigned), AuditError> {
        let (bodies, signed) = self.role.sign(site, records).await?;
        let rows = records.iter().zip(bodies).zip(&signed.macs);
        let rows = rows.map(|((record, body), mac)| AuditRow {
            writer: record.writer.to_string(),
            sequence: record.sequence,
            at: record.at,
            event: record.event.name().to_owned(),
            body,
            mac: *mac,
        });
        Ok((rows.collect(), signed))
    }

    /// Records are in the keystore.
    async fn settled(
        &self,
        chain: &mut Chain,
        signed: &AuditSigned,
        upto: Option<u64>,
    ) -> Result<(), AuditError> {
        chain.head = signed.head;
        self.heads.tell(SignedHead { head: signed.head, mac: signed.head_mac });
        // Until it is noted here, the keystore is asked what it holds.
        chain.doubted = true;
        self.notes.settled(&signed.head, upto).await?;
        chain.doubted = false;
        Ok(())
    }
}

/// The end of the chain, for a record that is written together with a change. Nobody else appends meanwhile.
pub struct Appending<'a> {
    auditor: &'a Auditor,
    site: &'a Site,
    chain: MutexGuard<'a, Chain>,
    signed: Option<AuditSigned>,
}

impl Appending<'_> {
    /// The next record.
    ///
    /// # Errors
    /// [`AuditError::Engine`].
    pub async fn next(&mut self, event: AuditEvent) -> Result<AuditRow, AuditError> {
        let record = record(&self.chain.head, now(), None, event);
        let (mut rows, signed) = self.auditor.sign(self.site, &[record]).await?;
        self.signed = Some(signed);
        Ok(rows.pop().expect("one was signed"))
    }

    /// It is in the keystore.
    pub async fn written(mut self) {
        let Some(signed) = self.signed.take() else { return };
        let settled = self.auditor.settled(&mut self.chain, &signed, None).await;
        if let Err(error) = settled {
            tracing::error!(%error, "audit");
        }
    }

    /// Nobody knows whether it is.
    pub fn doubted(mut self) {
        self.chain.doubted = true;
    }
}

fn record(head: &AuditHead, at: u64, note: Option<u64>, event: AuditEvent) -> AuditRecord {
    let (writer, sequence, previous) = (head.writer, head.sequence + 1, head.hash);
    AuditRecord { writer, sequence, at, previous, note, event }
}

/// Notes as records behind `head`.
fn records(head: &AuditHead, notes: Vec<Note>) -> Vec<AuditRecord> {
    let mut head = *head;
    let next = |Note { number, at, event }| {
        let record = record(&head, at, Some(number), event);
        let body = record.encode().expect("a note was looked at before it was written down");
        head = AuditHead::of(&record, &body);
        record
    };
    notes.into_iter().map(next).collect()
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
