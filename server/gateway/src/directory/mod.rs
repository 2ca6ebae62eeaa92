//! The directory: verified documents and wrapped keys, as fresh as the keystore.
//!
//! A background task asks the keystore for changes five times a second ([`POLL`]); what was
//! committed in this process is asked for at once. Sessions compare one number, the
//! [generation](Directory::generation), and look again when it has moved.
//!
//! | module | what it does |
//! |---|---|
//! | `follow` | takes in changes; notices when the keystore is away, or older than it was |
//! | `loader` | reads keys that are not here, many at once |
//! | `entry` | a key as it is kept |
//! | `budget` | messages that may still be sealed, for suites that are counted |
//! | `condition` | whether the keystore is up, and what is answered while it is not |
//! | `site` | the site's own keys |

mod budget;
mod condition;
mod entry;
mod follow;
mod loader;
mod site;

pub(crate) use budget::Budget;
pub(crate) use condition::unavailable;
pub use condition::{Condition, Health};
pub(crate) use entry::KeyEntry;
pub(crate) use follow::POLL;
pub(crate) use loader::VERIFIED_AT_ONCE;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sealwire_engine::document::{AppDocument, Document, DocumentKind};
use sealwire_engine::{EngineError, GatewayRole, SignedDocument, Verified};
use sealwire_keystore::{By, Committed, Keystore, KeystoreError, Marks, Newest};
use sealwire_protocol::{ErrorCode, Suite};
use tokio::sync::{Semaphore, watch};

use crate::Refusal;
use budget::Budgets;
use condition::readable;
use loader::Loader;
pub(crate) use site::SiteEntry;
use site::SiteKeys;

/// Tries to load a key that changes while it is loaded.
const TRIES: usize = 3;

/// App documents, and keys by name, that are read at once.
const READS: usize = 16;

/// How a directory is sized.
#[derive(Debug, Clone)]
pub struct DirectoryConfig {
    /// Keys that are kept, each counted by its versions.
    pub cached_keys: usize,
    /// Time for which what is kept is trusted without a word from the keystore.
    pub max_stale: Duration,
    /// Share of the messages that a suite allows, from which the manager shall renew the key.
    pub renew_at_share: f64,
}

impl Default for DirectoryConfig {
    fn default() -> Self {
        Self { cached_keys: 100_000, max_stale: Duration::from_secs(300), renew_at_share: 0.5 }
    }
}

/// The keys that are kept.
type Keys = Cache<u32, Arc<KeyEntry>, Versions>;

/// Weighs a key by its versions: each of them is kept.
#[derive(Clone)]
struct Versions;

impl Weighter<u32, Arc<KeyEntry>> for Versions {
    fn weight(&self, _: &u32, key: &Arc<KeyEntry>) -> u64 {
        u64::try_from(key.document.versions.len()).unwrap_or(u64::MAX)
    }
}

/// See the module.
pub struct Directory {
    keystore: Arc<dyn Keystore>,
    engine: GatewayRole,
    site: Arc<SiteKeys>,
    marks: Arc<Marks>,
    keys: Arc<Keys>,
    loader: Arc<Loader>,
    budgets: Budgets,
    /// App documents of recent logins, for the time that the keystore is away.
    apps: Cache<String, SignedDocument>,
    reads: Semaphore,
    /// Indexes of keys that were found by name. The key says whether it is so still.
    names: Cache<String, u32>,
    /// Sessions of each app wait here for a change of the [substance](AppDocument::substance) of its
    /// document.
    watched: Mutex<HashMap<String, watch::Sender<[u8; 32]>>>,
    /// Counts the times that changes were taken in; raised before the first of them is.
    epoch: Arc<AtomicU64>,
    /// The revision up to which changes have been taken in.
    applied: AtomicU64,
    /// What was committed in this process.
    committed: Arc<Committed>,
    /// Counts what has changed without a new revision being taken in: changes of this process, and root
    /// rotations that have ended.
    moved: AtomicU64,
    refreshing: tokio::sync::Mutex<follow::Followed>,
    /// Numbers the questions for changes.
    questions: AtomicU64,
    condition: Arc<AtomicU8>,
    /// Whether nothing may be trusted: before the keystore was first heard, and when it was away for
    /// too long.
    stale: AtomicBool,
    max_stale: Duration,
    /// Documents of apps that were committed in this process, and that sessions are yet to be told of.
    untold: Mutex<Vec<SignedDocument>>,
    /// The revisions between which nothing was marked: this server was not running.
    missed: watch::Sender<Option<(u64, u64)>>,
    born: Instant,
    /// When the keystore last answered, in milliseconds after `born`.
    heard: AtomicU64,
}

