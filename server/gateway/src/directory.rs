//! The directory: verified documents and wrapped keys, as fresh as the keystore.
//!
//! A background task asks the keystore for changes five times a second ([`POLL`]); what was
//! committed in this process is asked for at once. Sessions compare one number, the
//! [generation](Directory::generation), and look again when it has moved.

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use sealwire_engine::document::{AppDocument, Document, DocumentKind, KeyDocument};
use sealwire_engine::{
    EngineError, GatewayRole, RootKeyId, SignedDocument, State, Verified, WrappedKey,
};
use sealwire_keystore::{By, DocumentRow, Keystore, KeystoreError};
use sealwire_protocol::ErrorCode;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Refusal;
use crate::key_entry::KeyEntry;
use crate::site_keys::{SiteEntry, SiteKeys};

/// Time between two questions for changes: a fifth of the second within which a revocation holds.
pub(crate) const POLL: Duration = Duration::from_millis(200);

/// Time for one question, after which the keystore counts as away.
const PATIENCE: Duration = Duration::from_secs(2);

/// Changes that are read at once.
const PAGE: u32 = 1000;

/// Tries to load a key that changes while it is loaded.
const TRIES: usize = 3;

/// See the module.
pub struct Directory {
    keystore: Arc<dyn Keystore>,
    engine: GatewayRole,
    site: SiteKeys,
    keys: Cache<u32, Arc<KeyEntry>>,
    /// App documents of recent logins, for the time that the keystore is away.
    apps: Cache<String, SignedDocument>,
    /// Sessions of each app wait here for a change of the [substance](AppDocument::substance) of its
    /// document.
    watched: Mutex<HashMap<String, watch::Sender<[u8; 32]>>>,
    /// Counts the times that changes were taken in; raised before the first of them is.
    epoch: AtomicU64,
    /// The revision up to which changes have been taken in.
    applied: AtomicU64,
    /// The newest revision committed in this process.
    committed: Arc<AtomicU64>,
    /// Counts root rotations that have ended.
    moved: AtomicU64,
    refreshing: tokio::sync::Mutex<Instant>,
    stale: AtomicBool,
    max_stale: Duration,
}

/// A generation that nothing was read in: whoever sees it looks again.
pub(crate) const NEVER: u64 = u64::MAX;

impl Directory {
    /// An empty directory that keeps at most `cached_keys` keys, and trusts what it keeps for at most
    /// `max_stale` without a word from the keystore.
    #[must_use]
    pub fn new(
        keystore: Arc<dyn Keystore>,
        engine: GatewayRole,
        cached_keys: usize,
        max_stale: Duration,
    ) -> Arc<Self> {
        let committed = keystore.committed();
        let site = SiteKeys::new(keystore.clone(), engine.clone());
        Arc::new(Self {
            keystore,
            engine,
            site,
            keys: Cache::new(cached_keys),
            apps: Cache::new(1024),
            watched: Mutex::default(),
            epoch: AtomicU64::new(0),
            applied: AtomicU64::new(committed.load(Ordering::Acquire)),
            committed,
            moved: AtomicU64::new(0),
            refreshing: tokio::sync::Mutex::new(Instant::now()),
            stale: AtomicBool::new(false),
            max_stale,
        })
    }

