//! GOAWAY: the server asks the client to move to another connection.

use crate::{BodyError, Reader};

/// Why the client should move. Numbers that this version does not know are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoawayReason(pub u16);

impl GoawayReason {
    /// The server is stopping.
    pub const SHUTDOWN: Self = Self(1);
    /// The session has reached its lifetime: log in again.
    pub const SESSION_LIFETIME: Self = Self(2);
}

/// A word of the server's own: request id 0, flags 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goaway {
    /// Why.
    pub reason: GoawayReason,
    /// Milliseconds for which the server still answers on this connection.
    pub grace_ms: u32,
}

impl Goaway {
    /// Parses a body.
    ///
    /// # Errors
    /// A [`BodyError`] that names the field.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let reason = GoawayReason(reader.u16("reason")?);
        let grace_ms = reader.u32("grace")?;
        reader.finish()?;
        Ok(Self { reason, grace_ms })
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.reason.0.to_be_bytes());
        out.extend_from_slice(&self.grace_ms.to_be_bytes());
    }
}
