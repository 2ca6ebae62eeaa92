//! Takes in what changes in the keystore.

use std::error::Error;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sealwire_engine::document::{DocumentKind, KeyDocument};
use sealwire_engine::{RootKeyId, SignedDocument, State};
use sealwire_keystore::{DocumentRow, KeystoreError};
use tokio_util::sync::CancellationToken;

use super::{Condition, Directory};

/// Time between two questions for changes: a fifth of the second within which a revocation holds.
pub(crate) const POLL: Duration = Duration::from_millis(200);

/// Time for one question, after which the keystore counts as away.
const PATIENCE: Duration = Duration::from_secs(2);

/// Changes that are read at once.
const PAGE: u32 = 1000;

/// How far the keystore has been followed.
pub(super) struct Followed {
    /// When it last answered.
    last: Instant,
    /// The newest document that has verified.
    newest: Option<SignedDocument>,
    /// Whether it was compared with the marks of an earlier run.
    compared: bool,
}

impl Followed {
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now, newest: None, compared: false }
    }
}

impl Directory {
    /// Follows the keystore until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = self.follow_changes() => {}
            () = self.watch_age() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn follow_changes(&self) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut root = None;
        loop {
            ticks.tick().await;
            let followed = match self.refresh().await {
                Ok(()) => {
                    let followed = self.follow_rotation(&mut root);
                    tokio::time::timeout(PATIENCE, followed)
                        .await
                        .unwrap_or(Err(KeystoreError::Slow))
                }
                Err(error) => Err(error),
            };
            self.judge(&followed);
        }
    }

    /// Stops trusting what is kept here when the keystore has said nothing for too long, however long a
    /// question to it takes.
    async fn watch_age(&self) {
        let mut ticks = tokio::time::interval(POLL);
        loop {
            ticks.tick().await;
            let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
            if self.born.elapsed().saturating_sub(heard) > self.max_stale
                && !self.stale.swap(true, Ordering::Relaxed)
            {
                tracing::error!("the keystore is away for too long: everything is refused");
            }
        }
    }

    /// Notes what the keystore is like.
    fn judge(&self, followed: &Result<(), KeystoreError>) {
        let now = match followed {
            Ok(()) => Condition::Up,
            Err(KeystoreError::RolledBack(_)) => Condition::RolledBack,
            Err(_) => Condition::Away,
        };
        let before = self.condition();
        self.condition.store(now as u8, Ordering::Relaxed);
        metrics::gauge!("sealwire_keystore_up").set(f64::from(u8::from(now == Condition::Up)));
        if now == before {
            return;
        }
        match followed {
            Ok(()) => tracing::info!("the keystore is back"),
            Err(error @ KeystoreError::RolledBack(_)) => {
                tracing::error!(%error, "nothing is read from the keystore");
            }
            Err(error) => tracing::warn!(error = error as &dyn Error, "the keystore is away"),
        }
    }

    /// Takes in what has changed. One at a time: who waited finds that it is done.
    pub(super) async fn refresh(&self) -> Result<(), KeystoreError> {
        let asked = Instant::now();
        let mut followed = self.refreshing.lock().await;
        if followed.last > asked {
            return Ok(());
        }
        let begun = Instant::now();
        let taken = tokio::time::timeout(PATIENCE, self.take_in(&mut followed)).await;
        match taken.unwrap_or(Err(KeystoreError::Slow)) {
            Ok(()) => {
                followed.last = begun;
                let heard = begun.duration_since(self.born).as_millis();
                self.heard.store(u64::try_from(heard).unwrap_or(u64::MAX), Ordering::Relaxed);
                self.stale.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Forgets what has changed, verified or not; but only a revision that verifies moves the mark
    /// behind which nothing is looked at any more.
    ///
    /// The newest document that was seen is asked for, too: no document is ever removed, so it is there,
    /// or a newer one, unless the keystore was put back.
    async fn take_in(&self, followed: &mut Followed) -> Result<(), KeystoreError> {
        self.take_committed().await;
        let mut since = self.applied.load(Ordering::Acquire);
        self.compare(followed).await?;
        let mut first = true;
        loop {
            let rows = self.keystore.changes(since, PAGE).await?;
            if first {
                check_newest(followed.newest.as_ref(), &rows, since)?;
            }
            first = false;
            let Some(last) = rows.last() else { return Ok(()) };
            since = last.signed.revision + 1;
            let newest = self.take_rows(&rows, followed.newest.as_ref()).await?;
            if let Some(newest) = newest {
                self.applied.fetch_max(newest.revision, Ordering::AcqRel);
                self.mark_newest(newest).await;
                followed.newest = Some(newest.clone());
            }
        }
    }

    /// Takes in a page of changes, and gives the newest that verifies.
    async fn take_rows<'r>(
        &self,
        rows: &'r [DocumentRow],
        known: Option<&SignedDocument>,
    ) -> Result<Option<&'r SignedDocument>, KeystoreError> {
        let changed: Vec<&SignedDocument> =
            rows.iter().map(|row| &row.signed).filter(|row| known != Some(*row)).collect();
        if changed.is_empty() {
            return Ok(None);
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let mut verified = Vec::with_capacity(changed.len());
        for row in rows.iter().filter(|row| known != Some(&row.signed)) {
            let sound = match row.signed.kind {
                DocumentKind::Key => {
                    if let Some(index) = row.number {
                        self.drop_older(index, row.signed.revision);
                    }
                    self.verified::<KeyDocument>(&row.signed).await.is_some()
                }
                DocumentKind::App => {
                    let substance = self.substance(&row.signed).await;
                    self.tell(&row.signed, substance);
                    substance.is_some()
                }
            };
            if sound {
                verified.push(&row.signed);
            }
        }
        self.marks.check(&verified).await?;
        Ok(verified.last().copied())
    }

    /// Takes in what was committed in this process: also when the keystore is gone a moment later.
    pub(super) async fn take_committed(&self) {
        if !self.committed.is_waiting() {
            return;
        }
        let apps = self.committed.take(|rows| {
            self.epoch.fetch_add(1, Ordering::AcqRel);
            let (keys, apps): (Vec<_>, Vec<_>) =
                rows.into_iter().partition(|row| row.signed.kind == DocumentKind::Key);
            for row in keys {
                if let Some(index) = row.number {
                    self.drop_older(index, row.signed.revision);
                }
            }
            self.moved.fetch_add(1, Ordering::AcqRel);
            apps
        });
        for row in apps {
            let substance = self.substance(&row.signed).await;
            self.tell(&row.signed, substance);
        }
    }

    /// Drops a key that is kept, unless it is as new as this.
    fn drop_older(&self, index: u32, revision: u64) {
        if self.keys.get(&index).is_none_or(|entry| entry.document.revision < revision) {
            self.keys.remove(&index);
        }
    }

    /// Compares the keystore with what an earlier run of this server has seen: once, as soon as the engine
    /// can verify.
    async fn compare(&self, followed: &mut Followed) -> Result<(), KeystoreError> {
        if followed.compared {
            return Ok(());
        }
        let Some(mark) = self.marks.newest().await? else {
            followed.compared = true;
            return Ok(());
        };
        let Ok(site) = self.site().await else { return Ok(()) };
        if site.site.uid().to_string() != mark.site {
            return Err(KeystoreError::RolledBack("the keystore is another site's".into()));
        }
        let rows = self.keystore.changes(mark.revision, PAGE).await?;
        for row in &rows {
            let sound = match row.signed.kind {
                DocumentKind::Key => self.verified::<KeyDocument>(&row.signed).await.is_some(),
                DocumentKind::App => self.substance(&row.signed).await.is_some(),
            };
            let other = row.signed.revision == mark.revision && row.signed.mac != mark.mac;
            if sound && !other {
                followed.compared = true;
                return Ok(());
            }
        }
        if self.engine.state() == State::Sealed {
            return Ok(());
        }
        // Rows that do not verify prove nothing: whoever puts a database back can put in one of those, too.
        Err(match rows.first() {
            Some(row) => KeystoreError::RolledBack(format!(
                "{} `{}`, the newest document, does not verify or is another one than before, so that nothing \
                 shows how old the keystore is; any change that a manager makes shows it again",
                row.signed.kind.name(),
                row.signed.id
            )),
            None => older(mark.revision),
        })
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

/// Whether the newest document that was seen is there, or newer ones.
fn check_newest(
    newest: Option<&SignedDocument>,
    rows: &[DocumentRow],
    since: u64,
) -> Result<(), KeystoreError> {
    match (newest, rows.first()) {
        (None, None) if since == 0 => Ok(()),
        (_, None) => Err(older(since)),
        (Some(newest), Some(row))
            if row.signed.revision == newest.revision && row.signed != *newest =>
        {
            Err(older(since))
        }
        _ => Ok(()),
    }
}

fn older(seen: u64) -> KeystoreError {
    KeystoreError::RolledBack(format!(
        "the keystore was at revision {seen} before, and that is not there any more"
    ))
}
