//! ENC, DEC, REENC, DATAKEY: parse in place, find the key, hand it to the engine. Each appends the body of its
//! response to `out`, or leaves `out` as it was: then it was refused, or it is on its way to an engine
//! of another process.

use sealwire_engine::document::{Op, UsableKey, VersionState};
use sealwire_engine::wire::message::Lane;
use sealwire_engine::{Done, EngineError, Opened, Session as EngineSession, Tag};
use sealwire_protocol::envelope::EnvelopeError;
use sealwire_protocol::message::{DatakeyRequest, DecRequest, EncRequest, ReencRequest};
use sealwire_protocol::{Binding, BodyError, Envelope, ErrorCode, Flags, Opcode, Suite, limits};

use crate::Refusal;
use crate::directory::KeyEntry;
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
    /// Messages that the key of this index may seal under this suite.
    Messages(u32, Suite),
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
    /// Runs a request that needs nothing but keys, and notes its suite.
    #[inline]
    pub(crate) fn run(
        &mut self,
        tag: &mut Tag,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Done, Stop> {
        match tag.header.opcode {
            Opcode::ENC => self.enc(tag, body, out),
            Opcode::DEC => self.dec(tag, body, out),
            Opcode::REENC => self.reenc(tag, body, out),
            Opcode::DATAKEY => self.datakey(tag, body, out),
            _ => Err(ErrorCode::UNKNOWN_OPCODE.into()),
        }
    }

    #[inline]
    fn enc(&mut self, tag: &mut Tag, body: &[u8], out: &mut Vec<u8>) -> Result<Done, Stop> {
        let request = EncRequest::parse(body)?;
        tag.key = request.key_index;
        self.check_size(request.message.len())?;
        let (key, suite) = (request.key_index, request.suite);
        self.seal(tag, (key, suite, Op::Enc), &request.binding, |engine, tag, sealing| {
            engine.enc(tag, sealing, &request.binding, request.message, out)
        })
    }

    fn datakey(&mut self, tag: &mut Tag, body: &[u8], out: &mut Vec<u8>) -> Result<Done, Stop> {
        let request = DatakeyRequest::parse(body)?;
        tag.key = request.key_index;
        let (key, suite) = (request.key_index, request.suite);
        self.seal(tag, (key, suite, Op::Datakey), &request.binding, |engine, tag, sealing| {
            engine.datakey(tag, sealing, &request.binding, request.length, out)
        })
    }

    /// Seals something under a key, when the key has a message left for it.
    #[inline]
    fn seal(
        &mut self,
        tag: &mut Tag,
        (index, suite, op): (u32, Option<Suite>, Op),
        binding: &Binding<'_>,
        seal: impl FnOnce(&mut EngineSession, Tag, (&UsableKey, Suite)) -> Result<Done, EngineError>,
    ) -> Result<Done, Stop> {
        let mut held = self.keyring.get(index)?;
        let suite = chosen(held.key(), suite, binding)
            .map_err(|code| seen_by(self.engine, held.key(), &[op], code))?;
        tag.suite = Some(suite);
        let (engine, ops) = (&*self.engine, [op]);
        if !held.charge(suite, |key| is_granted(engine, key, &ops)) {
            return Err(unpaid(self.engine, held.key(), &ops, suite));
        }
        let done = match held.key().sealing() {
            Some(key) => seal(self.engine, *tag, (key, suite)),
            None => Err(EngineError::NotUsable),
        };
        if done.is_err() {
            held.uncharge(suite);
        }
        done.map_err(|error| self.keyring.refused(error, [index; 2]))
    }

    #[inline]
    fn dec(&mut self, tag: &mut Tag, body: &[u8], out: &mut Vec<u8>) -> Result<Done, Stop> {
        let request = DecRequest::parse(body)?;
        let envelope = Envelope::parse(request.envelope)?;
        tag.suite = Some(envelope.header.suite);
        let index = envelope.header.key_index;
        tag.key = index;
        let key = self.keyring.get(index)?.into_key();
        if key.document.sensitive {
            tag.opened = Some(opened(&envelope));
        }
        match opening(key, &envelope) {
            Ok(wrapped) => {
                let done = self.engine.dec(*tag, wrapped, &request.binding, &envelope, out);
                done.map_err(|error| self.keyring.refused(error, [index; 2]))
            }
            Err(defect) => {
                let seen = seen_by(self.engine, key, &[Op::Dec], defect.code());
                Err(self.keyring.cannot_open(index, defect, seen))
            }
        }
    }

    fn reenc(&mut self, tag: &mut Tag, body: &[u8], out: &mut Vec<u8>) -> Result<Done, Stop> {
        let request = ReencRequest::parse(body)?;
        let envelope = Envelope::parse(request.envelope)?;
        self.check_size(envelope.ciphertext.len())?;
        let index = envelope.header.key_index;
        tag.key = index;
        // Two keys at once: the ring may give one place to both.
        let key = self.keyring.get(index)?.key().clone();
        let target_index = if request.target_index == 0 { index } else { request.target_index };
        let mut held = self.keyring.get(target_index)?;
        let target = held.key().clone();
        let ops = [Op::Reenc];
        let binding = request.binding;
        let new_binding = request.new_binding.unwrap_or(binding);
        let suite = chosen(&target, request.suite, &new_binding)
            .map_err(|code| seen_by(self.engine, &target, &ops, code))?;
        tag.suite = Some(suite);
        let wrapped = match opening(&key, &envelope) {
            Ok(wrapped) => wrapped,
            Err(defect) => {
                let seen = seen_by(self.engine, &key, &ops, defect.code());
                return Err(self.keyring.cannot_open(index, defect, seen));
            }
        };
        let engine = &*self.engine;
        if !held.charge(suite, |key| is_granted(engine, key, &ops)) {
            return Err(unpaid(self.engine, &target, &ops, suite));
        }
        let new = target.sealing().ok_or(ErrorCode::KEY_VERSION_UNAVAILABLE)?;
        let (from, to) = ((wrapped, &envelope, &binding), (new, suite, &new_binding));
        let lane = if tag.header.flags == Flags::BULK { Lane::Bulk } else { Lane::Live };
        let done = self.engine.reenc((*tag, lane), from, to, out);
        if done.is_err() {
            held.uncharge(suite);
        }
        done.map_err(|error| self.keyring.refused(error, [index, target_index]))
    }

    #[inline]
    fn check_size(&self, message: usize) -> Result<(), Stop> {
        if message > self.max_message {
            return Err(ErrorCode::MESSAGE_TOO_LARGE.into());
        }
        Ok(())
    }
}

