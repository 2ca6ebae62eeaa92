//! Who may ask the engine what: the role stands in the type.

use std::sync::Arc;

use sealwire_protocol::credential;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::custody::{Custodian, CustodyError};
use crate::document::{AppDocument, AppSecret, Document};
use crate::{
    AuthAttempt, Authenticated, Capability, Engine, EngineError, KeyBinding, Purpose, RootKeyId,
    Secret, Session, SignedDocument, Site, State, Uid, Verified, WrappedKey,
};

/// What a gateway may ask: AUTH_VERIFY, VERIFY, sessions, STATUS.
#[derive(Clone)]
pub struct GatewayRole(Arc<Engine>);

/// What a manager may ask: VERIFY, SIGN, GENKEY, STATUS.
#[derive(Clone)]
pub struct ManagerRole(Arc<Engine>);

impl GatewayRole {
    /// The gateway's handle on an engine in this process.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self(engine)
    }

    /// The server nonce of an AUTH: fresh, good for a minute, recognised by every engine of the site.
    ///
    /// # Errors
    /// [`EngineError::Sealed`], [`EngineError::Random`].
    pub fn challenge(&self, site: &Site) -> Result<[u8; 32], EngineError> {
        self.0.challenge(site)
    }

    /// AUTH_VERIFY: checks the client's proof against the app's document, inside, in constant time.
    ///
    /// # Errors
    /// [`EngineError::AuthFailed`] for every proof that is not good, whatever the reason;
    /// [`EngineError::DocumentMac`] when the document was tampered with; [`EngineError::Sealed`].
    pub fn auth_verify(
        &self,
        site: &Site,
        app: &SignedDocument,
        attempt: &AuthAttempt<'_>,
    ) -> Result<Authenticated, EngineError> {
        self.0.auth_verify(site, app, attempt)
    }

    /// Opens a session under a capability, which is checked here, once.
    ///
    /// # Errors
    /// [`EngineError::Capability`], [`EngineError::CapabilityExpired`], [`EngineError::Sealed`].
    pub fn session(&self, site: &Site, capability: &Capability) -> Result<Session, EngineError> {
        self.0.session(site, capability)
    }

    /// VERIFY: a stored document.
    ///
    /// # Errors
    /// [`EngineError::DocumentMac`], [`EngineError::Document`], [`EngineError::Sealed`].
    pub fn verify<D: Document>(
        &self,
        site: &Site,
        signed: &SignedDocument,
    ) -> Result<Verified<D>, EngineError> {
        self.0.verify(site, signed)
    }

    /// STATUS: sealed or open.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.state()
    }

    /// Tells of every sealing and opening.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.0.watch()
    }
}

impl ManagerRole {
    /// The manager's handle on an engine in this process.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self(engine)
    }

    /// The keys of a new site.
    ///
    /// # Errors
    /// [`EngineError::Sealed`], [`EngineError::Random`].
    pub fn make_site(&self) -> Result<Site, EngineError> {
        let make = |purpose| {
            let binding = KeyBinding::of_site(purpose, Uid::generate()?);
            self.make(binding).map(|(wrapped, _)| wrapped)
        };
        Ok(Site { document_mac: make(Purpose::DocumentMac)?, audit_mac: make(Purpose::AuditMac)? })
    }

    /// GENKEY: a fresh business key, wrapped; it never leaves the engine otherwise.
    ///
    /// # Errors
    /// [`EngineError::Sealed`], [`EngineError::Random`]; [`EngineError::Document`] when the binding is
    /// not a business key's.
    pub fn genkey(&self, binding: KeyBinding) -> Result<WrappedKey, EngineError> {
        if binding.purpose != Purpose::BusinessKey || binding.index == 0 || binding.version == 0 {
            return Err(EngineError::Document("not the binding of a business key".into()));
        }
        self.make(binding).map(|(wrapped, _)| wrapped)
    }

    /// A fresh AppSecret: wrapped, and once in its text form, to be shown to the app's owner.
    ///
    /// # Errors
    /// [`EngineError::Sealed`], [`EngineError::Random`].
    pub fn make_app_secret(
        &self,
        app: &str,
        version: u32,
    ) -> Result<(WrappedKey, Zeroizing<String>), EngineError> {
        let (purpose, uid, name) = (Purpose::AppSecret, Uid::generate()?, app.to_owned());
        let (wrapped, secret) = self.make(KeyBinding { purpose, uid, index: 0, version, name })?;
        Ok((wrapped, credential::encode_app_secret(secret.expose())))
    }

    /// SIGN: a document that is sound.
    ///
    /// # Errors
    /// [`EngineError::Document`], [`EngineError::Sealed`].
    pub fn sign<D: Document>(
        &self,
        site: &Site,
        document: &D,
    ) -> Result<SignedDocument, EngineError> {
        self.0.sign(site, document)
    }

    /// VERIFY: a stored document.
    ///
    /// # Errors
    /// [`EngineError::DocumentMac`], [`EngineError::Document`], [`EngineError::Sealed`].
    pub fn verify<D: Document>(
        &self,
        site: &Site,
        signed: &SignedDocument,
    ) -> Result<Verified<D>, EngineError> {
        self.0.verify(site, signed)
    }

    /// STATUS: sealed or open.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.state()
    }

    /// Tells of every sealing and opening.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.0.watch()
    }

    fn make(&self, binding: KeyBinding) -> Result<(WrappedKey, Secret<32>), EngineError> {
        let secret = Secret::generate()?;
        let wrapped = self.0.with_root(|root| root.wrap(binding, &secret))?;
        Ok((wrapped, secret))
    }
}

