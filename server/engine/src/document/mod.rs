//! Documents: what an app may do, what a key is, who manages the site. Canonical JSON, signed by the engine.
//!
//! A document is stored as its exact bytes and a MAC. It has one encoding: parsing and writing it
//! again gives the same bytes, or it is refused.

mod app;
mod grant;
mod key;
mod operator;
mod policy;
mod request;

pub use app::{AppDocument, AppSecret, AppState, lets_in};
pub use grant::{Grant, GrantError, Grants, Op, Ops, Pattern};
pub use key::{KeyDocument, KeyVersion, Renewal, UsableKey, VersionState};
pub use operator::{
    MAX_OPERATOR_NAME, MAX_TOKENS, OperatorDocument, OperatorRole, OperatorState, OperatorToken,
    PasswordHash, check_operator_name, is_operator_id,
};
pub use policy::{POLICY_ID, PolicyDocument};
pub use request::{Act, Person, RequestDocument, RequestState, Target};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::EngineError;

/// What a document speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DocumentKind {
    /// A business system.
    App,
    /// A business key.
    Key,
    /// A person who manages the site.
    Operator,
    /// What one operator has asked for, and another must approve.
    Request,
    /// How much care is taken before what cannot be undone.
    Policy,
}

impl DocumentKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::App, Self::Key, Self::Operator, Self::Request, Self::Policy];

    /// The kind of a name in the keystore.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name in the keystore and in the document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Key => "key",
            Self::Operator => "operator",
            Self::Request => "request",
            Self::Policy => "policy",
        }
    }
}

/// A kind of document.
pub trait Document: Serialize + DeserializeOwned {
    /// What the document speaks of.
    const KIND: DocumentKind;

    /// The kind that the document itself names.
    fn kind(&self) -> DocumentKind;

    /// Which one it is: never used twice within a kind.
    fn id(&self) -> String;

    /// The revision: counted over the whole site, larger at every change.
    fn revision(&self) -> u64;

    /// The name that people use: unique within a kind.
    fn name(&self) -> &str;

    /// A key's index; `None` for other kinds.
    fn number(&self) -> Option<u32>;

    /// Unix time in seconds at which the manager has something to do about it; `None` for never.
    fn due(&self) -> Option<u64>;

    /// Whether the document says only what a document may say.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn check(&self) -> Result<(), String>;
}

/// Whether a flag is as it is where it is not written down.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The one encoding of a document.
pub(crate) fn encode<D: Document>(document: &D) -> Result<Vec<u8>, EngineError> {
    if document.kind() != D::KIND {
        return Err(EngineError::Document("it names another kind".into()));
    }
    document.check().map_err(EngineError::Document)?;
    serde_json::to_vec(document).map_err(|error| EngineError::Document(error.to_string()))
}

/// Reads a document whose MAC was verified.
pub(crate) fn decode<D: Document>(body: &[u8]) -> Result<D, EngineError> {
    let document: D =
        serde_json::from_slice(body).map_err(|error| EngineError::Document(error.to_string()))?;
    if encode(&document)? == body {
        Ok(document)
    } else {
        Err(EngineError::Document("it is not in its canonical form".into()))
    }
}
