//! An [`EngineError`] on the wire: a number of the registry and a detail, and back again.

use sealwire_protocol::ErrorCode;
use sealwire_protocol::message::Failure;

use crate::aead::AeadError;
use crate::{EngineError, Purpose, RootKeyId};

/// The number of an error.
pub(crate) fn code(error: &EngineError) -> ErrorCode {
    match error {
        EngineError::Sealed => ErrorCode::SEALED,
        EngineError::OtherRoot { .. } => ErrorCode::OTHER_ROOT,
        EngineError::Unwrap(_) => ErrorCode::NOT_UNWRAPPED,
        EngineError::DocumentMac { .. } => ErrorCode::NOT_VERIFIED,
        EngineError::Document(_) => ErrorCode::NOT_SOUND,
        EngineError::AuthFailed => ErrorCode::PROOF_REFUSED,
        EngineError::Capability => ErrorCode::NO_CAPABILITY,
        EngineError::Token => ErrorCode::NO_TOKEN,
        EngineError::CapabilityExpired => ErrorCode::CAPABILITY_EXPIRED,
        EngineError::NotGranted => ErrorCode::KEY_NOT_FOUND,
        EngineError::NotUsable => ErrorCode::KEY_VERSION_UNAVAILABLE,
        EngineError::KeyMismatch => ErrorCode::BAD_ENVELOPE,
        EngineError::Aead(AeadError::Auth) => ErrorCode::OPEN_FAILED,
        EngineError::Aead(AeadError::TooLong) => ErrorCode::MESSAGE_TOO_LARGE,
        EngineError::Binding(_) => ErrorCode::MALFORMED_BODY,
        EngineError::NoRotation => ErrorCode::NO_ROTATION,
        EngineError::Warrant => ErrorCode::NO_WARRANT,
        EngineError::Role => ErrorCode::ROLE_DENIED,
        EngineError::Away(_) => ErrorCode::UNAVAILABLE,
        _ => ErrorCode::INTERNAL,
    }
}

/// The detail that goes with it: what the caller cannot know by itself.
pub(crate) fn detail(error: &EngineError) -> String {
    match error {
        EngineError::OtherRoot { held, .. } => held.to_string(),
        EngineError::Unwrap(purpose) => (*purpose).to_owned(),
        EngineError::Document(text) => text.clone(),
        error if code(error) == ErrorCode::INTERNAL => error.to_string(),
        _ => String::new(),
    }
}

/// The error that a failure tells of. What it speaks of, the caller fills in: see [`about`].
pub(crate) fn error(failure: &Failure<'_>) -> EngineError {
    match failure.code {
        ErrorCode::SEALED => EngineError::Sealed,
        ErrorCode::OTHER_ROOT => {
            let held = failure.detail.parse().unwrap_or(NOBODY);
            EngineError::OtherRoot { found: NOBODY, held }
        }
        ErrorCode::NOT_UNWRAPPED => EngineError::Unwrap(purpose(failure.detail)),
        ErrorCode::NOT_VERIFIED => EngineError::DocumentMac { kind: "", id: String::new() },
        ErrorCode::NOT_SOUND => EngineError::Document(failure.detail.to_owned()),
        ErrorCode::PROOF_REFUSED => EngineError::AuthFailed,
        ErrorCode::NO_CAPABILITY => EngineError::Capability,
        ErrorCode::NO_TOKEN => EngineError::Token,
        ErrorCode::CAPABILITY_EXPIRED => EngineError::CapabilityExpired,
        ErrorCode::KEY_NOT_FOUND => EngineError::NotGranted,
        ErrorCode::KEY_VERSION_UNAVAILABLE => EngineError::NotUsable,
        ErrorCode::BAD_ENVELOPE => EngineError::KeyMismatch,
        ErrorCode::OPEN_FAILED => EngineError::Aead(AeadError::Auth),
        ErrorCode::MESSAGE_TOO_LARGE => EngineError::Aead(AeadError::TooLong),
        ErrorCode::NO_ROTATION => EngineError::NoRotation,
        ErrorCode::NO_WARRANT => EngineError::Warrant,
        ErrorCode::ROLE_DENIED => EngineError::Role,
        ErrorCode::SHUTTING_DOWN => EngineError::Away("the engine is stopping".into()),
        code => EngineError::Refused(code, failure.detail.to_owned()),
    }
}

/// Names the document that an error speaks of.
pub(crate) fn about(error: EngineError, document: (&'static str, &str)) -> EngineError {
    match error {
        EngineError::DocumentMac { .. } => {
            EngineError::DocumentMac { kind: document.0, id: document.1.to_owned() }
        }
        error => error,
    }
}

/// Where an error names a root key that only the caller knows.
const NOBODY: RootKeyId = RootKeyId::from_bytes([0; 16]);

fn purpose(name: &str) -> &'static str {
    let known = Purpose::ALL.iter().map(|purpose| purpose.name()).find(|known| *known == name);
    known.unwrap_or("key")
}
