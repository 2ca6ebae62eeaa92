//! Reads keys that are not in the cache. Keys that are wanted while others are being read are read
//! together next: a flood of unknown indexes costs a few queries, not one for each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use sealwire_engine::document::{KeyDocument, UsableKey};
use sealwire_engine::{EngineError, GatewayRole, Verified};
use sealwire_keystore::{DocumentRow, Keystore, KeystoreError, Marks, WrappedRow};
use sealwire_protocol::ErrorCode;
use tokio::sync::oneshot;

use super::condition::{Condition, readable, unavailable};
use super::entry::KeyEntry;
use super::site::SiteKeys;
use super::{Keys, TRIES};
use crate::Refusal;
use crate::figures::FIGURES;

/// Keys that are read at once.
const BATCH: usize = 256;

/// Documents that are verified at the same time: an engine of another process takes its time, and many at
/// once.
pub(crate) const VERIFIED_AT_ONCE: usize = 64;

/// Batches that are read at the same time.
const READERS: usize = 2;

/// Requests that may wait to be read for. Beyond, they are refused at once.
const WAITING: usize = 65_536;

/// Time for a batch, after which the keystore counts as away.
const PATIENCE: Duration = Duration::from_secs(5);

type Loaded = Result<Arc<KeyEntry>, Refusal>;

pub(super) struct Loader {
    keystore: Arc<dyn Keystore>,
    engine: GatewayRole,
    site: Arc<SiteKeys>,
    marks: Arc<Marks>,
    keys: Arc<Keys>,
    epoch: Arc<AtomicU64>,
    condition: Arc<AtomicU8>,
    wanted: Mutex<Wanted>,
}

#[derive(Default)]
struct Wanted {
    waiting: Vec<(u32, oneshot::Sender<Loaded>)>,
    readers: usize,
}

impl Loader {
    pub(super) fn new(
        keystore: Arc<dyn Keystore>,
        engine: GatewayRole,
        site: Arc<SiteKeys>,
        marks: Arc<Marks>,
        keys: Arc<Keys>,
        epoch: Arc<AtomicU64>,
        condition: Arc<AtomicU8>,
    ) -> Self {
        Self { keystore, engine, site, marks, keys, epoch, condition, wanted: Mutex::default() }
    }

    /// Reads a key.
    pub(super) async fn load(self: &Arc<Self>, index: u32) -> Loaded {
        self.readable()?;
        let (sender, receiver) = oneshot::channel();
        {
            let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            if wanted.waiting.len() >= WAITING {
                return Err(Refusal::new(ErrorCode::UNAVAILABLE, "too many keys are being loaded"));
            }
            wanted.waiting.push((index, sender));
            if wanted.readers < READERS {
                wanted.readers += 1;
                tokio::spawn(self.clone().read_all());
            }
        }
        receiver.await.unwrap_or_else(|_| Err(ErrorCode::INTERNAL.into()))
    }

    fn readable(&self) -> Result<(), Refusal> {
        readable(Condition::of(&self.condition))
    }

    /// Reads batch after batch, until nobody waits.
    async fn read_all(self: Arc<Self>) {
        let mut reading = Reading { loader: &self, ended: false };
        loop {
            let batch: Vec<_> = {
                let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
                // Who does not wait any more has had its time.
                wanted.waiting.retain(|(_, sender)| !sender.is_closed());
                if wanted.waiting.is_empty() {
                    wanted.readers -= 1;
                    reading.ended = true;
                    return;
                }
                let length = wanted.waiting.len().min(BATCH);
                wanted.waiting.drain(..length).collect()
            };
            if let Err(refusal) = self.readable() {
                for (_, sender) in batch {
                    let _ = sender.send(Err(refusal.clone()));
                }
                continue;
            }
            let mut indexes: Vec<u32> = batch.iter().map(|(index, _)| *index).collect();
            indexes.sort_unstable();
            indexes.dedup();
            FIGURES.key_load_batches.inc();
            FIGURES.key_loads.inc_by(indexes.len() as u64);
            let read = tokio::time::timeout(PATIENCE, self.read(&indexes, TRIES)).await;
            let mut loaded = match read.unwrap_or(Err(KeystoreError::Slow)) {
                Ok(loaded) => loaded,
                Err(error) => {
                    let refusal = unavailable(&error);
                    indexes.iter().map(|index| (*index, Err(refusal.clone()))).collect()
                }
            };
            for (index, key) in &loaded {
                if let Ok(key) = key {
                    self.keep(*index, key);
                }
            }
            for (index, sender) in batch {
                let key = loaded.entry(index).or_insert(Err(ErrorCode::KEY_NOT_FOUND.into()));
                // Who does not wait any more has had its time.
                let _ = sender.send(key.clone());
            }
        }
    }

