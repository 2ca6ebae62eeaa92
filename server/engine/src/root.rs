//! The root key, and the id that names it.

use std::sync::Arc;
use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::memory::{Clear, Inside, Kept};
use crate::{EngineError, Vault, kdf};

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

/// The root key in clear, with its id: exists within [`Vault::enter`] alone.
pub(crate) struct ClearRoot<'a> {
    secret: Clear<'a>,
    id: RootKeyId,
}

impl<'a> ClearRoot<'a> {
    /// A root key from its 256 bits.
    pub(crate) fn new(secret: Clear<'a>) -> Self {
        let mut id = [0; 16];
        kdf::expand(secret.expose(), ID_LABEL, &[], &mut id);
        Self { secret, id: RootKeyId(id) }
    }

    pub(crate) fn id(&self) -> RootKeyId {
        self.id
    }

    pub(crate) fn secret(&self) -> &Clear<'a> {
        &self.secret
    }

    /// The key that wraps: it lives inside one wrap or unwrap.
    pub(crate) fn wrap_kek(&self, inside: &'a Inside) -> Clear<'a> {
        let mut kek = Clear::zeroed(inside);
        kdf::expand(self.secret.expose(), WRAP_LABEL, &[&self.id.0], kek.expose_mut());
        kek
    }
}

/// The root key, kept in a [`Vault`]: clear only for the length of one wrap or unwrap.
pub struct RootKey {
    kept: Kept,
    id: RootKeyId,
}

impl RootKey {
    /// A fresh root key.
    ///
    /// # Errors
    /// [`EngineError::Random`], [`EngineError::VaultFull`].
    pub fn generate(vault: &Arc<Vault>) -> Result<Self, EngineError> {
        vault.enter(|inside| Self::keep(vault, inside, &ClearRoot::new(Clear::generate(inside)?)))
    }

    /// Keeps a root key that is clear.
    pub(crate) fn keep(
        vault: &Arc<Vault>,
        inside: &Inside,
        root: &ClearRoot<'_>,
    ) -> Result<Self, EngineError> {
        Ok(Self { kept: vault.keep(inside, root.secret.expose())?, id: root.id })
    }

    /// The root key's name.
    #[must_use]
    pub fn id(&self) -> RootKeyId {
        self.id
    }

    /// Runs `work` in the vault, with the root key in clear.
    pub(crate) fn enter<T>(
        &self,
        work: impl for<'a> FnOnce(&'a Inside, &ClearRoot<'a>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.kept.vault().enter(|inside| work(inside, &self.clear(inside)?))
    }

    /// The root key in clear.
    pub(crate) fn clear<'a>(&self, inside: &'a Inside) -> Result<ClearRoot<'a>, EngineError> {
        Ok(ClearRoot { secret: self.kept.open(inside)?, id: self.id })
    }

    pub(crate) fn vault(&self) -> &Arc<Vault> {
        self.kept.vault()
    }
}
