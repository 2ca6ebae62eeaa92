//! The client's error: opaque, with predicates.

use std::io;
use std::sync::Arc;

use sealwire_protocol::error::Fault;
use sealwire_protocol::{BodyError, ErrorCode};

/// Why a request did not succeed. Ask the predicates what to do about it.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct Error(Kind);

#[derive(Debug, Clone, thiserror::Error)]
enum Kind {
    #[error("{0}")]
    Usage(String),
    #[error("connection to {address} failed")]
    Io {
        address: String,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    #[error("{}{separator}{detail}", code, separator = if detail.is_empty() { "" } else { "; " })]
    Refused { code: ErrorCode, detail: String },
    #[error("the connection broke before the answer came")]
    Lost,
    #[error("no answer within the deadline")]
    Deadline(#[source] Option<Box<Error>>),
    #[error("the client is closed")]
    Closed,
}

impl Error {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self(Kind::Usage(text.into()))
    }

    pub(crate) fn io(address: &str, source: io::Error) -> Self {
        Self(Kind::Io { address: address.to_owned(), source: Arc::new(source) })
    }

    pub(crate) fn protocol(text: impl Into<String>) -> Self {
        Self(Kind::Protocol(text.into()))
    }

    pub(crate) fn refused(code: ErrorCode, detail: &str) -> Self {
        Self(Kind::Refused { code, detail: detail.to_owned() })
    }

    pub(crate) const fn lost() -> Self {
        Self(Kind::Lost)
    }

    /// `cause`: why no connection could be made, when that is what the time went by with.
    pub(crate) fn deadline(cause: Option<Self>) -> Self {
        Self(Kind::Deadline(cause.map(Box::new)))
    }

    pub(crate) const fn closed() -> Self {
        Self(Kind::Closed)
    }

    /// Whether the network failed.
    pub(crate) const fn is_io(&self) -> bool {
        matches!(self.0, Kind::Io { .. })
    }

    /// How much an error says about why nobody could be reached, the most being told: credentials
    /// that are wrong above all, then what will not pass by itself, a server that has at least
    /// answered, one that could not be reached, and silence.
    pub(crate) fn clarity(&self) -> u8 {
        match &self.0 {
            _ if self.is_auth() => 4,
            _ if !self.is_retryable() => 3,
            Kind::Refused { .. } => 2,
            Kind::Io { .. } | Kind::Lost => 1,
            _ => 0,
        }
    }

    /// The number of the server's refusal, when it was one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match &self.0 {
            Kind::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same request may succeed later: the network failed, or the server said so. The client
    /// has tried again itself until the deadline, so later means later than that.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match &self.0 {
            Kind::Io { .. } | Kind::Lost | Kind::Deadline(_) => true,
            Kind::Refused { code, .. } => code.is_retryable(),
            Kind::Usage(_) | Kind::Protocol(_) | Kind::Closed => false,
        }
    }

    /// Whether the server understood and does not allow it, now or later: wrong credentials, an
    /// operation without a grant, a key or a version that is not there or may not be used, a suite or
    /// an index that is not allowed, plain TCP where TLS is demanded. It takes a change at the site.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.code()
            .and_then(ErrorCode::info)
            .is_some_and(|info| info.fault == Fault::Policy && !info.retry)
    }

    /// Whether AUTH was refused.
    #[must_use]
    pub fn is_auth(&self) -> bool {
        self.code() == Some(ErrorCode::AUTH_FAILED)
    }

    /// Whether an envelope did not open: changed bytes, another key, another context or AAD.
    #[must_use]
    pub fn is_open_failed(&self) -> bool {
        self.code() == Some(ErrorCode::OPEN_FAILED)
    }

    /// Whether no answer came within the deadline. When no server could be reached by then,
    /// [`source`](std::error::Error::source) tells why.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Kind::Deadline(_))
    }
}

impl From<BodyError> for Error {
    fn from(error: BodyError) -> Self {
        Self::usage(error.to_string())
    }
}