    /// Lets others find a key, if nothing has changed since before it was read. Only here: whoever waits for
    /// it may come late.
    fn keep(&self, index: u32, key: &Arc<KeyEntry>) {
        self.keys.insert(index, key.clone());
        if !key.settle(self.epoch.load(Ordering::Acquire)) {
            self.keys.remove(&index);
        }
    }

    /// Reads keys, and has the engine verify each. Those that are not there are left out. A key may change
    /// between the look at it and that at its mark: one that seems old is read again, a few times.
    async fn read(
        &self,
        indexes: &[u32],
        tries: usize,
    ) -> Result<HashMap<u32, Loaded>, KeystoreError> {
        let as_of = self.epoch.load(Ordering::Acquire);
        let rows = self.keystore.keys(indexes).await?;
        let (mut loaded, mut found) = (HashMap::new(), Vec::with_capacity(rows.len()));
        let mut verified = Vec::with_capacity(rows.len());
        for rows in rows.chunks(VERIFIED_AT_ONCE) {
            let verify: Vec<_> = rows.iter().map(|row| self.verify(row)).collect();
            verified.extend(join_all(verify).await);
        }
        for (row, verified) in rows.into_iter().zip(verified) {
            let Some(index) = row.number else { continue };
            match verified {
                Ok(document) => found.push((row, document)),
                Err(refusal) => drop(loaded.insert(index, Err(refusal))),
            }
        }
        let signed: Vec<_> = found.iter().map(|(row, _)| &row.signed).collect();
        let old = self.marks.check(&signed).await?;
        let uids: Vec<&str> = found.iter().map(|(row, _)| row.signed.id.as_str()).collect();
        let mut blobs: HashMap<String, Vec<WrappedRow>> = HashMap::new();
        for row in self.keystore.wrapped(&uids).await? {
            blobs.entry(row.uid.clone()).or_default().push(row);
        }
        let mut again = Vec::new();
        for ((row, document), old) in found.into_iter().zip(old) {
            let index = document.index;
            let key = if old && tries > 1 {
                again.push(index);
                continue;
            } else if old {
                Err(unavailable(&KeystoreError::rolled_back(&row.signed)))
            } else {
                let blobs = blobs.remove(&row.signed.id).unwrap_or_default();
                entry(document, &blobs, as_of)
            };
            loaded.insert(index, key);
        }
        if !again.is_empty() {
            loaded.extend(Box::pin(self.read(&again, tries - 1)).await?);
        }
        Ok(loaded)
    }

    async fn verify(&self, row: &DocumentRow) -> Result<Verified<KeyDocument>, Refusal> {
        let site = self.site.get().await?;
        let document: Verified<KeyDocument> = self.engine.verify(&site.site, &row.signed).await?;
        row.check::<KeyDocument>(&document).map_err(|error| unavailable(&error))?;
        Ok(document)
    }
}

/// A reader at work: when it ends by a panic, which would be a bug of ours, another may take its place.
struct Reading<'a> {
    loader: &'a Loader,
    ended: bool,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let mut wanted = self.loader.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            wanted.readers -= 1;
        }
    }
}

fn entry(document: Verified<KeyDocument>, blobs: &[WrappedRow], as_of: u64) -> Loaded {
    let mut versions: Vec<Option<UsableKey>> = document.versions.iter().map(|_| None).collect();
    for row in blobs {
        let position = row.version.checked_sub(1).and_then(|at| usize::try_from(at).ok());
        if let Some(slot) = position.and_then(|at| versions.get_mut(at)) {
            let usable = document.usable(row.version, &row.blob);
            *slot = Some(usable.map_err(|error: EngineError| {
                tracing::error!(%error, "key {} version {}", row.uid, row.version);
                Refusal::from(ErrorCode::INTERNAL)
            })?);
        }
    }
    Ok(Arc::new(KeyEntry::new(document, versions, as_of)))
}
