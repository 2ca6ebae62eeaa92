//! AUTH_VERIFY: the client's proof against a signed app document.

use sealwire_protocol::auth::{Proof, Transcript};
use sha2::{Digest, Sha256};

use crate::capability::Claims;
use crate::document::{AppDocument, AppState};
use crate::{Capability, Engine, EngineError, SignedDocument, Site, Verified};

/// An attempt to log in.
#[derive(Debug)]
pub struct AuthAttempt<'a> {
    /// What both sides have said.
    pub transcript: Transcript<'a>,
    /// The client's proof.
    pub proof: Proof,
    /// Unix time in seconds.
    pub now: u64,
    /// Seconds for which the capability shall be good.
    pub lifetime: u64,
}

/// An app that has proven itself.
#[derive(Debug)]
pub struct Authenticated {
    /// The server's proof: it covers the client's.
    pub server_proof: Proof,
    /// What the app may do.
    pub capability: Capability,
    /// The app's document.
    pub app: Verified<AppDocument>,
}

impl Engine {
    /// Every secret of the document is tried whatever the others gave, so that a wrong proof, a
    /// disabled app and a decoy document take the same way.
    pub(crate) fn auth_verify(
        &self,
        site: &Site,
        signed: &SignedDocument,
        attempt: &AuthAttempt<'_>,
    ) -> Result<Authenticated, EngineError> {
        let app: Verified<AppDocument> = self.verify(site, signed)?;
        let mut proven = None;
        for secret in &app.secrets {
            let key = self.unwrap(&secret.key(&app.id)?)?;
            let good = attempt.transcript.verify_client_proof(key.expose(), &attempt.proof);
            if good && secret.until.is_none_or(|until| attempt.now < until) {
                proven = Some(key);
            }
        }
        let named = attempt.transcript.app_key == app.id.as_bytes();
        let key = proven
            .filter(|_| named && app.state == AppState::Active)
            .ok_or(EngineError::AuthFailed)?;
        let server_proof = attempt.transcript.server_proof(key.expose(), &attempt.proof);
        let claims = Claims {
            app: app.id.clone(),
            document: hex::encode(Sha256::digest(&signed.body)),
            revision: app.revision,
            grants: app.grants.clone(),
            expires: attempt.now.saturating_add(attempt.lifetime),
        };
        let capability = self.issue(site, &claims)?;
        Ok(Authenticated { server_proof, capability, app })
    }
}
