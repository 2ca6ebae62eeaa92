//! Takes in what changes in the keystore.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::error::Error;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sealwire_engine::document::{
    DocumentKind, KeyDocument, OperatorDocument, PolicyDocument, RequestDocument,
};
use sealwire_engine::{RootKeyId, SignedDocument, State};
use sealwire_keystore::{DocumentRow, KeystoreError};
use tokio_util::sync::CancellationToken;

use super::loader::VERIFIED_AT_ONCE;
use super::{Condition, Directory, unavailable};
use crate::Refusal;

/// Time between two questions for changes: a fifth of the second within which a revocation holds.
pub(crate) const POLL: Duration = Duration::from_millis(200);

/// Time for one question, after which the keystore counts as away.
const PATIENCE: Duration = Duration::from_secs(2);

/// Changes that are read at once.
const PAGE: u32 = 1000;

/// Rows that do not verify and are remembered as such.
const MOST_UNSOUND: usize = 1000;

/// How far the keystore has been followed.
pub(super) struct Followed {
    /// The number of the last question that was answered in full.
    last: u64,
    /// The newest document that has verified.
    newest: Option<SignedDocument>,
    /// The number of the last question that failed.
    failed: u64,
    /// Whether it was compared with the marks of an earlier run.
    compared: bool,
    /// Hashes of rows that did not verify, so that each is told of once.
    unsound: HashSet<u64>,
    hasher: RandomState,
}

impl Followed {
    pub(super) fn new() -> Self {
        let (unsound, hasher) = (HashSet::new(), RandomState::new());
        Self { last: 0, newest: None, failed: 0, compared: false, unsound, hasher }
    }
}

impl Directory {
    /// Follows the keystore until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = self.follow_changes() => {}
            () = self.watch_age() => {}
            () = self.mark_what_was_missed() => {}
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

