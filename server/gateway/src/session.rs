//! A session: an app that has proven itself, on one connection. Only the handshake makes one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use sealwire_engine::audit::AuditEvent;
use sealwire_engine::remote::Refused;
use sealwire_engine::{Done, EngineError, Opened, Session as EngineSession, Tag};
use sealwire_protocol::message::PingRequest;
use sealwire_protocol::{ErrorCode, Flags, Frame, Header, Opcode, Suite, frame};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::figures::Tally;
use crate::handshake::CONNECTION;
use crate::keyring::Keyring;
use crate::later::Job;
use crate::ops::{Stop, Tools, max_message};
use crate::{Gateway, Refusal};

/// An app that has proven itself.
pub(crate) struct Session {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) app_key: String,
    /// Where its connection comes from.
    from: IpAddr,
    /// Moves when what the app may do changes: the session ends then.
    pub(crate) app: watch::Receiver<[u8; 32]>,
    pub(crate) engine: EngineSession,
    pub(crate) tally: Tally,
    keyring: Keyring,
    /// Whether what goes to another process runs beside the connection, too: each of its requests waits for its own.
    apart: bool,
    /// When the batch that is being worked on began to be.
    batch_began: Instant,
}

/// What has become of a frame.
pub(crate) enum Handled {
    /// Its reply stands in the output.
    Replied,
    /// It goes to an engine of another process, and its reply comes from there.
    Sent,
    /// Its reply comes later.
    Later(Box<Job>),
    /// Its reply stands in the output, and the connection ends with it.
    Fatal,
}

