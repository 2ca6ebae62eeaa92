//! DATAKEY: a fresh key for data that is too large for a message: in clear for the caller, who seals with it and
//! forgets it, and sealed for the store. The sealed one is opened by DEC.

use super::{optional_suite, suite_byte};
use crate::{Binding, BodyError, Reader, Suite};

/// The lengths that a data key may have, in bytes.
pub const DATA_KEY_LENGTHS: [u8; 3] = [16, 32, 64];

/// A request for a data key, sealed under a key's newest version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatakeyRequest<'a> {
    /// The index of the key that seals it, never 0.
    pub key_index: u32,
    /// The suite; `None` takes the key's default.
    pub suite: Option<Suite>,
    /// Bytes of the data key: one of [`DATA_KEY_LENGTHS`].
    pub length: u8,
    /// What the sealed data key is bound to.
    pub binding: Binding<'a>,
}

impl<'a> DatakeyRequest<'a> {
    /// Parses a body.
    ///
    /// # Errors
    /// A [`BodyError`] that names the field.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let key_index = reader.u32("key index")?;
        let suite = optional_suite(&mut reader)?;
        let length = reader.u8("length")?;
        let request = Self { key_index, suite, length, binding: Binding::read(&mut reader)? };
        reader.finish()?;
        request.check().map(|()| request)
    }

    /// Appends the body.
    ///
    /// # Errors
    /// [`BodyError`] when the key index is 0, the length is not one, or the binding is over its limits.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        self.check()?;
        out.extend_from_slice(&self.key_index.to_be_bytes());
        out.extend_from_slice(&[suite_byte(self.suite), self.length]);
        self.binding.write(out)
    }

    fn check(&self) -> Result<(), BodyError> {
        if self.key_index == 0 {
            return Err(BodyError::Value("key index"));
        }
        if !DATA_KEY_LENGTHS.contains(&self.length) {
            return Err(BodyError::Value("length"));
        }
        Ok(())
    }
}

/// A data key, in clear and sealed. It has no Debug: it is a secret.
#[derive(Clone, Copy)]
pub struct DatakeyResponse<'a> {
    /// In clear.
    pub data_key: &'a [u8],
    /// Its envelope.
    pub envelope: &'a [u8],
}

impl<'a> DatakeyResponse<'a> {
    /// Parses a body.
    ///
    /// # Errors
    /// A [`BodyError`] that names the field.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let length = reader.u8("length")?;
        if !DATA_KEY_LENGTHS.contains(&length) {
            return Err(BodyError::Value("length"));
        }
        let data_key = reader.bytes(usize::from(length), "data key")?;
        Ok(Self { data_key, envelope: reader.rest() })
    }
}
