//! The task that owns a connection: it sends what callers ask, matches replies by their id, and gives
//! back what it could not get answered. How it judges the server is in `vigil.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use sealwire_protocol::codec::{FrameCodec, OwnedFrame};
use sealwire_protocol::message::{Failure, Goaway, GoawayReason};
use sealwire_protocol::{ErrorCode, Flags, Header, Opcode, limits};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use tokio_util::codec::{Decoder, FramedRead};

use crate::Error;
use crate::command::{Command, Lane, Outcome};
use crate::connect::{Opened, Stream};
use crate::flight::{Flight, Waiter};
use crate::gauge::{Gauge, State};
use crate::output::Output;
use crate::queues::Queues;
use crate::roster::Roster;
use crate::vigil::{TICK, Vigil};

/// Output at which no more is taken from the queues until it is written.
const FULL: usize = 256 * 1024;

/// Read buffer.
const READ_BUFFER: usize = 64 * 1024;

/// Answers below this size are copied out of the read buffer: one that a caller keeps would keep all
/// of the buffer.
const SMALL: usize = 4096;

/// See the module.
pub(crate) struct Connection {
    reader: FramedRead<ReadHalf<Stream>, FrameCodec>,
    writer: WriteHalf<Stream>,
    /// What came behind the last answer of AUTH.
    surplus: BytesMut,
    max_frame: usize,
    flight: Flight,
    output: Output,
    queues: Queues,
    /// No more requests are sent.
    leaving: bool,
    vigil: Vigil,
    idle_ping: Duration,
    id: u64,
    gauge: Arc<Gauge>,
    roster: Arc<Roster>,
}

impl Connection {
    /// `id` is the connection's in `roster`. Without traffic for about `idle_ping`, the server is
    /// asked whether it is there.
    pub(crate) fn new(
        opened: Opened,
        id: u64,
        queues: Queues,
        gauge: Arc<Gauge>,
        roster: Arc<Roster>,
        idle_ping: Duration,
    ) -> Self {
        let Opened { stream, limits, surplus } = opened;
        let (reader, writer) = tokio::io::split(stream);
        let max_frame = usize::try_from(limits.max_frame).unwrap_or(limits::MAX_FRAME);
        Self {
            reader: FramedRead::with_capacity(reader, FrameCodec::new(max_frame), READ_BUFFER),
            writer,
            surplus,
            max_frame,
            flight: Flight::new(limits),
            output: Output::default(),
            queues,
            leaving: false,
            vigil: Vigil::new(),
            idle_ping,
            id,
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
        self.queues.close();
        for Waiter { body, reply } in self.flight.take_waiters() {
            let outcome = if error.is_retryable() {
                Outcome::Lost(body, error.clone())
            } else {
                // Sent again, it would end the next connection in the same way.
                Outcome::Done(Err(error.clone()))
            };
            let _ = reply.send(outcome);
        }
        self.queues.give_back_all().await;
    }

    async fn serve(&mut self) -> Result<(), Error> {
        self.take_surplus()?;
        let mut clock = interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut idle = interval_at(Instant::now() + self.idle_ping, self.idle_ping);
        idle.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            if self.queues.are_drained() && !self.flight.is_awaited() {
                return Ok(());
            }
            self.gauge.set_in_flight(self.flight.len());
            let writing = !self.output.is_done();
            let (live, bulk) = (self.takes(Lane::Live), self.takes(Lane::Bulk));
            tokio::select! {
                frame = self.reader.next() => match frame {
                    Some(Ok(frame)) => self.take(frame)?,
                    Some(Err(error)) => return Err(broken(&error)),
                    None => return Err(Error::lost()),
                },
                sent = self.output.write_some(&mut self.writer), if writing => {
                    sent.map_err(|_| Error::lost())?;
                }
                command = self.queues.live.commands.recv(), if live => {
                    self.fill(Lane::Live, command);
                }
                command = self.queues.bulk.commands.recv(), if bulk => {
                    self.fill(Lane::Bulk, command);
                }
                _ = clock.tick(), if !self.flight.is_empty() => self.look_for_silence()?,
                _ = idle.tick() => {
                    if self.flight.is_empty() && self.vigil.silence() >= self.idle_ping / 2 {
                        self.ping();
                    }
                }
            }
        }
    }

    /// The reader decodes when bytes arrive, and these have arrived already.
    fn take_surplus(&mut self) -> Result<(), Error> {
        let mut surplus = std::mem::take(&mut self.surplus);
        loop {
            match self.reader.decoder_mut().decode(&mut surplus) {
                Ok(Some(frame)) => self.take(frame)?,
                Ok(None) => break,
                Err(error) => return Err(broken(&error)),
            }
        }
        self.reader.read_buffer_mut().extend_from_slice(&surplus);
        Ok(())
    }

    /// Whether a queue is to be read.
    fn takes(&self, lane: Lane) -> bool {
        if self.leaving {
            return !self.queues.get(lane).drained;
        }
        self.output.len() < FULL && self.flight.has_room(lane)
    }

    /// Sends what a queue holds, one by one for as long as there is room. `None` is its end.
    fn fill(&mut self, lane: Lane, first: Option<Command>) {
        let Some(first) = first else {
            (self.leaving, self.queues.get_mut(lane).drained) = (true, true);
            return;
        };
        self.send(first);
        while self.takes(lane)
            && let Ok(next) = self.queues.get_mut(lane).commands.try_recv()
        {
            self.send(next);
        }
    }

