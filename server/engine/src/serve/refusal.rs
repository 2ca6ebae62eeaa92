//! Why a word was refused.

use sealwire_protocol::{BodyError, ErrorCode};

use crate::custody::CustodyError;
use crate::{EngineError, chain};

/// Why a word was refused.
pub(super) enum Refusal {
    Engine(EngineError),
    Code(ErrorCode, String),
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Self::Code(ErrorCode::MALFORMED_BODY, error.to_string())
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code, String::new())
    }
}

impl From<CustodyError> for Refusal {
    fn from(error: CustodyError) -> Self {
        match error {
            CustodyError::Engine(error) => Self::Engine(error),
            CustodyError::NoRootKey | CustodyError::Forgotten(_) => {
                Self::Code(ErrorCode::NO_ROTATION, error.to_string())
            }
            CustodyError::OutOfTurn(text) => Self::Code(ErrorCode::NO_ROTATION, text.to_owned()),
            error => Self::Code(ErrorCode::INTERNAL, chain(&error)),
        }
    }
}
