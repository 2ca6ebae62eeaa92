//! A bounded reader over a frame's body.

/// Why a body was refused. None of these is fatal to the connection once AUTH has succeeded: the
/// frame around the body was sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The body ends inside the named field.
    #[error("body ends inside field `{0}`")]
    Truncated(&'static str),
    /// Bytes follow the last field.
    #[error("{0} bytes follow the last field")]
    Trailing(usize),
    /// The named field is longer than its limit.
    #[error("field `{field}` has {length} bytes, the limit is {limit}")]
    TooLong {
        /// The field's name in spec.md.
        field: &'static str,
        /// The length the peer announced, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A reserved field is not zero.
    #[error("reserved field `{0}` is not zero")]
    Reserved(&'static str),
    /// The named field has a value that the specification does not allow.
    #[error("field `{0}` has a value that is not allowed")]
    Value(&'static str),
}

/// Reads fields, big-endian, from a slice; each getter names its field for the error.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// The next `length` bytes.
    #[inline]
    pub fn bytes(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], BodyError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(BodyError::Truncated(field))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    #[inline]
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], BodyError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(BodyError::Truncated(field))?;
        self.rest = rest;
        Ok(*head)
    }

    /// A byte.
    #[inline]
    pub fn u8(&mut self, field: &'static str) -> Result<u8, BodyError> {
        Ok(self.array::<1>(field)?[0])
    }

    /// A 16-bit number.
    #[inline]
    pub fn u16(&mut self, field: &'static str) -> Result<u16, BodyError> {
        Ok(u16::from_be_bytes(self.array(field)?))
    }

    /// A 32-bit number.
    #[inline]
    pub fn u32(&mut self, field: &'static str) -> Result<u32, BodyError> {
        Ok(u32::from_be_bytes(self.array(field)?))
    }

    /// A byte that must be zero.
    #[inline]
    pub fn reserved(&mut self, field: &'static str) -> Result<(), BodyError> {
        if self.u8(field)? == 0 { Ok(()) } else { Err(BodyError::Reserved(field)) }
    }

    /// A field of at most `limit` bytes behind its 8-bit length.
    pub fn short(&mut self, limit: usize, field: &'static str) -> Result<&'a [u8], BodyError> {
        let length = usize::from(self.u8(field)?);
        self.limited(length, limit, field)
    }

    /// A field of at most `limit` bytes behind its 16-bit length.
    #[inline]
    pub fn long(&mut self, limit: usize, field: &'static str) -> Result<&'a [u8], BodyError> {
        let length = usize::from(self.u16(field)?);
        self.limited(length, limit, field)
    }

    /// Everything that is left.
    #[inline]
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Ends the body: anything left is an error.
    pub fn finish(self) -> Result<(), BodyError> {
        if self.rest.is_empty() { Ok(()) } else { Err(BodyError::Trailing(self.rest.len())) }
    }

    #[inline]
    fn limited(
        &mut self,
        length: usize,
        limit: usize,
        field: &'static str,
    ) -> Result<&'a [u8], BodyError> {
        if length > limit {
            return Err(BodyError::TooLong { field, length, limit });
        }
        self.bytes(length, field)
    }
}
