//! DEC: open an envelope. The response's body is the message.

use crate::{Binding, BodyError, Reader};

/// A request to open an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecRequest<'a> {
    /// What the message was bound to when it was sealed.
    pub binding: Binding<'a>,
    /// The envelope, to the end of the frame; not yet parsed, since a defect in it has an error of
    /// its own.
    pub envelope: &'a [u8],
}

impl<'a> DecRequest<'a> {
    /// Parses a body.
    ///
    /// # Errors
    /// A [`BodyError`] that names the field.
    #[inline]
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let binding = Binding::read(&mut reader)?;
        Ok(Self { binding, envelope: reader.rest() })
    }

    /// Appends the body.
    ///
    /// # Errors
    /// [`BodyError`] when the binding is over its limits.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        self.binding.write(out)?;
        out.extend_from_slice(self.envelope);
        Ok(())
    }
}
