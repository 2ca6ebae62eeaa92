//! Root rotation: everything that is wrapped under the root key of before is moved under the new one,
//! while ENC and DEC go on.
//!
//! The ceremony has put both root keys into every engine, and says so (`begin_rotation`). From there on
//! this goes by itself, and goes on after a crash wherever it was:
//!
//! 1. The old root key is noted in the keystore, wrapped under the new one, so that the new cards and
//!    the database are enough to go on, and so that every manager of the site knows.
//! 2. The site's keys, each app's secrets and each wrapped key are moved. What was moved before is not
//!    touched again.
//! 3. When nothing is left under the old root key, the note says that it is over, and the engine forgets
//!    it for good.

use std::sync::Arc;
use std::time::Duration;

use sealwire_engine::document::{AppDocument, KeyDocument};
use sealwire_engine::{EngineError, RootKeyId, Site, State, chain};
use sealwire_keystore::{By, KeystoreError, Rewrapped, RotationRow, SiteRow, Taken, WrappedRow};
use tokio_util::sync::CancellationToken;

use crate::changing::Draft;
use crate::{Manager, ManagerError, RotationStage, RotationView};

/// Wrapped keys that are moved in one transaction: other writers wait for one.
const BATCH: u32 = 128;

/// Apps that are read at once.
const PAGE: u32 = 200;

/// Time between two looks for a rotation, and between two tries.
const PAUSE: Duration = Duration::from_secs(1);

