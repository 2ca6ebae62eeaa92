//! Why a request is refused, in the registry's terms.

use std::borrow::Cow;

use sealwire_engine::EngineError;
use sealwire_engine::aead::AeadError;
use sealwire_protocol::envelope::EnvelopeError;
use sealwire_protocol::frame::{self, FrameError};
use sealwire_protocol::message::Failure;
use sealwire_protocol::{BodyError, ErrorCode, Flags, Header};

/// A refusal on its way to the client. The detail holds no secret, message or key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}; {detail}")]
pub struct Refusal {
    /// The number.
    pub code: ErrorCode,
    /// What was wrong, for people.
    pub detail: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with a detail.
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// Appends the failure frame that answers `header`.
    pub(crate) fn write(&self, header: Header, out: &mut Vec<u8>) {
        if self.code == ErrorCode::UNSUPPORTED_VERSION {
            out.extend_from_slice(&frame::version_answer());
            return;
        }
        let open = frame::begin(out, Header { flags: Flags::FAILURE, ..header });
        Failure { code: self.code, detail: &self.detail }.encode(out);
        open.finish(out);
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, detail: Cow::Borrowed("") }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Self::new(ErrorCode::MALFORMED_BODY, error.to_string())
    }
}

impl From<FrameError> for Refusal {
    fn from(error: FrameError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<EnvelopeError> for Refusal {
    fn from(error: EnvelopeError) -> Self {
        Self::new(ErrorCode::BAD_ENVELOPE, error.to_string())
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Sealed => ErrorCode::SEALED.into(),
            EngineError::Away(why) => {
                tracing::debug!(why, "no engine");
                Self::new(ErrorCode::UNAVAILABLE, "no engine can be asked now: try again")
            }
            EngineError::Capability | EngineError::CapabilityExpired => {
                Self::new(ErrorCode::UNAVAILABLE, "the session's capability is over: log in again")
            }
            EngineError::NotGranted => ErrorCode::KEY_NOT_FOUND.into(),
            EngineError::NotUsable => ErrorCode::KEY_VERSION_UNAVAILABLE.into(),
            EngineError::Aead(AeadError::Auth) => ErrorCode::OPEN_FAILED.into(),
            EngineError::Aead(AeadError::TooLong) => ErrorCode::MESSAGE_TOO_LARGE.into(),
            EngineError::Binding(error) => error.into(),
            other => {
                tracing::error!(error = %other, "the engine refused");
                ErrorCode::INTERNAL.into()
            }
        }
    }
}
