//! What somebody should look at.

use std::time::{Duration, Instant};

use sealwire_engine::document::{KeyDocument, VersionState};
use sealwire_keystore::By;
use sealwire_protocol::Suite;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Manager, ManagerError};

/// Keys that are looked at for their age: with more of them, the rest is not, and that is said.
const LOOKED_AT: usize = 2000;

/// Time for which what was found is told again, unless a document has changed.
const KEPT: Duration = Duration::from_secs(30);

/// Documents that are read at once.
const PAGE: u32 = 256;

/// Concerns of a kind that are told of.
const MOST: usize = 100;

/// Age at which a version that still seals is called old: the upper end of what NIST SP 800-57 part 1, section 5.3.6,
/// recommends for a key that encrypts data.
const OLD: u64 = 2 * 365 * 24 * 3600;

/// How far ahead a destruction is told of: all of them.
const HORIZON: u64 = 100 * 365 * 24 * 3600;

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Concern {
    /// A version is past half of the messages that its suite allows, and no other has followed it.
    NearLimit {
        /// The key's name.
        key: String,
        /// Its index.
        index: u32,
        /// The version.
        version: u32,
        /// The suite.
        suite: String,
        /// Messages that gateways have reserved.
        reserved: u64,
        /// Messages that the suite allows.
        limit: u64,
    },
    /// A version seals for more than two years, and nothing renews it by itself.
    Old {
        /// The key's name.
        key: String,
        /// Its index.
        index: u32,
        /// The version.
        version: u32,
        /// Unix time in seconds of its making.
        created: u64,
    },
    /// A version is to be destroyed.
    DestroyScheduled {
        /// The key's name.
        key: String,
        /// Its index.
        index: u32,
        /// The version.
        version: u32,
        /// Unix time in seconds from which on.
        at: u64,
    },
    /// Rows of keys do not verify: somebody has changed the database.
    Unverified {
        /// Their names.
        names: Vec<String>,
    },
    /// Requests wait for a second person.
    Requests {
        /// How many.
        pending: u64,
    },
}

/// What somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttentionView {
    /// The concerns, by kind; at most a hundred of each.
    pub concerns: Vec<Concern>,
    /// Keys there are, as far as they were looked at.
    pub keys: u64,
    /// Whether there are more keys than were looked at for their age.
    pub more_keys: bool,
}

impl Manager {
    /// What somebody should look at.
    ///
    /// # Errors
    /// [`ManagerError`], while the engine is sealed or the keystore is away.
    pub async fn attention(&self) -> Result<AttentionView, ManagerError> {
        self.must_be_open()?;
        let mut known = self.glances.attention.lock().await;
        let revision = self.keystore.revision().await?;
        if let Some((of, at, view)) = &*known
            && *of == revision
            && at.elapsed() < KEPT
        {
            return Ok(view.clone());
        }
        let view = self.look_around().await?;
        *known = Some((revision, Instant::now(), view.clone()));
        Ok(view)
    }

    async fn look_around(&self) -> Result<AttentionView, ManagerError> {
        let mut concerns = self.near_limit().await?;
        concerns.extend(self.scheduled().await?);
        let (mut keys, mut old, mut unverified, mut after) =
            (0, Vec::new(), Vec::new(), String::new());
        let more_keys = loop {
            let page = self.read_page::<KeyDocument>(&after, PAGE).await?;
            keys += page.documents.len();
            old.extend(page.documents.iter().filter_map(|key| self.old_version(key)));
            unverified.extend(page.unverified);
            match page.next {
                Some(_) if keys + unverified.len() >= LOOKED_AT => break true,
                Some(next) => after = next,
                None => break false,
            }
        };
        old.truncate(MOST);
        concerns.extend(old);
        if !unverified.is_empty() {
            unverified.truncate(MOST);
            concerns.push(Concern::Unverified { names: unverified });
        }
        let pending = self.pending_requests().await?;
        if pending > 0 {
            concerns.push(Concern::Requests { pending });
        }
        Ok(AttentionView { concerns, keys: keys as u64, more_keys })
    }

    fn old_version(&self, key: &KeyDocument) -> Option<Concern> {
        let active = key.newest_active()?;
        let version = key.versions.iter().find(|version| version.version == active)?;
        let old = version.created.saturating_add(OLD) <= self.now();
        let renews = key.renewal.after_seconds.is_some();
        (old && !renews).then(|| Concern::Old {
            key: key.name.clone(),
            index: key.index,
            version: active,
            created: version.created,
        })
    }

    async fn near_limit(&self) -> Result<Vec<Concern>, ManagerError> {
        let mut concerns = Vec::new();
        for row in self.keystore.worn("", PAGE).await?.rows {
            let suite = Suite::from_id(row.suite);
            let Some((suite, limit)) =
                suite.and_then(|suite| Some((suite, suite.message_limit()?)))
            else {
                continue;
            };
            if row.reserved < limit / 2 || concerns.len() == MOST {
                continue;
            }
            if let Some(key) = self.read::<KeyDocument>(By::Id(&row.uid)).await? {
                let (index, key, suite) = (key.index, key.name.clone(), suite.name().to_owned());
                let (version, reserved) = (row.version, row.reserved);
                concerns.push(Concern::NearLimit { key, index, version, suite, reserved, limit });
            }
        }
        Ok(concerns)
    }

    async fn scheduled(&self) -> Result<Vec<Concern>, ManagerError> {
        let (mut concerns, mut after) = (Vec::new(), String::new());
        let until = self.now().saturating_add(HORIZON);
        loop {
            let page = self.keystore.due(until, &after, PAGE).await?;
            for row in page.rows {
                let Some(key) = self.read::<KeyDocument>(By::Id(&row.signed.id)).await? else {
                    continue;
                };
                for version in &key.versions {
                    if let (VersionState::DestroyScheduled, Some(at)) =
                        (version.state, version.destroy_at)
                    {
                        let (index, version) = (key.index, version.version);
                        let key = key.name.clone();
                        concerns.push(Concern::DestroyScheduled { key, index, version, at });
                    }
                }
            }
            match page.next {
                Some(next) if concerns.len() < MOST => after = next,
                _ => break,
            }
        }
        concerns.truncate(MOST);
        Ok(concerns)
    }
}
