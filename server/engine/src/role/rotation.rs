//! What a manager may ask during a root rotation.

use std::sync::Arc;

use crate::custody::{Custodian, CustodyError};
use crate::document::{AppDocument, AppSecret};
use crate::remote::{EngineReport, Pool};
use crate::wire::message::{Figures, Status};
use crate::{EngineError, KeyBinding, RootKeyId, Site, WrappedKey};

/// What a manager may ask during a root rotation: REWRAP, and what becomes of the root key of before.
#[derive(Clone)]
pub struct RotationRole(Engines);

/// What a manager knows of an engine.
#[derive(Debug, Clone)]
pub struct EngineStatus {
    /// HOST:PORT; `None` for the one in this process.
    pub address: Option<String>,
    /// What it has told last; `None` while it cannot be reached.
    pub status: Option<Status>,
    /// Whether it is open with another root key than the site's: it gets no work.
    pub is_foreign: bool,
}

#[derive(Clone)]
pub(crate) enum Engines {
    Here(Arc<Custodian>),
    There(Arc<Pool>),
}

impl RotationRole {
    pub(crate) fn engines(&self) -> &Engines {
        &self.0
    }

    /// The manager's handle on the custodian of an engine in this process.
    #[must_use]
    pub fn new(custodian: Arc<Custodian>) -> Self {
        Self(Engines::Here(custodian))
    }

    /// The manager's handle on every engine of a site.
    #[must_use]
    pub fn remote(pool: Arc<Pool>) -> Self {
        Self(Engines::There(pool))
    }

    /// What is known of each engine.
    #[must_use]
    pub fn statuses(&self) -> Vec<EngineStatus> {
        match &self.0 {
            Engines::Here(custodian) => {
                let status = Some(Status::of(custodian, Figures::default()));
                vec![EngineStatus { address: None, status, is_foreign: false }]
            }
            Engines::There(pool) => {
                let known = |EngineReport { address, status, is_foreign, .. }| EngineStatus {
                    address: Some(address),
                    status,
                    is_foreign,
                };
                pool.report().into_iter().map(known).collect()
            }
        }
    }

    /// The engines' root key, and the one that is left behind while a rotation lasts; `None` while none is open.
    #[must_use]
    pub fn roots(&self) -> Option<(RootKeyId, Option<RootKeyId>)> {
        match &self.0 {
            Engines::Here(custodian) => custodian.engine().roots(),
            Engines::There(pool) => pool.roots(),
        }
    }

    /// Whether a rotation is under way in an engine, also while it is sealed.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        match &self.0 {
            Engines::Here(custodian) => custodian.is_rotating(),
            Engines::There(pool) => pool.is_rotating(),
        }
    }

    /// The root key of before, wrapped under the current one: whoever has the new cards has both. Which
    /// two they are stands in it. Every engine of the site must hold both by now.
    ///
    /// # Errors
    /// [`EngineError::Sealed`], [`EngineError::NoRotation`]; [`EngineError::Away`], which names the engine
    /// that is away, sealed, or does not hold both.
    pub async fn wrapped_previous(&self) -> Result<WrappedKey, EngineError> {
        match &self.0 {
            Engines::Here(custodian) => custodian.engine().wrapped_previous(),
            Engines::There(pool) => pool.wrapped_previous().await,
        }
    }

    /// Gives the engines the root key of before, as [`RotationRole::wrapped_previous`] has given it.
    ///
    /// # Errors
    /// [`EngineError::OtherRoot`], [`EngineError::Unwrap`], [`EngineError::Sealed`],
    /// [`EngineError::Away`], as [`CustodyError::Engine`]; [`CustodyError::Forgotten`];
    /// [`CustodyError::Folder`].
    pub async fn admit_previous(&self, old: RootKeyId, blob: &[u8]) -> Result<(), CustodyError> {
        let wrapped = WrappedKey::new(KeyBinding::of_root(old), blob)?;
        match &self.0 {
            Engines::Here(custodian) => custodian.admit_previous(&wrapped),
            Engines::There(pool) => Ok(pool.admit_previous(old, blob).await?),
        }
    }

    /// REWRAP: a key under the current root key; `None` when it is already.
    ///
    /// # Errors
    /// [`EngineError::OtherRoot`] when it is under neither; [`EngineError::Unwrap`],
    /// [`EngineError::Sealed`], [`EngineError::Random`], [`EngineError::Away`].
    pub async fn rewrap(&self, wrapped: &WrappedKey) -> Result<Option<WrappedKey>, EngineError> {
        match &self.0 {
            Engines::Here(custodian) => custodian.engine().rewrap(wrapped),
            Engines::There(pool) => pool.rewrap(wrapped).await,
        }
    }

    /// REWRAP of the site's own keys.
    ///
    /// # Errors
    /// As [`RotationRole::rewrap`].
    pub async fn rewrap_site(&self, site: &Site) -> Result<Option<Site>, EngineError> {
        let document_mac = self.rewrap(&site.document_mac).await?;
        let audit_mac = self.rewrap(&site.audit_mac).await?;
        if document_mac.is_none() && audit_mac.is_none() {
            return Ok(None);
        }
        Ok(Some(Site {
            document_mac: document_mac.unwrap_or_else(|| site.document_mac.clone()),
            audit_mac: audit_mac.unwrap_or_else(|| site.audit_mac.clone()),
        }))
    }

    /// REWRAP of an app's secrets, in a document that is yet to be signed; `None` when all are under the
    /// current root key.
    ///
    /// # Errors
    /// As [`RotationRole::rewrap`].
    pub async fn rewrap_app(&self, app: &AppDocument) -> Result<Option<AppDocument>, EngineError> {
        let mut moved = None;
        for (position, secret) in app.secrets.iter().enumerate() {
            if let Some(wrapped) = self.rewrap(&secret.key(&app.id)?).await? {
                let moved = moved.get_or_insert_with(|| app.clone());
                moved.secrets[position] = AppSecret::new(&wrapped, secret.until);
            }
        }
        for (position, secret) in app.http_secrets.iter().enumerate() {
            if let Some(wrapped) = self.rewrap(&secret.http_key(&app.id)?).await? {
                let moved = moved.get_or_insert_with(|| app.clone());
                moved.http_secrets[position] = AppSecret::new(&wrapped, secret.until);
            }
        }
        Ok(moved)
    }

    /// Ends the rotation from `old` to `new` in every engine: the root key of before is forgotten, for good.
    ///
    /// # Errors
    /// [`CustodyError::OutOfTurn`] when the engine does not hold just these two;
    /// [`CustodyError::Folder`], [`CustodyError::NoRootKey`]; [`CustodyError::Engine`] when not every engine
    /// can be asked.
    pub async fn forget_previous(
        &self,
        old: RootKeyId,
        new: RootKeyId,
    ) -> Result<(), CustodyError> {
        match &self.0 {
            Engines::Here(custodian) => custodian.forget_previous(old, new),
            Engines::There(pool) => Ok(pool.forget_previous(old, new).await?),
        }
    }
}
