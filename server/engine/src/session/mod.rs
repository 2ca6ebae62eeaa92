//! ENC, DEC and REENC under a capability that was checked once: in this process, or by an engine of
//! another one.

mod local;

pub(crate) use local::{LocalSession, Workbench};

use std::sync::Arc;
use std::time::Instant;

use sealwire_protocol::envelope::Envelope;
use sealwire_protocol::{Binding, Header, Suite};

use crate::document::{Grants, UsableKey};
use crate::remote::{Answers, RemoteSession};
use crate::wire::message::Lane;
use crate::{Engine, EngineError, WrappedKey};

/// Ciphers that a session in the engine's process keeps.
const SLOTS: usize = 64;

/// The handle behind a capability: one for each connection.
pub struct Session(Place);

enum Place {
    Here(LocalSession, Workbench),
    There(Box<RemoteSession>),
}

/// What has become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Its result was appended.
    Here,
    /// It goes to an engine with the next [`Session::send`], and its answer is among the
    /// [answers](Session::answers) later.
    Sent,
}

/// Which request of the caller's a call answers, and what the caller wants to know when it is answered.
#[derive(Debug, Clone, Copy)]
pub struct Tag {
    /// The request's header.
    pub header: Header,
    /// The suite that opens or seals.
    pub suite: Option<Suite>,
    /// When the request came.
    pub began: Instant,
    /// The index of the key: of REENC, of that which opens. 0 for none.
    pub key: u32,
    /// What is opened, where that is to be recorded.
    pub opened: Option<Opened>,
}

/// A message that is opened, as a record names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The key's version.
    pub version: u32,
    /// The first bytes of the nonce, which no other message of the key has.
    pub message: [u8; 12],
}

impl Tag {
    /// Of a request that has come at `began`; what it works with is not known yet.
    #[must_use]
    pub fn new(header: Header, began: Instant) -> Self {
        Self { header, suite: None, began, key: 0, opened: None }
    }
}

impl Session {
    pub(crate) fn here(engine: Arc<Engine>, grants: Arc<Grants>) -> Self {
        Self(Place::Here(LocalSession::new(engine, grants, SLOTS), Workbench::new()))
    }

    pub(crate) fn there(remote: RemoteSession) -> Self {
        Self(Place::There(Box::new(remote)))
    }

    /// Another session under the same capability, for work beside this one.
    #[must_use]
    pub fn fork(&self) -> Self {
        match &self.0 {
            Place::Here(local, _) => Self(Place::Here(local.fork(), Workbench::new())),
            Place::There(remote) => Self(Place::There(Box::new(remote.fork()))),
        }
    }

    /// Whether the engine is another process: then nothing is computed here.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self.0, Place::There(_))
    }

    /// The grants of the session's app.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        match &self.0 {
            Place::Here(local, _) => local.grants(),
            Place::There(remote) => remote.grants(),
        }
    }

    /// Called once for each batch of requests: drops nonces that were drawn too long ago.
    pub fn tick(&mut self, now: Instant) {
        if let Place::Here(_, bench) = &mut self.0 {
            bench.tick(now);
        }
    }

    /// Drops every cipher that is kept here, after the engine was sealed.
    pub fn purge(&mut self) {
        if let Place::Here(local, _) = &mut self.0 {
            local.purge();
        }
    }

    /// ENC: appends the envelope of `message` to `out`.
    ///
    /// # Errors
    /// [`EngineError`]; `out` is as it was before then.
    #[inline]
    pub fn enc(
        &mut self,
        tag: Tag,
        (key, suite): (&UsableKey, Suite),
        binding: &Binding<'_>,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Done, EngineError> {
        let key = sealing(key, suite)?;
        match &mut self.0 {
            Place::Here(local, bench) => {
                local.enc(bench, (key, suite), binding, message, out).map(|()| Done::Here)
            }
            Place::There(remote) => {
                remote.enc(tag, (key, suite), binding, message).map(|()| Done::Sent)
            }
        }
    }

    /// DATAKEY: appends a fresh key of `length` bytes, 255 at most, behind its length, and its envelope to `out`.
    ///
    /// # Errors
    /// [`EngineError`]; `out` is as it was before then, and holds no key behind its end.
    pub fn datakey(
        &mut self,
        tag: Tag,
        (key, suite): (&UsableKey, Suite),
        binding: &Binding<'_>,
        length: u8,
        out: &mut Vec<u8>,
    ) -> Result<Done, EngineError> {
        let key = sealing(key, suite)?;
        match &mut self.0 {
            Place::Here(local, bench) => {
                local.datakey(bench, (key, suite), binding, length, out).map(|()| Done::Here)
            }
            Place::There(remote) => {
                remote.datakey(tag, (key, suite), binding, length).map(|()| Done::Sent)
            }
        }
    }

    /// DEC: appends the message of `envelope` to `out`.
    ///
    /// # Errors
    /// [`EngineError`]; `out` is as it was before then, and holds no plaintext behind its end.
    #[inline]
    pub fn dec(
        &mut self,
        tag: Tag,
        key: &UsableKey,
        binding: &Binding<'_>,
        envelope: &Envelope<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Done, EngineError> {
        let key = opening(key)?;
        match &mut self.0 {
            Place::Here(local, bench) => {
                local.dec(bench, key, binding, envelope, out).map(|()| Done::Here)
            }
            Place::There(remote) => remote.dec(tag, key, binding, envelope).map(|()| Done::Sent),
        }
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
    pub fn reenc(
        &mut self,
        (tag, lane): (Tag, Lane),
        (key, envelope, binding): (&UsableKey, &Envelope<'_>, &Binding<'_>),
        (target, suite, new_binding): (&UsableKey, Suite, &Binding<'_>),
        out: &mut Vec<u8>,
    ) -> Result<Done, EngineError> {
        let (from, to) = (opening(key)?, sealing(target, suite)?);
        let (from, to) = ((from, envelope, binding), (to, suite, new_binding));
        match &mut self.0 {
            Place::Here(local, bench) => local.reenc(bench, from, to, out).map(|()| Done::Here),
            Place::There(remote) => remote.reenc((tag, lane), from, to).map(|()| Done::Sent),
        }
    }

    /// Sends what was [put](Done::Sent) for other processes.
    pub fn send(&mut self) {
        if let Place::There(remote) = &mut self.0 {
            remote.send();
        }
    }

    /// Requests that were put or sent, and are not answered yet, and their bytes.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        match &self.0 {
            Place::Here(..) => (0, 0),
            Place::There(remote) => remote.waiting(),
        }
    }

    /// Answers that have come. Never ends while nothing waits. Safe to cancel.
    pub async fn answers(&mut self) -> Answers {
        match &mut self.0 {
            Place::Here(..) => std::future::pending().await,
            Place::There(remote) => remote.answers().await,
        }
    }

    /// Answers that have come already.
    pub fn try_answers(&mut self) -> Option<Answers> {
        match &mut self.0 {
            Place::Here(..) => None,
            Place::There(remote) => remote.try_answers(),
        }
    }
}

/// The wrapped key, when its document lets it seal under this suite.
#[inline]
fn sealing(key: &UsableKey, suite: Suite) -> Result<&WrappedKey, EngineError> {
    if key.seals(suite) { Ok(key.wrapped()) } else { Err(EngineError::NotUsable) }
}

/// The wrapped key, when its document lets it open.
#[inline]
fn opening(key: &UsableKey) -> Result<&WrappedKey, EngineError> {
    if key.opens() { Ok(key.wrapped()) } else { Err(EngineError::NotUsable) }
}
