//! The root key, and the id that names it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{EngineError, Secret, kdf};

const ID_LABEL: &str = "sealwire root key id v1";
const WRAP_LABEL: &str = "sealwire wrap kek v1";

/// The name of a root key: 16 bytes derived from it, public.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RootKeyId([u8; 16]);

impl RootKeyId {
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

/// A text that is not a root key id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a root key id is 32 hexadecimal digits")]
pub struct RootKeyIdError;

impl FromStr for RootKeyId {
    type Err = RootKeyIdError;

    fn from_str(text: &str) -> Result<Self, RootKeyIdError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| RootKeyIdError)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for RootKeyId {
    type Error = RootKeyIdError;

    fn try_from(text: String) -> Result<Self, RootKeyIdError> {
        text.parse()
    }
}

impl From<RootKeyId> for String {
    fn from(id: RootKeyId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for RootKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RootKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKeyId({self})")
    }
}

/// The root key: 256 bits, and its id.
pub struct RootKey {
    secret: Secret<32>,
    id: RootKeyId,
}

impl RootKey {
    /// A fresh root key.
    ///
    /// # Errors
    /// [`EngineError::Random`].
    pub fn generate() -> Result<Self, EngineError> {
        Ok(Self::from_secret(Secret::generate()?))
    }

    /// A root key from its 256 bits.
    #[must_use]
    pub fn from_secret(secret: Secret<32>) -> Self {
        let mut id = [0; 16];
        kdf::expand(secret.expose(), ID_LABEL, &[], &mut id);
        Self { secret, id: RootKeyId(id) }
    }

    /// The root key's name.
    #[must_use]
    pub fn id(&self) -> RootKeyId {
        self.id
    }

    /// The key that wraps: it lives inside one wrap or unwrap.
    pub(crate) fn wrap_kek(&self) -> Secret<32> {
        kdf::derive(self.secret.expose(), WRAP_LABEL, &[&self.id.0])
    }

    pub(crate) fn secret(&self) -> &Secret<32> {
        &self.secret
    }
}
