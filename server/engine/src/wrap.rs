//! Keys wrapped under the root key.
//!
//! ```text
//!  0   1             17           29                 61         77
//! +---+-------------+------------+------------------+----------+
//! | 1 | root key id | nonce (12) | sealed key (32)  | tag (16) |
//! +---+-------------+------------+------------------+----------+
//! ```
//! AES-256-GCM-SIV (RFC 8452) under a KEK derived from the root key. The associated data binds what
//! the key is: a blob that was moved to another row does not open.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::aead::{Cipher, TAG_LEN};
use crate::memory::{Clear, Inside};
use crate::root::ClearRoot;
use crate::{EngineError, RootKey, RootKeyId, Secret, aead::Suite, kdf};

const FORMAT: u8 = 1;
const LABEL: &str = "sealwire wrapped key v1";
const NONCE: std::ops::Range<usize> = 17..29;
const SEALED: std::ops::Range<usize> = 29..61;

/// Bytes of a wrapped key.
pub const WRAPPED_LEN: usize = 77;

/// What a wrapped key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Seals messages.
    BusinessKey,
    /// An app proves itself with it.
    AppSecret,
    /// Signs documents and capabilities.
    DocumentMac,
    /// Signs audit records.
    AuditMac,
    /// The root key of before, while a root rotation lasts.
    RootKey,
    /// An app shows it over HTTP.
    HttpSecret,
}

impl Purpose {
    /// Every purpose, in the order of their numbers in the engine protocol, from 1.
    pub(crate) const ALL: [Self; 6] = [
        Self::BusinessKey,
        Self::AppSecret,
        Self::DocumentMac,
        Self::AuditMac,
        Self::RootKey,
        Self::HttpSecret,
    ];

    /// The name that is bound into the wrapped key.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BusinessKey => "business key",
            Self::AppSecret => "app secret",
            Self::DocumentMac => "document MAC key",
            Self::AuditMac => "audit MAC key",
            Self::RootKey => "root key",
            Self::HttpSecret => "http secret",
        }
    }
}

/// A random id of 16 bytes, never used twice. In text: 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uid([u8; 16]);

impl Uid {
    /// A fresh id.
    ///
    /// # Errors
    /// [`EngineError::Random`].
    pub fn generate() -> Result<Self, EngineError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The id's bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// An id from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<String> for Uid {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| "a uid is 32 hexadecimal digits")?;
        Ok(Self(bytes))
    }
}

impl From<Uid> for String {
    fn from(uid: Uid) -> Self {
        uid.to_string()
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uid({self})")
    }
}

/// What a wrapped key is bound to, besides the root key's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyBinding {
    /// What it is for.
    pub purpose: Purpose,
    /// Which one it is.
    pub uid: Uid,
    /// A business key's index; 0 for the other purposes.
    pub index: u32,
    /// The version, from 1.
    pub version: u32,
    /// The name of a business key, the AppKey of an app's secret, else empty.
    pub name: String,
}

impl KeyBinding {
    /// The binding of one of the site's own keys.
    pub(crate) fn of_site(purpose: Purpose, uid: Uid) -> Self {
        Self { purpose, uid, index: 0, version: 1, name: String::new() }
    }

    /// The binding of a secret of an app, for one of the two purposes that it may have.
    pub(crate) fn of_secret(purpose: Purpose, app: &str, uid: Uid, version: u32) -> Self {
        Self { purpose, uid, index: 0, version, name: app.to_owned() }
    }

    /// The binding of an older root key: its id takes the uid's place.
    pub(crate) fn of_root(older: RootKeyId) -> Self {
        Self::of_site(Purpose::RootKey, Uid(older.to_bytes()))
    }

    fn aad(&self, root: RootKeyId) -> Vec<u8> {
        let mut aad = Vec::with_capacity(160);
        for field in [
            LABEL.as_bytes(),
            self.purpose.name().as_bytes(),
            &self.uid.0,
            &self.index.to_be_bytes(),
            &self.version.to_be_bytes(),
            self.name.as_bytes(),
            &root.to_bytes(),
        ] {
            kdf::push(&mut aad, field);
        }
        aad
    }
}

/// Names a wrapped key by everything it is: SHA-256 over what it is bound to, and its blob.
pub(crate) type Fingerprint = [u8; 32];

/// A wrapped key with what it is bound to. Public: it opens only inside an engine.
#[derive(Debug, Clone)]
pub struct WrappedKey {
    binding: KeyBinding,
    root: RootKeyId,
    blob: [u8; WRAPPED_LEN],
    fingerprint: Fingerprint,
}