impl Session {
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        (app_key, from): (String, IpAddr),
        app: watch::Receiver<[u8; 32]>,
        engine: EngineSession,
    ) -> Self {
        let keyring = Keyring::new(gateway.directory.clone());
        let (tally, batch_began) = (Tally::new(), Instant::now());
        let apart = false;
        Self { gateway, app_key, from, app, engine, tally, keyring, apart, batch_began }
    }

    /// The same, with what goes to another process beside the connection.
    pub(crate) fn apart(self) -> Self {
        Self { apart: self.engine.is_remote(), ..self }
    }

    /// Called once for each batch of frames.
    pub(crate) fn begin_batch(&mut self, now: Instant) {
        self.engine.tick(now);
        self.batch_began = now;
    }

    /// Adds what was counted to the figures of the process, and to the audit's. `waiting` requests are not answered
    /// yet.
    pub(crate) fn tell(&mut self, bytes: (u64, u64), waiting: usize) {
        let lookups = self.keyring.take_lookups();
        self.tally.tell(bytes, lookups, waiting);
        if let Some(used) = self.tally.take_used() {
            self.gateway.auditor.tell_used(&self.app_key, used);
        }
    }

    /// A request that was answered beside the connection, or by another process, has succeeded.
    pub(crate) fn answered(&mut self, tag: &Tag, seconds: f64) {
        self.tally.answered(tag, seconds);
        if let Some(opened) = tag.opened {
            self.note_opened(tag.key, opened);
        }
    }

    /// Has it recorded that a message of a sensitive key was opened.
    #[cold]
    fn note_opened(&self, key: u32, opened: Opened) {
        let Opened { version, message } = opened;
        let (who, from) = (self.app_key.clone(), self.from);
        let message = hex::encode(message);
        self.gateway.auditor.tell(AuditEvent::Opened { who, from, key, version, message });
    }

    /// Drops every cipher, after the engine was sealed.
    pub(crate) fn purge(&mut self) {
        self.engine.purge();
    }

    /// What to do when an engine of another process refuses. A key that is wrapped under a root key which
    /// none holds may have been moved by a root rotation since it was read: it is read again, once.
    #[cold]
    pub(crate) fn refused(&mut self, refused: Refused, out: &mut Vec<u8>) -> Option<Box<Job>> {
        let Tag { header, suite, began, .. } = refused.tag;
        if let (EngineError::OtherRoot { .. }, Some(request)) =
            (&refused.error, refused.client_request())
        {
            let mut body = Zeroizing::new(Vec::new());
            if request.encode(&mut body).is_ok() {
                let frame = Frame { header, body: &body };
                return Some(self.job(&frame, began));
            }
        }
        self.refuse(header, suite, &refused.error.into(), out);
        None
    }

    /// Writes a refusal, and counts it.
    #[cold]
    fn refuse(
        &mut self,
        header: Header,
        suite: Option<Suite>,
        refusal: &Refusal,
        out: &mut Vec<u8>,
    ) {
        tracing::debug!(request = header.request_id, %refusal, "refused");
        self.tally.refused(header.opcode, suite, refusal.code);
        refusal.write(header, out);
    }

    /// Answers a frame, now or later.
    #[inline]
    pub(crate) fn handle(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) -> Handled {
        let header = frame.header;
        if header.request_id == 0 {
            request_id_0().write(CONNECTION, out);
            return Handled::Fatal;
        }
        if let Err(refusal) = check_header(header) {
            self.refuse(header, None, &refusal, out);
            let fatal = refusal.code.is_fatal();
            return if fatal { Handled::Fatal } else { Handled::Replied };
        }
        // What another process computes need not run beside the connection.
        let here = !self.engine.is_remote();
        let large = self.apart
            || here
                && (frame.body.len() >= self.gateway.limits.offload || header.flags == Flags::BULK);
        match header.opcode {
            Opcode::ENC | Opcode::DEC | Opcode::REENC | Opcode::DATAKEY if !large => {
                self.run(frame, out)
            }
            Opcode::ENC
            | Opcode::DEC
            | Opcode::REENC
            | Opcode::DATAKEY
            | Opcode::GENKEY
            | Opcode::KEYINFO => Handled::Later(self.job(frame, self.batch_began)),
            Opcode::PING => {
                match PingRequest::parse(frame.body) {
                    Ok(ping) => {
                        let open = frame::begin(out, Header { flags: Flags::RESPONSE, ..header });
                        ping.encode(out);
                        open.finish(out);
                        self.tally.done(&Tag::new(header, self.batch_began));
                    }
                    Err(error) => self.refuse(header, None, &error.into(), out),
                }
                Handled::Replied
            }
            _ => {
                self.refuse(header, None, &ErrorCode::UNKNOWN_OPCODE.into(), out);
                Handled::Replied
            }
        }
    }

    #[inline]
    fn run(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) -> Handled {
        let header = frame.header;
        let open = frame::begin(out, Header { flags: Flags::RESPONSE, ..header });
        let mut tools = Tools {
            engine: &mut self.engine,
            keyring: &mut self.keyring,
            max_message: max_message(self.gateway.limits.max_frame),
        };
        let mut tag = Tag::new(header, self.batch_began);
        match tools.run(&mut tag, frame.body, out) {
            Ok(Done::Here) => {
                open.finish(out);
                self.tally.done(&tag);
                if let Some(opened) = tag.opened {
                    self.note_opened(tag.key, opened);
                }
                Handled::Replied
            }
            Ok(Done::Sent) => {
                open.cancel(out);
                Handled::Sent
            }
            Err(Stop::Refuse(refusal)) => {
                open.cancel(out);
                self.refuse(header, tag.suite, &refusal, out);
                Handled::Replied
            }
            Err(Stop::Need(_)) => {
                open.cancel(out);
                Handled::Later(self.job(frame, self.batch_began))
            }
        }
    }

    #[cold]
    fn job(&self, frame: &Frame<'_>, began: Instant) -> Box<Job> {
        let app = (self.gateway.clone(), self.app_key.clone());
        Box::new(Job::new(app, self.engine.fork(), frame, began))
    }
}

/// The refusal of request id 0; like all that the server says of the connection itself, it answers
/// with [`CONNECTION`].
pub(crate) fn request_id_0() -> Refusal {
    Refusal::new(ErrorCode::MALFORMED_FRAME, "request id 0 is the server's own")
}

#[inline]
fn check_header(header: Header) -> Result<(), Refusal> {
    let bulk = header.flags == Flags::BULK && header.opcode == Opcode::REENC;
    if header.flags != Flags::REQUEST && !bulk {
        return Err(ErrorCode::RESERVED_FLAGS.into());
    }
    if header.opcode == Opcode::AUTH {
        return Err(Refusal::new(ErrorCode::AUTH_STATE, "AUTH has already succeeded"));
    }
    Ok(())
}