/// A generation that nothing was read in: whoever sees it looks again.
pub(crate) const NEVER: u64 = u64::MAX;

impl Directory {
    /// An empty directory.
    #[must_use]
    pub fn new(
        keystore: Arc<dyn Keystore>,
        engine: GatewayRole,
        marks: Arc<Marks>,
        config: &DirectoryConfig,
    ) -> Arc<Self> {
        let committed = keystore.committed();
        committed.follow();
        let site = Arc::new(SiteKeys::new(keystore.clone(), engine.clone()));
        let (epoch, condition) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU8::new(0)));
        let weight = u64::try_from(config.cached_keys).unwrap_or(u64::MAX);
        let keys = Arc::new(Keys::with_weighter(config.cached_keys, weight, Versions));
        let loader = Arc::new(Loader::new(
            keystore.clone(),
            engine.clone(),
            site.clone(),
            marks.clone(),
            keys.clone(),
            epoch.clone(),
            condition.clone(),
        ));
        let budgets = Budgets::new(
            keystore.clone(),
            condition.clone(),
            config.cached_keys,
            config.renew_at_share,
            engine.is_remote(),
        );
        Arc::new(Self {
            keystore,
            engine,
            site,
            marks,
            keys,
            loader,
            budgets,
            apps: Cache::new(1024),
            reads: Semaphore::new(READS),
            names: Cache::new(config.cached_keys),
            watched: Mutex::default(),
            epoch,
            applied: AtomicU64::new(committed.newest()),
            committed,
            moved: AtomicU64::new(0),
            refreshing: tokio::sync::Mutex::new(follow::Followed::new()),
            questions: AtomicU64::new(0),
            condition,
            stale: AtomicBool::new(true),
            max_stale: config.max_stale,
            untold: Mutex::default(),
            missed: watch::Sender::new(None),
            born: Instant::now(),
            heard: AtomicU64::new(0),
        })
    }

    /// What sessions compare: it moves with every change, and is [`NEVER`] while nothing that was
    /// read may be trusted.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        let applied = self.applied.load(Ordering::Acquire);
        let behind = self.committed.is_waiting();
        // Revisions stay far below 2^48.
        let generation = applied ^ (self.moved.load(Ordering::Acquire) << 48);
        if behind || self.stale.load(Ordering::Relaxed) { NEVER } else { generation }
    }

    /// What is known of the keystore.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            condition: self.condition(),
            stale: self.stale.load(Ordering::Relaxed),
            revision: self.applied.load(Ordering::Acquire),
        }
    }

    /// Keys that are kept.
    #[must_use]
    pub fn cached_keys(&self) -> usize {
        self.keys.len()
    }

    fn condition(&self) -> Condition {
        Condition::of(&self.condition)
    }

    /// A key that is here and up to date.
    pub(crate) fn cached(&self, index: u32) -> Option<Arc<KeyEntry>> {
        if self.generation() == NEVER {
            return None;
        }
        self.keys.get(&index).filter(|entry| entry.is_settled())
    }

    /// A key, from the keystore when it is not here. However many wait for it, it is read once.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `UNAVAILABLE`, `SEALED`; `INTERNAL` when a row was tampered with: the log
    /// names it.
    pub(crate) async fn load(&self, index: u32) -> Result<Arc<KeyEntry>, Refusal> {
        self.catch_up().await?;
        if let Some(entry) = self.cached(index) {
            return Ok(entry);
        }
        for _ in 1..TRIES {
            let entry = self.loader.load(index).await?;
            if entry.is_settled() {
                return Ok(entry);
            }
        }
        self.loader.load(index).await
    }

    /// A key by its name, from the keystore.
    ///
    /// # Errors
    /// As [`Directory::load`].
    pub(crate) async fn load_by_name(&self, name: &str) -> Result<Arc<KeyEntry>, Refusal> {
        self.catch_up().await?;
        let row = {
            let _turn = self.reads.acquire().await;
            self.reachable()?;
            self.keystore.document(DocumentKind::Key, By::Name(name)).await
        };
        let row = row.map_err(|error| unavailable(&error))?.ok_or(ErrorCode::KEY_NOT_FOUND)?;
        let key = self.load(row.number.ok_or(ErrorCode::INTERNAL)?).await?;
        // The row said which key has this name; the documents that have verified say which has it in truth.
        if key.document.name != name {
            tracing::error!(
                "key `{}` does not verify: its row was changed or moved",
                row.signed.id
            );
            return Err(ErrorCode::INTERNAL.into());
        }
        Ok(key)
    }

    /// A key as the keystore has it now, whatever is kept here: for an envelope of a key version that
    /// is not known here.
    ///
    /// # Errors
    /// As [`Directory::load`].
    pub(crate) async fn look_again(&self, index: u32) -> Result<Arc<KeyEntry>, Refusal> {
        self.reachable()?;
        self.refresh().await.map_err(|error| unavailable(&error))?;
        self.loader.load(index).await
    }

    /// Loads a key anew: it was found wrapped under a root key that the engine does not hold any more.
    ///
    /// # Errors
    /// As [`Directory::load`].
    pub(crate) async fn reload(&self, index: u32) -> Result<Arc<KeyEntry>, Refusal> {
        self.keys.remove(&index);
        self.load(index).await
    }

    /// The messages that the version of a key that seals may still seal under a suite; `None` when they
    /// are not counted.
    pub(crate) fn budget(&self, key: &KeyEntry, suite: Suite) -> Option<Arc<Budget>> {
        self.budgets.of(&key.document, key.sealing_version()?, suite)
    }

    /// The site's row.
    ///
    /// # Errors
    /// As [`SiteKeys::get`].
    pub(crate) async fn site(&self) -> Result<Arc<SiteEntry>, Refusal> {
        self.site.get().await
    }

    /// Has the site's row looked at again: something was found wrapped under a root key that is no more.
    pub(crate) async fn doubt_site(&self) {
        self.site.doubt().await;
    }

    /// The document that an AppKey is checked against: the app's, or a decoy that nobody has the
    /// secret of. Both take one look into the keystore, and one at the marks.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `SEALED`.
    pub(crate) async fn app(&self, app_key: &str) -> Result<SignedDocument, Refusal> {
        match self.read_app(app_key).await {
            Err(refusal) if refusal.code == ErrorCode::UNAVAILABLE => {
                let trusted = !self.stale.load(Ordering::Relaxed);
                self.apps.get(app_key).filter(|_| trusted).ok_or(refusal)
            }
            read => read,
        }
    }

    async fn read_app(&self, app_key: &str) -> Result<SignedDocument, Refusal> {
        self.catch_up().await?;
        let site = self.site().await?;
        let _turn = self.reads.acquire().await;
        self.reachable()?;
        let mut document = self.read_document(app_key, &site).await?;
        // It may have changed between the look at it and that at its mark.
        for _ in 0..TRIES {
            // One that does not verify is refused, and named, when the proof is checked.
            let verified = matches!(self.verified::<AppDocument>(&document).await, Ok(Some(_)));
            let old = self.marks.check(&[&document][..usize::from(verified)]).await;
            if !old.map_err(|error| unavailable(&error))?.contains(&true) {
                return Ok(document);
            }
            document = self.read_document(app_key, &site).await?;
        }
        let error = KeystoreError::rolled_back(&document);
        tracing::error!(%error, "a row of the keystore");
        Ok(site.decoy.clone())
    }

    async fn read_document(
        &self,
        app_key: &str,
        site: &SiteEntry,
    ) -> Result<SignedDocument, Refusal> {
        let row = self.keystore.document(DocumentKind::App, By::Id(app_key)).await;
        let row = row.map_err(|error| unavailable(&error))?;
        Ok(row.map_or_else(|| site.decoy.clone(), |row| row.signed))
    }

    /// Has a session of an app be told when what the app may do changes.
    pub(crate) fn watch(&self, app: &AppDocument) -> watch::Receiver<[u8; 32]> {
        let substance = app.substance();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = watched.entry(app.id.clone()).or_insert_with(|| watch::Sender::new(substance));
        sender.subscribe()
    }

    /// An app's document, read again, if it still says what `app` says.
    ///
    /// # Errors
    /// As [`Directory::app`].
    pub(crate) async fn still(&self, app: &AppDocument) -> Result<Option<SignedDocument>, Refusal> {
        let again = self.app(&app.id).await?;
        let same = self.substance(&again).await? == Some(app.substance());
        Ok(same.then_some(again))
    }

    /// Keeps the document that a session was opened with, for the time that the keystore is away.
    pub(crate) fn remember(&self, document: SignedDocument) {
        self.apps.insert(document.id.clone(), document);
    }

    /// Forgets what [`Directory::remember`] keeps of an app.
    pub(crate) fn forget(&self, app_key: &str) {
        self.apps.remove(app_key);
    }

    /// The substance of an app's document; `None` when it does not verify.
    ///
    /// # Errors
    /// As [`Directory::verified`].
    async fn substance(&self, document: &SignedDocument) -> Result<Option<[u8; 32]>, Refusal> {
        let verified = self.verified::<AppDocument>(document).await?;
        Ok(verified.map(|app| app.substance()))
    }

    /// A document, verified; `None` when it does not verify.
    ///
    /// # Errors
    /// While nothing can be told of it: `SEALED`, `UNAVAILABLE`.
    pub(crate) async fn verified<D: Document>(
        &self,
        document: &SignedDocument,
    ) -> Result<Option<Verified<D>>, Refusal> {
        let site = self.site().await?;
        match self.engine.verify(&site.site, document).await {
            Ok(verified) => Ok(Some(verified)),
            Err(error @ (EngineError::DocumentMac { .. } | EngineError::Document(_))) => {
                tracing::debug!(%error, "a changed row");
                Ok(None)
            }
            // Anything else says nothing about the document.
            Err(error) => Err(error.into()),
        }
    }

    /// Takes in what was committed in this process, and asks the keystore when nothing is known of it.
    async fn catch_up(&self) -> Result<(), Refusal> {
        self.take_committed().await;
        if self.generation() == NEVER {
            // One that is away is asked by who follows it, and by nobody else.
            self.reachable()?;
            self.refresh().await.map_err(|error| unavailable(&error))?;
        }
        Ok(())
    }

    /// Takes in what was committed in this process: it is in force at once.
    pub(crate) async fn keep_up(&self) {
        if !self.is_kept_up() {
            self.take_committed().await;
        }
    }

    /// Whether everything that was committed in this process is taken in.
    pub(crate) fn is_kept_up(&self) -> bool {
        !self.committed.is_waiting()
    }

    /// The keystore itself, for tokens, and lists of keys.
    pub(crate) fn keystore(&self) -> &Arc<dyn Keystore> {
        &self.keystore
    }

    /// Whether what is kept is trusted: the keystore was not away for too long.
    pub(crate) fn is_trusted(&self) -> bool {
        !self.stale.load(Ordering::Relaxed)
    }

    /// Whether the keystore is away, and what is kept is trusted all the same.
    pub(crate) fn is_trusted_while_away(&self) -> bool {
        self.condition() == Condition::Away && self.is_trusted()
    }

    /// Whether a site is known.
    pub(crate) fn knows_site(&self) -> bool {
        self.site.is_known()
    }

    /// A key by its name, from here when it is here and up to date.
    ///
    /// # Errors
    /// As [`Directory::load`].
    pub(crate) async fn find(&self, name: &str) -> Result<Arc<KeyEntry>, Refusal> {
        if let Some(index) = self.names.get(name) {
            let entry = match self.cached(index) {
                Some(entry) => entry,
                None => self.load(index).await?,
            };
            if entry.document.name == name {
                return Ok(entry);
            }
        }
        let entry = self.load_by_name(name).await?;
        self.names.insert(name.to_owned(), entry.document.index);
        Ok(entry)
    }

    /// Whether there is any use in asking the keystore, or in writing to it: while it is known to be away, requests are
    /// refused at once instead of piling up in front of it.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub(crate) fn reachable(&self) -> Result<(), Refusal> {
        readable(self.condition())
    }

    /// The newest document that was seen, as a mark.
    async fn mark_newest(&self, newest: &SignedDocument) {
        let Ok(site) = self.site().await else { return };
        let (site, revision, mac) = (site.site.uid().to_string(), newest.revision, newest.mac);
        self.marks.note_newest(&Newest { site, revision, mac }).await;
    }
}
