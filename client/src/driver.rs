//! The task that owns a connection: it sends what callers ask, matches replies by their id, and gives
//! back what it could not get answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sealwire_protocol::codec::{FrameCodec, OwnedFrame};
use sealwire_protocol::message::{Failure, Goaway, GoawayReason};
use sealwire_protocol::{ErrorCode, Flags, Header, Opcode, limits};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::codec::FramedRead;
use zeroize::Zeroizing;

use crate::Error;
use crate::connect::{Opened, Stream};
use crate::endpoint::Endpoint;
use crate::output::Output;
use crate::roster::{Gauge, Roster, State};

/// Requests taken from the queue at once.
const BATCH: usize = 256;

/// Output at which no more is taken from the queue until it is written.
const FULL: usize = 256 * 1024;

/// Read buffer.
const READ_BUFFER: usize = 64 * 1024;

/// Time without a byte, while replies are awaited, after which the server is asked by PING whether it
/// is there, and after which, PING being unanswered too, its requests go elsewhere. A gateway answers
/// PING by itself, whatever the engine is busy with: half a second is a thousand times what it takes
/// within a data centre, and twice that is as long as a person's message may hang.
const SILENT: Duration = Duration::from_millis(500);

/// How often silence is looked for. A fifth of [`SILENT`]: what it adds to it does not matter.
const TICK: Duration = Duration::from_millis(100);

/// Time without a byte, while replies are awaited, after which the connection is given up even when
/// there is no other. Much longer than [`SILENT`]: a server that is merely slow would have to do all
/// of it again.
const STALL: Duration = Duration::from_secs(30);

/// The body of a request. It holds plaintext, and is kept until it is answered, to be sent again.
pub(crate) type Body = Zeroizing<Vec<u8>>;

/// A request on its way.
pub(crate) struct Command {
    pub(crate) opcode: Opcode,
    pub(crate) body: Body,
    pub(crate) reply: oneshot::Sender<Outcome>,
    pub(crate) deadline: Instant,
}

/// What has become of a request.
pub(crate) enum Outcome {
    /// It is answered, for good or ill.
    Done(Result<Bytes, Error>),
    /// This server refuses it for now; another may not.
    Refused(Body, Error),
    /// Nobody knows whether it was done: it was sent, and the connection ended.
    Lost(Body, Error),
    /// It is to be sent on another connection: it was not sent here, or the server is silent.
    Elsewhere(Body),
}

/// A request that was sent.
struct Sent {
    body: Body,
    reply: oneshot::Sender<Outcome>,
}

/// See the module.
pub(crate) struct Connection {
    reader: FramedRead<ReadHalf<Stream>, FrameCodec>,
    writer: WriteHalf<Stream>,
    max_frame: usize,
    max_in_flight: usize,
    output: Output,
    commands: mpsc::Receiver<Command>,
    /// What the server has yet to answer. `None`: nobody waits for it any more, but it takes its
    /// place among the requests in flight until it comes.
    awaited: HashMap<u64, Option<Sent>>,
    last_id: u64,
    last_read: Instant,
    /// Bytes of a frame that is not whole yet, when they were last looked at.
    buffered: usize,
    /// When the server was asked whether it is there; no byte has come since.
    pinged: Option<Instant>,
    leaving: bool,
    /// Leaving, and nobody can put anything into the queue any more.
    drained: bool,
    endpoint: Endpoint,
    gauge: Arc<Gauge>,
    roster: Arc<Roster>,
}

impl Connection {
    pub(crate) fn new(
        opened: Opened,
        endpoint: Endpoint,
        commands: mpsc::Receiver<Command>,
        gauge: Arc<Gauge>,
        roster: Arc<Roster>,
    ) -> Self {
        let Opened { stream, limits, surplus } = opened;
        let (reader, writer) = tokio::io::split(stream);
        let max_frame = usize::try_from(limits.max_frame).unwrap_or(limits::MAX_FRAME);
        let mut reader = FramedRead::with_capacity(reader, FrameCodec::new(max_frame), READ_BUFFER);
        reader.read_buffer_mut().extend_from_slice(&surplus);
        Self {
            reader,
            writer,
            max_frame,
            max_in_flight: usize::try_from(limits.max_in_flight).unwrap_or(usize::MAX),
            output: Output::default(),
            commands,
            awaited: HashMap::new(),
            last_id: 0,
            last_read: Instant::now(),
            buffered: 0,
            pinged: None,
            leaving: false,
            drained: false,
            endpoint,
            gauge,
            roster,
        }
    }

