//! The task that owns the connection: it sends what callers ask, matches replies by their id, and
//! connects again when the connection breaks.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use futures_util::StreamExt;
use sealwire_protocol::codec::{FrameCodec, OwnedFrame};
use sealwire_protocol::message::Failure;
use sealwire_protocol::{ErrorCode, Flags, Header, Opcode, frame, limits};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::codec::FramedRead;
use zeroize::Zeroize;

use crate::connect::{Connector, Opened, Stream};
use crate::{Credentials, Error};

/// Requests taken from the queue at once.
const BATCH: usize = 256;

/// Output at which no more is taken from the queue until it is written.
const FULL: usize = 256 * 1024;

/// Read buffer.
const READ_BUFFER: usize = 64 * 1024;

/// Time without a byte, while replies are awaited, after which the connection is given up.
const STALL: Duration = Duration::from_secs(30);

/// Age from which a connection counts as having worked: the next one is made without delay.
const SETTLED: Duration = Duration::from_secs(5);

/// Longest delay between two tries to connect.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// The delays between tries to connect: doubling, with jitter.
fn delays() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(MAX_DELAY)
        .with_jitter()
        .without_max_times()
        .build()
}

/// A request on its way.
pub(crate) struct Command {
    pub(crate) opcode: Opcode,
    pub(crate) body: Vec<u8>,
    pub(crate) reply: oneshot::Sender<Result<Bytes, Error>>,
    pub(crate) deadline: Instant,
}

/// See the module.
pub(crate) struct Driver {
    connector: Connector,
    credentials: Credentials,
    connect_timeout: Duration,
    commands: mpsc::Receiver<Command>,
}

/// How a connection ended.
enum Ended {
    /// Every handle of the client is gone.
    Closed,
    /// The server asked to move, and nothing is awaited any more.
    Moved,
    /// It broke.
    Broken,
}

impl Driver {
    pub(crate) fn new(
        connector: Connector,
        credentials: Credentials,
        connect_timeout: Duration,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self { connector, credentials, connect_timeout, commands }
    }

    /// Makes the first connection, then runs on a task of its own.
    pub(crate) async fn start(self) -> Result<(), Error> {
        let first = self.connect().await?;
        tokio::spawn(self.run(first));
        Ok(())
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let connecting = self.connector.connect(&self.credentials);
        let opened =
            timeout(self.connect_timeout, connecting).await.map_err(|_| Error::deadline())??;
        Ok(Connection::new(opened))
    }

    async fn run(mut self, first: Connection) {
        let mut connection = first;
        let mut delays = delays();
        loop {
            let begun = Instant::now();
            match connection.run(&mut self.commands).await {
                Ended::Closed => return,
                Ended::Moved => tracing::debug!("the server asked to move"),
                Ended::Broken => tracing::debug!("the connection broke"),
            }
            if begun.elapsed() >= SETTLED {
                delays = self::delays();
            } else {
                tokio::time::sleep(delays.next().unwrap_or(MAX_DELAY)).await;
            }
            match self.reconnect(&mut delays).await {
                Some(next) => connection = next,
                None => return,
            }
        }
    }

    /// Connects again, with back-off, for as long as anybody has a handle. Requests that are queued
    /// wait, unless the server refuses us: then they fail with its refusal.
    async fn reconnect(
        &mut self,
        delays: &mut impl Iterator<Item = Duration>,
    ) -> Option<Connection> {
        loop {
            if self.commands.is_closed() && self.commands.is_empty() {
                return None;
            }
            match self.connect().await {
                Ok(connection) => return Some(connection),
                Err(error) => {
                    tracing::warn!(%error, "connecting failed");
                    if !error.is_retryable() {
                        self.fail_queued(&error);
                    }
                }
            }
            tokio::time::sleep(delays.next().unwrap_or(MAX_DELAY)).await;
        }
    }

    fn fail_queued(&mut self, error: &Error) {
        while let Ok(command) = self.commands.try_recv() {
            let _ = command.reply.send(Err(error.clone()));
        }
    }
}

struct Connection {
    reader: FramedRead<ReadHalf<Stream>, FrameCodec>,
    writer: WriteHalf<Stream>,
    max_frame: usize,
    max_in_flight: usize,
    output: Output,
    awaited: HashMap<u64, oneshot::Sender<Result<Bytes, Error>>>,
    last_id: u64,
    last_read: Instant,
    leaving: bool,
}

