//! What the manager refuses.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sealwire_engine::custody::CustodyError;
use sealwire_engine::{EngineError, RootKeyId};
use sealwire_keystore::audit::AuditError;
use sealwire_keystore::{KeystoreError, Taken};
use sealwire_protocol::ErrorCode;

/// Why the manager did not do it. Each has a number of the protocol's registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// A field of the request is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// No such key.
    #[error("no key is called `{0}`; `sealwire key list` shows them")]
    NoSuchKey(String),
    /// No such operator, or token of an operator.
    #[error("no operator or token is called `{0}`; `sealwire operator list` shows them")]
    NoSuchOperator(String),
    /// No such request.
    #[error("no request is called `{0}`; `sealwire request list` shows them")]
    NoSuchRequest(String),
    /// Who has asked for something would approve it.
    #[error("somebody else than who has asked must approve it")]
    SecondPerson,
    /// Nobody has said who he is, or it is good for nothing any more.
    #[error(
        "sign in first (`sealwire sign-in NAME`), or name a token: the session is over, or there was none"
    )]
    SignInNeeded,
    /// A sign-in was refused. Why is not told: every refusal looks alike.
    #[error("name or password is wrong, or the operator is disabled")]
    SignInRefused,
    /// Too many wrong passwords.
    #[error("too many wrong passwords from there: try again in {} s", .0.as_secs() + 1)]
    SlowDown(Duration),
    /// Another role is needed.
    #[error("this takes the role {0}")]
    RoleNeeded(String),
    /// Somebody else has chosen the password.
    #[error(
        "somebody else has chosen your password: change it first (`sealwire operator change-password`)"
    )]
    PasswordFirst,
    /// A program has asked for what a person must do.
    #[error("a token cannot do this: a person must sign in")]
    PersonNeeded,
    /// A part of the manager has panicked, which would be a bug of ours.
    #[error("management failed: {0}")]
    Failed(String),
    /// Too much at once.
    #[error("too many sign-ins at once: try again in a moment")]
    Busy,
    /// The note that there are operators could not be read or written.
    #[error("{path}: the note that the site has operators cannot be read or written")]
    Claim {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No such app.
    #[error("no app has the name or AppKey `{0}`; `sealwire app list` shows them")]
    NoSuchApp(String),
    /// The state of the key or app does not allow the change.
    #[error("{0}")]
    IllegalChange(String),
    /// Another key or app has the name or the index.
    #[error("{0}")]
    Conflict(String),
    /// The index is outside the site's range, or none is free.
    #[error("index {index} is not in this site's range, {first} to {last}")]
    IndexRange {
        /// The index that was asked for.
        index: u32,
        /// The first of the range.
        first: u32,
        /// The last of the range.
        last: u32,
    },
    /// Every index of the site's range is in use.
    #[error("every index of this site's range, {0} to {1}, is in use")]
    IndexesUsedUp(u32, u32),
    /// The engine is open under another root key than this manager's.
    #[error(
        "the engine holds root key {found}, this manager is pinned to {pinned}: it signs and makes nothing \
         there; if the site was made anew on purpose, remove manager.pin from the manager's data folder"
    )]
    OtherRoot {
        /// The manager's root key id.
        pinned: RootKeyId,
        /// The engine's.
        found: RootKeyId,
    },
    /// The pin could not be read or written.
    #[error("{path}: the manager's pin cannot be read or written; a broken one may be removed")]
    Pin {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A rotation goes on that this engine has not taken part in.
    #[error(
        "the site's root key is, or is about to be, {new}, and this engine holds {engine}, so it cannot open what \
         has moved: bring it along with the cards of both (`sealwire root rotate --join`)"
    )]
    NotInRotation {
        /// The engine's root key.
        engine: RootKeyId,
        /// The rotation's.
        new: RootKeyId,
    },
    /// The clock was set since this manager was started.
    #[error(
        "the clock was set by minutes or more since the server was started: nothing is destroyed until it is \
             started anew"
    )]
    Clock,
    /// The database went away in the midst of a change.
    #[error("{0}, in the midst of the change: it may have been made, so look before you repeat it")]
    Unclear(#[source] KeystoreError),
    /// What is done cannot be recorded: so it is not done.
    #[error("{0}: nothing is managed until it can be recorded; see the log, and free what is full")]
    Audit(#[source] AuditError),
    /// The custodian refused.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The keystore refused.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
}

impl From<AuditError> for ManagerError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Engine(error) => error.into(),
            AuditError::Keystore(error) => error.into(),
            error => Self::Audit(error),
        }
    }
}

impl ManagerError {
    /// Whether a row was changed, added or put back.
    pub(crate) fn is_tampering(&self) -> bool {
        matches!(
            self,
            Self::Engine(EngineError::DocumentMac { .. } | EngineError::Document(_))
                | Self::Keystore(KeystoreError::Broken(_) | KeystoreError::RolledBack(_))
        )
    }

    /// What a request is about has changed since it was asked for.
    pub(crate) fn moved(name: &str) -> Self {
        Self::IllegalChange(format!(
            "`{name}` has changed since that was asked for: look at it, and ask anew"
        ))
    }

    /// Whether it is the engine's being sealed, or away, that stands in the way.
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self, Self::Engine(EngineError::Sealed | EngineError::Away(_)))
    }

    /// The number in the protocol's registry.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::MALFORMED_BODY,
            Self::NoSuchKey(_)
            | Self::NoSuchApp(_)
            | Self::NoSuchOperator(_)
            | Self::NoSuchRequest(_) => ErrorCode::KEY_NOT_FOUND,
            Self::SecondPerson => ErrorCode::SECOND_PERSON,
            Self::Audit(_) => ErrorCode::AUDIT_UNAVAILABLE,
            Self::Engine(EngineError::Warrant) => ErrorCode::NO_WARRANT,
            Self::SignInNeeded => ErrorCode::SIGN_IN_NEEDED,
            Self::SignInRefused => ErrorCode::SIGN_IN_REFUSED,
            Self::SlowDown(_) => ErrorCode::SLOW_DOWN,
            Self::RoleNeeded(_) | Self::PersonNeeded | Self::PasswordFirst => {
                ErrorCode::ROLE_NEEDED
            }
            Self::IllegalChange(_) => ErrorCode::KEY_STATE,
            Self::Conflict(_) => ErrorCode::KEY_CONFLICT,
            Self::Keystore(KeystoreError::Taken(Taken::Name | Taken::Number)) => {
                ErrorCode::KEY_CONFLICT
            }
            Self::IndexRange { .. } | Self::IndexesUsedUp(..) => ErrorCode::INDEX_NOT_ALLOWED,
            Self::Engine(EngineError::Sealed) => ErrorCode::SEALED,
            Self::Busy
            | Self::Unclear(_)
            | Self::Engine(EngineError::Away(_))
            | Self::Keystore(
                KeystoreError::Database(_) | KeystoreError::Slow | KeystoreError::Moved(_),
            ) => ErrorCode::UNAVAILABLE,
            Self::Clock
            | Self::OtherRoot { .. }
            | Self::Pin { .. }
            | Self::Claim { .. }
            | Self::Failed(_)
            | Self::NotInRotation { .. }
            | Self::Custody(_)
            | Self::Engine(_)
            | Self::Keystore(_) => ErrorCode::INTERNAL,
        }
    }
}