    /// Runs until the connection breaks, or is to be left and has nothing more to do.
    pub(crate) async fn run(mut self) {
        let error = match self.serve().await {
            Ok(()) => Error::lost(),
            Err(error) => {
                tracing::debug!(%error, "the connection ended");
                error
            }
        };
        // In this order: who gets a request back must not choose this connection again.
        self.gauge.set_state(after(&error));
        self.commands.close();
        for sent in self.awaited.drain().filter_map(|(_, sent)| sent) {
            let outcome = if error.is_retryable() {
                Outcome::Lost(sent.body, error.clone())
            } else {
                // Sent again, it would end the next connection in the same way.
                Outcome::Done(Err(error.clone()))
            };
            let _ = sent.reply.send(outcome);
        }
        while let Some(command) = self.commands.recv().await {
            give_back(command);
        }
    }

    async fn serve(&mut self) -> Result<(), Error> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut clock = tokio::time::interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            if self.drained && self.awaited.values().all(Option::is_none) {
                return Ok(());
            }
            self.gauge.set_in_flight(self.awaited.len());
            let writing = !self.output.is_done();
            let room = self.max_in_flight.saturating_sub(self.awaited.len()).min(BATCH);
            let sending = room > 0 && self.output.len() < FULL;
            let taking = if self.leaving { !self.drained } else { sending };
            tokio::select! {
                frame = self.reader.next() => match frame {
                    Some(Ok(frame)) => self.take(frame)?,
                    Some(Err(error)) => {
                        tracing::debug!(%error, "reading");
                        return Err(Error::lost());
                    }
                    None => return Err(Error::lost()),
                },
                sent = self.output.write_some(&mut self.writer), if writing => {
                    sent.map_err(|_| Error::lost())?;
                }
                taken = self.commands.recv_many(&mut batch, room.max(1)), if taking => {
                    if taken == 0 {
                        (self.leaving, self.drained) = (true, true);
                    }
                    for command in batch.drain(..) {
                        if self.leaving { give_back(command) } else { self.send(command) }
                    }
                }
                _ = clock.tick(), if !self.awaited.is_empty() => self.look_for_silence()?,
            }
        }
    }

    /// Puts a request into the output.
    fn send(&mut self, command: Command) {
        let Command { opcode, body, reply, deadline } = command;
        let size = limits::HEADER_LEN + body.len();
        if size > self.max_frame {
            let text = format!("a frame of {size} bytes, the server takes {}", self.max_frame);
            let error = Error::refused(ErrorCode::MESSAGE_TOO_LARGE, &text);
            let _ = reply.send(Outcome::Done(Err(error)));
            return;
        }
        if reply.is_closed() || deadline <= Instant::now() {
            return;
        }
        let id = self.put(opcode, &body);
        self.awaited.insert(id, Some(Sent { body, reply }));
    }

    /// Puts a frame into the output; returns its id.
    fn put(&mut self, opcode: Opcode, body: &[u8]) -> u64 {
        if self.awaited.is_empty() {
            self.last_read = Instant::now();
        }
        self.last_id += 1;
        let header = Header { opcode, flags: Flags::REQUEST, request_id: self.last_id };
        self.output.push(header, body);
        self.last_id
    }

    /// Gives a reply to who awaits it. An error ends the connection.
    fn take(&mut self, frame: OwnedFrame) -> Result<(), Error> {
        self.heard();
        let header = frame.header;
        if header.opcode == Opcode::GOAWAY && header.request_id == 0 {
            self.go_away(&frame.body);
            return Ok(());
        }
        let answer = match header.flags {
            Flags::RESPONSE => Ok(frame.body),
            Flags::FAILURE => {
                let failure = Failure::parse(&frame.body).map_err(|error| broken(&error))?;
                Err((failure.code, Error::refused(failure.code, failure.detail)))
            }
            _ => return Err(broken(&"a frame that is not an answer")),
        };
        if header.request_id == 0 {
            return Err(answer.err().map_or_else(|| broken(&"an answer to nothing"), |(_, e)| e));
        }
        let Some(Some(sent)) = self.awaited.remove(&header.request_id) else {
            // An answer that has come too late: the request was sent again, or given up.
            return Ok(());
        };
        let Sent { body, reply } = sent;
        let (outcome, end) = match answer {
            // The word was to a request, but it is about the connection.
            Err((code, error)) if code.is_retryable() && code.is_fatal() => {
                (Outcome::Lost(body, error.clone()), Err(error))
            }
            Err((code, error)) if code.is_retryable() => (Outcome::Refused(body, error), Ok(())),
            Err((_, error)) => (Outcome::Done(Err(error)), Ok(())),
            Ok(answer) => (Outcome::Done(Ok(answer)), Ok(())),
        };
        if let Err(error) = &end {
            self.gauge.set_state(after(error));
        }
        let _ = reply.send(outcome);
        end
    }

    /// The server asks us to move: what was sent is still answered here, what is queued was not sent.
    fn go_away(&mut self, body: &[u8]) {
        let lifetime =
            Goaway::parse(body).is_ok_and(|goaway| goaway.reason == GoawayReason::SESSION_LIFETIME);
        tracing::debug!(lifetime, "the server asks to move");
        self.gauge.set_state(if lifetime { State::Leaving } else { State::Stopping });
        self.leaving = true;
        self.commands.close();
    }

    /// The server is there.
    fn heard(&mut self) {
        self.last_read = Instant::now();
        if self.pinged.take().is_some() && !self.leaving {
            self.gauge.set_state(State::Fine);
        }
    }

    fn look_for_silence(&mut self) -> Result<(), Error> {
        // Who has given up waiting will not send again.
        for sent in self.awaited.values_mut() {
            if sent.as_ref().is_some_and(|sent| sent.reply.is_closed()) {
                *sent = None;
            }
        }
        // Half of a large answer is a sign of life.
        let buffered = self.reader.read_buffer().len();
        if std::mem::replace(&mut self.buffered, buffered) != buffered {
            self.heard();
        }
        let silent = self.last_read.elapsed();
        if silent >= STALL {
            return Err(Error::lost());
        }
        match self.pinged {
            None if silent >= SILENT => {
                let id = self.put(Opcode::PING, b"sealwire");
                self.awaited.insert(id, None);
                self.pinged = Some(Instant::now());
            }
            Some(when) if when.elapsed() >= SILENT => self.suspect(),
            _ => {}
        }
        Ok(())
    }

    /// The server does not answer, PING included. What it has goes elsewhere, if there is another
    /// machine: with this one alone it stays, since it may be no more than slow.
    fn suspect(&mut self) {
        if !self.leaving {
            self.gauge.set_state(State::Suspect);
        }
        if !self.roster.has_other(&[self.endpoint]) {
            return;
        }
        for sent in self.awaited.values_mut().filter_map(Option::take) {
            let _ = sent.reply.send(Outcome::Elsewhere(sent.body));
        }
        while let Ok(command) = self.commands.try_recv() {
            give_back(command);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // For a driver that is dropped before its end, as when the runtime stops.
        if self.gauge.state() < State::Leaving {
            self.gauge.set_state(State::Gone);
        }
    }
}

/// How a connection that ended so counts: some ends say nothing against the server.
fn after(error: &Error) -> State {
    match error.code() {
        Some(ErrorCode::SESSION_ENDED | ErrorCode::IDLE) => State::Leaving,
        _ => State::Gone,
    }
}

fn give_back(command: Command) {
    let _ = command.reply.send(Outcome::Elsewhere(command.body));
}

/// The server broke the protocol: nothing behind it can be trusted, and what it owes will not come.
fn broken(what: &dyn std::fmt::Display) -> Error {
    tracing::warn!(%what, "the server broke the protocol");
    Error::lost()
}
