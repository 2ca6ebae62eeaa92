//! The site's own keys, wrapped, as the engine wants them with many of its words.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use sealwire_engine::{GatewayRole, SignedDocument, Site, State};
use sealwire_keystore::Keystore;
use sealwire_keystore::audit::SiteSource;
use sealwire_protocol::ErrorCode;
use tokio::sync::Mutex;

use super::{Directory, POLL, unavailable};
use crate::Refusal;

/// The site's row.
pub(crate) struct SiteEntry {
    pub(crate) site: Arc<Site>,
    /// An app's document that nobody has the secret of.
    pub(crate) decoy: SignedDocument,
}

/// The site's row, and when it was read.
pub(crate) struct SiteKeys {
    keystore: Arc<dyn Keystore>,
    engine: GatewayRole,
    known: Mutex<Option<Known>>,
    is_known: AtomicBool,
}

struct Known {
    entry: Arc<SiteEntry>,
    /// `None` when it must be looked at again, whenever it was read.
    read: Option<Instant>,
}

impl SiteKeys {
    pub(crate) fn new(keystore: Arc<dyn Keystore>, engine: GatewayRole) -> Self {
        Self { keystore, engine, known: Mutex::default(), is_known: AtomicBool::new(false) }
    }

    /// Whether the row was ever read.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    /// The site's row: read once, and again, a few times a second at most, while its keys are not under
    /// the engine's root key, as a root rotation moves them.
    ///
    /// # Errors
    /// `UNAVAILABLE`; `SEALED` before the manager has made them.
    pub(crate) async fn get(&self) -> Result<Arc<SiteEntry>, Refusal> {
        let mut known = self.known.lock().await;
        if let Some(Known { entry, read }) = known.as_ref() {
            let old = read.is_none_or(|read| read.elapsed() > POLL);
            match self.engine.state() {
                State::Open { root } if root != entry.site.root() && old => {}
                _ => return Ok(entry.clone()),
            }
        }
        let row = match self.keystore.site().await {
            Ok(row) => row,
            Err(error) => {
                let kept = known.as_mut().map(|known| {
                    known.read = Some(Instant::now());
                    known.entry.clone()
                });
                return kept.ok_or_else(|| unavailable(&error));
            }
        };
        let row = row.ok_or_else(|| {
            Refusal::new(ErrorCode::SEALED, "the site has no keys yet: unseal the engine")
        })?;
        let site = Arc::new(Site::from_bytes(&row.keys)?);
        let entry = Arc::new(SiteEntry { site, decoy: row.decoy });
        self.engine.set_site(&entry.site, &entry.decoy);
        self.is_known.store(true, Ordering::Relaxed);
        *known = Some(Known { entry: entry.clone(), read: Some(Instant::now()) });
        Ok(entry)
    }

    /// Has the row looked at again, if it is not under the engine's root key.
    pub(crate) async fn doubt(&self) {
        if let Some(known) = self.known.lock().await.as_mut() {
            known.read = None;
        }
    }
}

#[async_trait]
impl SiteSource for Directory {
    async fn site(&self) -> Option<Arc<Site>> {
        Some(self.site.get().await.ok()?.site.clone())
    }
}
