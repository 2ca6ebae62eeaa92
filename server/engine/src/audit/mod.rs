//! Audit records: who did what, and when. Each writer, a gateway or a manager, has a chain of its own: a record
//! names the hash of the one before it, and has a MAC by a key that only the engine knows. So a record can
//! neither be changed, nor forged, nor moved, nor left out without being seen; that the newest are missing is
//! seen by a [head](AuditHead), kept outside the database.
//!
//! | module | what it does |
//! |---|---|
//! | `record` | records, chains and heads |
//! | `event` | what a record tells of |
//! | `role` | who may have records signed |

mod event;
mod record;
mod role;

pub use event::{
    AuditActor, AuditEvent, AuditRefusals, AuditSubject, AuditUse, MAX_AUDIT_COUNTS, MAX_AUDIT_TEXT,
};
pub use record::{
    AuditHash, AuditHead, AuditRecord, AuditSigned, AuditWriter, AuditWriterKind, MAX_AUDIT_BATCH,
    MAX_AUDIT_RECORD,
};
pub use role::AuditRole;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::sign::Signs;
use crate::{Engine, EngineError, Site};

/// A record, or a head, as it is stored: its bytes, and their MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditProof<'a> {
    /// Whether it is a head.
    pub is_head: bool,
    /// The bytes.
    pub body: &'a [u8],
    /// HMAC-SHA256.
    pub mac: [u8; 32],
}

impl Engine {
    /// AUDIT: the MACs of records that follow each other in the chain of a writer of this kind, and the head behind
    /// the last of them.
    pub(crate) fn sign_audit<'a>(
        &self,
        site: &Site,
        kind: AuditWriterKind,
        bodies: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<AuditSigned, EngineError> {
        let refused = |why: &str| EngineError::Document(format!("an audit record: {why}"));
        if bodies.len() > MAX_AUDIT_BATCH {
            return Err(refused("too many at once"));
        }
        let mut macs = Vec::with_capacity(bodies.len());
        let mut head: Option<AuditHead> = None;
        for body in bodies {
            let record = AuditRecord::decode(body)?;
            if record.writer.kind != kind || !record.event.may_come_from(kind) {
                return Err(EngineError::Role);
            }
            if head.as_ref().is_some_and(|head| !record.follows(head)) {
                return Err(refused("it does not follow the one before it"));
            }
            macs.push(self.audit_mac(site, false, body)?.finalize().into_bytes().into());
            head = Some(AuditHead::of(&record, body));
        }
        let head = head.ok_or_else(|| refused("there is none"))?;
        let mac = self.audit_mac(site, true, &head.encode())?.finalize().into_bytes().into();
        Ok(AuditSigned { macs, head, head_mac: mac })
    }

    /// AUDIT_CHECK: which of these is the first that the engine has not signed; `None` when it has signed them all.
    pub(crate) fn check_audit<'a>(
        &self,
        site: &Site,
        proofs: impl Iterator<Item = AuditProof<'a>>,
    ) -> Result<Option<usize>, EngineError> {
        for (position, proof) in proofs.enumerate() {
            let mac = self.audit_mac(site, proof.is_head, proof.body)?;
            if mac.verify_slice(&proof.mac).is_err() {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    fn audit_mac(
        &self,
        site: &Site,
        is_head: bool,
        body: &[u8],
    ) -> Result<Hmac<Sha256>, EngineError> {
        let signs = if is_head { Signs::AuditHead } else { Signs::AuditRecord };
        let mut mac = Hmac::clone(&*self.keyed_mac(&site.audit_mac, signs)?);
        mac.update(body);
        Ok(mac)
    }
}
