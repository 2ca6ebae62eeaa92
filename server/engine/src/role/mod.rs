//! Who may ask the engine what: the role stands in the type. The engine is in this process, or there are
//! several in others: then the role stands in the certificate, too.

mod rotation;

pub(crate) use rotation::Engines;
pub use rotation::{EngineStatus, RotationRole};

use std::sync::Arc;

use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::document::Document;
use crate::remote::Pool;
use crate::{
    Admitted, AuthAttempt, Authenticated, Capability, Engine, EngineError, KeyBinding, Purpose,
    Session, SignedDocument, Site, State, TokenHash, TokenRecord, Verified, Warrant, WrappedKey,
};

/// Where the engine is.
#[derive(Clone)]
pub(crate) enum Place {
    Here(Arc<Engine>),
    There(Arc<Pool>),
}

impl Place {
    fn state(&self) -> State {
        match self {
            Self::Here(engine) => engine.state(),
            Self::There(pool) => pool.state(),
        }
    }

    fn watch(&self) -> watch::Receiver<State> {
        match self {
            Self::Here(engine) => engine.watch(),
            Self::There(pool) => pool.watch(),
        }
    }

    fn set_site(&self, site: &Site, decoy: &SignedDocument) {
        if let Self::There(pool) = self {
            pool.set_site(site, decoy);
        }
    }

    async fn verify<D: Document>(
        &self,
        site: &Site,
        signed: &SignedDocument,
    ) -> Result<Verified<D>, EngineError> {
        match self {
            Self::Here(engine) => engine.verify(site, signed),
            Self::There(pool) => pool.verify(site, signed).await,
        }
    }
}

/// What a gateway may ask: AUTH_VERIFY, LOGIN, TOKEN, VERIFY, sessions, STATUS.
#[derive(Clone)]
pub struct GatewayRole(Place);

/// What a manager may ask: VERIFY, SIGN, GENKEY, STATUS.
#[derive(Clone)]
pub struct ManagerRole(Place);

impl GatewayRole {
    pub(crate) fn place(&self) -> &Place {
        &self.0
    }

