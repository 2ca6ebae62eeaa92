//! The document of an app: a business system that may log in.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ipnet::IpNet;
use sealwire_protocol::credential;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Document, DocumentKind, Grants};
use crate::{EngineError, KeyBinding, Purpose, Uid, WrappedKey};

/// Most secrets of a kind that an app has at once: the current one, and one that is on its way out.
const MAX_SECRETS: usize = 2;

/// Whether an app may log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppState {
    /// It may.
    Active,
    /// It may not, and its sessions end.
    Disabled,
}

/// An AppSecret or an HTTP secret, wrapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSecret {
    /// Which secret it is.
    pub uid: Uid,
    /// The version, from 1.
    pub version: u32,
    /// The wrapped secret, base64.
    pub wrapped: String,
    /// Unix time in seconds from which it is no longer taken; `None` while it is the current one.
    pub until: Option<u64>,
}

impl AppSecret {
    /// The document's form of a wrapped secret.
    #[must_use]
    pub fn new(wrapped: &WrappedKey, until: Option<u64>) -> Self {
        let binding = wrapped.binding();
        let blob = STANDARD.encode(wrapped.blob());
        Self { uid: binding.uid, version: binding.version, wrapped: blob, until }
    }

    /// The wrapped AppSecret.
    pub(crate) fn key(&self, app: &str) -> Result<WrappedKey, EngineError> {
        self.key_for(Purpose::AppSecret, app)
    }

    /// The wrapped HTTP secret.
    pub(crate) fn http_key(&self, app: &str) -> Result<WrappedKey, EngineError> {
        self.key_for(Purpose::HttpSecret, app)
    }

    fn key_for(&self, purpose: Purpose, app: &str) -> Result<WrappedKey, EngineError> {
        let blob =
            STANDARD.decode(&self.wrapped).map_err(|_| EngineError::Unwrap(purpose.name()))?;
        WrappedKey::new(KeyBinding::of_secret(purpose, app, self.uid, self.version), &blob)
    }
}

/// The document of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppDocument {
    /// Always [`DocumentKind::App`].
    #[serde(rename = "type")]
    pub kind: DocumentKind,
    /// The AppKey.
    pub id: String,
    /// See [`Document::revision`].
    pub revision: u64,
    /// The name that people use.
    pub name: String,
    /// Whether it may log in.
    pub state: AppState,
    /// Unix time in seconds of its making.
    pub created: u64,
    /// Addresses that it may log in from; empty denies all.
    pub allow: Vec<IpNet>,
    /// What it may do; empty denies everything.
    pub grants: Grants,
    /// Its AppSecrets.
    pub secrets: Vec<AppSecret>,
    /// Its HTTP secrets; none when it may not come over HTTP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http_secrets: Vec<AppSecret>,
    /// The revision by which it was last disabled: tokens of until then are not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_by: Option<u64>,
}

impl AppDocument {
    /// SHA-256 over everything that decides what the app may do: all but the revision, and but the bytes
    /// that its secrets are wrapped into. It stays the same while a root rotation moves the secrets.
    ///
    /// # Panics
    /// Never: the form has no map and no float.
    #[must_use]
    pub fn substance(&self) -> [u8; 32] {
        let mut bare = Self { revision: 0, ..self.clone() };
        for secret in bare.secrets.iter_mut().chain(&mut bare.http_secrets) {
            secret.wrapped.clear();
        }
        Sha256::digest(serde_json::to_vec(&bare).expect("plain fields")).into()
    }
}

/// Whether an address is on an allow-list. An IPv4 address may be mapped into IPv6 (RFC 4291, section 2.5.5.2).
#[must_use]
pub fn lets_in(allow: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    allow.iter().any(|network| network.contains(&address))
}

impl Document for AppDocument {
    const KIND: DocumentKind = DocumentKind::App;

    fn kind(&self) -> DocumentKind {
        self.kind
    }

    fn id(&self) -> String {
        self.id.clone()
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn number(&self) -> Option<u32> {
        None
    }

    fn due(&self) -> Option<u64> {
        None
    }

    fn check(&self) -> Result<(), String> {
        if !credential::is_app_key(self.id.as_bytes()) {
            return Err("the id is not an AppKey".into());
        }
        if self.secrets.is_empty() || self.secrets.len() > MAX_SECRETS {
            return Err("an app has one secret, or two while one is on its way out".into());
        }
        if self.http_secrets.len() > MAX_SECRETS {
            return Err("an app has two HTTP secrets at most, while one is on its way out".into());
        }
        if self.allow.iter().any(|net| net.trunc() != *net) {
            return Err("a network of the allow-list has host bits".into());
        }
        Ok(())
    }
}
