//! A session whose engine is another process: requests are put together, and go with one call.

use std::sync::Arc;

use sealwire_protocol::envelope::Envelope;
use sealwire_protocol::{Binding, BodyError, Flags, Header, Opcode, Suite, frame};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::Pool;
use super::batch::{Answers, Batch, Item, Ticket, Trace, Work};
use crate::aead::AeadError;
use crate::document::Grants;
use crate::session::Tag;
use crate::wire::message::{self, Lane};
use crate::wire::{MAX_FRAME, word};
use crate::{EngineError, WrappedKey};

/// Messages from this size on, in bytes, go beside the others: a short one does not wait for them.
const LONG: usize = 48 * 1024;

/// See the module.
pub(crate) struct RemoteSession {
    pool: Arc<Pool>,
    ticket: Arc<Ticket>,
    grants: Arc<Grants>,
    put: [Put; Lane::ALL.len()],
    sender: mpsc::UnboundedSender<Answers>,
    receiver: mpsc::UnboundedReceiver<Answers>,
    waiting: usize,
    waiting_bytes: usize,
}

/// Requests that were put together and not yet sent.
#[derive(Default)]
struct Put {
    frames: Zeroizing<Vec<u8>>,
    items: Vec<Item>,
}

impl RemoteSession {
    pub(super) fn new(pool: Arc<Pool>, ticket: Arc<Ticket>, grants: Arc<Grants>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (waiting, waiting_bytes) = (0, 0);
        let put = Default::default();
        Self { pool, ticket, grants, put, sender, receiver, waiting, waiting_bytes }
    }

    pub(crate) fn fork(&self) -> Self {
        Self::new(self.pool.clone(), self.ticket.clone(), self.grants.clone())
    }

    pub(crate) fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    pub(crate) fn enc(
        &mut self,
        tag: Tag,
        (key, suite): (&WrappedKey, Suite),
        binding: &Binding<'_>,
        message: &[u8],
    ) -> Result<(), EngineError> {
        let session = self.ticket.number;
        self.put(word::ENC, (tag, lane(message.len())), |out| {
            message::push_enc(out, session, key, (suite, binding), message)
        })
    }

    pub(crate) fn datakey(
        &mut self,
        tag: Tag,
        (key, suite): (&WrappedKey, Suite),
        binding: &Binding<'_>,
        length: u8,
    ) -> Result<(), EngineError> {
        let session = self.ticket.number;
        self.put(word::DATAKEY, (tag, Lane::Live), |out| {
            message::push_enc(out, session, key, (suite, binding), &[length])
        })
    }

    pub(crate) fn dec(
        &mut self,
        tag: Tag,
        key: &WrappedKey,
        binding: &Binding<'_>,
        envelope: &Envelope<'_>,
    ) -> Result<(), EngineError> {
        let session = self.ticket.number;
        self.put(word::DEC, (tag, lane(envelope.ciphertext.len())), |out| {
            message::push_dec(out, session, key, binding, &[])?;
            push_envelope(out, envelope);
            Ok(())
        })
    }

    pub(crate) fn reenc(
        &mut self,
        (tag, wish): (Tag, Lane),
        (key, envelope, binding): (&WrappedKey, &Envelope<'_>, &Binding<'_>),
        (target, suite, new_binding): (&WrappedKey, Suite, &Binding<'_>),
    ) -> Result<(), EngineError> {
        let session = self.ticket.number;
        let lane = if wish == Lane::Bulk { wish } else { lane(envelope.ciphertext.len()) };
        self.put(word::REENC, (tag, lane), |out| {
            let (from, to) = ((key, binding), (target, suite, new_binding));
            message::push_reenc(out, session, from, to, &[])?;
            push_envelope(out, envelope);
            Ok(())
        })
    }

    #[inline]
    fn put(
        &mut self,
        opcode: Opcode,
        (tag, lane): (Tag, Lane),
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), BodyError>,
    ) -> Result<(), EngineError> {
        let Put { frames, items } = &mut self.put[lane as usize];
        let start = frames.len();
        let open = frame::begin(frames, Header { opcode, flags: Flags::REQUEST, request_id: 0 });
        if let Err(error) = encode(frames) {
            open.cancel(frames);
            return Err(error.into());
        }
        open.finish(frames);
        if frames.len() - start > MAX_FRAME {
            frames.truncate(start);
            return Err(EngineError::Aead(AeadError::TooLong));
        }
        items.push(Item { end: frames.len(), tag });
        self.waiting += 1;
        self.waiting_bytes += frames.len() - start;
        Ok(())
    }

    pub(crate) fn send(&mut self) {
        for lane in Lane::ALL {
            let put = &mut self.put[lane as usize];
            if put.items.is_empty() {
                continue;
            }
            let Put { frames, items } = std::mem::take(put);
            let (session, origin) = (Some(self.ticket.clone()), self.sender.clone());
            let range = 0..items.len();
            let batch = Batch { site: None, session, frames, items, origin, lane, engine: None };
            self.pool.dispatch(Work { batch: Arc::new(batch), range, trace: Trace::default() });
        }
    }

    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.waiting, self.waiting_bytes)
    }

    pub(crate) async fn answers(&mut self) -> Answers {
        // The session holds a sender itself: the channel never ends.
        match self.receiver.recv().await {
            Some(answers) => self.took(answers),
            None => std::future::pending().await,
        }
    }

    pub(crate) fn try_answers(&mut self) -> Option<Answers> {
        let answers = self.receiver.try_recv().ok()?;
        Some(self.took(answers))
    }

    fn took(&mut self, answers: Answers) -> Answers {
        self.waiting -= answers.count();
        self.waiting_bytes -= answers.bytes;
        answers
    }
}

fn lane(size: usize) -> Lane {
    if size >= LONG { Lane::Long } else { Lane::Live }
}

#[inline]
fn push_envelope(out: &mut Vec<u8>, envelope: &Envelope<'_>) {
    out.extend_from_slice(&envelope.header.to_bytes());
    for part in [envelope.nonce, envelope.ciphertext, envelope.tag] {
        out.extend_from_slice(part);
    }
}
