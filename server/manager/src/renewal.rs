//! What happens to keys by itself: a new version when the active one is old, or has sealed many
//! messages; and destruction when its waiting time is over.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use prometheus::{IntGauge, register_int_gauge};
use sealwire_engine::State;
use sealwire_engine::chain;
use sealwire_engine::document::{DocumentKind, KeyDocument};
use sealwire_keystore::{By, UsageRow};
use sealwire_protocol::Suite;
use tokio_util::sync::CancellationToken;

use crate::{Manager, ManagerError};

/// Time between two looks for what is due. A version whose messages are counted has, from the share at
/// which it is renewed to its limit, many times this long, however busy it is.
const PAUSE: Duration = Duration::from_secs(1);

/// Documents and versions that are seen to at once.
const PAGE: u32 = 256;

/// Versions that have used up half of what a suite with a short nonce allows, and that none has followed.
static NEAR_LIMIT: LazyLock<IntGauge> = LazyLock::new(|| {
    let help =
        "key versions past half of the messages that a suite allows, that none has followed yet";
    register_int_gauge!("sealwire_key_versions_near_limit", help).expect("registered once")
});

/// Keys that are remembered to have failed.
const MOST_TROUBLES: usize = 10_000;

/// What has gone wrong with keys before, so that it is told of once.
#[derive(Default)]
struct Troubles(HashMap<String, String>);

impl Troubles {
    /// Notes how it went with a key; whether it went well.
    fn note(&mut self, uid: &str, done: Result<(), ManagerError>) -> bool {
        let Err(error) = done else {
            self.0.remove(uid);
            return true;
        };
        let error = chain(&error);
        if self.0.get(uid) != Some(&error) {
            tracing::error!(error, "key {uid} is due: trying again");
            if self.0.len() < MOST_TROUBLES {
                self.0.insert(uid.to_owned(), error);
            }
        }
        false
    }
}

impl Manager {
    /// Renews and destroys what is due, until `stop`.
    pub async fn tend_keys(self: Arc<Self>, stop: CancellationToken) {
        let (mut failing, mut troubles) = (false, Troubles::default());
        NEAR_LIMIT.set(0);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
            if !matches!(self.engine.state(), State::Open { .. }) {
                continue;
            }
            let tended = tokio::select! {
                () = stop.cancelled() => return,
                tended = self.tend(&mut troubles) => tended,
            };
            if let (Err(error), false) = (&tended, failing) {
                tracing::warn!(error = chain(error), "keys that are due: trying again");
            }
            failing = tended.is_err();
        }
    }

    /// One that fails keeps none of the others waiting.
    async fn tend(&self, troubles: &mut Troubles) -> Result<(), ManagerError> {
        let (worn, due) = (self.tend_worn(troubles).await, self.tend_due(troubles).await);
        worn.and(due)
    }

    async fn tend_due(&self, troubles: &mut Troubles) -> Result<(), ManagerError> {
        let mut after = String::new();
        loop {
            let page = self.keystore.due(self.now(), &after, PAGE).await?;
            for row in page.rows {
                if row.signed.kind == DocumentKind::Key {
                    // The row said when; its document says what, and only once it has verified.
                    let done = self.tend_key(&row.signed.id).await;
                    troubles.note(&row.signed.id, done);
                }
            }
            match page.next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    async fn tend_worn(&self, troubles: &mut Troubles) -> Result<(), ManagerError> {
        let mut after = String::new();
        let mut left = 0;
        loop {
            let page = self.keystore.worn(&after, PAGE).await?;
            for row in page.rows {
                let why = if is_near_limit(&row) { Why::Limit } else { Why::Messages };
                let done = self.renew(&row.uid, row.version, why).await;
                let is_later = matches!(done, Ok(Renewed::Later));
                if troubles.note(&row.uid, done.map(drop)) && !is_later {
                    self.keystore.rested(&row.uid, row.version).await?;
                } else if why == Why::Limit {
                    left += 1;
                }
            }
            match page.next {
                Some(next) => after = next,
                None => {
                    NEAR_LIMIT.set(left);
                    return Ok(());
                }
            }
        }
    }

    async fn tend_key(&self, uid: &str) -> Result<(), ManagerError> {
        self.destroy_due(uid).await?;
        let Some(key) = self.read::<KeyDocument>(By::Id(uid)).await? else { return Ok(()) };
        match key.newest_active() {
            Some(active) => self.renew(uid, active, Why::Age).await.map(drop),
            None => Ok(()),
        }
    }

    /// Gives a key a new version, if `version` is still the one that seals and the reason still holds.
    async fn renew(&self, uid: &str, version: u32, why: Why) -> Result<Renewed, ManagerError> {
        let mut change = self.begin().await?;
        loop {
            let revision = change.revision().await?;
            let Some(key) = self.read::<KeyDocument>(By::Id(uid)).await? else {
                return Ok(Renewed::Not);
            };
            let active = key.versions.iter().find(|held| held.version == version);
            let Some(active) = active.filter(|_| key.newest_active() == Some(version)) else {
                return Ok(Renewed::Not);
            };
            let age = self.now().saturating_sub(active.created);
            let wish = match why {
                Why::Age => key.renewal.after_seconds,
                // Without a wish it is the suite's limit that counts, at once.
                Why::Messages => key.renewal.after_messages.map(|_| 0),
                Why::Limit => None,
            };
            match (why, wish) {
                (Why::Age, None) => return Ok(Renewed::Not),
                (Why::Messages | Why::Limit, None) => {}
                (_, Some(wish)) if age < wish.max(self.settings.renew_pause.as_secs()) => {
                    return Ok(Renewed::Later);
                }
                _ => {}
            }
            let draft = self.next_version(key.into_inner(), revision, "key.rotate").await?;
            if let Some(key) = change.commit(draft).await? {
                tracing::info!(key = %key.name, version = key.versions.len(), "key renewed");
                return Ok(Renewed::Yes);
            }
        }
    }
}

/// Why a key is to be renewed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Age,
    /// It has sealed as many as was wished, or the share of its limit at which gateways say so.
    Messages,
    /// It has used up half of what its suite allows: nothing may keep it waiting.
    Limit,
}

/// Whether a version has used up half of what its suite allows.
fn is_near_limit(row: &UsageRow) -> bool {
    let limit = Suite::from_id(row.suite).and_then(Suite::message_limit);
    limit.is_some_and(|limit| row.reserved >= limit / 2)
}

/// What has become of it.
enum Renewed {
    Yes,
    /// It need not be.
    Not,
    /// It is too soon.
    Later,
}
