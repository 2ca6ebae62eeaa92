//! The AAD of an IM's message, typed.

use sealwire_protocol::limits;

use crate::Error;

/// First byte of the encoding.
const PROFILE: u8 = 1;

/// What a message belongs to: an envelope then opens nowhere else. (spec.md, "Message AAD".)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageAad<'a> {
    tenant: &'a str,
    conversation: &'a str,
    message_id: &'a str,
}

impl<'a> MessageAad<'a> {
    /// An AAD of three parts; any of them may be empty.
    #[must_use]
    pub fn new(tenant: &'a str, conversation: &'a str, message_id: &'a str) -> Self {
        Self { tenant, conversation, message_id }
    }

    /// The bytes: a byte 1, then each part behind its 16-bit length, so that no two triples give the
    /// same bytes.
    ///
    /// # Errors
    /// When the parts together are longer than an AAD may be (4096 bytes).
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![PROFILE];
        for part in [self.tenant, self.conversation, self.message_id] {
            let length = u16::try_from(part.len()).map_err(|_| too_long())?;
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        if bytes.len() > limits::MAX_AAD { Err(too_long()) } else { Ok(bytes) }
    }
}

fn too_long() -> Error {
    Error::usage("tenant, conversation and message id together are longer than 4096 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = MessageAad::new("a", "bc", "").to_bytes().expect("short");
        let two = MessageAad::new("ab", "c", "").to_bytes().expect("short");
        assert_ne!(one, two);
        assert_eq!(one, [1, 0, 1, b'a', 0, 2, b'b', b'c', 0, 0]);
        assert!(MessageAad::new("", &"x".repeat(4090), "").to_bytes().is_err());
    }
}