    /// Follows the keystore until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut away, mut root) = (false, None);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let refreshed = match self.refresh().await {
                Ok(()) => {
                    let followed = self.follow_rotation(&mut root);
                    tokio::time::timeout(PATIENCE, followed)
                        .await
                        .unwrap_or(Err(KeystoreError::Slow))
                }
                Err(error) => Err(error),
            };
            match (refreshed, away) {
                (Err(error), false) => {
                    tracing::warn!(error = &error as &dyn Error, "the keystore is away");
                    away = true;
                }
                (Ok(()), true) => {
                    tracing::info!("the keystore is back");
                    away = false;
                }
                _ => {}
            }
        }
    }

    /// What sessions compare: it moves with every change, and is [`NEVER`] while nothing that was
    /// read may be trusted.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        let applied = self.applied.load(Ordering::Acquire);
        let behind = self.committed.load(Ordering::Acquire) > applied;
        // Revisions stay far below 2^48.
        let generation = applied ^ (self.moved.load(Ordering::Acquire) << 48);
        if behind || self.stale.load(Ordering::Relaxed) { NEVER } else { generation }
    }

    /// A key that is here and up to date.
    pub(crate) fn cached(&self, index: u32) -> Option<Arc<KeyEntry>> {
        if self.generation() == NEVER {
            return None;
        }
        self.keys.get(&index).filter(|entry| entry.is_settled())
    }

    /// A key, from the keystore when it is not here. However many wait for it, it is loaded once.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `UNAVAILABLE`, `SEALED`; `INTERNAL` when a row was tampered with: the log
    /// names it.
    pub(crate) async fn load(&self, index: u32) -> Result<Arc<KeyEntry>, Refusal> {
        self.catch_up().await?;
        for _ in 0..TRIES {
            let load = self.read_key(By::Number(index));
            let entry = self.keys.get_or_insert_async(&index, load).await?;
            if entry.settle(self.epoch.load(Ordering::Acquire)) {
                return Ok(entry);
            }
            self.keys.remove(&index);
        }
        self.read_key(By::Number(index)).await
    }

    /// A key by its name, from the keystore.
    ///
    /// # Errors
    /// As [`Directory::load`].
    pub(crate) async fn load_by_name(&self, name: &str) -> Result<Arc<KeyEntry>, Refusal> {
        self.read_key(By::Name(name)).await
    }

    /// Asks the keystore for changes now, unless that has just been done: for an envelope of a key
    /// version that is not known here.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub(crate) async fn look_again(&self) -> Result<(), Refusal> {
        self.refresh().await.map_err(|error| unavailable(&error))
    }

    /// Loads a key anew: it was found wrapped under a root key that the engine does not hold any more.
    ///
    /// # Errors
    /// As [`Directory::load`].
    pub(crate) async fn reload(&self, index: u32) -> Result<Arc<KeyEntry>, Refusal> {
        self.keys.remove(&index);
        self.load(index).await
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
    /// secret of. Both take one look into the keystore.
    ///
    /// # Errors
    /// `UNAVAILABLE`, `SEALED`.
    pub(crate) async fn app(&self, app_key: &str) -> Result<SignedDocument, Refusal> {
        let site = self.site().await?;
        match self.keystore.document(DocumentKind::App, By::Id(app_key)).await {
            Ok(row) => Ok(row.map_or_else(|| site.decoy.clone(), |row| row.signed)),
            Err(error) => {
                let trusted = !self.stale.load(Ordering::Relaxed);
                let kept = self.apps.get(app_key).filter(|_| trusted);
                kept.ok_or_else(|| unavailable(&error))
            }
        }
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
        let same = self.substance(&again).await == Some(app.substance());
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

    async fn read_key(&self, by: By<'_>) -> Result<Arc<KeyEntry>, Refusal> {
        let as_of = self.epoch.load(Ordering::Acquire);
        let row = self.keystore.document(DocumentKind::Key, by).await;
        let row = row.map_err(|error| unavailable(&error))?.ok_or(ErrorCode::KEY_NOT_FOUND)?;
        let document = self.verify_key(&row).await?;
        let mut versions: Vec<Option<WrappedKey>> =
            document.versions.iter().map(|_| None).collect();
        let uid = document.uid.to_string();
        for row in self.keystore.wrapped(&uid).await.map_err(|error| unavailable(&error))? {
            let position = row.version.checked_sub(1).and_then(|at| usize::try_from(at).ok());
            if let Some(slot) = position.and_then(|at| versions.get_mut(at)) {
                *slot = Some(document.wrapped(row.version, &row.blob)?);
            }
        }
        Ok(Arc::new(KeyEntry::new(document, versions, as_of)))
    }

    async fn verify_key(&self, row: &DocumentRow) -> Result<Verified<KeyDocument>, Refusal> {
        let site = self.site().await?;
        let document: Verified<KeyDocument> = self.engine.verify(&site.site, &row.signed)?;
        row.check::<KeyDocument>(&document).map_err(|error| unavailable(&error))?;
        Ok(document)
    }

    async fn catch_up(&self) -> Result<(), Refusal> {
        if self.generation() == NEVER {
            self.refresh().await.map_err(|error| unavailable(&error))?;
        }
        Ok(())
    }

    /// Takes in what has changed. One at a time: who waited finds that it is done.
    async fn refresh(&self) -> Result<(), KeystoreError> {
        let asked = Instant::now();
        let mut last = self.refreshing.lock().await;
        if *last > asked {
            return Ok(());
        }
        let begun = Instant::now();
        let taken = tokio::time::timeout(PATIENCE, self.take_in()).await;
        match taken.unwrap_or(Err(KeystoreError::Slow)) {
            Ok(()) => {
                *last = begun;
                self.stale.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                if last.elapsed() > self.max_stale {
                    self.stale.store(true, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }

    /// Forgets what has changed, verified or not; but only a revision that verifies moves the mark
    /// behind which nothing is looked at any more.
    async fn take_in(&self) -> Result<(), KeystoreError> {
        let mut since = self.applied.load(Ordering::Acquire);
        loop {
            let rows = self.keystore.changes(since, PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            since = last.signed.revision;
            self.epoch.fetch_add(1, Ordering::AcqRel);
            let mut newest = None;
            for row in &rows {
                let verified = match row.signed.kind {
                    DocumentKind::Key => {
                        if let Some(index) = row.number {
                            self.keys.remove(&index);
                        }
                        self.verified::<KeyDocument>(&row.signed).await.is_some()
                    }
                    DocumentKind::App => {
                        let substance = self.substance(&row.signed).await;
                        self.tell(&row.signed, substance);
                        substance.is_some()
                    }
                };
                if verified {
                    newest = Some(row.signed.revision);
                }
            }
            if let Some(newest) = newest {
                self.applied.fetch_max(newest, Ordering::AcqRel);
            }
        }
    }

    /// The substance of an app's document; `None` when it does not verify.
    async fn substance(&self, document: &SignedDocument) -> Option<[u8; 32]> {
        Some(self.verified::<AppDocument>(document).await?.substance())
    }

    async fn verified<D: Document>(&self, document: &SignedDocument) -> Option<Verified<D>> {
        let site = self.site().await.ok()?;
        match self.engine.verify(&site.site, document) {
            Ok(verified) => Some(verified),
            Err(EngineError::Sealed) => None,
            Err(error) => {
                tracing::debug!(%error, "a changed row");
                None
            }
        }
    }

    /// Tells the sessions of an app that what it may do has changed, or can no longer be known.
    fn tell(&self, document: &SignedDocument, substance: Option<[u8; 32]>) {
        let kept = self.apps.get(&document.id).is_some();
        match substance {
            Some(_) if kept => self.apps.insert(document.id.clone(), document.clone()),
            _ => drop(self.apps.remove(&document.id)),
        }
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|id, sender| {
            if *id == document.id {
                let now = substance.unwrap_or_default();
                sender.send_if_modified(|seen| std::mem::replace(seen, now) != now);
            }
            sender.receiver_count() > 0
        });
    }

    /// Drops every key once a root rotation is over: what is kept here is wrapped under the root key of
    /// before, which the engine opens no more when its cipher was evicted.
    async fn follow_rotation(&self, seen: &mut Option<RootKeyId>) -> Result<(), KeystoreError> {
        let State::Open { root } = self.engine.state() else { return Ok(()) };
        if *seen == Some(root) {
            return Ok(());
        }
        let last = self.keystore.rotation().await?;
        let under_way = last.filter(|last| last.new != root || !last.done);
        match (&under_way, *seen) {
            (Some(last), None) => *seen = Some(last.old),
            (None, None) => *seen = Some(root),
            _ => {}
        }
        if under_way.is_none() && *seen != Some(root) {
            self.epoch.fetch_add(1, Ordering::AcqRel);
            self.keys.clear();
            self.moved.fetch_add(1, Ordering::AcqRel);
            *seen = Some(root);
        }
        Ok(())
    }
}

pub(crate) fn unavailable(error: &KeystoreError) -> Refusal {
    if let KeystoreError::Database(_) | KeystoreError::Slow = error {
        tracing::debug!(error = error as &dyn Error, "keystore");
        return Refusal::new(ErrorCode::UNAVAILABLE, "the keystore is away: try again");
    }
    tracing::error!(error = error as &dyn Error, "keystore");
    ErrorCode::INTERNAL.into()
}
