//! Root rotation: everything that is wrapped under the root key of before is moved under the new one,
//! while ENC and DEC go on.
//!
//! The ceremony has put both root keys into the engine. From there on this goes by itself, and goes on
//! after a crash wherever it was:
//!
//! 1. The old root key is noted in the keystore, wrapped under the new one, so that the new cards and
//!    the database are enough to go on.
//! 2. The site's keys, each app's secrets and each wrapped key are moved. What was moved before is not
//!    touched again.
//! 3. When nothing is left under the old root key, the engine forgets it, and the note is removed.

use std::sync::Arc;
use std::time::Duration;

use sealwire_engine::document::{AppDocument, KeyDocument};
use sealwire_engine::{EngineError, RootKeyId, Site, State};
use sealwire_keystore::{By, KeystoreError, Rewrapped, RotationRow, SiteRow, WrappedRow};
use tokio_util::sync::CancellationToken;

use crate::manager::Draft;
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
            let mut wait = PAUSE;
            let state = *states.borrow_and_update();
            if let State::Open { .. } = state {
                tokio::select! {
                    led = self.lead() => if let Err(error) = led {
                        tracing::error!(%error, "root rotation: trying again");
                        self.rotated.send_modify(|view| view.problem = Some(error.to_string()));
                        wait = 5 * PAUSE;
                    } else if self.rotation().stage == RotationStage::Stuck {
                        wait = 5 * PAUSE;
                    },
                    () = stop.cancelled() => return,
                }
            }
            tokio::select! {
                changed = states.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// How far the rotation has come.
    #[must_use]
    pub fn rotation(&self) -> RotationView {
        self.rotated.borrow().clone()
    }

    /// Ends a rotation although some rows could not be moved: nobody will ever open them again.
    ///
    /// # Errors
    /// [`ManagerError::Invalid`] unless a rotation waits for this.
    pub fn leave_behind(&self) -> Result<RotationView, ManagerError> {
        if self.rotation().stage != RotationStage::Stuck {
            return Err(ManagerError::Invalid("no root rotation waits for rows to be left".into()));
        }
        self.rotated.send_modify(|view| view.leave_behind = true);
        Ok(self.rotation())
    }

    /// Goes the whole way, from wherever it was.
    async fn lead(&self) -> Result<(), ManagerError> {
        let Some(rotation) = self.find_rotation().await? else { return Ok(()) };
        let (old, new) = (rotation.old, rotation.new);
        if self.rotation().new != Some(new) {
            tracing::info!(%old, %new, "root rotation: moving everything that is wrapped");
            let total = self.keystore.count_elsewhere(new).await?;
            self.rotated.send_replace(RotationView {
                stage: RotationStage::Moving,
                old: Some(old),
                new: Some(new),
                total,
                ..RotationView::default()
            });
        }
        self.rotated.send_modify(|view| {
            view.stage = RotationStage::Moving;
            view.problem = None;
            view.stuck.clear();
        });
        self.move_site().await?;
        self.move_apps().await?;
        self.move_keys(new).await?;
        let left = self.keystore.count_elsewhere(new).await?;
        let view = self.rotation();
        let stuck = left > 0 || !view.stuck.is_empty();
        if stuck && !view.leave_behind {
            self.rotated.send_modify(|view| view.stage = RotationStage::Stuck);
            tracing::error!(rows = ?view.stuck, left, "root rotation: these rows cannot be moved");
            return Ok(());
        }
        self.rotation
            .forget_previous()
            .map_err(|error| ManagerError::Custody(error.to_string()))?;
        self.keystore.end_rotation().await?;
        self.rotated.send_modify(|view| view.stage = RotationStage::Done);
        tracing::info!(%old, %new, "root rotation: done, the old root key is forgotten");
        Ok(())
    }

    /// The rotation that is under way, known to both the engine and the keystore.
    async fn find_rotation(&self) -> Result<Option<RotationRow>, ManagerError> {
        let State::Open { root: current } = self.engine.state() else { return Ok(None) };
        let noted = self.keystore.rotation().await?;
        match (self.rotation.previous(), noted) {
            (None, None) => Ok(None),
            (Some(old), None) => {
                self.site().await?;
                let wrapped = self.rotation.wrapped_previous()?.blob().to_vec();
                let row = RotationRow { old, new: current, wrapped };
                self.keystore.begin_rotation(&row).await?;
                Ok(Some(row))
            }
            (held, Some(row)) if row.new == current => {
                if held != Some(row.old) {
                    let admitted = self.rotation.admit_previous(row.old, &row.wrapped);
                    admitted.map_err(|error| ManagerError::Custody(error.to_string()))?;
                }
                Ok(Some(row))
            }
            (_, Some(row)) => Err(ManagerError::Custody(format!(
                "the keystore notes a rotation to root key {}, this engine holds {current}: unseal it \
                 with the cards of that root key",
                row.new
            ))),
        }
    }

    async fn move_site(&self) -> Result<(), ManagerError> {
        loop {
            let Some(row) = self.keystore.site().await? else { return Ok(()) };
            let site = Site::from_bytes(&row.keys)?;
            let decoy = self.engine.verify::<AppDocument>(&site, &row.decoy)?;
            let moved_decoy = self.rotation.rewrap_app(&decoy)?;
            let moved_site = self.rotation.rewrap_site(&site)?;
            if moved_decoy.is_none() && moved_site.is_none() {
                return Ok(());
            }
            let site = moved_site.unwrap_or(site);
            let decoy = moved_decoy.unwrap_or_else(|| decoy.into_inner());
            let decoy = self.engine.sign(&site, &decoy)?;
            let new = SiteRow { keys: site.to_bytes(), decoy };
            // Where somebody else was faster, look again.
            if self.keystore.replace_site(&row.keys, &new).await? {
                return Ok(());
            }
        }
    }

    async fn move_apps(&self) -> Result<(), ManagerError> {
        let mut after = String::new();
        loop {
            let page = self.read_page::<AppDocument>(&after, PAGE).await?;
            for name in &page.unverified {
                self.note_stuck(format!("app `{name}`: its document does not verify"));
            }
            for app in page.documents {
                match self.rotation.rewrap_app(&app) {
                    Ok(None) => {}
                    Ok(Some(_)) => self.move_app(&app.id).await?,
                    Err(error) => self.stuck_or_fail(&format!("app `{}`", app.id), error)?,
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
            let Some(moved) = self.rotation.rewrap_app(&app)? else { return Ok(()) };
            let document = AppDocument { revision, ..moved };
            if change.commit(Draft { document, wrapped: None }).await?.is_some() {
                return Ok(());
            }
        }
    }

    async fn move_keys(&self, new: RootKeyId) -> Result<(), ManagerError> {
        let mut after: Option<(String, u32)> = None;
        loop {
            let cursor = after.as_ref().map(|(uid, version)| (uid.as_str(), *version));
            let rows = self.keystore.wrapped_elsewhere(new, cursor, BATCH).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some((last.uid.clone(), last.version));
            let moved = self.rewrap_rows(rows).await?;
            let count = self.keystore.rewrap(&moved).await?;
            self.rotated.send_modify(|view| view.moved += count);
            tokio::task::yield_now().await;
        }
    }

    /// The new blobs of some rows. Those of one key follow each other, so its document is read once.
    async fn rewrap_rows(&self, rows: Vec<WrappedRow>) -> Result<Vec<Rewrapped>, ManagerError> {
        let mut moved = Vec::with_capacity(rows.len());
        let mut key: Option<(String, Result<KeyDocument, String>)> = None;
        for row in rows {
            if key.as_ref().is_none_or(|(uid, _)| *uid != row.uid) {
                key = Some((row.uid.clone(), self.key_of(&row.uid).await?));
            }
            let found = key.as_ref().map(|(_, found)| found);
            let what = || format!("key {} version {}", row.uid, row.version);
            let document = match found {
                Some(Ok(document)) => document,
                Some(Err(problem)) => {
                    self.note_stuck(format!("{}: {problem}", what()));
                    continue;
                }
                None => continue,
            };
            let wrapped = document.wrapped(row.version, &row.blob);
            match wrapped.and_then(|wrapped| self.rotation.rewrap(&wrapped)) {
                Ok(Some(wrapped)) => moved.push(Rewrapped {
                    uid: row.uid,
                    version: row.version,
                    old: row.blob,
                    new: wrapped.blob().to_vec(),
                }),
                Ok(None) => {}
                Err(error) => self.stuck_or_fail(&what(), error)?,
            }
        }
        Ok(moved)
    }

    /// The document that says what a wrapped key is; in words why there is none.
    async fn key_of(&self, uid: &str) -> Result<Result<KeyDocument, String>, ManagerError> {
        match self.read::<KeyDocument>(By::Id(uid)).await {
            Ok(Some(document)) => Ok(Ok(document.into_inner())),
            Ok(None) => Ok(Err("no document speaks of it".into())),
            Err(
                error @ (ManagerError::Keystore(KeystoreError::Broken(_))
                | ManagerError::Engine(
                    EngineError::DocumentMac { .. } | EngineError::Document(_),
                )),
            ) => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// A row that was tampered with is noted; anything else ends this try.
    fn stuck_or_fail(&self, what: &str, error: EngineError) -> Result<(), ManagerError> {
        match error {
            EngineError::Unwrap(_) | EngineError::OtherRoot { .. } => {
                self.note_stuck(format!("{what}: {error}"));
                Ok(())
            }
            error => Err(error.into()),
        }
    }

    fn note_stuck(&self, what: String) {
        self.rotated.send_modify(|view| view.stuck.push(what));
    }
}
