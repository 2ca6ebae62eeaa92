//! Signed documents: a MAC by a key that is itself wrapped under the root key.

use std::ops::Deref;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::document::{
    self, AppDocument, Document, DocumentKind, KeyDocument, OperatorDocument, PolicyDocument,
    RequestDocument,
};
use crate::{Engine, EngineError, KeyBinding, Purpose, RootKeyId, Uid, WrappedKey};

const DOCUMENT_LABEL: &str = "sealwire document v1";
const CAPABILITY_LABEL: &str = "sealwire capability v1";
const TOKEN_LABEL: &str = "sealwire token v1";
const CHALLENGE_LABEL: &str = "sealwire challenge v1";
const PASSWORD_LABEL: &str = "sealwire password v1";
const AUDIT_RECORD_LABEL: &str = "sealwire audit record v1";
const AUDIT_HEAD_LABEL: &str = "sealwire audit head v1";

/// The site's own keys, wrapped: stored in the keystore, handed in with every call that needs them,
/// since the engine keeps nothing but the root key.
#[derive(Debug, Clone)]
pub struct Site {
    /// Signs documents, capabilities and tokens.
    pub document_mac: WrappedKey,
    /// Signs audit records.
    pub audit_mac: WrappedKey,
}

/// The stored form of a [`Site`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSite {
    document_mac: StoredKey,
    audit_mac: StoredKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    uid: Uid,
    wrapped: String,
}

impl StoredKey {
    fn new(key: &WrappedKey) -> Self {
        Self { uid: key.binding().uid, wrapped: STANDARD.encode(key.blob()) }
    }

    fn key(&self, purpose: Purpose) -> Result<WrappedKey, EngineError> {
        let blob =
            STANDARD.decode(&self.wrapped).map_err(|_| EngineError::Unwrap(purpose.name()))?;
        WrappedKey::new(KeyBinding::of_site(purpose, self.uid), &blob)
    }
}

impl Site {
    /// The root key that the site's keys are wrapped under.
    #[must_use]
    pub fn root(&self) -> RootKeyId {
        self.document_mac.root()
    }

    /// Which site it is: the uid of the key that signs its documents, which no root rotation changes.
    #[must_use]
    pub fn uid(&self) -> Uid {
        self.document_mac.binding().uid
    }

    /// The bytes to store. They need no MAC: neither key opens when it was changed.
    ///
    /// # Panics
    /// Never: the form has no map and no float.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let stored = StoredSite {
            document_mac: StoredKey::new(&self.document_mac),
            audit_mac: StoredKey::new(&self.audit_mac),
        };
        serde_json::to_vec(&stored).expect("plain fields")
    }

    /// Reads what [`Site::to_bytes`] has written.
    ///
    /// # Errors
    /// [`EngineError::Document`], [`EngineError::Unwrap`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EngineError> {
        let stored: StoredSite = serde_json::from_slice(bytes)
            .map_err(|error| EngineError::Document(format!("the site's keys: {error}")))?;
        Ok(Self {
            document_mac: stored.document_mac.key(Purpose::DocumentMac)?,
            audit_mac: stored.audit_mac.key(Purpose::AuditMac)?,
        })
    }
}

/// A document as it is stored: what the row claims to be, the exact bytes, and their MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedDocument {
    /// The kind that the row claims.
    pub kind: DocumentKind,
    /// The id that the row claims.
    pub id: String,
    /// The revision that the row claims.
    pub revision: u64,
    /// The document's bytes.
    pub body: Vec<u8>,
    /// HMAC-SHA256.
    pub mac: [u8; 32],
}

/// A document whose MAC was verified: only the engine makes one.
#[derive(Debug, Clone)]
pub struct Verified<D>(D);

impl<D> Deref for Verified<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.0
    }
}

impl<D: Document> Verified<D> {
    /// A document that an engine of another process has verified.
    pub(crate) fn elsewhere(signed: &SignedDocument) -> Result<Self, EngineError> {
        let document: D = document::decode(&signed.body)?;
        if document.id() != signed.id || document.revision() != signed.revision {
            let (kind, id) = (D::KIND.name(), signed.id.clone());
            return Err(EngineError::DocumentMac { kind, id });
        }
        Ok(Self(document))
    }
}

impl<D> Verified<D> {
    /// The document, to be changed and signed anew.
    #[must_use]
    pub fn into_inner(self) -> D {
        self.0
    }
}

