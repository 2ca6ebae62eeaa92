//! The body of a failure.

use crate::{BodyError, ErrorCode, Reader, limits};

/// Why a request was refused: the number says it to programs, the detail to people. No detail ever
/// holds a secret, a message or a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure<'a> {
    /// The number: see [`crate::error::REGISTRY`].
    pub code: ErrorCode,
    /// What was wrong, at most 512 bytes of UTF-8; may be empty.
    pub detail: &'a str,
}

impl<'a> Failure<'a> {
    /// Parses a body.
    ///
    /// # Errors
    /// A [`BodyError`] that names the field.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let code = ErrorCode(reader.u16("code")?);
        let detail = reader.long(limits::MAX_DETAIL, "detail")?;
        let detail = std::str::from_utf8(detail).map_err(|_| BodyError::Value("detail"))?;
        reader.finish()?;
        Ok(Self { code, detail })
    }

    /// Appends the body. A detail over its limit is cut at a character.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let detail = &self.detail[..self.detail.floor_char_boundary(limits::MAX_DETAIL)];
        out.extend_from_slice(&self.code.0.to_be_bytes());
        let length = u16::try_from(detail.len()).unwrap_or(0);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(detail.as_bytes());
    }
}