    /// Puts a request into the output.
    fn send(&mut self, command: Command) {
        if command.reply.is_closed() {
            return;
        }
        // Who sent one that is too late finds that out by itself.
        if self.leaving || command.deadline <= Instant::now() {
            return command.give_back();
        }
        let Command { opcode, lane, body, reply, .. } = command;
        let size = limits::HEADER_LEN + body.len();
        if size > self.max_frame {
            let text = format!("a frame of {size} bytes, the server takes {}", self.max_frame);
            let error = Error::refused(ErrorCode::MESSAGE_TOO_LARGE, &text);
            let _ = reply.send(Outcome::Done(Err(error)));
            return;
        }
        if self.flight.is_empty() {
            self.vigil.begin();
        }
        let request_id = self.flight.next_id();
        self.output.push(Header { opcode, flags: lane.flags(), request_id }, &body);
        self.flight.add(opcode, lane, size, Some(Waiter { body, reply }));
    }

    fn ping(&mut self) {
        const ECHO: &[u8] = b"sealwire";
        if self.flight.is_empty() {
            self.vigil.begin();
        }
        let (opcode, request_id) = (Opcode::PING, self.flight.next_id());
        self.output.push(Header { opcode, flags: Flags::REQUEST, request_id }, ECHO);
        self.flight.add(opcode, Lane::Live, limits::HEADER_LEN + ECHO.len(), None);
    }

    /// Gives a reply to who awaits it. An error ends the connection.
    fn take(&mut self, frame: OwnedFrame) -> Result<(), Error> {
        self.vigil.hear();
        let OwnedFrame { header, body } = frame;
        if header.request_id == 0 {
            self.tell();
            return self.take_word(header, &body);
        }
        // Before the request is taken out: who waits for it is told when the connection ends.
        if self.flight.opcode(header.request_id).is_some_and(|opcode| opcode != header.opcode) {
            return Err(broken(&"an answer to another request"));
        }
        let answer = match header.flags {
            Flags::RESPONSE => Ok(own(body)),
            Flags::FAILURE => Err(failure(&body)?),
            _ => return Err(broken(&"a frame that is not an answer")),
        };
        let refusal = answer.as_ref().err().map(|(code, _)| *code);
        self.vigil.judge(header.opcode, refusal, &self.gauge);
        self.tell();
        let Some(sent) = self.flight.remove(header.request_id) else { return Ok(()) };
        // Without a waiter, the answer has come too late: the request was sent again, or given up.
        let Some(Waiter { body, reply }) = sent.waiter else { return Ok(()) };
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

    /// What the server says of the connection itself.
    fn take_word(&mut self, header: Header, body: &[u8]) -> Result<(), Error> {
        if header.opcode == Opcode::GOAWAY {
            self.go_away(body);
            return Ok(());
        }
        if header.flags != Flags::FAILURE {
            return Err(broken(&"an answer to nothing"));
        }
        let (code, error) = failure(body)?;
        // A number that we do not know says nothing about the requests: they are sent again.
        Err(if code.info().is_some() { error } else { broken(&error) })
    }

    /// The server asks us to move: what was sent is still answered here, what is queued was not sent.
    fn go_away(&mut self, body: &[u8]) {
        let lifetime =
            Goaway::parse(body).is_ok_and(|goaway| goaway.reason == GoawayReason::SESSION_LIFETIME);
        tracing::debug!(lifetime, "the server asks to move");
        self.gauge.set_state(if lifetime { State::Leaving } else { State::Stopping });
        self.leaving = true;
        self.queues.close();
    }

    fn look_for_silence(&mut self) -> Result<(), Error> {
        // Who has given up waiting will not send again.
        self.flight.forget_cancelled();
        self.vigil.see_buffer(self.reader.read_buffer().len());
        self.tell();
        if self.vigil.is_lost() {
            return Err(Error::lost());
        }
        let busy = !self.flight.has_room(Lane::Live) || !self.output.is_done();
        if self.vigil.wants_ping() {
            self.ping();
            self.vigil.pinged();
        } else if self.vigil.is_suspect(busy) {
            self.suspect();
        }
        Ok(())
    }

    /// The server does not answer, PING included. What it has goes elsewhere, if another connection
    /// works: with this one alone it stays, since the server may be no more than slow.
    fn suspect(&mut self) {
        self.vigil.suspect();
        self.tell();
        if !self.roster.has_fine_besides(Some(self.id)) {
            return;
        }
        for Waiter { body, reply } in self.flight.take_waiters() {
            let _ = reply.send(Outcome::Elsewhere(body));
        }
        self.queues.give_back_what_is_there();
    }

    /// Says how the connection does, if it is not to be left anyway.
    fn tell(&mut self) {
        if !self.leaving
            && let Some(state) = self.vigil.news()
        {
            self.gauge.set_state(state);
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

fn failure(body: &[u8]) -> Result<(ErrorCode, Error), Error> {
    let Failure { code, detail } = Failure::parse(body).map_err(|error| broken(&error))?;
    Ok((code, Error::refused(code, detail)))
}

/// See [`SMALL`].
fn own(body: Bytes) -> Bytes {
    if body.len() < SMALL { Bytes::copy_from_slice(&body) } else { body }
}

/// The server broke the protocol: nothing behind it can be trusted, and what it owes will not come.
fn broken(what: &dyn std::fmt::Display) -> Error {
    tracing::warn!(%what, "the server broke the protocol");
    Error::lost()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_answer_keeps_no_read_buffer() {
        let buffer = Bytes::from(vec![7; READ_BUFFER]);
        let small = own(buffer.slice(..SMALL - 1));
        let large = own(buffer.slice(..SMALL));
        assert_eq!((small.len(), large.as_ptr()), (SMALL - 1, buffer.as_ptr()));
        drop(large);
        assert!(buffer.is_unique(), "the small one is a copy");
    }
}
