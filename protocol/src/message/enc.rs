//! ENC: seal a message. The response's body is the envelope.

use super::{optional_suite, suite_byte};
use crate::{Binding, BodyError, Reader, Suite};

/// A request to seal a message under a key's newest version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncRequest<'a> {
    /// The key's index, never 0.
    pub key_index: u32,
    /// The suite; `None` takes the key's default.
    pub suite: Option<Suite>,
    /// What the message is bound to.
    pub binding: Binding<'a>,
    /// The message, to the end of the frame.
    pub message: &'a [u8],
}

impl<'a> EncRequest<'a> {
    /// Parses a body.
    ///
    /// # Errors
    /// A [`BodyError`] that names the field.
    #[inline]
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let key_index = reader.u32("key index")?;
        if key_index == 0 {
            return Err(BodyError::Value("key index"));
        }
        let suite = optional_suite(&mut reader)?;
        reader.reserved("reserved")?;
        let binding = Binding::read(&mut reader)?;
        Ok(Self { key_index, suite, binding, message: reader.rest() })
    }

    /// Appends the body.
    ///
    /// # Errors
    /// [`BodyError`] when the key index is 0 or the binding is over its limits.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        if self.key_index == 0 {
            return Err(BodyError::Value("key index"));
        }
        out.extend_from_slice(&self.key_index.to_be_bytes());
        out.extend_from_slice(&[suite_byte(self.suite), 0]);
        self.binding.write(out)?;
        out.extend_from_slice(self.message);
        Ok(())
    }
}
