//! What the engine refuses.

use sealwire_protocol::{BodyError, ErrorCode};

use crate::{RootKeyId, aead::AeadError};

/// Why the engine refused. No variant carries a secret or a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The engine holds no root key.
    #[error("the engine is sealed: unseal it with the key cards (`sealwire root unseal`)")]
    Sealed,
    /// A wrapped key names another root key.
    #[error("wrapped under root key {found}, this engine holds {held}")]
    OtherRoot {
        /// The root key id in the wrapped key.
        found: RootKeyId,
        /// The root key id of this engine.
        held: RootKeyId,
    },
    /// A wrapped key does not open: its bytes or what it is bound to were changed.
    #[error("the wrapped {0} does not open: it, or what it is bound to, was changed")]
    Unwrap(&'static str),
    /// A document's MAC does not verify.
    #[error("the {kind} document `{id}` does not verify: it was changed, added or moved")]
    DocumentMac {
        /// The kind of document that the row claims to be.
        kind: &'static str,
        /// The id that the row claims.
        id: String,
    },
    /// A document verifies, and says what no document may say.
    #[error("the document is not sound: {0}")]
    Document(String),
    /// AUTH was refused. Why is not told: every refusal looks alike.
    #[error("authentication refused")]
    AuthFailed,
    /// A capability was changed, or is not one.
    #[error("the capability does not verify")]
    Capability,
    /// A token's record was changed, or it does not stand for this token of this app any more.
    #[error("the token is not good")]
    Token,
    /// A capability is past its time.
    #[error("the capability has expired")]
    CapabilityExpired,
    /// The capability does not cover this operation on this key.
    #[error("no grant covers this")]
    NotGranted,
    /// The key's document does not let this version be used for this.
    #[error("the state of this key version does not allow this")]
    NotUsable,
    /// The envelope names another key or version than the wrapped key.
    #[error("the envelope names another key")]
    KeyMismatch,
    /// The suite refused.
    #[error(transparent)]
    Aead(#[from] AeadError),
    /// A binding is over its limits.
    #[error(transparent)]
    Binding(#[from] BodyError),
    /// The vault keeps as many secrets as it can.
    #[error("too many ceremonies at once: end one, or wait until it lapses")]
    VaultFull,
    /// A secret in the vault was changed: memory is failing, or was written to.
    #[error("a kept secret does not open: the machine's memory is failing, or was written to")]
    Vault,
    /// Argon2id did not run.
    #[error("Argon2id: {0}; is there enough memory?")]
    Kdf(String),
    /// A warrant that no quorum of this root key's cards has made.
    #[error("no quorum of the site's key cards has allowed this")]
    Warrant,
    /// No root rotation is under way.
    #[error("no root rotation is under way in this engine")]
    NoRotation,
    /// The caller's certificate is another role's.
    #[error("the certificate's role does not allow this word")]
    Role,
    /// No engine can be asked now.
    #[error("no engine can be asked now: {0}")]
    Away(String),
    /// An engine of another process refused, for a reason that has no variant of its own.
    #[error("the engine refused: {0}; {1}")]
    Refused(ErrorCode, String),
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness: {0}")]
    Random(getrandom::Error),
}

/// An error with everything that led to it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl From<getrandom::Error> for EngineError {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error)
    }
}