/// What a manager may ask during a root rotation: REWRAP, and what becomes of the root key of before.
#[derive(Clone)]
pub struct RotationRole(Arc<Custodian>);

impl RotationRole {
    /// The manager's handle on the custodian of an engine in this process.
    #[must_use]
    pub fn new(custodian: Arc<Custodian>) -> Self {
        Self(custodian)
    }

    /// The engine's root key, and the one that is left behind while a rotation lasts; `None` while sealed.
    #[must_use]
    pub fn roots(&self) -> Option<(RootKeyId, Option<RootKeyId>)> {
        self.0.engine().roots()
    }

    /// Whether a rotation is under way in this engine, also while it is sealed.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.0.is_rotating()
    }

    /// The root key of before, wrapped under the current one: whoever has the new cards has both. Which
    /// two they are stands in it.
    ///
    /// # Errors
    /// [`EngineError::Sealed`], [`EngineError::NoRotation`].
    pub fn wrapped_previous(&self) -> Result<WrappedKey, EngineError> {
        self.0.engine().wrapped_previous()
    }

    /// Gives the engine the root key of before, as [`RotationRole::wrapped_previous`] has given it.
    ///
    /// # Errors
    /// [`EngineError::OtherRoot`], [`EngineError::Unwrap`], [`EngineError::Sealed`], as
    /// [`CustodyError::Engine`]; [`CustodyError::Forgotten`]; [`CustodyError::Folder`].
    pub fn admit_previous(&self, old: RootKeyId, blob: &[u8]) -> Result<(), CustodyError> {
        let wrapped = WrappedKey::new(KeyBinding::of_root(old), blob)?;
        self.0.admit_previous(&wrapped)
    }

    /// REWRAP: a key under the current root key; `None` when it is already.
    ///
    /// # Errors
    /// [`EngineError::OtherRoot`] when it is under neither; [`EngineError::Unwrap`],
    /// [`EngineError::Sealed`], [`EngineError::Random`].
    pub fn rewrap(&self, wrapped: &WrappedKey) -> Result<Option<WrappedKey>, EngineError> {
        self.0.engine().rewrap(wrapped)
    }

    /// REWRAP of the site's own keys.
    ///
    /// # Errors
    /// As [`RotationRole::rewrap`].
    pub fn rewrap_site(&self, site: &Site) -> Result<Option<Site>, EngineError> {
        let (document_mac, audit_mac) =
            (self.rewrap(&site.document_mac)?, self.rewrap(&site.audit_mac)?);
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
    pub fn rewrap_app(&self, app: &AppDocument) -> Result<Option<AppDocument>, EngineError> {
        let mut moved = None;
        for (position, secret) in app.secrets.iter().enumerate() {
            if let Some(wrapped) = self.rewrap(&secret.key(&app.id)?)? {
                let moved = moved.get_or_insert_with(|| app.clone());
                moved.secrets[position] = AppSecret::new(&wrapped, secret.until);
            }
        }
        Ok(moved)
    }

    /// Ends the rotation from `old` to `new` in this engine: the root key of before is forgotten, for good.
    ///
    /// # Errors
    /// [`CustodyError::OutOfTurn`] when the engine does not hold just these two;
    /// [`CustodyError::Folder`], [`CustodyError::NoRootKey`].
    pub fn forget_previous(&self, old: RootKeyId, new: RootKeyId) -> Result<(), CustodyError> {
        self.0.forget_previous(old, new)
    }
}
