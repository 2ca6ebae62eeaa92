//! A caller's connection: one read buffer, one write for every answer that is ready.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sealwire_protocol::message::{Failure, Goaway, GoawayReason};
use sealwire_protocol::{ErrorCode, Flags, Frame, Header, Opcode, frame};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize;

use super::caller::Caller;
use super::{DRAIN, Shared};
use crate::wire::message::Lane;
use crate::wire::{MAX_FRAME, ReadBuffer, Role, unasked, word};

/// Output at which a batch is written, however much input is left.
const FLUSH_AT: usize = 64 * 1024;

/// The same for what may wait: an answer comes soon enough to tell the caller that the engine lives.
const FLUSH_BULK_AT: usize = 8 * 1024;

/// Output buffer above which it is given back after a large answer.
const KEEP: usize = 256 * 1024;

/// Time for a frame that has begun to arrive, and for the caller to take what is written.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time without a frame after which a connection is closed: callers ping, several times a second.
const IDLE: Duration = Duration::from_secs(60);

const TICK: Duration = Duration::from_millis(500);

/// Serves a caller to the end of its connection.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    (role, peer): (Role, &str),
    shared: &Arc<Shared>,
    stop: &CancellationToken,
) {
    tracing::debug!(peer, role = role.name(), "a caller");
    let _counted = Counted::new(shared);
    let caller = Caller::new((role, peer), shared);
    let mut connection = Connection {
        stream,
        input: ReadBuffer::new(),
        output: Vec::new(),
        caller,
        shared,
        last_frame: Instant::now(),
        partial_since: None,
        leave_by: None,
    };
    let end = connection.run(stop).await;
    tracing::debug!(peer, role = role.name(), ?end, "a caller's connection ends");
    let _ = timeout(TICK, connection.stream.shutdown()).await;
}

/// A connection in the engine's figures, for as long as it lasts.
struct Counted<'a>(&'a Shared);

impl<'a> Counted<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.counters.connections.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Connection<'a, S> {
    stream: S,
    input: ReadBuffer,
    output: Vec<u8>,
    caller: Caller,
    shared: &'a Arc<Shared>,
    last_frame: Instant,
    /// When the frame that is incomplete now began to arrive.
    partial_since: Option<Instant>,
    /// When the connection ends after GOAWAY.
    leave_by: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn run(&mut self, stop: &CancellationToken) -> io::Result<()> {
        let mut engine = self.shared.custodian.engine().watch();
        let mut clock = tokio::time::interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                changed = engine.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.caller.engine_changed(&mut self.output);
                    self.flush().await?;
                }
                read = self.input.fill(&mut self.stream) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    self.answer_all().await?;
                }
                () = stop.cancelled(), if self.leave_by.is_none() => self.say_goaway().await?,
                _ = clock.tick() => self.look_at_clocks()?,
            }
        }
    }

    /// Answers every whole frame that has arrived.
    async fn answer_all(&mut self) -> io::Result<()> {
        self.caller.tick();
        loop {
            let more = self.answer_batch().await?;
            self.caller.count();
            if !self.output.is_empty() {
                self.flush().await?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Answers frames until the output is worth a write. Returns whether frames may be left.
    async fn answer_batch(&mut self) -> io::Result<bool> {
        let flush_at = match self.caller.lane {
            Lane::Bulk => FLUSH_BULK_AT,
            Lane::Live | Lane::Long => FLUSH_AT,
        };
        while self.output.len() < flush_at {
            let frame = match Frame::parse(self.input.unread(), MAX_FRAME) {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    let arriving = !self.input.unread().is_empty();
                    let since = self.partial_since.unwrap_or_else(Instant::now);
                    self.partial_since = arriving.then_some(since);
                    return Ok(false);
                }
                Err(error) => return self.break_off(error.code()).await,
            };
            if frame.header.request_id == 0 {
                return self.break_off(ErrorCode::MALFORMED_FRAME).await;
            }
            let length = frame.wire_len();
            // Signs of life are no work.
            let is_work = !matches!(frame.header.opcode, Opcode::PING | word::STATUS);
            if self.caller.lane == Lane::Bulk && is_work {
                let turn = self.shared.bulk.acquire().await;
                self.caller.answer(&frame, &mut self.output);
                drop(turn);
                tokio::task::yield_now().await;
            } else {
                self.caller.answer(&frame, &mut self.output);
            }
            self.input.consume(length);
            self.partial_since = None;
            self.last_frame = Instant::now();
        }
        Ok(true)
    }

    /// Framing is broken: nothing behind it can be trusted.
    async fn break_off(&mut self, code: ErrorCode) -> io::Result<bool> {
        if code == ErrorCode::UNSUPPORTED_VERSION {
            self.output.extend_from_slice(&frame::version_answer());
        } else {
            let header = Header { flags: Flags::FAILURE, ..unasked(Opcode(0)) };
            let open = frame::begin(&mut self.output, header);
            Failure { code, detail: "" }.encode(&mut self.output);
            open.finish(&mut self.output);
        }
        self.flush().await?;
        Err(io::Error::new(io::ErrorKind::InvalidData, code.name()))
    }

    async fn say_goaway(&mut self) -> io::Result<()> {
        self.leave_by = Some(Instant::now() + DRAIN / 2);
        let open = frame::begin(&mut self.output, unasked(Opcode::GOAWAY));
        let grace_ms = u32::try_from((DRAIN / 2).as_millis()).unwrap_or(u32::MAX);
        Goaway { reason: GoawayReason::SHUTDOWN, grace_ms }.encode(&mut self.output);
        open.finish(&mut self.output);
        self.flush().await
    }

    fn look_at_clocks(&self) -> io::Result<()> {
        let now = Instant::now();
        let late = self.partial_since.is_some_and(|since| now - since >= PATIENCE);
        let over = self.leave_by.is_some_and(|time| now >= time);
        if late || over || now - self.last_frame >= IDLE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let write = async {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await
        };
        timeout(PATIENCE, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        if self.output.capacity() > KEEP || self.caller.has_told_secret() {
            self.output.zeroize();
            self.output = Vec::new();
        }
        self.output.clear();
        Ok(())
    }
}

impl<S> Drop for Connection<'_, S> {
    fn drop(&mut self) {
        self.output.zeroize();
    }
}
