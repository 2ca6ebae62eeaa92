//! Capabilities: what an app that has proven itself may do, for a time, at every engine of the site.

use hmac::Mac;
use serde::{Deserialize, Serialize};

use crate::document::Grants;
use crate::sign::Signs;
use crate::{Engine, EngineError, Site};

/// A capability: bytes that only an engine of this site can make, and any of them can check.
///
/// Whoever holds one may use it, so it has no Debug.
#[derive(Clone)]
pub struct Capability {
    pub(crate) body: Vec<u8>,
    pub(crate) mac: [u8; 32],
}

impl Capability {
    /// What it says that it allows: the engine that has made it is believed, the engine that takes it
    /// checks it.
    pub(crate) fn grants(&self) -> Result<Grants, EngineError> {
        let claims: Result<Claims, _> = serde_json::from_slice(&self.body);
        Ok(claims.map_err(|_| EngineError::Capability)?.grants)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    /// The AppKey.
    pub(crate) app: String,
    /// SHA-256 of the app's document, hexadecimal.
    pub(crate) document: String,
    /// The document's revision.
    pub(crate) revision: u64,
    /// What the app may do.
    pub(crate) grants: Grants,
    /// Unix time in seconds.
    pub(crate) expires: u64,
}

impl Engine {
    pub(crate) fn issue(&self, site: &Site, claims: &Claims) -> Result<Capability, EngineError> {
        let body = serde_json::to_vec(claims).map_err(|_| EngineError::Capability)?;
        let mac = self.mac(site, Signs::Capability, &body)?.finalize().into_bytes().into();
        Ok(Capability { body, mac })
    }

    /// What a capability allows, and until when, in seconds of Unix time.
    pub(crate) fn check_capability(
        &self,
        site: &Site,
        capability: &Capability,
    ) -> Result<(Grants, u64), EngineError> {
        self.mac(site, Signs::Capability, &capability.body)?
            .verify_slice(&capability.mac)
            .map_err(|_| EngineError::Capability)?;
        let claims: Claims =
            serde_json::from_slice(&capability.body).map_err(|_| EngineError::Capability)?;
        if claims.expires <= self.now() {
            return Err(EngineError::CapabilityExpired);
        }
        Ok((claims.grants, claims.expires))
    }
}
