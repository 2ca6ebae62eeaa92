//! AUTH_VERIFY: the client's proof against a signed app document.

use hmac::Mac;
use sealwire_protocol::auth::{Proof, Transcript};
use sha2::{Digest, Sha256};

use crate::capability::Claims;
use crate::document::{AppDocument, AppState};
use crate::sign::Signs;
use crate::{Capability, Engine, EngineError, SignedDocument, Site, Verified};

/// Seconds for which a challenge may be answered. Within it, a gateway could have a recorded login
/// verified again; afterwards not.
const CHALLENGE_SECONDS: u64 = 60;

/// Longest lifetime of a capability, in seconds.
pub const MAX_LIFETIME: u64 = 7 * 24 * 3600;

/// A server nonce: 8 bytes of time, 8 random ones, and 16 of a MAC over both.
type Challenge = [u8; 32];

/// An attempt to log in.
pub struct AuthAttempt<'a> {
    /// What both sides have said.
    pub transcript: Transcript<'a>,
    /// The client's proof.
    pub proof: Proof,
    /// Seconds for which the capability shall be good; never more than [`MAX_LIFETIME`].
    pub lifetime: u64,
}

/// An app that has proven itself.
pub struct Authenticated {
    /// The server's proof: it covers the client's.
    pub server_proof: Proof,
    /// What the app may do.
    pub capability: Capability,
    /// The app's document.
    pub app: Verified<AppDocument>,
}

impl Engine {
    /// The server nonce of an AUTH. The engine recognises its own, so that a gateway, even a captured
    /// one, cannot have a login verified that was recorded long ago.
    pub(crate) fn challenge(&self, site: &Site) -> Result<Challenge, EngineError> {
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&self.now().to_be_bytes());
        getrandom::fill(&mut nonce[8..16])?;
        let mac = self.mac(site, Signs::Challenge, &nonce[..16])?.finalize().into_bytes();
        nonce[16..].copy_from_slice(&mac[..16]);
        Ok(nonce)
    }

    /// Whether a server nonce is one of this site's engines, and fresh.
    fn is_fresh(&self, site: &Site, nonce: &Challenge) -> Result<bool, EngineError> {
        let (head, mac) = nonce.split_at(16);
        let ours = self.mac(site, Signs::Challenge, head)?.verify_truncated_left(mac).is_ok();
        let made = u64::from_be_bytes(*head.first_chunk().expect("16 bytes"));
        Ok(ours && self.now().abs_diff(made) <= CHALLENGE_SECONDS)
    }

    /// Every secret of the document is tried whatever the others gave, so that a wrong proof, a
    /// disabled app and a decoy document take the same way.
    pub(crate) fn auth_verify(
        &self,
        site: &Site,
        signed: &SignedDocument,
        attempt: &AuthAttempt<'_>,
    ) -> Result<Authenticated, EngineError> {
        let app: Verified<AppDocument> = self.verify(site, signed)?;
        let (now, fresh) = (self.now(), self.is_fresh(site, &attempt.transcript.server_nonce)?);
        let mut proven = None;
        for secret in &app.secrets {
            let key = self.unwrap(&secret.key(&app.id)?)?;
            let good = attempt.transcript.verify_client_proof(key.expose(), &attempt.proof);
            if good && secret.until.is_none_or(|until| now < until) {
                proven = Some(key);
            }
        }
        let named = attempt.transcript.app_key == app.id.as_bytes();
        let key = proven
            .filter(|_| fresh && named && app.state == AppState::Active)
            .ok_or(EngineError::AuthFailed)?;
        let server_proof = attempt.transcript.server_proof(key.expose(), &attempt.proof);
        let claims = Claims {
            app: app.id.clone(),
            document: hex::encode(Sha256::digest(&signed.body)),
            revision: app.revision,
            grants: app.grants.clone(),
            expires: now.saturating_add(attempt.lifetime.min(MAX_LIFETIME)),
        };
        let capability = self.issue(site, &claims)?;
        Ok(Authenticated { server_proof, capability, app })
    }
}
