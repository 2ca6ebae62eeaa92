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
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use sealwire_engine::audit::{
    AuditActor, AuditEvent, AuditHead, AuditRecord, AuditRole, AuditSigned, AuditWriter,
    AuditWriterKind, MAX_AUDIT_BATCH,
};
use sealwire_engine::{EngineError, Site};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{AuditRow, Keystore, KeystoreError, Taken};
use counts::{Refusals, Uses};
use heads::Heads;
pub use heads::SignedHead;
use notes::{Note, Notes, Upto};

/// Notes that wait in memory for being written down.
const QUEUE: usize = 65_536;

/// Notes that are written down at once.
const BATCH: usize = 1024;

/// Time between two looks at what waits.
const TICK: Duration = Duration::from_secs(1);

/// Time for what waits when the process stops.
const GRACE: Duration = Duration::from_secs(3);

/// Records of a chain that are read at once.
const CHAIN_PAGE: u32 = 500;

/// Batches of notes that are recorded before a change.
const BATCHES_BEFORE_A_CHANGE: usize = 4;

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

    /// Records what is noted, and gives the end of the chain for a record that is written together with a change.
    ///
    /// # Errors
    /// [`AuditError`]: nothing more can be recorded then, and nothing must be done that has to be.
    pub async fn begin<'a>(&'a self, site: &'a Site) -> Result<Appending<'a>, AuditError> {
        let mut chain = self.chain.lock().await;
        if self.heads.behind() > MAX_BEHIND {
            return Err(AuditError::Heads(self.heads_path.clone()));
        }
        // So that records stand in the order of what they tell of. Many notes do not keep a change waiting.
        for _ in 0..BATCHES_BEFORE_A_CHANGE {
            if !self.settle_batch(site, &mut chain).await? {
                break;
            }
        }
        if chain.doubted {
            self.find_end(site, &mut chain).await?;
        }
        Ok(Appending { auditor: self, site, chain, signed: None })
    }

    /// Records a batch of notes; whether there may be more.
    async fn settle_batch(&self, site: &Site, chain: &mut Chain) -> Result<bool, AuditError> {
        for last in [false, true] {
            if chain.doubted {
                self.find_end(site, chain).await?;
            }
            let notes = self.notes.oldest(MAX_AUDIT_BATCH).await?;
            let more = notes.len() == MAX_AUDIT_BATCH;
            if notes.is_empty() {
                return Ok(false);
            }
            let upto = notes.last().map(|note| note.number);
            let records = records(&chain.head, notes);
            let (rows, signed) = self.sign(site, &records).await?;
            // From here on, until it is noted here, the keystore may hold more than is known.
            chain.doubted = true;
            match self.keystore.append(&rows).await {
                Ok(()) => {
                    self.settled(chain, &signed, rows.len(), upto).await?;
                    return Ok(more);
                }
                Err(KeystoreError::Taken(Taken::Record)) if !last => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Finds out how far the chain goes. What this process remembers is believed: if the keystore holds less, or
    /// something else, then that was tampered with, and stays visible. If somebody else has written into this chain,
    /// this process goes on with another.
    async fn find_end(&self, site: &Site, chain: &mut Chain) -> Result<(), AuditError> {
        let writer = chain.head.writer.to_string();
        let newest = self.keystore.newest_records(&writer, 1).await?;
        let found = newest.first().map_or(0, |row| row.sequence);
        let known = i64::try_from(chain.head.sequence).unwrap_or(i64::MAX);
        if found < known {
            tracing::error!(
                writer,
                found,
                known,
                "audit: the newest records of this process's chain are missing: the database was cut off, or put back"
            );
        }
        let mut after = known;
        while after < found {
            let rows = self.keystore.chain(&writer, after, CHAIN_PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = last.sequence;
            for row in rows {
                if !self.adopt(site, chain, &row).await? {
                    tracing::error!(
                        writer,
                        sequence = row.sequence,
                        "audit: this record of this process's chain is not its own (somebody else has written it, or a power \
                         loss has taken what this process knew): it goes on with another chain"
                    );
                    return self.begin_another(chain).await;
                }
            }
        }
        chain.doubted = false;
        Ok(())
    }

    /// Takes a record for one's own, if it is: the next one, signed by the engine, and of a note that is this
    /// process's when it is of one.
    async fn adopt(
        &self,
        site: &Site,
        chain: &mut Chain,
        row: &AuditRow,
    ) -> Result<bool, AuditError> {
        let Ok(record) = AuditRecord::decode(&row.body) else { return Ok(false) };
        let same = i64::try_from(record.sequence) == Ok(row.sequence)
            && row.event == record.event.name()
            && record.follows(&chain.head);
        if !same {
            return Ok(false);
        }
        match self.role.sign(site, std::slice::from_ref(&record)).await {
            Ok((_, signed)) if signed.macs == [row.mac] => {}
            Ok(_) | Err(EngineError::Role | EngineError::Document(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if let Some(number) = record.note {
            let note = self.notes.get(number).await?;
            // One that is not there any more was recorded, too, before this process forgot how far it had come.
            let mine = |note: &Note| (note.at, &note.event) == (record.at, &record.event);
            if note.is_some_and(|note| !mine(&note)) {
                return Ok(false);
            }
        }
        let head = AuditHead::of(&record, &row.body);
        self.notes.settled(&head, record.note.map(Upto::This)).await?;
        chain.head = head;
        Ok(true)
    }

    /// Begins another chain, whose first record says how far the one before went.
    async fn begin_another(&self, chain: &mut Chain) -> Result<(), AuditError> {
        let head = AuditHead::none(AuditWriter::generate(self.role.kind())?);
        let told = AuditEvent::Heads { heads: vec![chain.head] };
        self.notes.begin_chain(&head, (now(), told)).await?;
        *chain = Chain { head, doubted: false };
        Ok(())
    }

    async fn sign(
        &self,
        site: &Site,
        records: &[AuditRecord],
    ) -> Result<(Vec<AuditRow>, AuditSigned), AuditError> {
        let (bodies, signed) = self.role.sign(site, records).await?;
        let number = |value: u64| {
            let too_large = || KeystoreError::Broken(format!("number {value}"));
            i64::try_from(value).map_err(|_| too_large())
        };
        let rows = records.iter().zip(bodies).zip(&signed.macs);
        let rows = rows.map(|((record, body), mac)| {
            Ok(AuditRow {
                writer: record.writer.to_string(),
                sequence: number(record.sequence)?,
                at: number(record.at)?,
                event: record.event.name().to_owned(),
                body,
                mac: *mac,
            })
        });
        Ok((rows.collect::<Result<_, KeystoreError>>()?, signed))
    }

    /// Records are in the keystore. Until that is noted here, it is asked what it holds.
    async fn settled(
        &self,
        chain: &mut Chain,
        signed: &AuditSigned,
        records: usize,
        upto: Option<u64>,
    ) -> Result<(), AuditError> {
        let head = SignedHead { head: signed.head, mac: signed.head_mac };
        self.heads.tell(head, u64::try_from(records).unwrap_or(u64::MAX));
        chain.doubted = true;
        self.notes.settled(&signed.head, upto.map(Upto::All)).await?;
        *chain = Chain { head: signed.head, doubted: false };
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
        let settled = self.auditor.settled(&mut self.chain, &signed, 1, None).await;
        if let Err(error) = settled {
            tracing::error!(%error, "audit");
        }
    }

    /// It is certainly not there: what it was to be written together with was refused.
    pub fn refused(mut self) {
        self.signed = None;
    }
}

impl Drop for Appending<'_> {
    /// Nobody knows whether it is in the keystore, unless that was said.
    fn drop(&mut self) {
        if self.signed.is_some() {
            self.chain.doubted = true;
        }
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