    /// Takes in what has changed. One at a time: who waited finds that it is done, by a question that was
    /// asked after it came. Questions are numbered: clocks of two cores may differ.
    pub(super) async fn refresh(&self) -> Result<(), KeystoreError> {
        let came_after = self.questions.load(Ordering::SeqCst);
        let mut followed = self.refreshing.lock().await;
        if followed.last > came_after {
            return Ok(());
        }
        if followed.failed > came_after {
            return Err(KeystoreError::Slow);
        }
        let number = self.questions.fetch_add(1, Ordering::SeqCst) + 1;
        let begun = Instant::now();
        let taken = tokio::time::timeout(PATIENCE, self.take_in(&mut followed)).await;
        match taken.unwrap_or(Err(KeystoreError::Slow)) {
            Ok(()) => {
                followed.last = number;
                let heard = begun.duration_since(self.born).as_millis();
                self.heard.store(u64::try_from(heard).unwrap_or(u64::MAX), Ordering::Relaxed);
                self.stale.store(!followed.compared, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                followed.failed = number;
                Err(error)
            }
        }
    }

    /// Forgets what has changed, verified or not; but only a revision that verifies moves the mark
    /// behind which nothing is looked at any more.
    ///
    /// The newest document that was seen is asked for, too: no document is ever removed, so it is there,
    /// or a newer one, unless the keystore was put back.
    async fn take_in(&self, followed: &mut Followed) -> Result<(), KeystoreError> {
        self.take_committed().await;
        self.tell_the_untold().await;
        self.compare(followed).await?;
        if followed.newest.is_none() && !self.find_newest(followed).await? {
            return Ok(());
        }
        let mut since = self.applied.load(Ordering::Acquire);
        let mut proven = followed.newest.is_none();
        loop {
            let page = self.keystore.changes(since, PAGE).await?;
            let rows = page.rows;
            proven |= rows.iter().any(|row| followed.newest.as_ref() == Some(&row.signed));
            let Ok(taken) = self.take_rows(&rows, followed).await else {
                return match self.engine.state() {
                    // Messages are served while changes cannot be taken in: not for long.
                    State::Open { .. } => Err(KeystoreError::Slow),
                    // Nothing is served: later.
                    _ => Ok(()),
                };
            };
            if let Some(newest) = taken? {
                proven = true;
                self.applied.fetch_max(newest.revision, Ordering::AcqRel);
                self.mark_newest(newest).await;
                followed.newest = Some(newest.clone());
            }
            match page.next {
                Some(next) => since = next,
                None if proven => return Ok(()),
                None => return Err(older(since, &rows)),
            }
        }
    }

    /// Finds the newest document that verifies: only that says how far the keystore has come. `false` when
    /// nothing can be verified now.
    async fn find_newest(&self, followed: &mut Followed) -> Result<bool, KeystoreError> {
        let rows = self.keystore.newest(PAGE).await?.rows;
        for row in &rows {
            match self.is_sound(&row.signed).await {
                Err(_) => return Ok(false),
                // Whose document nobody can verify may do nothing.
                Ok(false) if row.signed.kind == DocumentKind::App => self.tell(&row.signed, None),
                Ok(false) => {}
                Ok(true) => {
                    // What was read before now may be older.
                    self.epoch.fetch_add(1, Ordering::AcqRel);
                    self.keys.clear();
                    self.moved.fetch_add(1, Ordering::AcqRel);
                    self.applied.store(row.signed.revision, Ordering::Release);
                    self.mark_newest(&row.signed).await;
                    followed.newest = Some(row.signed.clone());
                    return Ok(true);
                }
            }
        }
        match rows.first() {
            Some(_) => Err(older(0, &rows)),
            None => {
                self.applied.store(0, Ordering::Release);
                Ok(true)
            }
        }
    }

    /// Takes in a page of changes, and gives the newest that verifies.
    ///
    /// # Errors
    /// A [`Refusal`] when they cannot be verified now.
    async fn take_rows<'r>(
        &self,
        rows: &'r [DocumentRow],
        followed: &mut Followed,
    ) -> Result<Result<Option<&'r SignedDocument>, KeystoreError>, Refusal> {
        let hash = |row: &DocumentRow, hasher: &RandomState| {
            let SignedDocument { kind, id, revision, body, mac } = &row.signed;
            hasher.hash_one((kind, id, revision, body, mac))
        };
        let changed: Vec<&DocumentRow> = rows
            .iter()
            .filter(|row| followed.newest.as_ref() != Some(&row.signed))
            .filter(|row| !followed.unsound.contains(&hash(row, &followed.hasher)))
            .collect();
        if changed.is_empty() {
            return Ok(Ok(None));
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let mut verified = Vec::with_capacity(changed.len());
        let mut sound = Vec::with_capacity(changed.len());
        for rows in changed.chunks(VERIFIED_AT_ONCE) {
            let take: Vec<_> = rows.iter().map(|row| self.take_row(row)).collect();
            sound.extend(join_all(take).await);
        }
        for (row, is_sound) in changed.into_iter().zip(sound) {
            if is_sound? {
                verified.push(&row.signed);
            } else if followed.unsound.len() < MOST_UNSOUND
                && followed.unsound.insert(hash(row, &followed.hasher))
            {
                let (kind, id) = (row.signed.kind.name(), &row.signed.id);
                tracing::error!(
                    "{kind} `{id}` does not verify: its row was changed, added or moved"
                );
            }
        }
        // Sessions look again, whatever becomes of the marks.
        self.moved.fetch_add(1, Ordering::AcqRel);
        let checked = self.marks.check(&verified).await;
        Ok(checked.map(|_| verified.last().copied()))
    }

    /// Takes in a change; whether it verifies.
    async fn take_row(&self, row: &DocumentRow) -> Result<bool, Refusal> {
        let revision = row.signed.revision;
        match row.signed.kind {
            DocumentKind::Key => {
                if let Some(index) = row.number {
                    self.drop_older(index, revision);
                }
                let Some(key) = self.verified::<KeyDocument>(&row.signed).await? else {
                    return Ok(false);
                };
                self.drop_older(key.index, revision);
                Ok(row.check::<KeyDocument>(&key).is_ok())
            }
            DocumentKind::App => {
                let substance = self.substance(&row.signed).await?;
                self.tell(&row.signed, substance);
                Ok(substance.is_some())
            }
            // What managers may do is nothing to a gateway; but the change counts.
            DocumentKind::Operator | DocumentKind::Request | DocumentKind::Policy => {
                self.is_sound(&row.signed).await
            }
        }
    }