impl Connection {
    fn new(opened: Opened) -> Self {
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
            awaited: HashMap::new(),
            last_id: 0,
            last_read: Instant::now(),
            leaving: false,
        }
    }

    async fn run(&mut self, commands: &mut mpsc::Receiver<Command>) -> Ended {
        let mut batch = Vec::with_capacity(BATCH);
        let mut clock = tokio::time::interval(Duration::from_secs(1));
        loop {
            let writing = !self.output.is_done();
            let room = self.max_in_flight.saturating_sub(self.awaited.len()).min(BATCH);
            let taking = room > 0 && self.output.bytes.len() < FULL && !self.leaving;
            if self.leaving && self.awaited.is_empty() && !writing {
                return Ended::Moved;
            }
            tokio::select! {
                frame = self.reader.next() => match frame {
                    Some(Ok(frame)) => {
                        if self.take(frame).is_err() {
                            return self.broken();
                        }
                    }
                    Some(Err(error)) => {
                        tracing::debug!(%error, "reading");
                        return self.broken();
                    }
                    None => return self.broken(),
                },
                sent = self.output.write_some(&mut self.writer), if writing => {
                    if sent.is_err() {
                        return self.broken();
                    }
                }
                taken = commands.recv_many(&mut batch, room.max(1)), if taking => {
                    if taken == 0 {
                        if self.awaited.is_empty() && !writing {
                            return Ended::Closed;
                        }
                        self.leaving = true;
                    }
                    for command in batch.drain(..) {
                        self.send(command);
                    }
                }
                _ = clock.tick() => {
                    if !self.awaited.is_empty() && self.last_read.elapsed() >= STALL {
                        return self.broken();
                    }
                }
            }
        }
    }

    /// Puts a request into the output.
    fn send(&mut self, command: Command) {
        let Command { opcode, mut body, reply, deadline } = command;
        let size = limits::HEADER_LEN + body.len();
        if size > self.max_frame {
            let text = format!("a frame of {size} bytes, the server takes {}", self.max_frame);
            let _ = reply.send(Err(Error::refused(ErrorCode::MESSAGE_TOO_LARGE, &text)));
            return;
        }
        if reply.is_closed() || deadline <= Instant::now() {
            return;
        }
        if self.awaited.is_empty() {
            self.last_read = Instant::now();
        }
        self.last_id += 1;
        let header = Header { opcode, flags: Flags::REQUEST, request_id: self.last_id };
        self.output.push(header, &body);
        body.zeroize();
        self.awaited.insert(self.last_id, reply);
    }

    /// Gives a reply to who awaits it.
    fn take(&mut self, frame: OwnedFrame) -> Result<(), Error> {
        self.last_read = Instant::now();
        let header = frame.header;
        if header.opcode == Opcode::GOAWAY && header.request_id == 0 {
            self.leaving = true;
            return Ok(());
        }
        let answer = match header.flags {
            Flags::RESPONSE => Ok(frame.body),
            Flags::FAILURE => {
                let failure = Failure::parse(&frame.body)
                    .map_err(|error| Error::protocol(error.to_string()))?;
                Err(Error::refused(failure.code, failure.detail))
            }
            _ => return Err(Error::protocol("a frame that is not an answer")),
        };
        if header.request_id == 0 {
            if let Err(error) = answer {
                tracing::debug!(%error, "the server ends the connection");
                for (_, reply) in self.awaited.drain() {
                    let _ = reply.send(Err(error.clone()));
                }
                return Err(error);
            }
            return Err(Error::protocol("an answer to nothing"));
        }
        if let Some(reply) = self.awaited.remove(&header.request_id) {
            let _ = reply.send(answer);
        }
        Ok(())
    }

    /// The connection is gone: who awaits a reply will not get it from here.
    fn broken(&mut self) -> Ended {
        for (_, reply) in self.awaited.drain() {
            let _ = reply.send(Err(Error::lost()));
        }
        Ended::Broken
    }
}

/// What is on its way to the server. It holds plaintext, and is zeroized when it goes.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    written: usize,
    unflushed: bool,
}

impl Output {
    fn push(&mut self, header: Header, body: &[u8]) {
        let open = frame::begin(&mut self.bytes, header);
        self.bytes.extend_from_slice(body);
        open.finish(&mut self.bytes);
        self.unflushed = true;
    }

    fn is_done(&self) -> bool {
        self.bytes.is_empty() && !self.unflushed
    }

    /// Writes some of what is left, or flushes the last of it. Safe to cancel.
    async fn write_some(&mut self, writer: &mut WriteHalf<Stream>) -> io::Result<()> {
        if self.bytes.is_empty() {
            writer.flush().await?;
            self.unflushed = false;
            return Ok(());
        }
        let length = writer.write(&self.bytes[self.written..]).await?;
        if length == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written += length;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}
