//! One token: what it stands for, what is known of its row, and what is shown to an engine for it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sealwire_engine::document::{AppDocument, lets_in};
use sealwire_engine::host::process::now;
use sealwire_engine::{
    Admitted, Capability, EngineError, GatewayRole, SignedDocument, Site, TokenHash, TokenRecord,
    Verified,
};
use sealwire_keystore::TokenRow;
use sealwire_protocol::ErrorCode;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, watch};

use crate::admission::{self, LetIn, Shown};
use crate::{Gateway, Refusal};

/// A token that was taken.
pub(super) struct Token {
    pub(super) hash: TokenHash,
    pub(super) app: Verified<AppDocument>,
    /// Unix time in seconds of the login.
    pub(super) issued: u64,
    /// Unix time in seconds from which it is no longer taken.
    pub(super) expires: u64,
    pub(super) capability: Capability,
    /// Moves when what the app may do changes.
    pub(super) watch: watch::Receiver<[u8; 32]>,
    pub(super) record: TokenRecord,
    /// Unix time in seconds from which it is looked at again: its HTTP secret may end before it does.
    ends: u64,
    /// When its row was last seen, in milliseconds after the beginning.
    pub(super) seen: AtomicU64,
    /// Whether it was used since the last look at its row.
    pub(super) used: AtomicBool,
    /// Whether it is not taken any more, or another has taken its place here.
    over: AtomicBool,
    /// Who looks at its row.
    pub(super) looking: Mutex<()>,
}

impl Token {
    /// Lets an app in for what it shows; `seen` is when its row was, in milliseconds after the beginning.
    ///
    /// # Errors
    /// As [`admission::admit`].
    pub(super) async fn admit<S: Shown<Granted = Admitted>>(
        gateway: &Gateway,
        from: IpAddr,
        (app_key, hash, seen): (&str, TokenHash, u64),
        shown: &S,
    ) -> Result<Arc<Self>, Refusal> {
        let mut let_in = admission::admit(gateway, from, app_key, shown).await;
        if matches!(&let_in, Err(refusal) if refusal.code == ErrorCode::SESSION_ENDED) {
            // The app was changed meanwhile.
            let_in = admission::admit(gateway, from, app_key, shown).await;
        }
        let LetIn { granted, watch, .. } = let_in?;
        let ends = granted.ends();
        let Admitted { record, issued, expires, capability, app } = granted;
        let (seen, looking) = (AtomicU64::new(seen), Mutex::const_new(()));
        let (used, over) = (AtomicBool::new(true), AtomicBool::new(false));
        Ok(Arc::new(Self {
            hash,
            app,
            issued,
            expires,
            capability,
            watch,
            record,
            ends,
            seen,
            used,
            over,
            looking,
        }))
    }

    pub(super) fn row(&self) -> TokenRow {
        let (hash, app, expires) = (self.hash, self.app.id.clone(), self.expires);
        TokenRow { hash, app, record: self.record.to_bytes(), expires }
    }

    /// It is not taken any more.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether it is not taken any more, or another has taken its place here.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether it is still good, as far as is known here; its row may be gone.
    pub(super) fn stands(&self) -> bool {
        !self.is_over() && now() < self.ends && !self.watch.has_changed().unwrap_or(true)
    }

    /// Whether it may be used from an address.
    pub(super) fn lets_in(&self, from: IpAddr) -> bool {
        lets_in(&self.app.allow, from)
    }
}

/// The hash of a token's text.
pub(super) fn hash_of(token: &[u8]) -> TokenHash {
    Sha256::digest(token).into()
}

/// An HTTP secret, shown for a token.
pub(super) struct ShownSecret<'a> {
    pub(super) secret: &'a str,
    pub(super) hash: &'a TokenHash,
    pub(super) lifetime: u64,
}

impl Shown for ShownSecret<'_> {
    type Granted = Admitted;

    const NAME: &'static str = "HTTP login";
    const RECORDED: bool = true;

    async fn check(
        &self,
        engine: &GatewayRole,
        site: &Site,
        document: &SignedDocument,
    ) -> Result<Admitted, EngineError> {
        engine.login(site, document, (self.secret, self.hash), self.lifetime).await
    }

    fn app(granted: &Admitted) -> &Verified<AppDocument> {
        &granted.app
    }
}

/// A token, with its record.
pub(super) struct ShownToken<'a> {
    pub(super) record: &'a TokenRecord,
    pub(super) hash: &'a TokenHash,
    pub(super) renew: Option<u64>,
}

impl Shown for ShownToken<'_> {
    type Granted = Admitted;

    const NAME: &'static str = "HTTP token";
    const RECORDED: bool = false;

    async fn check(
        &self,
        engine: &GatewayRole,
        site: &Site,
        document: &SignedDocument,
    ) -> Result<Admitted, EngineError> {
        engine.token(site, document, (self.record, self.hash), self.renew).await
    }

    fn app(granted: &Admitted) -> &Verified<AppDocument> {
        &granted.app
    }
}
