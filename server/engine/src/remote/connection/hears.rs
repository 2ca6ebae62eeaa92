//! What comes from an engine.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use sealwire_protocol::message::Failure;
use sealwire_protocol::{ErrorCode, Flags, Frame, Header, Opcode, frame};

use super::Connection;
use crate::remote::batch::{Answers, Batch, Refused, Trace, Work};
use crate::remote::link::Condition;
use crate::remote::ring::Awaited;
use crate::wire::message::Status;
use crate::wire::{MAX_FRAME, ReadBuffer, failure, word};
use crate::{EngineError, State};

fn broken(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Connection<'_> {
    /// Takes every whole frame that has arrived.
    pub(super) fn take_all(&mut self) -> io::Result<()> {
        self.last_read = Instant::now();
        if self.link.condition() == Condition::Suspect {
            self.set(Condition::Up);
        }
        // Out of its place, for as long as frames are borrowed from it.
        let mut input = std::mem::replace(&mut self.input, ReadBuffer::none());
        let taken = loop {
            match Frame::parse(input.unread(), MAX_FRAME) {
                Ok(Some(frame)) => {
                    if let Err(error) = self.take(&frame, input.unread().len()) {
                        break Err(error);
                    }
                    let length = frame.wire_len();
                    input.consume(length);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(broken(error)),
            }
        };
        self.input = input;
        self.deliver();
        taken
    }

    /// Takes a frame, the first of `left` bytes that have arrived.
    fn take(&mut self, frame: &Frame<'_>, left: usize) -> io::Result<()> {
        let header = frame.header;
        let refusal = match header.flags {
            Flags::RESPONSE => None,
            Flags::FAILURE => Some(Failure::parse(frame.body).map_err(broken)?),
            _ => return Err(broken("a frame that is no answer")),
        };
        let id = header.request_id;
        if id == 0 {
            return match (header.opcode, refusal) {
                (_, Some(refusal)) => Err(broken(refusal.code.name())),
                (Opcode::GOAWAY, None) => {
                    self.set(Condition::Leaving);
                    Ok(())
                }
                (word::STATUS, None) => self.note_status(frame.body),
                _ => Ok(()),
            };
        }
        match (self.ring.take(id), refusal) {
            (Some(Awaited::Request { batch, at, .. }), None) => {
                self.answer(&batch, at, (frame.body, left));
            }
            (Some(Awaited::Request { batch, at, trace, again }), Some(refusal)) => {
                self.refuse((&batch, at), (trace, again), id, &refusal);
            }
            (Some(Awaited::Status), Some(refusal)) => return Err(broken(refusal.code.name())),
            (Some(Awaited::Status), None) => self.note_status(frame.body)?,
            (Some(Awaited::Proof), refusal) => self.note_proof(refusal.as_ref())?,
            (Some(Awaited::Session(number)), Some(refusal)) => {
                self.said_sessions.remove(&number);
                self.bad_session = Some((number, failure::error(&refusal)));
            }
            // Answers to what was given up meanwhile among them.
            _ => {}
        }
        Ok(())
    }

    fn note_status(&mut self, body: &[u8]) -> io::Result<()> {
        let status: Status = serde_json::from_slice(body).map_err(broken)?;
        let state = status.state;
        self.pool.note(self.link.engine, Some(status));
        if self.state.replace(state) == Some(state) {
            return Ok(());
        }
        // What was said before, the engine has forgotten; and its root key may be another.
        self.said_sessions.clear();
        self.is_proven = false;
        if let State::Open { .. } = state {
            self.prove();
        } else if self.link.condition() != Condition::Leaving {
            tracing::warn!(engine = %self.address(), "an engine is sealed");
            self.set(Condition::Sealed);
        }
        Ok(())
    }

    fn note_proof(&mut self, refusal: Option<&Failure<'_>>) -> io::Result<()> {
        use EngineError::{Document, DocumentMac, OtherRoot, Sealed, Unwrap};
        let Some(refusal) = refusal else {
            self.is_proven = true;
            self.take_up();
            return Ok(());
        };
        let known = self.link.condition();
        match failure::error(refusal) {
            // It stops anyway.
            _ if known == Condition::Leaving => {}
            Sealed => self.set(Condition::Sealed),
            error @ (OtherRoot { .. } | Unwrap(_) | DocumentMac { .. } | Document(_)) => {
                if known != Condition::Foreign {
                    let engine = self.address();
                    tracing::error!(engine, %error, "an engine does not hold the site's root key: it gets no work");
                }
                self.set(Condition::Foreign);
            }
            // That says nothing of its root key: it is asked again, on another connection.
            _ => return Err(broken(refusal.code.name())),
        }
        Ok(())
    }

    /// Adds an answer to those of the same origin.
    fn answer(&mut self, batch: &Arc<Batch>, at: usize, (body, left): (&[u8], usize)) {
        let tag = batch.items[at].tag;
        let answers = self.group_of(batch, at);
        if answers.frames.is_empty() {
            answers.frames.reserve(left);
        }
        let open =
            frame::begin(&mut answers.frames, Header { flags: Flags::RESPONSE, ..tag.header });
        answers.frames.extend_from_slice(body);
        open.finish(&mut answers.frames);
        answers.done.push(tag);
    }

    fn group_of(&mut self, batch: &Arc<Batch>, at: usize) -> &mut Answers {
        let same =
            self.group.as_ref().is_some_and(|(origin, _)| origin.same_channel(&batch.origin));
        if !same {
            self.deliver();
        }
        self.link.take_load(1);
        let (_, answers) = self.group.get_or_insert_with(|| (batch.origin.clone(), Answers::new()));
        answers.bytes += batch.frame(at).len();
        answers
    }

    fn deliver(&mut self) {
        if let Some((origin, answers)) = self.group.take() {
            self.pool.deliver(self.link.lane, &origin, answers);
        }
    }

    /// What an engine cannot do now, or for want of something, another one may.
    #[cold]
    fn refuse(
        &mut self,
        (batch, at): (&Arc<Batch>, usize),
        (trace, again): (Trace, bool),
        id: u64,
        refusal: &Failure<'_>,
    ) {
        let mut error = failure::error(refusal);
        if refusal.code == ErrorCode::NO_SESSION {
            if !again {
                return self.send_again(batch, at, (trace, id));
            }
            let number = batch.session.as_ref().map(|ticket| ticket.number);
            error = match &self.bad_session {
                Some((bad, why)) if Some(*bad) == number => why.clone(),
                _ => EngineError::Away("an engine forgets what it is told".into()),
            };
        }
        let elsewhere = matches!(
            error,
            EngineError::Sealed | EngineError::OtherRoot { .. } | EngineError::Away(_)
        );
        let trace = Trace { tried: trace.tried | self.bit(), ..trace };
        let work = Work { batch: batch.clone(), range: at..at + 1, trace };
        if elsewhere && self.pool.has_another(&work) {
            self.link.take_load(1);
            return self.pool.pass_on(work);
        }
        let tag = batch.items[at].tag;
        let request = (batch.clone(), at);
        self.group_of(batch, at).refused.push(Refused { tag, error, request });
    }
}
