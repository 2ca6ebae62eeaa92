//! The audit: what the manager records of its own acts, and how records are shown and checked.
//!
//! | module | what it does |
//! |---|---|
//! | `actor` | who does what is being done |
//! | `watch` | takes what officers have done from the engines; notes how far all chains go |
//! | `check`, `follower` | one chain, part by part; heads |
//! | [`verify`] | every chain, and every head that is known |
//! | `views` | what the API shows of records |

mod actor;
mod check;
mod follower;
pub mod verify;
mod views;
mod watch;

pub(crate) use actor::{acting, actor_of, by};
pub(crate) use check::place_of;
pub use views::{
    AuditChains, AuditPage, AuditQuery, AuditRecordView, AuditRows, BadRecord, ChainPart,
    ChainView, CheckChain, CheckHeads, CheckedHeads, RowView, plain,
};

use sealwire_engine::audit::{AuditActor, AuditEvent, AuditRecord, AuditSubject};
use sealwire_engine::document::Document;
use sealwire_engine::{SignedDocument, Site, chain};
use sealwire_keystore::AuditRow;
use sealwire_keystore::audit::SiteSource;
use sha2::{Digest, Sha256};
use std::sync::Arc;

use crate::{Manager, ManagerError, Source};

/// What was done to a document.
pub(crate) struct Deed {
    /// The document's kind and what became of it: `key.rotate`.
    pub(crate) act: &'static str,
    /// What else there is to say.
    pub(crate) detail: Option<String>,
}

impl From<&'static str> for Deed {
    fn from(act: &'static str) -> Self {
        Self { act, detail: None }
    }
}

impl From<(&'static str, String)> for Deed {
    fn from((act, detail): (&'static str, String)) -> Self {
        /// What a record has room for.
        const LONGEST: usize = 1024;
        let end = (0..=LONGEST.min(detail.len())).rev().find(|end| detail.is_char_boundary(*end));
        let detail = Some(detail[..end.unwrap_or(0)].to_owned());
        Self { act, detail }
    }
}

/// The event of a change.
pub(crate) fn changed<D: Document>(
    deed: Deed,
    document: &D,
    signed: &SignedDocument,
) -> AuditEvent {
    AuditEvent::Changed {
        by: by(),
        act: deed.act.to_owned(),
        on: AuditSubject {
            kind: signed.kind.name().to_owned(),
            id: signed.id.clone(),
            name: document.name().to_owned(),
            revision: signed.revision,
            digest: hex::encode(Sha256::digest(&signed.body)),
        },
        detail: deed.detail,
    }
}

impl Manager {
    /// Records something that changes no document.
    pub(crate) async fn record(&self, deed: impl Into<Deed>) -> Result<(), ManagerError> {
        let Deed { act, detail } = deed.into();
        let event = AuditEvent::Done { by: by(), act: act.to_owned(), detail };
        Ok(self.auditor.note(event).await?)
    }

    /// Records that nobody knows whether a change was made: the keystore has gone away in the midst of it.
    pub(crate) async fn record_unclear(&self, row: &AuditRow) {
        let Ok(record) = AuditRecord::decode(&row.body) else { return };
        let AuditEvent::Changed { by, act, on, .. } = record.event else { return };
        let AuditSubject { kind, id, revision, .. } = on;
        let detail = Some(format!("{act} of {kind} {id}, revision {revision}"));
        let event = AuditEvent::Done { by, act: "change.unclear".into(), detail };
        if let Err(error) = self.auditor.note(event).await {
            tracing::error!(error = chain(&error), "audit");
        }
    }

    /// Counts what was refused to somebody.
    pub(crate) fn record_refused(&self, who: &str, source: Source, why: &str) {
        self.auditor.tell_refused(who, source.address(), why);
    }
}

#[async_trait::async_trait]
impl SiteSource for Manager {
    async fn site(&self) -> Option<Arc<Site>> {
        Manager::site(self).await.ok()
    }
}

/// Who acts, when nobody has asked for it.
pub(crate) const ITSELF: AuditActor = AuditActor::Manager;
