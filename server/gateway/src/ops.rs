//! ENC, DEC, REENC: parse in place, find the key, hand it to the engine. Each appends the body of its
//! response to `out`, or leaves `out` as it was.

use sealwire_engine::document::{Op, VersionState};
use sealwire_engine::{EngineError, Session as EngineSession, WrappedKey};
use sealwire_protocol::envelope::EnvelopeError;
use sealwire_protocol::message::{DecRequest, EncRequest, ReencRequest};
use sealwire_protocol::{BodyError, Envelope, ErrorCode, Opcode, Suite, limits};

use crate::Refusal;
use crate::key_entry::KeyEntry;
use crate::keyring::Keyring;

/// What must be loaded before a request can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The key of this index.
    Key(u32),
    /// The key of this index, newer than it is here: an envelope names a version that is not known.
    Newer(u32),
    /// The keys of these indexes, or one of them twice: they were found wrapped under a root key that is
    /// no more.
    Rewrapped([u32; 2]),
}

/// Why a request did not run.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something must be loaded first.
    Need(Need),
    /// It is refused.
    Refuse(Refusal),
}

macro_rules! stops {
    ($($error:ty),+) => {$(
        impl From<$error> for Stop {
            fn from(error: $error) -> Self {
                Self::Refuse(error.into())
            }
        }
    )+};
}
stops!(Refusal, ErrorCode, BodyError, EnvelopeError, EngineError);

/// What an operation works with.
pub(crate) struct Tools<'a> {
    pub(crate) engine: &'a mut EngineSession,
    pub(crate) keyring: &'a mut Keyring,
    /// Longest message, in bytes: every envelope that ENC gives fits into a DEC and a REENC.
    pub(crate) max_message: usize,
}

impl Tools<'_> {
    /// Runs a request that needs nothing but keys.
    #[inline]
    pub(crate) fn run(
        &mut self,
        opcode: Opcode,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        match opcode {
            Opcode::ENC => self.enc(body, out),
            Opcode::DEC => self.dec(body, out),
            Opcode::REENC => self.reenc(body, out),
            _ => Err(ErrorCode::UNKNOWN_OPCODE.into()),
        }
    }

    #[inline]
    fn enc(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
        let request = EncRequest::parse(body)?;
        self.check_size(request.message.len())?;
        let key = self.keyring.get(request.key_index)?;
        let (wrapped, suite) = sealing(key, request.suite)
            .map_err(|code| seen_by(self.engine, key, &[Op::Enc], code))?;
        let done = self.engine.enc(wrapped, suite, &request.binding, request.message, out);
        done.map_err(|error| self.keyring.refused(error, [request.key_index; 2]))
    }

    #[inline]
    fn dec(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
        let request = DecRequest::parse(body)?;
        let envelope = Envelope::parse(request.envelope)?;
        let index = envelope.header.key_index;
        let key = self.keyring.get(index)?;
        match opening(key, &envelope) {
            Ok(wrapped) => {
                let done = self.engine.dec(wrapped, &request.binding, &envelope, out);
                done.map_err(|error| self.keyring.refused(error, [index; 2]))
            }
            Err(defect) => {
                let seen = seen_by(self.engine, key, &[Op::Dec], defect.code());
                Err(self.keyring.cannot_open(index, defect, seen))
            }
        }
    }

    fn reenc(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
        let request = ReencRequest::parse(body)?;
        let envelope = Envelope::parse(request.envelope)?;
        self.check_size(envelope.ciphertext.len())?;
        let index = envelope.header.key_index;
        // Two keys at once: the ring may give one place to both.
        let key = self.keyring.get(index)?.clone();
        let target = match request.target_index {
            0 => key.clone(),
            index => self.keyring.get(index)?.clone(),
        };
        let ops = [Op::Reenc];
        let wrapped = opening(&key, &envelope).map_err(|defect| {
            let seen = seen_by(self.engine, &key, &ops, defect.code());
            self.keyring.cannot_open(index, defect, seen)
        })?;
        let (new, suite) = sealing(&target, request.suite)
            .map_err(|code| seen_by(self.engine, &target, &ops, code))?;
        let binding = request.binding;
        let new_binding = request.new_binding.unwrap_or(binding);
        let (from, to) = ((wrapped, &envelope, &binding), (new, suite, &new_binding));
        let indexes = [index, target.document.index];
        let done = self.engine.reenc(from, to, out);
        done.map_err(|error| self.keyring.refused(error, indexes))
    }

    #[inline]
    fn check_size(&self, message: usize) -> Result<(), Stop> {
        if message > self.max_message {
            return Err(ErrorCode::MESSAGE_TOO_LARGE.into());
        }
        Ok(())
    }
}

/// The version and the suite that seal: the newest active one, and the key's default.
#[inline]
fn sealing(key: &KeyEntry, suite: Option<Suite>) -> Result<(&WrappedKey, Suite), ErrorCode> {
    let suites = &key.document.suites;
    let suite = match suite {
        None => suites[0],
        Some(suite) if suites.contains(&suite) => suite,
        Some(_) => return Err(ErrorCode::SUITE_NOT_ALLOWED),
    };
    Ok((key.newest().ok_or(ErrorCode::KEY_VERSION_UNAVAILABLE)?, suite))
}

/// Why a key does not open an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// The key has no such version, as far as is known here.
    UnknownVersion,
    /// The version may not be used, or its blob is missing.
    Unusable,
}

impl Defect {
    const fn code(self) -> ErrorCode {
        ErrorCode::KEY_VERSION_UNAVAILABLE
    }
}

/// The version that opens an envelope, when its state allows it.
#[inline]
fn opening<'k>(key: &'k KeyEntry, envelope: &Envelope<'_>) -> Result<&'k WrappedKey, Defect> {
    let version = envelope.header.key_version;
    match key.document.state_of(version) {
        Some(VersionState::Active | VersionState::DecryptOnly) => {
            key.version(version).ok_or(Defect::Unusable)
        }
        Some(VersionState::Disabled) => Err(Defect::Unusable),
        None => Err(Defect::UnknownVersion),
    }
}

/// What an app may know of a key's defect: a key without a grant looks like no key.
#[cold]
fn seen_by(engine: &EngineSession, key: &KeyEntry, ops: &[Op], code: ErrorCode) -> ErrorCode {
    let name = &key.document.name;
    let granted = ops.iter().any(|op| engine.grants().allows(*op, name))
        || (ops.contains(&Op::Reenc) && engine.grants().mentions(name));
    if granted { code } else { ErrorCode::KEY_NOT_FOUND }
}

/// The longest message that fits a limit of frames, in bytes.
pub(crate) fn max_message(max_frame: usize) -> usize {
    max_frame - limits::MESSAGE_ROOM
}