/// The suite that seals, when a version of the key may, and what is bound to the message suffices.
#[inline]
fn chosen(key: &KeyEntry, suite: Option<Suite>, binding: &Binding<'_>) -> Result<Suite, ErrorCode> {
    let suites = &key.document.suites;
    let suite = match suite {
        None => suites[0],
        Some(suite) if suites.contains(&suite) => suite,
        Some(_) => return Err(ErrorCode::SUITE_NOT_ALLOWED),
    };
    if key.sealing().is_none() {
        return Err(ErrorCode::KEY_VERSION_UNAVAILABLE);
    }
    if key.document.context_required && binding.context.is_empty() {
        return Err(ErrorCode::CONTEXT_REQUIRED);
    }
    Ok(suite)
}

/// What to do when no message is at hand that may be sealed. For an app without a grant nothing is
/// reserved.
#[cold]
fn unpaid(engine: &EngineSession, key: &KeyEntry, ops: &[Op], suite: Suite) -> Stop {
    match seen_by(engine, key, ops, ErrorCode::KEY_EXHAUSTED) {
        ErrorCode::KEY_EXHAUSTED => Stop::Need(Need::Messages(key.document.index, suite)),
        hidden => hidden.into(),
    }
}

/// Why a key does not open an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// The key has no such version, or no blob of it, as far as is known here.
    UnknownVersion,
    /// The version may not be used.
    Unusable,
}

impl Defect {
    const fn code(self) -> ErrorCode {
        ErrorCode::KEY_VERSION_UNAVAILABLE
    }
}

/// An envelope that is opened, as a record names it.
#[cold]
fn opened(envelope: &Envelope<'_>) -> Opened {
    let mut message = [0; 12];
    let nonce = &envelope.nonce[..envelope.nonce.len().min(12)];
    message[..nonce.len()].copy_from_slice(nonce);
    Opened { version: envelope.header.key_version, message }
}

/// The version that opens an envelope, when its state allows it.
#[inline]
fn opening<'k>(key: &'k KeyEntry, envelope: &Envelope<'_>) -> Result<&'k UsableKey, Defect> {
    let version = envelope.header.key_version;
    match key.version(version) {
        Some(usable) if usable.opens() => Ok(usable),
        None if key.document.state_of(version) != Some(VersionState::Destroyed) => {
            Err(Defect::UnknownVersion)
        }
        _ => Err(Defect::Unusable),
    }
}

/// What an app may know of a key's defect: a key without a grant looks like no key.
#[cold]
fn seen_by(engine: &EngineSession, key: &KeyEntry, ops: &[Op], code: ErrorCode) -> ErrorCode {
    if is_granted(engine, key, ops) { code } else { ErrorCode::KEY_NOT_FOUND }
}

#[cold]
fn is_granted(engine: &EngineSession, key: &KeyEntry, ops: &[Op]) -> bool {
    let name = &key.document.name;
    ops.iter().any(|op| engine.grants().allows(*op, name))
        || (ops.contains(&Op::Reenc) && engine.grants().mentions(name))
}

/// The longest message that fits a limit of frames, in bytes.
pub(crate) fn max_message(max_frame: usize) -> usize {
    max_frame - limits::MESSAGE_ROOM
}
