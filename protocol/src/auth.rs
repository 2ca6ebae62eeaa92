//! The AUTH transcript, and the proofs over it (spec.md, "AUTH").

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::limits::{AUTH_NONCE_LEN, PROOF_LEN, VERSION};
use crate::message::SessionLimits;

/// First field of every transcript.
pub const TRANSCRIPT_LABEL: &[u8] = b"sealwire auth v1";

/// HKDF `info` of the key that makes the client's proof.
pub const CLIENT_KEY_INFO: &[u8] = b"sealwire auth v1 client key";

/// HKDF `info` of the key that makes the server's proof.
pub const SERVER_KEY_INFO: &[u8] = b"sealwire auth v1 server key";

/// Label of the TLS exporter (RFC 9266, section 4.2).
pub const TLS_EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// A proof: HMAC-SHA256.
pub type Proof = [u8; PROOF_LEN];

/// What the connection runs over, and what binds AUTH to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Plain TCP: nothing to bind to.
    Tcp,
    /// TLS 1.3, bound by `tls-exporter` (RFC 9266): 32 bytes of exported keying material.
    Tls([u8; 32]),
}

impl Channel {
    fn fields(&self) -> [&[u8]; 3] {
        match self {
            Self::Tcp => [b"tcp", b"", b""],
            Self::Tls(binding) => [b"tls", b"tls-exporter", binding],
        }
    }
}

/// Everything that both proofs cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transcript<'a> {
    /// What the connection runs over.
    pub channel: Channel,
    /// The client's nonce, fresh.
    pub client_nonce: [u8; AUTH_NONCE_LEN],
    /// The server's nonce, fresh.
    pub server_nonce: [u8; AUTH_NONCE_LEN],
    /// The AppKey.
    pub app_key: &'a [u8],
    /// The limits that the server offered beside its nonce.
    pub limits: SessionLimits,
}

impl Transcript<'_> {
    /// The transcript's bytes: each field behind its 16-bit length.
    ///
    /// # Panics
    /// When the AppKey is longer than 65,535 bytes: parsers bound it by
    /// [`crate::limits::MAX_APP_KEY`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let [transport, binding_type, binding] = self.channel.fields();
        let limits = self.limits.to_bytes();
        let mut out = Vec::with_capacity(256);
        for field in [
            TRANSCRIPT_LABEL,
            &[VERSION],
            transport,
            binding_type,
            binding,
            &self.client_nonce,
            &self.server_nonce,
            self.app_key,
            &limits,
        ] {
            push(&mut out, field);
        }
        out
    }

    /// The client's proof: HMAC-SHA256 of the transcript.
    #[must_use]
    pub fn client_proof(&self, secret: &[u8]) -> Proof {
        mac(secret, CLIENT_KEY_INFO, &self.to_bytes()).finalize().into_bytes().into()
    }

    /// Compares the client's proof in constant time.
    #[must_use]
    pub fn verify_client_proof(&self, secret: &[u8], proof: &Proof) -> bool {
        mac(secret, CLIENT_KEY_INFO, &self.to_bytes()).verify_slice(proof).is_ok()
    }

    /// The server's proof: it covers the client's, and is made only after that was verified.
    #[must_use]
    pub fn server_proof(&self, secret: &[u8], client_proof: &Proof) -> Proof {
        let bytes = self.server_bytes(client_proof);
        mac(secret, SERVER_KEY_INFO, &bytes).finalize().into_bytes().into()
    }

    /// Compares the server's proof in constant time.
    #[must_use]
    pub fn verify_server_proof(&self, secret: &[u8], client: &Proof, proof: &Proof) -> bool {
        mac(secret, SERVER_KEY_INFO, &self.server_bytes(client)).verify_slice(proof).is_ok()
    }

    fn server_bytes(&self, client_proof: &Proof) -> Vec<u8> {
        let mut bytes = self.to_bytes();
        push(&mut bytes, client_proof);
        bytes
    }
}

fn push(out: &mut Vec<u8>, field: &[u8]) {
    let length = u16::try_from(field.len()).expect("fields of a transcript are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(field);
}

fn mac(secret: &[u8], info: &[u8], message: &[u8]) -> Hmac<Sha256> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, secret)
        .expand(info, key.as_mut_slice())
        .expect("32 bytes are within HKDF's limit");
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes any key");
    mac.update(message);
    mac
}