    /// Whether a document verifies.
    async fn is_sound(&self, signed: &SignedDocument) -> Result<bool, Refusal> {
        Ok(match signed.kind {
            DocumentKind::Key => self.verified::<KeyDocument>(signed).await?.is_some(),
            DocumentKind::App => self.substance(signed).await?.is_some(),
            DocumentKind::Operator => self.verified::<OperatorDocument>(signed).await?.is_some(),
            DocumentKind::Request => self.verified::<RequestDocument>(signed).await?.is_some(),
            DocumentKind::Policy => self.verified::<PolicyDocument>(signed).await?.is_some(),
        })
    }

    /// Takes in what was committed in this process: also when the keystore is gone a moment later.
    pub(super) async fn take_committed(&self) {
        if !self.committed.is_waiting() {
            return;
        }
        self.committed.take(|rows| {
            self.epoch.fetch_add(1, Ordering::AcqRel);
            for row in rows {
                match (row.signed.kind, row.number) {
                    (DocumentKind::Key, Some(index)) => self.drop_older(index, row.signed.revision),
                    _ => {
                        self.apps.remove(&row.signed.id);
                        self.untold.lock().unwrap_or_else(PoisonError::into_inner).push(row.signed);
                    }
                }
            }
            self.moved.fetch_add(1, Ordering::AcqRel);
        });
        self.tell_the_untold().await;
    }

    /// Tells sessions of what was committed in this process. Until that is done, it stays noted.
    async fn tell_the_untold(&self) {
        let first = || {
            let untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
            untold.first().cloned()
        };
        while let Some(document) = first() {
            // What cannot be verified now is taken in with the other changes, later.
            if let Ok(substance) = self.substance(&document).await {
                self.tell(&document, substance);
            }
            let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
            untold.retain(|other| *other != document);
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
        let rows = self.keystore.changes(mark.revision, PAGE).await?.rows;
        for row in &rows {
            let Ok(sound) = self.is_sound(&row.signed).await else { return Ok(()) };
            if sound && row.signed.revision == mark.revision && row.signed.mac != mark.mac {
                return Err(KeystoreError::RolledBack(format!(
                    "revision {} of the keystore is another one than before",
                    mark.revision
                )));
            }
            if sound {
                followed.compared = true;
                self.missed
                    .send_replace(Some((mark.revision, self.applied.load(Ordering::Acquire))));
                return Ok(());
            }
        }
        Err(older(mark.revision, &rows))
    }

    /// Marks what has changed while this server was not running: once, beside everything else.
    async fn mark_what_was_missed(&self) {
        let mut missed = self.missed.subscribe();
        let (mut since, upto) = match missed.wait_for(Option::is_some).await.map(|missed| *missed) {
            Ok(Some(missed)) => missed,
            _ => return std::future::pending().await,
        };
        while since < upto {
            match self.mark_page(since).await {
                Ok(Some(next)) => since = next,
                Ok(None) => break,
                // Away, or sealed: later.
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
        std::future::pending::<()>().await;
    }

    /// Marks a page of changes, and gives where the next one begins.
    async fn mark_page(&self, since: u64) -> Result<Option<u64>, Refusal> {
        let page = self.keystore.changes(since, PAGE).await.map_err(|error| unavailable(&error))?;
        let mut verified = Vec::with_capacity(page.rows.len());
        for row in &page.rows {
            if self.is_sound(&row.signed).await? {
                verified.push(&row.signed);
            }
        }
        self.marks.check(&verified).await.map_err(|error| unavailable(&error))?;
        Ok(page.next)
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

/// The newest document that was seen is not there, nor a newer one that verifies. Rows that do not verify
/// prove nothing: whoever puts a database back can put in one of those, too.
fn older(seen: u64, rows: &[DocumentRow]) -> KeystoreError {
    KeystoreError::RolledBack(match rows.first() {
        Some(row) => format!(
            "{} `{}`, the newest document, does not verify or is another one than before, so that nothing shows how \
             old the keystore is; any change that a manager makes shows it again",
            row.signed.kind.name(),
            row.signed.id
        ),
        None => {
            format!("the keystore was at revision {seen} before, and that is not there any more")
        }
    })
}
