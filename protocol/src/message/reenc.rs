//! REENC: open an envelope and seal its message again. The response's body is the new envelope.

use super::{optional_suite, suite_byte};
use crate::{Binding, BodyError, Reader, Suite};

const SAME_BINDING: u8 = 0;
const NEW_BINDING: u8 = 1;

/// A request to seal the message of an envelope again: under the newest version of its key, under
/// another key, or bound to something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReencRequest<'a> {
    /// The target key's index; 0 keeps the envelope's key.
    pub target_index: u32,
    /// The suite; `None` takes the target key's default.
    pub suite: Option<Suite>,
    /// What the message was bound to when it was sealed.
    pub binding: Binding<'a>,
    /// What it shall be bound to; `None` keeps `binding`.
    pub new_binding: Option<Binding<'a>>,
    /// The envelope, to the end of the frame.
    pub envelope: &'a [u8],
}

impl<'a> ReencRequest<'a> {
    /// Parses a body.
    ///
    /// # Errors
    /// A [`BodyError`] that names the field.
    #[inline]
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let target_index = reader.u32("target index")?;
        let suite = optional_suite(&mut reader)?;
        let kind = reader.u8("binding kind")?;
        let binding = Binding::read(&mut reader)?;
        let new_binding = match kind {
            SAME_BINDING => None,
            NEW_BINDING => Some(Binding::read(&mut reader)?),
            _ => return Err(BodyError::Value("binding kind")),
        };
        Ok(Self { target_index, suite, binding, new_binding, envelope: reader.rest() })
    }

    /// Appends the body.
    ///
    /// # Errors
    /// [`BodyError`] when a binding is over its limits.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        let kind = if self.new_binding.is_some() { NEW_BINDING } else { SAME_BINDING };
        out.extend_from_slice(&self.target_index.to_be_bytes());
        out.extend_from_slice(&[suite_byte(self.suite), kind]);
        self.binding.write(out)?;
        if let Some(binding) = &self.new_binding {
            binding.write(out)?;
        }
        out.extend_from_slice(self.envelope);
        Ok(())
    }
}
