//! PING: the response's body is the request's.

use crate::{BodyError, limits};

/// A request for a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingRequest<'a> {
    /// At most 64 bytes, sent back as they are.
    pub echo: &'a [u8],
}

impl<'a> PingRequest<'a> {
    /// Parses a body.
    ///
    /// # Errors
    /// [`BodyError::TooLong`].
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        if body.len() > limits::MAX_PING {
            let (length, limit) = (body.len(), limits::MAX_PING);
            return Err(BodyError::TooLong { field: "echo", length, limit });
        }
        Ok(Self { echo: body })
    }

    /// Appends the body, of a request and of its response.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.echo);
    }
}
