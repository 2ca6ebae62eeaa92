//! What happens to keys by itself: a new version when the active one is old, or has sealed many
//! messages; and destruction when its waiting time is over.

use std::sync::Arc;
use std::time::Duration;

use sealwire_engine::State;
use sealwire_engine::chain;
use sealwire_engine::document::{DocumentKind, KeyDocument};
use sealwire_keystore::By;
use tokio_util::sync::CancellationToken;

use crate::{Manager, ManagerError};

/// Time between two looks for what is due. A version whose messages are counted has, from the share at
/// which it is renewed to its limit, many times this long, however busy it is.
const PAUSE: Duration = Duration::from_secs(1);

/// Documents and versions that are seen to at once.
const PAGE: u32 = 256;

impl Manager {
    /// Renews and destroys what is due, until `stop`.
    pub async fn tend_keys(self: Arc<Self>, stop: CancellationToken) {
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
            if self.engine.state() == State::Sealed {
                continue;
            }
            let tended = tokio::select! {
                () = stop.cancelled() => return,
                tended = self.tend() => tended,
            };
            if let (Err(error), false) = (&tended, failing) {
                tracing::warn!(error = chain(error), "keys that are due: trying again");
            }
            failing = tended.is_err();
        }
    }

    async fn tend(&self) -> Result<(), ManagerError> {
        for row in self.keystore.due(self.now(), PAGE).await? {
            if row.signed.kind != DocumentKind::Key {
                continue;
            }
            // The row said when; its document says what, and only once it has verified.
            match self.tend_key(&row.signed.id).await {
                Err(error) if !error.is_passing() => {
                    tracing::error!(error = chain(&error), "key {}", row.signed.id);
                }
                done => done?,
            }
        }
        for row in self.keystore.worn(PAGE).await? {
            match self.renew(&row.uid, row.version).await {
                Err(error) if !error.is_passing() => {
                    tracing::error!(error = chain(&error), "key {}", row.uid);
                }
                done => done?,
            }
            self.keystore.rested(&row.uid, row.version).await?;
        }
        Ok(())
    }

    async fn tend_key(&self, uid: &str) -> Result<(), ManagerError> {
        self.destroy_due(uid).await?;
        let Some(key) = self.read::<KeyDocument>(By::Id(uid)).await? else { return Ok(()) };
        let active = key.newest_active();
        let made = active.and_then(|active| {
            key.versions.iter().find(|version| version.version == active).map(|found| found.created)
        });
        match (active, made, key.renewal.after_seconds) {
            (Some(active), Some(made), Some(after)) if made.saturating_add(after) <= self.now() => {
                self.renew(uid, active).await
            }
            _ => Ok(()),
        }
    }

    /// Gives a key a new version, if `version` is still the one that seals.
    async fn renew(&self, uid: &str, version: u32) -> Result<(), ManagerError> {
        let mut change = self.begin().await?;
        loop {
            let revision = change.revision().await?;
            let Some(key) = self.read::<KeyDocument>(By::Id(uid)).await? else { return Ok(()) };
            if key.newest_active() != Some(version) {
                return Ok(());
            }
            let draft = self.next_version(key.into_inner(), revision)?;
            if let Some(key) = change.commit(draft).await? {
                tracing::info!(key = %key.name, version = key.versions.len(), "key renewed");
                return Ok(());
            }
        }
    }
}
