//! What goes to an engine, and what comes back.

use std::sync::Arc;
use std::time::Instant;

use sealwire_protocol::{Flags, Frame, Header, Opcode, limits};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::EngineError;
use crate::session::Tag;
use crate::wire::message::{Crypt, Lane};
use crate::wire::{MAX_FRAME, word};

/// A capability, and the number that it is named by on every connection.
pub(crate) struct Ticket {
    pub(crate) number: u64,
    /// The body of SESSION.
    pub(crate) body: Vec<u8>,
}

/// Requests that go together. Their frames are kept until each is answered, to be sent to another engine
/// if need be; they hold plaintext, and are zeroized when they go.
pub(crate) struct Batch {
    /// The site's keys that must be said before, the pool's own if `None`.
    pub(crate) site: Option<Arc<[u8]>>,
    pub(crate) session: Option<Arc<Ticket>>,
    pub(crate) frames: Zeroizing<Vec<u8>>,
    pub(crate) items: Vec<Item>,
    pub(crate) origin: mpsc::UnboundedSender<Answers>,
    pub(crate) lane: Lane,
    /// The one engine that may answer; any if `None`.
    pub(crate) engine: Option<usize>,
}

/// A request of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    /// Where its frame ends.
    pub(crate) end: usize,
    pub(crate) tag: Tag,
}

impl Batch {
    /// The frame of a request, its id still 0.
    pub(crate) fn frame(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.items[before].end);
        &self.frames[start..self.items[at].end]
    }
}

/// Some requests of a batch, on their way to an engine.
pub(crate) struct Work {
    pub(crate) batch: Arc<Batch>,
    /// The first, and the one behind the last.
    pub(crate) range: std::ops::Range<usize>,
    pub(crate) trace: Trace,
}

/// What has become of requests so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    /// A bit for each engine that was tried.
    pub(crate) tried: u64,
    /// Connections that have broken while they were awaited.
    pub(crate) breaks: u8,
}

/// Answers to requests of one caller.
pub struct Answers {
    /// Whole frames, with the tags of what they answer.
    pub frames: Zeroizing<Vec<u8>>,
    /// The requests that are answered by `frames`, in their order.
    pub done: Vec<Tag>,
    /// Bytes of the requests that are answered by this.
    pub bytes: usize,
    /// Requests that were refused.
    pub refused: Vec<Refused>,
}

impl Answers {
    pub(crate) fn new() -> Self {
        Self { frames: Zeroizing::default(), done: Vec::new(), bytes: 0, refused: Vec::new() }
    }

    /// How many requests are answered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.done.len() + self.refused.len()
    }
}

/// A request that an engine has refused, or none could be asked for.
pub struct Refused {
    /// Which.
    pub tag: Tag,
    /// Why.
    pub error: EngineError,
    pub(crate) request: (Arc<Batch>, usize),
}

impl Refused {
    /// The request as a client has sent it, but for what the key's document has decided: to be tried
    /// again with another wrapped key.
    #[must_use]
    pub fn client_request(&self) -> Option<ClientRequest<'_>> {
        let (batch, at) = &self.request;
        let frame = Frame::parse(batch.frame(*at), MAX_FRAME).ok()??;
        let crypt = match frame.header.opcode {
            word::ENC | word::DATAKEY => Crypt::parse_enc(frame.body),
            word::DEC => Crypt::parse_dec(frame.body),
            word::REENC => Crypt::parse_reenc(frame.body),
            _ => return None,
        };
        let crypt = crypt.ok()?;
        Some(ClientRequest { opcode: self.tag.header.opcode, crypt })
    }
}

/// See [`Refused::client_request`].
pub struct ClientRequest<'a> {
    /// ENC, DEC, REENC or DATAKEY.
    pub opcode: Opcode,
    crypt: Crypt<'a>,
}

impl ClientRequest<'_> {
    /// The indexes of the key that opens or seals, and of that which seals again, or the same twice.
    #[must_use]
    pub fn indexes(&self) -> [u32; 2] {
        let first = index_of(self.crypt.key);
        [first, self.crypt.target.map_or(first, |(target, _)| index_of(target))]
    }

    /// The body that the client's frame had.
    ///
    /// # Errors
    /// [`sealwire_protocol::BodyError`]: never, for what was sent once.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), sealwire_protocol::BodyError> {
        use sealwire_protocol::message::{DatakeyRequest, DecRequest, EncRequest, ReencRequest};
        let crypt = &self.crypt;
        match (self.opcode, crypt.target) {
            (Opcode::ENC, _) => EncRequest {
                key_index: index_of(crypt.key),
                suite: crypt.suite,
                binding: crypt.binding,
                message: crypt.data,
            }
            .encode(out),
            (Opcode::DATAKEY, _) => DatakeyRequest {
                key_index: index_of(crypt.key),
                suite: crypt.suite,
                length: crypt.data.first().copied().unwrap_or(0),
                binding: crypt.binding,
            }
            .encode(out),
            (_, Some((target, new_binding))) => ReencRequest {
                target_index: index_of(target),
                suite: crypt.suite,
                binding: crypt.binding,
                new_binding: (new_binding != crypt.binding).then_some(new_binding),
                envelope: crypt.data,
            }
            .encode(out),
            _ => DecRequest { binding: crypt.binding, envelope: crypt.data }.encode(out),
        }
    }
}

fn index_of(raw_key: &[u8]) -> u32 {
    let bytes = raw_key.get(16..20).and_then(|bytes| bytes.first_chunk()).copied();
    u32::from_be_bytes(bytes.unwrap_or_default())
}

/// The tag of a call that is not a client's.
pub(crate) fn call_tag() -> Tag {
    let header = Header { opcode: Opcode(0), flags: Flags::REQUEST, request_id: 1 };
    Tag::new(header, Instant::now())
}

/// The body of the one answer to a call.
pub(crate) fn body(answers: &Answers) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(answers.frames.get(limits::HEADER_LEN..).unwrap_or_default().to_vec())
}
