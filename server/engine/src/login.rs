//! LOGIN and TOKEN: apps that come over HTTP. Whoever shows an app's HTTP secret gets a token, which the gateway
//! makes; the engine sees its hash alone, and signs what it stands for. So neither a database nor a gateway can
//! add a token, or hand one to another app.

use hmac::Mac;
use sealwire_protocol::credential;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::auth::MAX_LIFETIME;
use crate::capability::Claims;
use crate::document::{AppDocument, AppState};
use crate::sign::Signs;
use crate::{Capability, Engine, EngineError, SignedDocument, Site, Uid, Verified};

/// SHA-256 of a token's text.
pub type TokenHash = [u8; 32];

/// Bytes of the MAC at the beginning of a stored [`TokenRecord`].
const MAC_LEN: usize = 32;

/// What a token stands for: bytes that only an engine of this site can make. Without the token they are of no
/// use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    pub(crate) body: Vec<u8>,
    pub(crate) mac: [u8; MAC_LEN],
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenClaims {
    /// The AppKey.
    app: String,
    /// The token's hash, hexadecimal.
    token: String,
    /// The HTTP secret that was shown for it.
    secret: Uid,
    /// The revision of the app's document at the login.
    revision: u64,
    /// Unix time in seconds of the login.
    issued: u64,
    /// Unix time in seconds from which it is no longer taken.
    expires: u64,
}

impl TokenRecord {
    /// The bytes to store.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.mac[..], &self.body].concat()
    }

    /// Reads what [`TokenRecord::to_bytes`] has written; `None` when it is too short. Whether it is good, an
    /// engine tells.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (mac, body) = bytes.split_first_chunk()?;
        Some(Self { body: body.to_vec(), mac: *mac })
    }

    /// The AppKey that it names: to be believed once an engine has taken it.
    ///
    /// # Errors
    /// [`EngineError::Token`].
    pub fn app(&self) -> Result<String, EngineError> {
        self.claims().map(|claims| claims.app)
    }

    fn claims(&self) -> Result<TokenClaims, EngineError> {
        serde_json::from_slice(&self.body).map_err(|_| EngineError::Token)
    }
}

/// An app that has come over HTTP.
pub struct Admitted {
    /// What its token stands for from now on.
    pub record: TokenRecord,
    /// Unix time in seconds of the login.
    pub issued: u64,
    /// Unix time in seconds from which the token is no longer taken.
    pub expires: u64,
    /// What the app may do.
    pub capability: Capability,
    /// The app's document.
    pub app: Verified<AppDocument>,
}

impl Admitted {
    /// Unix time in seconds from which it is to be asked again whether the token is good: it ends, or the HTTP
    /// secret that it was got with does.
    #[must_use]
    pub fn ends(&self) -> u64 {
        let secret = self.record.claims().ok().and_then(|claims| {
            self.app.http_secrets.iter().find(|held| held.uid == claims.secret)?.until
        });
        secret.map_or(self.expires, |until| until.min(self.expires))
    }

    /// What an engine has answered.
    pub(crate) fn new(
        record: TokenRecord,
        capability: Capability,
        app: Verified<AppDocument>,
    ) -> Result<Self, EngineError> {
        let TokenClaims { issued, expires, .. } = record.claims()?;
        Ok(Self { record, issued, expires, capability, app })
    }
}

impl Engine {
    /// Every HTTP secret of the document is tried whatever the others gave; for an app that has none, its other
    /// secrets are opened instead, so that a wrong secret, a disabled app, one without an HTTP secret and a decoy
    /// document take the same way.
    pub(crate) fn login(
        &self,
        site: &Site,
        signed: &SignedDocument,
        (secret, token): (&str, &TokenHash),
        lifetime: u64,
    ) -> Result<Admitted, EngineError> {
        let app: Verified<AppDocument> = self.verify(site, signed)?;
        let now = self.now();
        let shown = credential::decode_http_secret(secret);
        let sound = shown.is_some();
        let shown = shown.unwrap_or_else(|| Zeroizing::new([0; credential::APP_SECRET_LEN]));
        let mut proven = None;
        for held in &app.http_secrets {
            let key = self.unwrap(&held.http_key(&app.id)?)?;
            let good = bool::from(key.expose().ct_eq(&*shown));
            if good && held.until.is_none_or(|until| now < until) {
                proven = Some(held.uid);
            }
        }
        if app.http_secrets.is_empty() {
            for held in &app.secrets {
                let key = self.unwrap(&held.key(&app.id)?)?;
                let _ = key.expose().ct_eq(&*shown);
            }
        }
        let secret = proven
            .filter(|_| sound && app.state == AppState::Active)
            .ok_or(EngineError::AuthFailed)?;
        let expires = now.saturating_add(lifetime.min(MAX_LIFETIME));
        let (app_key, token) = (app.id.clone(), hex::encode(token));
        let claims = TokenClaims {
            app: app_key,
            token,
            secret,
            revision: app.revision,
            issued: now,
            expires,
        };
        self.admit(site, signed, app, &claims)
    }

    /// Whether a record stands for a token of this app, now that its document is this one; good for `renew` more
    /// seconds from now on, if that is asked for.
    pub(crate) fn token(
        &self,
        site: &Site,
        signed: &SignedDocument,
        (record, token): (&TokenRecord, &TokenHash),
        renew: Option<u64>,
    ) -> Result<Admitted, EngineError> {
        self.mac(site, Signs::Token, &record.body)?
            .verify_slice(&record.mac)
            .map_err(|_| EngineError::Token)?;
        let app: Verified<AppDocument> = self.verify(site, signed)?;
        let (mut claims, now) = (record.claims()?, self.now());
        let still = |held: &&crate::document::AppSecret| {
            held.uid == claims.secret && held.until.is_none_or(|until| now < until)
        };
        let good = bool::from(claims.token.as_bytes().ct_eq(hex::encode(token).as_bytes()))
            && claims.app == app.id
            && app.state == AppState::Active
            && now < claims.expires
            && app.disabled_by.is_none_or(|revision| claims.revision > revision)
            && app.http_secrets.iter().any(|held| still(&held));
        if !good {
            return Err(EngineError::Token);
        }
        if let Some(renew) = renew {
            let last = claims.issued.saturating_add(MAX_LIFETIME);
            claims.expires = now.saturating_add(renew).min(last);
        }
        self.admit(site, signed, app, &claims)
    }

    fn admit(
        &self,
        site: &Site,
        signed: &SignedDocument,
        app: Verified<AppDocument>,
        token: &TokenClaims,
    ) -> Result<Admitted, EngineError> {
        let body = serde_json::to_vec(token).map_err(|_| EngineError::Token)?;
        let mac = self.mac(site, Signs::Token, &body)?.finalize().into_bytes().into();
        let claims = Claims {
            app: app.id.clone(),
            document: hex::encode(Sha256::digest(&signed.body)),
            revision: app.revision,
            grants: app.grants.clone(),
            expires: token.expires,
        };
        let capability = self.issue(site, &claims)?;
        Admitted::new(TokenRecord { body, mac }, capability, app)
    }
}
