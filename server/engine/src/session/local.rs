//! ENC, DEC, REENC and DATAKEY in place on the caller's buffer, in the engine's process.

use std::sync::Arc;
use std::time::Instant;

use sealwire_protocol::envelope::{self, Envelope, EnvelopeHeader};
use sealwire_protocol::{Binding, Suite};
use zeroize::{Zeroize, Zeroizing};

use crate::aead::{Cipher, TAG_LEN};
use crate::document::{Grants, Op, Ops};
use crate::nonce::NoncePool;
use crate::wrap::Fingerprint;
use crate::{Engine, EngineError, WrappedKey};

/// What the session's app may do with a key, and the key's cipher.
struct Slot {
    epoch: u64,
    fingerprint: Fingerprint,
    suite: Suite,
    ops: Ops,
    cipher: Arc<Cipher>,
}

/// What sealing needs besides a key. Never shared between connections.
pub(crate) struct Workbench {
    nonces: NoncePool,
    aad: Vec<u8>,
}

impl Workbench {
    pub(crate) fn new() -> Self {
        Self { nonces: NoncePool::new(), aad: Vec::new() }
    }

    /// Called once for each batch of requests: drops nonces that were drawn too long ago.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.nonces.tick(now);
    }
}

/// What an app may do, and the ciphers that it has used lately. It is not shared, and takes no lock
/// that two connections share once a key is warm.
pub(crate) struct LocalSession {
    engine: Arc<Engine>,
    grants: Arc<Grants>,
    slots: Box<[Option<Slot>]>,
}

impl LocalSession {
    /// A session that keeps `slots` ciphers for itself, so that the hot path takes no lock.
    pub(crate) fn new(engine: Arc<Engine>, grants: Arc<Grants>, slots: usize) -> Self {
        let slots = std::iter::repeat_with(|| None).take(slots).collect();
        Self { engine, grants, slots }
    }

    /// Another session under the same capability, for work beside this one.
    pub(crate) fn fork(&self) -> Self {
        Self::new(self.engine.clone(), self.grants.clone(), self.slots.len())
    }

    pub(crate) fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    /// Drops every cipher that is kept here, after the engine was sealed.
    pub(crate) fn purge(&mut self) {
        self.slots.fill_with(|| None);
    }

    /// ENC: appends the envelope of `message` to `out`.
    ///
    /// # Errors
    /// [`EngineError`]; `out` is as it was before then.
    #[inline]
    pub(crate) fn enc(
        &mut self,
        bench: &mut Workbench,
        (key, suite): (&WrappedKey, Suite),
        binding: &Binding<'_>,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EngineError> {
        self.seal(bench, (Op::Enc, key, suite), binding, message, out)
    }

    /// DATAKEY: appends a fresh key of `length` bytes behind its length, and its envelope to `out`.
    ///
    /// # Errors
    /// [`EngineError`]; `out` is as it was before then, and holds no key behind its end.
    pub(crate) fn datakey(
        &mut self,
        bench: &mut Workbench,
        (key, suite): (&WrappedKey, Suite),
        binding: &Binding<'_>,
        length: u8,
        out: &mut Vec<u8>,
    ) -> Result<(), EngineError> {
        let mut data_key = Zeroizing::new([0; u8::MAX as usize]);
        let data_key = &mut data_key[..usize::from(length)];
        getrandom::fill(data_key)?;
        let start = out.len();
        out.reserve(1 + 2 * data_key.len() + envelope::MAX_OVERHEAD);
        out.push(length);
        out.extend_from_slice(data_key);
        let sealed = self.seal(bench, (Op::Datakey, key, suite), binding, data_key, out);
        if sealed.is_err() {
            wipe(out, start);
        }
        sealed
    }

    #[inline]
    fn seal(
        &mut self,
        bench: &mut Workbench,
        (op, key, suite): (Op, &WrappedKey, Suite),
        binding: &Binding<'_>,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EngineError> {
        let start = out.len();
        let header = header_of(key, suite);
        let slot = self.slot(key, suite, Some(op))?;
        let Workbench { nonces, aad } = bench;
        binding.bound_aad(header, aad)?;
        let nonce = nonces.next(suite.nonce_len())?;
        out.reserve(envelope::MAX_OVERHEAD + message.len());
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(nonce);
        let body = out.len();
        out.extend_from_slice(message);
        out.extend_from_slice(&[0; TAG_LEN]);
        let (buffer, tag) = out[body..].split_at_mut(message.len());
        if let Err(error) = slot.cipher.seal_in_place(nonce, aad, buffer, tag) {
            wipe(out, start);
            return Err(error.into());
        }
        Ok(())
    }

