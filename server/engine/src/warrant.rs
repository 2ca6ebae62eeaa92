//! Warrants: what a quorum of key cards allows although no operator could. A statement in words, with a MAC that
//! only a quorum makes, and that every engine of the root key knows again.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::memory::Clear;
use crate::{Engine, EngineError, RootKey, kdf};

const WARRANT_LABEL: &str = "sealwire warrant v1";

/// Longest statement, in bytes.
pub const MAX_STATEMENT: usize = 1024;

/// A MAC over a statement.
pub type Warrant = [u8; 32];

impl RootKey {
    /// The warrant for a statement.
    pub(crate) fn warrant(&self, statement: &str) -> Result<Warrant, EngineError> {
        Ok(self.warrant_mac(statement)?.finalize().into_bytes().into())
    }

    fn warrant_mac(&self, statement: &str) -> Result<Hmac<Sha256>, EngineError> {
        let sound = !statement.is_empty()
            && statement.len() <= MAX_STATEMENT
            && statement.chars().all(|letter| letter == '\n' || !letter.is_control());
        if !sound {
            return Err(EngineError::Document("a warrant's statement is not in words".into()));
        }
        self.enter(|inside, root| {
            let mut key = Clear::zeroed(inside);
            kdf::expand(root.secret().expose(), WARRANT_LABEL, &[], key.expose_mut());
            let mac = Hmac::<Sha256>::new_from_slice(key.expose());
            let mut mac = mac.expect("HMAC takes a key of any length");
            mac.update(statement.as_bytes());
            Ok(mac)
        })
    }
}

impl Engine {
    /// Whether a quorum of this root key's cards has allowed what a statement says.
    pub(crate) fn check_warrant(
        &self,
        statement: &str,
        warrant: &Warrant,
    ) -> Result<(), EngineError> {
        let mac = self.with_root(|root| root.warrant_mac(statement))?;
        mac.verify_slice(warrant).map_err(|_| EngineError::Warrant)
    }
}