/// What a MAC is over: a document is never taken for a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Signs {
    Document,
    Capability,
    Token,
    Challenge,
    Password,
    AuditRecord,
    AuditHead,
}

impl Signs {
    /// The label that the key of this MAC is derived under.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Document => DOCUMENT_LABEL,
            Self::Capability => CAPABILITY_LABEL,
            Self::Token => TOKEN_LABEL,
            Self::Challenge => CHALLENGE_LABEL,
            Self::Password => PASSWORD_LABEL,
            Self::AuditRecord => AUDIT_RECORD_LABEL,
            Self::AuditHead => AUDIT_HEAD_LABEL,
        }
    }
}

impl Engine {
    pub(crate) fn sign<D: Document>(
        &self,
        site: &Site,
        document: &D,
    ) -> Result<SignedDocument, EngineError> {
        let body = document::encode(document)?;
        let mac = self.mac(site, Signs::Document, &body)?.finalize().into_bytes().into();
        let (kind, id, revision) = (D::KIND, document.id(), document.revision());
        Ok(SignedDocument { kind, id, revision, body, mac })
    }

    /// Signs a document that comes as bytes: only when it is sound, and in its one encoding.
    pub(crate) fn sign_bytes<D: Document>(
        &self,
        site: &Site,
        body: &[u8],
    ) -> Result<SignedDocument, EngineError> {
        self.sign(site, &document::decode::<D>(body)?)
    }

    pub(crate) fn verify<D: Document>(
        &self,
        site: &Site,
        signed: &SignedDocument,
    ) -> Result<Verified<D>, EngineError> {
        let refused = || EngineError::DocumentMac { kind: D::KIND.name(), id: signed.id.clone() };
        let mac = self.mac(site, Signs::Document, &signed.body)?;
        if signed.kind != D::KIND || mac.verify_slice(&signed.mac).is_err() {
            return Err(refused());
        }
        let document: D = document::decode(&signed.body)?;
        if document.id() != signed.id || document.revision() != signed.revision {
            return Err(refused());
        }
        Ok(Verified(document))
    }

    /// [`Engine::verify`], of whatever kind the row claims.
    pub(crate) fn verify_any(
        &self,
        site: &Site,
        signed: &SignedDocument,
    ) -> Result<(), EngineError> {
        match signed.kind {
            DocumentKind::App => self.verify::<AppDocument>(site, signed).map(drop),
            DocumentKind::Key => self.verify::<KeyDocument>(site, signed).map(drop),
            DocumentKind::Operator => self.verify::<OperatorDocument>(site, signed).map(drop),
            DocumentKind::Request => self.verify::<RequestDocument>(site, signed).map(drop),
            DocumentKind::Policy => self.verify::<PolicyDocument>(site, signed).map(drop),
        }
    }

    /// [`Engine::sign_bytes`], of a kind that is named.
    pub(crate) fn sign_any(
        &self,
        site: &Site,
        kind: DocumentKind,
        body: &[u8],
    ) -> Result<SignedDocument, EngineError> {
        match kind {
            DocumentKind::App => self.sign_bytes::<AppDocument>(site, body),
            DocumentKind::Key => self.sign_bytes::<KeyDocument>(site, body),
            DocumentKind::Operator => self.sign_bytes::<OperatorDocument>(site, body),
            DocumentKind::Request => self.sign_bytes::<RequestDocument>(site, body),
            DocumentKind::Policy => self.sign_bytes::<PolicyDocument>(site, body),
        }
    }

    /// PEPPER: what is stored of an operator's hashed password. Without the engine, who has it cannot try
    /// passwords.
    pub(crate) fn pepper(
        &self,
        site: &Site,
        operator: &str,
        hash: &[u8; 32],
    ) -> Result<[u8; 32], EngineError> {
        if !document::is_operator_id(operator) {
            return Err(EngineError::Document("it is not the id of an operator".into()));
        }
        // An id has one length.
        let body = [operator.as_bytes(), hash].concat();
        Ok(self.mac(site, Signs::Password, &body)?.finalize().into_bytes().into())
    }

    /// The MAC over `body`, not yet finished.
    pub(crate) fn mac(
        &self,
        site: &Site,
        signs: Signs,
        body: &[u8],
    ) -> Result<Hmac<Sha256>, EngineError> {
        let mut mac = Hmac::clone(&*self.keyed_mac(&site.document_mac, signs)?);
        mac.update(body);
        Ok(mac)
    }
}