impl WrappedKey {
    /// Puts a stored blob and what it should be bound to together.
    ///
    /// # Errors
    /// [`EngineError::Unwrap`] when the blob has another length or format. Whether it opens shows
    /// only in the engine.
    pub fn new(binding: KeyBinding, blob: &[u8]) -> Result<Self, EngineError> {
        let purpose = binding.purpose.name();
        let blob: [u8; WRAPPED_LEN] = blob.try_into().map_err(|_| EngineError::Unwrap(purpose))?;
        let (format, rest) = blob.split_first().expect("the blob is not empty");
        let root = rest.first_chunk().expect("the blob holds a root key id");
        if *format != FORMAT {
            return Err(EngineError::Unwrap(purpose));
        }
        let root = RootKeyId::from_bytes(*root);
        let fingerprint =
            Sha256::new().chain_update(binding.aad(root)).chain_update(blob).finalize().into();
        Ok(Self { binding, root, blob, fingerprint })
    }

    /// What the key is bound to.
    #[must_use]
    pub fn binding(&self) -> &KeyBinding {
        &self.binding
    }

    /// The root key that it is wrapped under.
    #[must_use]
    pub fn root(&self) -> RootKeyId {
        self.root
    }

    /// The bytes to store.
    #[must_use]
    pub fn blob(&self) -> &[u8; WRAPPED_LEN] {
        &self.blob
    }

    #[inline]
    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

impl RootKey {
    /// Wraps `secret`, bound to `binding` and to this root key's id.
    pub(crate) fn wrap(
        &self,
        binding: KeyBinding,
        secret: &Secret<32>,
    ) -> Result<WrappedKey, EngineError> {
        self.enter(|inside, root| root.wrap(inside, binding, secret.expose()))
    }

    /// Opens a wrapped key.
    pub(crate) fn unwrap(&self, wrapped: &WrappedKey) -> Result<Secret<32>, EngineError> {
        let mut secret = Secret::zeroed();
        self.enter(|inside, root| root.unwrap(inside, wrapped, secret.expose_mut()))?;
        Ok(secret)
    }

    /// Wraps an older root key, so that the cards of this one give both.
    pub(crate) fn wrap_root(&self, older: &RootKey) -> Result<WrappedKey, EngineError> {
        self.enter(|inside, root| {
            let secret = older.clear(inside)?;
            root.wrap(inside, KeyBinding::of_root(older.id()), secret.secret().expose())
        })
    }

    /// Opens what [`RootKey::wrap_root`] has wrapped.
    pub(crate) fn unwrap_root(&self, wrapped: &WrappedKey) -> Result<RootKey, EngineError> {
        let refused = EngineError::Unwrap(Purpose::RootKey.name());
        let opened = self.enter(|inside, root| {
            let mut secret = Clear::zeroed(inside);
            root.unwrap(inside, wrapped, secret.expose_mut())?;
            RootKey::keep(self.vault(), inside, &ClearRoot::new(secret))
        })?;
        if *wrapped.binding() == KeyBinding::of_root(opened.id()) {
            Ok(opened)
        } else {
            Err(refused)
        }
    }
}

impl<'a> ClearRoot<'a> {
    fn wrap(
        &self,
        inside: &'a Inside,
        binding: KeyBinding,
        secret: &[u8; 32],
    ) -> Result<WrappedKey, EngineError> {
        let mut blob = [0; WRAPPED_LEN];
        blob[0] = FORMAT;
        blob[1..17].copy_from_slice(&self.id().to_bytes());
        getrandom::fill(&mut blob[NONCE])?;
        let (head, sealed) = blob.split_at_mut(SEALED.start);
        let (sealed, tag) = sealed.split_at_mut(SEALED.len());
        sealed.copy_from_slice(secret);
        self.kek(inside)?.seal_in_place(&head[NONCE], &binding.aad(self.id()), sealed, tag)?;
        WrappedKey::new(binding, &blob)
    }

    fn unwrap(
        &self,
        inside: &'a Inside,
        wrapped: &WrappedKey,
        secret: &mut [u8; 32],
    ) -> Result<(), EngineError> {
        if wrapped.root != self.id() {
            return Err(EngineError::OtherRoot { found: wrapped.root, held: self.id() });
        }
        secret.copy_from_slice(&wrapped.blob[SEALED]);
        let tag = &wrapped.blob[SEALED.end..SEALED.end + TAG_LEN];
        let aad = wrapped.binding.aad(self.id());
        self.kek(inside)?
            .open_in_place(&wrapped.blob[NONCE], &aad, secret, tag)
            .map_err(|_| EngineError::Unwrap(wrapped.binding.purpose.name()))
    }

    fn kek(&self, inside: &'a Inside) -> Result<Cipher, EngineError> {
        Ok(Cipher::new(Suite::Aes256GcmSiv, self.wrap_kek(inside).expose())?)
    }
}
