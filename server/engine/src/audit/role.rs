//! Who may have records signed: a gateway its own, a manager its own.

use super::{AuditProof, AuditRecord, AuditSigned, AuditWriterKind};
use crate::custody::{Ceremonies, CustodyError};
use crate::role::{Engines, Place};
use crate::{EngineError, GatewayRole, ManagerRole, RotationRole, Site};

/// What a gateway, or a manager, may ask about its audit records.
#[derive(Clone)]
pub struct AuditRole {
    kind: AuditWriterKind,
    place: Place,
}

impl AuditRole {
    /// What kind of process it is.
    #[must_use]
    pub fn kind(&self) -> AuditWriterKind {
        self.kind
    }

    /// AUDIT: signs records that follow each other in one chain, at most
    /// [`MAX_AUDIT_BATCH`](super::MAX_AUDIT_BATCH).
    ///
    /// # Errors
    /// [`EngineError::Document`] when one is not sound, or does not follow; [`EngineError::Role`] when such a process
    /// does not write it; [`EngineError::Sealed`], [`EngineError::Away`].
    pub async fn sign(
        &self,
        site: &Site,
        records: &[AuditRecord],
    ) -> Result<(Vec<Vec<u8>>, AuditSigned), EngineError> {
        let bodies = records.iter().map(AuditRecord::encode).collect::<Result<Vec<_>, _>>()?;
        let signed = match &self.place {
            Place::Here(engine) => {
                engine.sign_audit(site, self.kind, bodies.iter().map(Vec::as_slice))?
            }
            Place::There(pool) => pool.sign_audit(site, records, &bodies).await?,
        };
        Ok((bodies, signed))
    }
}

impl GatewayRole {
    /// What a gateway may ask about its audit records.
    #[must_use]
    pub fn audit(&self) -> AuditRole {
        AuditRole { kind: AuditWriterKind::Gateway, place: self.place().clone() }
    }
}

impl ManagerRole {
    /// What a manager may ask about its audit records.
    #[must_use]
    pub fn audit(&self) -> AuditRole {
        AuditRole { kind: AuditWriterKind::Manager, place: self.place().clone() }
    }

    /// AUDIT_CHECK: which of these, at most [`MAX_AUDIT_BATCH`](super::MAX_AUDIT_BATCH), is the first that the
    /// engine has not signed; `None` when it has signed them all.
    ///
    /// # Errors
    /// [`EngineError::Sealed`], [`EngineError::Away`].
    pub async fn check_audit(
        &self,
        site: &Site,
        proofs: &[AuditProof<'_>],
    ) -> Result<Option<usize>, EngineError> {
        match self.place() {
            Place::Here(engine) => engine.check_audit(site, proofs.iter().copied()),
            Place::There(pool) => pool.check_audit(site, proofs).await,
        }
    }
}

impl RotationRole {
    /// How many engines there are.
    #[must_use]
    pub fn count(&self) -> usize {
        match self.engines() {
            Engines::Here(_) => 1,
            Engines::There(pool) => pool.count(),
        }
    }

    /// CEREMONIES: what officers have done at one of the engines, and no manager has taken yet. `taken` is what one
    /// has: an engine's id, and a number there.
    ///
    /// # Errors
    /// [`CustodyError::Folder`]; [`EngineError::Away`] as [`CustodyError::Engine`].
    pub async fn ceremonies(
        &self,
        engine: usize,
        taken: Option<(&str, u64)>,
    ) -> Result<Ceremonies, CustodyError> {
        match self.engines() {
            Engines::Here(custodian) => custodian.ceremonies(taken),
            Engines::There(pool) => Ok(pool.ceremonies(engine, taken).await?),
        }
    }
}
