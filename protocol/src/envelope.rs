//! The ciphertext envelope and the data bound to it (spec.md, "Envelope").
//!
//! ```text
//!  0    1      2          6           10       10+N
//! +----+------+----------+-----------+--------+---------------+----------+
//! | F5 | suite| key index| key version| nonce | ciphertext    | tag (16) |
//! +----+------+----------+-----------+--------+---------------+----------+
//! ```

use crate::{BodyError, Reader, Suite, limits};

/// First byte of an envelope of format 1. It occurs nowhere in UTF-8 text (RFC 3629, section 1), so a
/// column may hold old plaintext and envelopes side by side.
pub const FORMAT_1: u8 = 0xF5;

/// Bytes of the envelope's header.
pub const HEADER_LEN: usize = 10;

/// Most bytes that sealing adds to a message, over all suites.
pub const MAX_OVERHEAD: usize = HEADER_LEN + Suite::MAX_NONCE_LEN + Suite::MAX_TAG_LEN;

/// The header of an envelope: which suite and which key version sealed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvelopeHeader {
    /// The suite.
    pub suite: Suite,
    /// The key's index, never 0.
    pub key_index: u32,
    /// The key's version, never 0.
    pub key_version: u32,
}

impl EnvelopeHeader {
    /// The header's ten bytes.
    #[must_use]
    #[inline]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = FORMAT_1;
        bytes[1] = self.suite.id();
        bytes[2..6].copy_from_slice(&self.key_index.to_be_bytes());
        bytes[6..].copy_from_slice(&self.key_version.to_be_bytes());
        bytes
    }
}

/// Why bytes are not an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The first byte is not `F5`: most likely plaintext.
    #[error("not an envelope: the first byte is not 0xF5")]
    NotAnEnvelope,
    /// The suite's number is unknown.
    #[error("suite {0} is not known")]
    UnknownSuite(u8),
    /// Key index or version is 0.
    #[error("key index or version is 0")]
    ZeroKey,
    /// Shorter than header, nonce and tag.
    #[error("envelope of {0} bytes is shorter than its header, nonce and tag")]
    TooShort(usize),
}

/// An envelope, borrowed from the buffer it was parsed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The header.
    pub header: EnvelopeHeader,
    /// The nonce: [`Suite::nonce_len`] bytes.
    pub nonce: &'a [u8],
    /// The ciphertext, as long as the message.
    pub ciphertext: &'a [u8],
    /// The tag: [`Suite::tag_len`] bytes.
    pub tag: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Takes the bytes apart. Each envelope has one encoding: there is nothing to normalise.
    ///
    /// # Errors
    /// An [`EnvelopeError`] that names the first defect. A sound envelope may still not open.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        if !is_envelope(bytes) {
            return Err(EnvelopeError::NotAnEnvelope);
        }
        let short = EnvelopeError::TooShort(bytes.len());
        let (head, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(short)?;
        let [_, suite, i0, i1, i2, i3, version @ ..] = *head;
        let suite = Suite::from_id(suite).ok_or(EnvelopeError::UnknownSuite(suite))?;
        let key_index = u32::from_be_bytes([i0, i1, i2, i3]);
        let key_version = u32::from_be_bytes(version);
        if key_index == 0 || key_version == 0 {
            return Err(EnvelopeError::ZeroKey);
        }
        let (nonce, rest) = rest.split_at_checked(suite.nonce_len()).ok_or(short)?;
        let length = rest.len().checked_sub(suite.tag_len()).ok_or(short)?;
        let (ciphertext, tag) = rest.split_at(length);
        let header = EnvelopeHeader { suite, key_index, key_version };
        Ok(Self { header, nonce, ciphertext, tag })
    }
}

/// Whether `bytes` begin as an envelope does. UTF-8 text never does.
#[must_use]
#[inline]
pub fn is_envelope(bytes: &[u8]) -> bool {
    bytes.first() == Some(&FORMAT_1)
}

/// What a message is bound to besides its key: an optional `context` and the caller's AAD. Both are
/// authenticated, neither is stored in the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Binding<'a> {
    /// The context, at most [`limits::MAX_CONTEXT`] bytes; empty when there is none.
    pub context: &'a [u8],
    /// The caller's AAD, at most [`limits::MAX_AAD`] bytes; empty when there is none.
    pub aad: &'a [u8],
}

impl<'a> Binding<'a> {
    /// Only an AAD.
    #[must_use]
    pub const fn aad(aad: &'a [u8]) -> Self {
        Self { context: &[], aad }
    }

    /// Reads both fields, each behind its 16-bit length.
    ///
    /// # Errors
    /// A [`BodyError`] that names the field.
    #[inline]
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, BodyError> {
        let context = reader.long(limits::MAX_CONTEXT, "context")?;
        let aad = reader.long(limits::MAX_AAD, "aad")?;
        Ok(Self { context, aad })
    }

    /// Appends both fields, each behind its 16-bit length, as a request carries them.
    ///
    /// # Errors
    /// [`BodyError::TooLong`] when a field is longer than its limit; `out` is untouched then.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        let context = length(self.context, limits::MAX_CONTEXT, "context")?;
        let aad = length(self.aad, limits::MAX_AAD, "aad")?;
        out.extend_from_slice(&context);
        out.extend_from_slice(self.context);
        out.extend_from_slice(&aad);
        out.extend_from_slice(self.aad);
        Ok(())
    }

    /// Replaces `out` by the associated data that the suite authenticates: the envelope's header,
    /// then context and AAD as [`Binding::write`] puts them.
    ///
    /// # Errors
    /// As [`Binding::write`].
    #[inline]
    pub fn bound_aad(&self, header: EnvelopeHeader, out: &mut Vec<u8>) -> Result<(), BodyError> {
        out.clear();
        out.extend_from_slice(&header.to_bytes());
        self.write(out)
    }
}

#[inline]
fn length(bytes: &[u8], limit: usize, field: &'static str) -> Result<[u8; 2], BodyError> {
    match u16::try_from(bytes.len()) {
        Ok(length) if usize::from(length) <= limit => Ok(length.to_be_bytes()),
        _ => Err(BodyError::TooLong { field, length: bytes.len(), limit }),
    }
}