impl Manager {
    /// Leads root rotations, those that a crash has interrupted among them, until `stop`.
    pub async fn lead_rotations(self: Arc<Self>, stop: CancellationToken) {
        let mut states = self.engine.watch();
        loop {
            let state = *states.borrow_and_update();
            let mut wait = PAUSE;
            if let State::Open { .. } = state {
                tokio::select! {
                    led = self.lead() => if let Err(error) = led {
                        let problem = chain(&error);
                        tracing::error!(problem, "root rotation: trying again");
                        self.rotated.send_modify(|view| view.problem = Some(problem));
                        wait = 5 * PAUSE;
                    } else if self.rotated.borrow().stage == RotationStage::Stuck {
                        wait = 5 * PAUSE;
                    },
                    () = stop.cancelled() => return,
                }
            }
            tokio::select! {
                changed = states.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
                () = self.rotation_begun.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// How far the rotation has come.
    ///
    /// # Errors
    /// [`ManagerError::Keystore`]; [`EngineError::Sealed`] while one is under way and cannot go on.
    pub async fn rotation(&self) -> Result<RotationView, ManagerError> {
        let mut view = self.rotated.borrow().clone();
        let Some((new, previous)) = self.rotation.roots() else {
            let noted = self.keystore.rotation().await?.is_some_and(|noted| !noted.done);
            let under_way = noted || self.rotation.is_under_way();
            return if under_way { Err(EngineError::Sealed.into()) } else { Ok(view) };
        };
        let led = matches!(view.stage, RotationStage::Moving | RotationStage::Stuck);
        if led {
            return Ok(view);
        }
        let problem = view.problem.take();
        match (self.keystore.rotation().await?, previous) {
            // Not led yet: this server has just started, or cannot.
            (Some(noted), _) if !noted.done && view.new != Some(noted.new) => {
                view = RotationView::of(RotationStage::Moving, noted.old, noted.new);
                view.total = self.keystore.count_elsewhere(noted.new).await?;
            }
            // Over, and about to be seen here.
            (Some(noted), Some(old)) if noted.done && (noted.old, noted.new) == (old, new) => {
                view = RotationView::of(RotationStage::Moving, old, new);
            }
            (noted, Some(old)) if noted.as_ref().is_none_or(|noted| noted.done) => {
                view = RotationView::of(RotationStage::Waiting, old, new);
            }
            _ => {}
        }
        view.problem = problem;
        Ok(view)
    }

    /// Begins to move what is wrapped. Every engine of the site must hold both root keys by now. Repeating
    /// it does nothing.
    ///
    /// # Errors
    /// [`ManagerError::Invalid`] when the engine holds no root key of before.
    pub async fn begin_rotation(&self) -> Result<RotationView, ManagerError> {
        if self.rotation().await?.stage == RotationStage::Waiting {
            let site = self.site().await?;
            let wrapped = self.rotation.wrapped_previous().await?;
            let old = RootKeyId::from_bytes(wrapped.binding().uid.to_bytes());
            let (new, blob) = (wrapped.root(), wrapped.blob().to_vec());
            if ![old, new].contains(&site.root()) {
                return Err(ManagerError::NotInRotation { engine: new, new: site.root() });
            }
            self.record(("root.begin-rotation", format!("{old} to {new}"))).await?;
            match self
                .keystore
                .begin_rotation(&RotationRow { old, new, wrapped: blob, done: false })
                .await
            {
                Ok(()) | Err(KeystoreError::Taken(Taken::Id)) => {}
                Err(error) => return Err(error.into()),
            }
            self.rotation_begun.notify_one();
        }
        let view = self.rotation().await?;
        if view.new.is_none() {
            return Err(ManagerError::Invalid("no root rotation is under way".into()));
        }
        Ok(view)
    }

    /// Ends a rotation although some rows could not be moved: those that are shown now, and no others.
    /// Nobody will ever open them again.
    ///
    /// # Errors
    /// [`ManagerError::Invalid`] unless a rotation waits for this.
    pub async fn leave_behind(&self) -> Result<RotationView, ManagerError> {
        if self.rotated.borrow().stage != RotationStage::Stuck {
            return Err(ManagerError::Invalid("no root rotation waits for rows to be left".into()));
        }
        let stuck = self.rotated.borrow().stuck.join("; ");
        self.record(("root.leave-behind", stuck)).await?;
        self.rotated.send_modify(|view| view.left_behind.clone_from(&view.stuck));
        self.rotation_begun.notify_one();
        self.rotation().await
    }

    /// Goes the whole way, from wherever it was.
    async fn lead(&self) -> Result<(), ManagerError> {
        let Some(rotation) = self.find_rotation().await? else {
            self.rotated.send_if_modified(|view| view.problem.take().is_some());
            return Ok(());
        };
        let (old, new) = (rotation.old, rotation.new);
        if self.rotated.borrow().new != Some(new) {
            tracing::info!(%old, %new, "root rotation: moving everything that is wrapped");
            let mut view = RotationView::of(RotationStage::Moving, old, new);
            view.total = self.keystore.count_elsewhere(new).await?;
            self.rotated.send_replace(view);
        }
        self.rotated.send_modify(|view| view.problem = None);
        // Pins this root key here, too, and waits: who has wrapped something under the old root key and not yet written it holds this.
        drop(self.begin().await?);
        let mut stuck = Vec::new();
        self.move_site().await?;
        self.move_apps(&mut stuck).await?;
        let apps = stuck.len();
        self.move_keys(new, &mut stuck).await?;
        let keys = u64::try_from(stuck.len() - apps).unwrap_or(u64::MAX);
        if !rotation.done && self.keystore.count_elsewhere(new).await? != keys {
            // Something has come in between: once more.
            return Ok(());
        }
        let accepted = self.rotated.borrow().left_behind.clone();
        // What another manager has left behind on an officer's word is left here, too.
        if !rotation.done && !stuck.iter().all(|row| accepted.contains(row)) {
            tracing::error!(rows = ?stuck, "root rotation: these rows cannot be moved");
            self.rotated.send_modify(|view| {
                view.stage = RotationStage::Stuck;
                view.stuck = stuck;
            });
            return Ok(());
        }
        if !stuck.is_empty() {
            tracing::warn!(rows = ?stuck, "root rotation: left behind");
        }
        if !rotation.done {
            self.record(("root.end-rotation", format!("{old} to {new}"))).await?;
        }
        self.keystore.end_rotation(new).await?;
        self.rotation.forget_previous(old, new).await?;
        self.rotated.send_modify(|view| view.stage = RotationStage::Done);
        tracing::info!(%old, %new, "root rotation: done, the old root key is forgotten");
        Ok(())
    }

    /// The rotation that is under way, when it was begun and the engine holds both root keys.
    async fn find_rotation(&self) -> Result<Option<RotationRow>, ManagerError> {
        let noted = self.keystore.rotation().await?;
        let Some((current, previous)) = self.rotation.roots() else { return Ok(None) };
        let Some(row) = noted else { return Ok(None) };
        if row.new != current {
            // An older one, or one that this engine was left out of.
            return match row.done && row.old != current {
                true => Ok(None),
                false => Err(ManagerError::NotInRotation { engine: current, new: row.new }),
            };
        }
        match previous {
            Some(previous) if previous != row.old => Ok(None),
            // Also when it is over: another manager has ended it, or this one before a crash. What was
            // written here since then is moved all the same.
            Some(_) => Ok(Some(row)),
            None if row.done => {
                let ours = self.rotated.borrow().new == Some(row.new);
                if ours {
                    self.rotated.send_modify(|view| view.stage = RotationStage::Done);
                }
                Ok(None)
            }
            None => {
                self.rotation.admit_previous(row.old, &row.wrapped).await?;
                Ok(Some(row))
            }
        }
    }

    async fn move_site(&self) -> Result<(), ManagerError> {
        loop {
            let Some(row) = self.keystore.site().await? else { return Ok(()) };
            let site = Site::from_bytes(&row.keys)?;
            let moved_site = self.rotation.rewrap_site(&site).await?;
            let new_site = moved_site.as_ref().unwrap_or(&site);
            let decoy = match self.engine.verify::<AppDocument>(&site, &row.decoy).await {
                Ok(decoy) => match self.rotation.rewrap_app(&decoy).await? {
                    None if moved_site.is_none() => return Ok(()),
                    None => row.decoy,
                    Some(decoy) => self.engine.sign(new_site, &decoy).await?,
                },
                // Nobody has its secret: another one is as good.
                Err(error @ (EngineError::DocumentMac { .. } | EngineError::Document(_))) => {
                    tracing::error!(%error, "root rotation: the decoy is made anew");
                    self.make_decoy(new_site).await?
                }
                Err(error) => return Err(error.into()),
            };
            let new = SiteRow { keys: new_site.to_bytes(), decoy };
            // Where somebody else was faster, look again.
            if self.keystore.replace_site(&row.keys, &new).await? {
                return Ok(());
            }
        }
    }

    async fn move_apps(&self, stuck: &mut Vec<String>) -> Result<(), ManagerError> {
        let mut after = String::new();
        loop {
            let page = self.read_page::<AppDocument>(&after, PAGE).await?;
            for name in &page.unverified {
                stuck.push(format!("app `{name}`: its document does not verify"));
            }
            for app in page.documents {
                match self.rotation.rewrap_app(&app).await {
                    Ok(None) => {}
                    Ok(Some(_)) => self.move_app(&app.id).await?,
                    Err(error) => stuck.push(stuck_or_fail(&format!("app `{}`", app.id), error)?),
                }
            }
            match page.next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    async fn move_app(&self, app_key: &str) -> Result<(), ManagerError> {
        let mut change = self.begin().await?;
        loop {
            let revision = change.revision().await?;
            let Some(app) = self.read::<AppDocument>(By::Id(app_key)).await? else { return Ok(()) };
            let Some(moved) = self.rotation.rewrap_app(&app).await? else { return Ok(()) };
            let document = AppDocument { revision, ..moved };
            if change.commit(Draft::of(document, "root.rewrap-app")).await?.is_some() {
                return Ok(());
            }
        }
    }

    async fn move_keys(&self, new: RootKeyId, stuck: &mut Vec<String>) -> Result<(), ManagerError> {
        let mut after: Option<(String, u32)> = None;
        loop {
            let cursor = after.as_ref().map(|(uid, version)| (uid.as_str(), *version));
            let rows = self.keystore.wrapped_elsewhere(new, cursor, BATCH).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some((last.uid.clone(), last.version));
            let moved = self.rewrap_rows(rows, stuck).await?;
            let count = self.keystore.rewrap(&moved).await?;
            self.rotated.send_modify(|view| view.moved += count);
            tokio::task::yield_now().await;
        }
    }

    /// The new blobs of some rows. Those of one key follow each other, so its document is read once.
    async fn rewrap_rows(
        &self,
        rows: Vec<WrappedRow>,
        stuck: &mut Vec<String>,
    ) -> Result<Vec<Rewrapped>, ManagerError> {
        let mut moved = Vec::with_capacity(rows.len());
        let mut key = None;
        for row in rows {
            let what = format!("key {} version {}", row.uid, row.version);
            let (_, owner) = match key.take().filter(|(uid, _)| *uid == row.uid) {
                Some(known) => key.insert(known),
                None => key.insert((row.uid.clone(), self.owner_of(&row.uid).await?)),
            };
            let document = match owner {
                Owner::Key(document) => document,
                Owner::Unknown(problem) => {
                    stuck.push(format!("{what}: {problem}"));
                    continue;
                }
            };
            let moved_key = match document.wrapped(row.version, &row.blob) {
                Ok(wrapped) => self.rotation.rewrap(&wrapped).await,
                Err(error) => Err(error),
            };
            match moved_key {
                Ok(Some(wrapped)) => moved.push(Rewrapped {
                    uid: row.uid,
                    version: row.version,
                    old: row.blob,
                    new: wrapped.blob().to_vec(),
                }),
                Ok(None) => {}
                Err(error) => stuck.push(stuck_or_fail(&what, error)?),
            }
        }
        Ok(moved)
    }

    async fn owner_of(&self, uid: &str) -> Result<Owner, ManagerError> {
        match self.read::<KeyDocument>(By::Id(uid)).await {
            Ok(Some(document)) => Ok(Owner::Key(Box::new(document.into_inner()))),
            Ok(None) => Ok(Owner::Unknown("no document speaks of it".into())),
            Err(
                error @ (ManagerError::Keystore(
                    KeystoreError::Broken(_) | KeystoreError::RolledBack(_),
                )
                | ManagerError::Engine(
                    EngineError::DocumentMac { .. } | EngineError::Document(_),
                )),
            ) => Ok(Owner::Unknown(error.to_string())),
            Err(error) => Err(error),
        }
    }
}

/// What says which key a wrapped key is.
enum Owner {
    Key(Box<KeyDocument>),
    /// Nothing does, and why.
    Unknown(String),
}

/// A row that was tampered with, in words; anything else ends this try.
fn stuck_or_fail(what: &str, error: EngineError) -> Result<String, ManagerError> {
    match error {
        EngineError::Unwrap(_) | EngineError::OtherRoot { .. } => Ok(format!("{what}: {error}")),
        error => Err(error.into()),
    }
}