    /// The gateway's handle on an engine in this process.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self(Place::Here(engine))
    }

    /// The gateway's handle on engines of other processes.
    #[must_use]
    pub fn remote(pool: Arc<Pool>) -> Self {
        Self(Place::There(pool))
    }

    /// Whether the engines are processes of their own.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self.0, Place::There(_))
    }

    /// Says which site it is, and a document of it: engines of other processes must verify that before
    /// they get work.
    pub fn set_site(&self, site: &Site, decoy: &SignedDocument) {
        self.0.set_site(site, decoy);
    }

    /// The server nonce of an AUTH: fresh, good for a minute, recognised by every engine of the site.
    ///
    /// # Errors
    /// [`EngineError::Sealed`], [`EngineError::Random`], [`EngineError::Away`].
    pub async fn challenge(&self, site: &Site) -> Result<[u8; 32], EngineError> {
        match &self.0 {
            Place::Here(engine) => engine.challenge(site),
            Place::There(pool) => pool.challenge(site).await,
        }
    }

    /// AUTH_VERIFY: checks the client's proof against the app's document, inside, in constant time.
    ///
    /// # Errors
    /// [`EngineError::AuthFailed`] for every proof that is not good, whatever the reason;
    /// [`EngineError::DocumentMac`] when the document was tampered with; [`EngineError::Sealed`],
    /// [`EngineError::Away`].
    pub async fn auth_verify(
        &self,
        site: &Site,
        app: &SignedDocument,
        attempt: &AuthAttempt<'_>,
    ) -> Result<Authenticated, EngineError> {
        match &self.0 {
            Place::Here(engine) => engine.auth_verify(site, app, attempt),
            Place::There(pool) => pool.auth_verify(site, app, attempt).await,
        }
    }

    /// LOGIN: checks an HTTP secret against the app's document, inside, in constant time, and signs what the
    /// token of this hash stands for, for `lifetime` seconds, [`MAX_LIFETIME`](crate::MAX_LIFETIME) at most.
    ///
    /// # Errors
    /// As [`GatewayRole::auth_verify`].
    pub async fn login(
        &self,
        site: &Site,
        app: &SignedDocument,
        shown: (&str, &TokenHash),
        lifetime: u64,
    ) -> Result<Admitted, EngineError> {
        match &self.0 {
            Place::Here(engine) => engine.login(site, app, shown, lifetime),
            Place::There(pool) => pool.login(site, app, shown, lifetime).await,
        }
    }

    /// TOKEN: whether a record stands for a token of this app, whose document is this one now; good for `renew`
    /// more seconds, if that is asked for, but no longer than [`MAX_LIFETIME`](crate::MAX_LIFETIME) after the
    /// login.
    ///
    /// # Errors
    /// [`EngineError::Token`] when it is not good, for whatever reason; [`EngineError::DocumentMac`],
    /// [`EngineError::Sealed`], [`EngineError::Away`].
    pub async fn token(
        &self,
        site: &Site,
        app: &SignedDocument,
        token: (&TokenRecord, &TokenHash),
        renew: Option<u64>,
    ) -> Result<Admitted, EngineError> {
        match &self.0 {
            Place::Here(engine) => engine.token(site, app, token, renew),
            Place::There(pool) => pool.token(site, app, token, renew).await,
        }
    }

    /// Opens a session under a capability, which the engine checks once for each connection.
    ///
    /// # Errors
    /// [`EngineError::Capability`], [`EngineError::CapabilityExpired`], [`EngineError::Sealed`].
    pub fn session(&self, site: &Site, capability: &Capability) -> Result<Session, EngineError> {
        match &self.0 {
            Place::Here(engine) => {
                let (grants, _) = engine.check_capability(site, capability)?;
                Ok(Session::here(engine.clone(), Arc::new(grants)))
            }
            Place::There(pool) => Ok(Session::there(pool.session(capability)?)),
        }
    }

    /// VERIFY: a stored document.
    ///
    /// # Errors
    /// [`EngineError::DocumentMac`], [`EngineError::Document`], [`EngineError::Sealed`],
    /// [`EngineError::Away`].
    pub async fn verify<D: Document>(
        &self,
        site: &Site,
        signed: &SignedDocument,
    ) -> Result<Verified<D>, EngineError> {
        self.0.verify(site, signed).await
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
    pub(crate) fn place(&self) -> &Place {
        &self.0
    }

    /// The manager's handle on an engine in this process.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self(Place::Here(engine))
    }

    /// The manager's handle on engines of other processes.
    #[must_use]
    pub fn remote(pool: Arc<Pool>) -> Self {
        Self(Place::There(pool))
    }

    /// Says which site it is: see [`GatewayRole::set_site`].
    pub fn set_site(&self, site: &Site, decoy: &SignedDocument) {
        self.0.set_site(site, decoy);
    }

    /// The keys of a new site.
    ///
    /// # Errors
    /// [`EngineError::Sealed`], [`EngineError::Random`], [`EngineError::Away`].
    pub async fn make_site(&self) -> Result<Site, EngineError> {
        match &self.0 {
            Place::Here(engine) => engine.make_site(),
            Place::There(pool) => pool.make_site().await,
        }
    }

    /// GENKEY: a fresh business key, wrapped; it never leaves the engine otherwise.
    ///
    /// # Errors
    /// [`EngineError::Sealed`], [`EngineError::Random`], [`EngineError::Away`];
    /// [`EngineError::Document`] when the binding is not a business key's.
    pub async fn genkey(&self, binding: KeyBinding) -> Result<WrappedKey, EngineError> {
        match &self.0 {
            Place::Here(engine) => engine.genkey(binding),
            Place::There(pool) => pool.genkey(binding).await,
        }
    }

    /// A fresh AppSecret: wrapped, and once in its text form, to be shown to the app's owner.
    ///
    /// # Errors
    /// [`EngineError::Sealed`], [`EngineError::Random`], [`EngineError::Away`].
    pub async fn make_app_secret(
        &self,
        app: &str,
        version: u32,
    ) -> Result<(WrappedKey, Zeroizing<String>), EngineError> {
        self.make_secret(Purpose::AppSecret, app, version).await
    }

    /// A fresh HTTP secret: the same, for the other purpose.
    ///
    /// # Errors
    /// As [`ManagerRole::make_app_secret`].
    pub async fn make_http_secret(
        &self,
        app: &str,
        version: u32,
    ) -> Result<(WrappedKey, Zeroizing<String>), EngineError> {
        self.make_secret(Purpose::HttpSecret, app, version).await
    }

    async fn make_secret(
        &self,
        purpose: Purpose,
        app: &str,
        version: u32,
    ) -> Result<(WrappedKey, Zeroizing<String>), EngineError> {
        match &self.0 {
            Place::Here(engine) => engine.make_secret(purpose, app, version),
            Place::There(pool) => pool.make_secret(purpose, app, version).await,
        }
    }

    /// SIGN: a document that is sound.
    ///
    /// # Errors
    /// [`EngineError::Document`], [`EngineError::Sealed`], [`EngineError::Away`].
    pub async fn sign<D: Document>(
        &self,
        site: &Site,
        document: &D,
    ) -> Result<SignedDocument, EngineError> {
        match &self.0 {
            Place::Here(engine) => engine.sign(site, document),
            Place::There(pool) => pool.sign(site, document).await,
        }
    }

    /// WARRANT: whether a quorum of the site's key cards has allowed what a statement says.
    ///
    /// # Errors
    /// [`EngineError::Warrant`]; [`EngineError::Sealed`], [`EngineError::Away`].
    pub async fn check_warrant(
        &self,
        statement: &str,
        warrant: &Warrant,
    ) -> Result<(), EngineError> {
        match &self.0 {
            Place::Here(engine) => engine.check_warrant(statement, warrant),
            Place::There(pool) => pool.check_warrant(statement, warrant).await,
        }
    }

    /// PEPPER: what is stored of an operator's hashed password.
    ///
    /// # Errors
    /// [`EngineError::Document`] when `operator` is not an operator's id; [`EngineError::Sealed`],
    /// [`EngineError::Away`].
    pub async fn pepper(
        &self,
        site: &Site,
        operator: &str,
        hash: &[u8; 32],
    ) -> Result<[u8; 32], EngineError> {
        match &self.0 {
            Place::Here(engine) => engine.pepper(site, operator, hash),
            Place::There(pool) => pool.pepper(site, operator, hash).await,
        }
    }

    /// VERIFY: a stored document.
    ///
    /// # Errors
    /// [`EngineError::DocumentMac`], [`EngineError::Document`], [`EngineError::Sealed`],
    /// [`EngineError::Away`].
    pub async fn verify<D: Document>(
        &self,
        site: &Site,
        signed: &SignedDocument,
    ) -> Result<Verified<D>, EngineError> {
        self.0.verify(site, signed).await
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
