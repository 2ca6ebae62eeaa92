//! Frames: a 16-byte header and a body (spec.md, "Frame").
//!
//! ```text
//!  0        4  5  6     8                16
//! +--------+--+--+-----+-----------------+---------
//! | length |v |op|flags|   request id    | body ...
//! +--------+--+--+-----+-----------------+---------
//! ```
//! `length` counts the bytes behind itself: 12 and the body.

use crate::{ErrorCode, limits};

/// What a frame asks for, or answers. Unknown numbers are kept, so that they can be refused by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Opcode(pub u8);

impl Opcode {
    /// Challenge and response: see [`crate::auth`].
    pub const AUTH: Self = Self(0x01);
    /// Seal a message.
    pub const ENC: Self = Self(0x02);
    /// Open an envelope.
    pub const DEC: Self = Self(0x03);
    /// Open an envelope and seal its message again.
    pub const REENC: Self = Self(0x04);
    /// Make a key, or find the one made before under the same name.
    pub const GENKEY: Self = Self(0x05);
    /// Find a key by its name.
    pub const KEYINFO: Self = Self(0x06);
    /// Echo.
    pub const PING: Self = Self(0x07);
    /// The server asks the client to move to another connection.
    pub const GOAWAY: Self = Self(0x08);
    /// Make a data key: in clear for the caller, and sealed for the store.
    pub const DATAKEY: Self = Self(0x09);
}

/// The flags of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flags(pub u16);

impl Flags {
    /// A request.
    pub const REQUEST: Self = Self(0);
    /// A REENC that may wait: it is worked on beside live traffic, and below it.
    pub const BULK: Self = Self(0x0004);
    /// The answer to a request, or a word of the server's own.
    pub const RESPONSE: Self = Self(0x0001);
    /// The answer to a request that was refused; the body is a [`crate::message::Failure`].
    pub const FAILURE: Self = Self(0x0003);
}

/// A frame's header, without the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What is asked for, or answered.
    pub opcode: Opcode,
    /// Request, response or failure.
    pub flags: Flags,
    /// Chosen by the client, never 0; 0 in what the server says of its own accord.
    pub request_id: u64,
}

/// A whole frame, its body borrowed from the buffer it was parsed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The header.
    pub header: Header,
    /// The body.
    pub body: &'a [u8],
}

/// A defect of framing: fatal, nothing behind it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is longer than agreed.
    #[error("frame of {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The frame's size, header included, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The length field leaves no room for the header.
    #[error("length field {0} is smaller than a header")]
    TooShort(u32),
    /// A version that this crate does not speak.
    #[error("protocol version {0} is not spoken here")]
    Version(u8),
}

impl FrameError {
    /// The code that a server answers with.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::FRAME_TOO_LARGE,
            Self::TooShort(_) => ErrorCode::MALFORMED_FRAME,
            Self::Version(_) => ErrorCode::UNSUPPORTED_VERSION,
        }
    }
}

impl<'a> Frame<'a> {
    /// Parses the frame at the start of `buffer`; `Ok(None)` means that more bytes are needed.
    ///
    /// The length is checked as soon as its four bytes are there, the version with the fifth.
    ///
    /// # Errors
    /// A [`FrameError`], as soon as the bytes that show it are there.
    #[inline]
    pub fn parse(buffer: &'a [u8], max_frame: usize) -> Result<Option<Self>, FrameError> {
        let Some(size) = Self::size(buffer, max_frame)? else { return Ok(None) };
        let Some(frame) = buffer.get(..size) else { return Ok(None) };
        let Some((head, body)) = frame.split_first_chunk::<{ limits::HEADER_LEN }>() else {
            return Ok(None);
        };
        let [_, _, _, _, _, opcode, f0, f1, id @ ..] = *head;
        let header = Header {
            opcode: Opcode(opcode),
            flags: Flags(u16::from_be_bytes([f0, f1])),
            request_id: u64::from_be_bytes(id),
        };
        Ok(Some(Self { header, body }))
    }

    /// The size in bytes, header included, of the frame at the start of `buffer`, when so much of
    /// the header is there that length and version could be checked.
    ///
    /// # Errors
    /// A [`FrameError`], as soon as the bytes that show it are there.
    #[inline]
    pub fn size(buffer: &[u8], max_frame: usize) -> Result<Option<usize>, FrameError> {
        let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        let size = u64::from(length) + 4;
        if size > max_frame as u64 {
            return Err(FrameError::TooLarge { size, limit: max_frame });
        }
        if size < limits::HEADER_LEN as u64 {
            return Err(FrameError::TooShort(length));
        }
        match buffer.get(4) {
            None => Ok(None),
            Some(&limits::VERSION) => Ok(usize::try_from(size).ok()),
            Some(&version) => Err(FrameError::Version(version)),
        }
    }

    /// The size of this frame, header included, in bytes.
    #[must_use]
    #[inline]
    pub fn wire_len(&self) -> usize {
        limits::HEADER_LEN + self.body.len()
    }
}

/// A frame under construction at the end of a buffer; see [`begin`].
#[derive(Debug)]
#[must_use = "the length field is written by `finish`"]
pub struct Open {
    start: usize,
}

/// Starts a frame at the end of `out`. Append the body, then call [`Open::finish`].
#[inline]
pub fn begin(out: &mut Vec<u8>, header: Header) -> Open {
    let start = out.len();
    let mut head = [0; limits::HEADER_LEN];
    head[4] = limits::VERSION;
    head[5] = header.opcode.0;
    head[6..8].copy_from_slice(&header.flags.0.to_be_bytes());
    head[8..].copy_from_slice(&header.request_id.to_be_bytes());
    out.extend_from_slice(&head);
    Open { start }
}

impl Open {
    /// Writes the length of everything appended since [`begin`].
    ///
    /// # Panics
    /// When the body has more than `u32::MAX - 12` bytes, which no caller of ours can reach: what
    /// it answers is bounded by [`limits::MAX_FRAME`].
    #[inline]
    pub fn finish(self, out: &mut [u8]) {
        let length = u32::try_from(out.len() - self.start - 4).expect("frames are bounded");
        out[self.start..self.start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// The size of the frame so far, header included, in bytes.
    #[must_use]
    #[inline]
    pub fn wire_len(&self, out: &[u8]) -> usize {
        out.len() - self.start
    }

    /// Takes the frame back: `out` is as it was before [`begin`].
    pub fn cancel(self, out: &mut Vec<u8>) {
        out.truncate(self.start);
    }
}

/// Bytes of the answer to an unknown version.
pub const VERSION_ANSWER_LEN: usize = 20;

/// The answer to a version that is not spoken here. Its layout is the same in every version that
/// will ever be: version, opcode and request id 0, flags 3, then the error number 1, the lowest and
/// the highest version that the server speaks.
#[must_use]
pub const fn version_answer() -> [u8; VERSION_ANSWER_LEN] {
    let v = limits::VERSION;
    [0, 0, 0, 16, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, v, v]
}

/// Reads the answer to an unknown version: the lowest and the highest version that the server
/// speaks.
#[must_use]
pub fn parse_version_answer(buffer: &[u8]) -> Option<(u8, u8)> {
    let (fixed, &[low, high]) =
        buffer.first_chunk::<VERSION_ANSWER_LEN>()?.split_last_chunk::<2>()?;
    let answer = version_answer();
    (fixed == &answer[..18]).then_some((low, high))
}