    /// DEC: appends the message of `envelope` to `out`.
    ///
    /// # Errors
    /// [`EngineError`]; `out` is as it was before then, and holds no plaintext behind its end.
    #[inline]
    pub(crate) fn dec(
        &mut self,
        bench: &mut Workbench,
        key: &WrappedKey,
        binding: &Binding<'_>,
        envelope: &Envelope<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EngineError> {
        check_key(key, envelope)?;
        let slot = self.slot(key, envelope.header.suite, Some(Op::Dec))?;
        open(&slot.cipher, binding, envelope, &mut bench.aad, out)
    }

    /// REENC: opens `envelope` under `key` and appends an envelope of the same message under
    /// `target`. The message exists only in `out`, for the time between.
    ///
    /// Within one key it needs the grant `reenc`; to another key `reenc:A>B`; another binding needs
    /// `dec` on the source and `enc` on the target besides.
    ///
    /// # Errors
    /// [`EngineError`]; `out` is as it was before then, and holds no plaintext behind its end.
    #[inline]
    pub(crate) fn reenc(
        &mut self,
        bench: &mut Workbench,
        (key, envelope, binding): (&WrappedKey, &Envelope<'_>, &Binding<'_>),
        (target, suite, new_binding): (&WrappedKey, Suite, &Binding<'_>),
        out: &mut Vec<u8>,
    ) -> Result<(), EngineError> {
        let Workbench { nonces, aad } = bench;
        check_key(key, envelope)?;
        self.check_reenc(key, target, binding == new_binding)?;
        let start = out.len();
        let header = header_of(target, suite);
        out.reserve(envelope::MAX_OVERHEAD + envelope.ciphertext.len());
        out.extend_from_slice(&header.to_bytes());
        let nonce_at = out.len();
        out.resize(nonce_at + suite.nonce_len(), 0);
        let body = out.len();
        let result = self
            .slot(key, envelope.header.suite, None)
            .and_then(|slot| open(&slot.cipher, binding, envelope, aad, out))
            .and_then(|()| self.slot(target, suite, None))
            .and_then(|slot| {
                new_binding.bound_aad(header, aad)?;
                let nonce = nonces.next(suite.nonce_len())?;
                out[nonce_at..body].copy_from_slice(nonce);
                out.extend_from_slice(&[0; TAG_LEN]);
                let (buffer, tag) = out[body..].split_at_mut(envelope.ciphertext.len());
                Ok(slot.cipher.seal_in_place(nonce, aad, buffer, tag)?)
            });
        if result.is_err() {
            wipe(out, start);
        }
        result
    }

    fn check_reenc(
        &self,
        key: &WrappedKey,
        target: &WrappedKey,
        same_binding: bool,
    ) -> Result<(), EngineError> {
        let (from, to) = (key.binding(), target.binding());
        let allowed = if from.uid == to.uid {
            self.grants.allows(Op::Reenc, &from.name)
        } else {
            self.grants.allows_cross(&from.name, &to.name)
        };
        let rebound = same_binding
            || (self.grants.allows(Op::Dec, &from.name) && self.grants.allows(Op::Enc, &to.name));
        if allowed && rebound { Ok(()) } else { Err(EngineError::NotGranted) }
    }

    /// The slot of a key and a suite. Where `need` is not
    /// granted on the key, the key is not even unwrapped.
    #[inline]
    fn slot(
        &mut self,
        key: &WrappedKey,
        suite: Suite,
        need: Option<Op>,
    ) -> Result<&Slot, EngineError> {
        let epoch = self.engine.epoch();
        let fingerprint = key.fingerprint();
        let position = usize::from(fingerprint[0] ^ (suite.id() << 3)) % self.slots.len();
        let slot = &mut self.slots[position];
        let warm = slot.as_ref().is_some_and(|slot| {
            slot.epoch == epoch && slot.suite == suite && slot.fingerprint == *fingerprint
        });
        if !warm {
            let ops = self.grants.ops(&key.binding().name);
            if need.is_some_and(|need| !ops.contains(need)) {
                return Err(EngineError::NotGranted);
            }
            let cipher = self.engine.cipher(key, suite)?;
            *slot = Some(Slot { epoch, fingerprint: *fingerprint, suite, ops, cipher });
        }
        let slot = slot.as_ref().expect("the slot was filled above");
        if need.is_some_and(|need| !slot.ops.contains(need)) {
            return Err(EngineError::NotGranted);
        }
        Ok(slot)
    }
}

fn header_of(key: &WrappedKey, suite: Suite) -> EnvelopeHeader {
    let binding = key.binding();
    EnvelopeHeader { suite, key_index: binding.index, key_version: binding.version }
}

fn check_key(key: &WrappedKey, envelope: &Envelope<'_>) -> Result<(), EngineError> {
    if header_of(key, envelope.header.suite) == envelope.header {
        Ok(())
    } else {
        Err(EngineError::KeyMismatch)
    }
}

/// Appends the message of `envelope` to `out`, or leaves `out` as it was.
#[inline]
fn open(
    cipher: &Cipher,
    binding: &Binding<'_>,
    envelope: &Envelope<'_>,
    aad: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), EngineError> {
    binding.bound_aad(envelope.header, aad)?;
    let start = out.len();
    out.reserve(envelope.ciphertext.len() + TAG_LEN);
    out.extend_from_slice(envelope.ciphertext);
    if let Err(error) = cipher.open_in_place(envelope.nonce, aad, &mut out[start..], envelope.tag) {
        out.truncate(start);
        return Err(error.into());
    }
    Ok(())
}

/// Zeroizes what stands behind `start`, and cuts it off.
fn wipe(out: &mut Vec<u8>, start: usize) {
    out[start..].zeroize();
    out.truncate(start);
}
