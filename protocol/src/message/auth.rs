//! AUTH: two requests, two responses.

use super::push_short;
use crate::limits::{self, AUTH_NONCE_LEN, PROOF_LEN};
use crate::{BodyError, Reader, credential};

const STEP_HELLO: u8 = 1;
const STEP_PROOF: u8 = 2;

/// A request of AUTH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthRequest<'a> {
    /// Step 1: who is there.
    Hello {
        /// Fresh random bytes.
        client_nonce: [u8; AUTH_NONCE_LEN],
        /// The AppKey: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
        app_key: &'a [u8],
    },
    /// Step 2: the client's proof.
    Proof {
        /// HMAC-SHA256 over the transcript.
        proof: [u8; PROOF_LEN],
    },
}

impl<'a> AuthRequest<'a> {
    /// Parses a body.
    ///
    /// # Errors
    /// A [`BodyError`] that names the field.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let request = match reader.u8("step")? {
            STEP_HELLO => {
                let client_nonce = reader.array("client nonce")?;
                let app_key = reader.short(limits::MAX_APP_KEY, "app key")?;
                if !credential::is_app_key(app_key) {
                    return Err(BodyError::Value("app key"));
                }
                Self::Hello { client_nonce, app_key }
            }
            STEP_PROOF => Self::Proof { proof: reader.array("proof")? },
            _ => return Err(BodyError::Value("step")),
        };
        reader.finish()?;
        Ok(request)
    }

    /// Appends the body.
    ///
    /// # Errors
    /// [`BodyError`] when the AppKey is not one.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        match self {
            Self::Hello { client_nonce, app_key } => {
                if !credential::is_app_key(app_key) {
                    return Err(BodyError::Value("app key"));
                }
                out.push(STEP_HELLO);
                out.extend_from_slice(client_nonce);
                push_short(out, app_key, limits::MAX_APP_KEY, "app key")?;
            }
            Self::Proof { proof } => {
                out.push(STEP_PROOF);
                out.extend_from_slice(proof);
            }
        }
        Ok(())
    }
}

/// What the server allows in the session to come. Part of the transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Largest frame in either direction, header included, in bytes.
    pub max_frame: u32,
    /// Most requests that wait for an answer; beyond it the server reads no further.
    pub max_in_flight: u32,
    /// Seconds after which the server will say GOAWAY and end the session.
    pub session_seconds: u32,
}

impl SessionLimits {
    /// The twelve bytes on the wire, and in the transcript.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.max_frame.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.max_in_flight.to_be_bytes());
        bytes[8..].copy_from_slice(&self.session_seconds.to_be_bytes());
        bytes
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, BodyError> {
        let limits = Self {
            max_frame: reader.u32("max frame")?,
            max_in_flight: reader.u32("max in flight")?,
            session_seconds: reader.u32("session seconds")?,
        };
        let frame = usize::try_from(limits.max_frame).unwrap_or(usize::MAX);
        if !(limits::MIN_MAX_FRAME..=limits::MAX_FRAME).contains(&frame) {
            return Err(BodyError::Value("max frame"));
        }
        if limits.max_in_flight == 0 {
            return Err(BodyError::Value("max in flight"));
        }
        Ok(limits)
    }
}

/// A response of AUTH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthResponse {
    /// Answer to step 1, whether the AppKey exists or not.
    Challenge {
        /// Fresh random bytes.
        server_nonce: [u8; AUTH_NONCE_LEN],
        /// What the session will allow.
        limits: SessionLimits,
    },
    /// Answer to step 2: the server's proof, sent only after the client's was verified.
    Accepted {
        /// HMAC-SHA256 over the transcript and the client's proof.
        proof: [u8; PROOF_LEN],
    },
}

impl AuthResponse {
    /// Parses a body.
    ///
    /// # Errors
    /// A [`BodyError`] that names the field.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(body);
        let response = match reader.u8("step")? {
            STEP_HELLO => Self::Challenge {
                server_nonce: reader.array("server nonce")?,
                limits: SessionLimits::read(&mut reader)?,
            },
            STEP_PROOF => Self::Accepted { proof: reader.array("proof")? },
            _ => return Err(BodyError::Value("step")),
        };
        reader.finish()?;
        Ok(response)
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Challenge { server_nonce, limits } => {
                out.push(STEP_HELLO);
                out.extend_from_slice(server_nonce);
                out.extend_from_slice(&limits.to_bytes());
            }
            Self::Accepted { proof } => {
                out.push(STEP_PROOF);
                out.extend_from_slice(proof);
            }
        }
    }
}
