//! A connection to an engine, while it lasts: one read buffer, one write for all requests that are
//! ready.
//!
//! | module | what it does |
//! |---|---|
//! | `says` | what goes to the engine: requests behind what they rest on, the question for a proof |
//! | `hears` | what comes from it: answers, refusals, its state |

mod hears;
mod says;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize;

use super::batch::{Answers, Batch, Trace, Work};
use super::link::{Condition, Link};
use super::ring::Ring;
use super::{Pool, Proof};
use crate::wire::ReadBuffer;
use crate::{EngineError, State};

/// Output beyond which nothing is added before some of it was written.
const FULL: usize = 256 * 1024;

/// Requests that a connection waits for at most.
const MAX_AWAITED: usize = 32_768;

/// Connections that may break under a request before it is given up: it may be what breaks them.
const MAX_BREAKS: u8 = 4;

const TICK: Duration = Duration::from_millis(50);

/// Time between two pings.
const PING: Duration = Duration::from_millis(200);

/// Silence after which an engine that owes an answer is suspect, and its work goes elsewhere: long beside
/// any answer, short beside what a client notices.
const SUSPECT: Duration = Duration::from_millis(400);

/// Silence after which the connection is given up.
const DEAD: Duration = Duration::from_secs(5);

/// Time between two questions for the engine's figures.
const STATUS: Duration = Duration::from_secs(1);

/// Time between two tries to have an engine of another root key prove itself.
const PROVE_AGAIN: Duration = Duration::from_secs(2);

/// How a connection has ended.
pub(super) struct Ended {
    /// Whether it has taken work, or was found sealed: it takes this process for what it is.
    pub(super) has_worked: bool,
    pub(super) result: io::Result<()>,
}

pub(super) struct Connection<'a> {
    pool: &'a Arc<Pool>,
    link: &'a Arc<Link>,
    reader: ReadHalf<TlsStream<TcpStream>>,
    writer: WriteHalf<TlsStream<TcpStream>>,
    input: ReadBuffer,
    output: Vec<u8>,
    written: usize,
    unflushed: bool,
    ring: Ring,
    site: watch::Receiver<Option<Arc<Proof>>>,
    /// The site's keys that the engine was told last, and the request id of that.
    said_site: Option<(Arc<[u8]>, u64)>,
    /// The sessions that the engine was told, and the request id of each.
    said_sessions: HashMap<u64, u64>,
    /// The last session that the engine has refused, and why.
    bad_session: Option<(u64, EngineError)>,
    state: Option<State>,
    /// Whether the engine has proven itself under the site's keys, as far as they were known.
    is_proven: bool,
    has_worked: bool,
    /// Answers of one origin that have arrived together.
    group: Option<(mpsc::UnboundedSender<Answers>, Answers)>,
    last_read: Instant,
    last_ping: Instant,
    last_status: Instant,
    last_proof: Instant,
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        pool: &'a Arc<Pool>,
        link: &'a Arc<Link>,
        stream: TlsStream<TcpStream>,
    ) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let now = Instant::now();
        Self {
            pool,
            link,
            reader,
            writer,
            input: ReadBuffer::new(),
            output: Vec::new(),
            written: 0,
            unflushed: false,
            ring: Ring::new(),
            site: pool.site.subscribe(),
            said_site: None,
            said_sessions: HashMap::new(),
            bad_session: None,
            state: None,
            is_proven: false,
            has_worked: false,
            group: None,
            last_read: now,
            last_ping: now,
            last_status: now,
            last_proof: now,
        }
    }

    /// Works until the connection ends; what is not answered then goes elsewhere.
    pub(super) async fn run(
        mut self,
        queue: &mut mpsc::UnboundedReceiver<Work>,
        stop: &CancellationToken,
    ) -> Ended {
        let result = self.work(queue, stop).await;
        self.set(Condition::Down);
        let left = self.ring.take_requests(|_, _, _| true);
        self.link.take_load(left.len());
        for (batch, at, trace) in left {
            self.break_under(Work { batch, range: at..at + 1, trace });
        }
        Ended { has_worked: self.has_worked, result }
    }

    async fn work(
        &mut self,
        queue: &mut mpsc::UnboundedReceiver<Work>,
        stop: &CancellationToken,
    ) -> io::Result<()> {
        let mut clock = tokio::time::interval(TICK);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.ask_status();
        loop {
            let writing = self.written < self.output.len() || self.unflushed;
            if self.link.condition() == Condition::Leaving && self.ring.requests() == 0 && !writing
            {
                return Ok(());
            }
            tokio::select! {
                biased;
                read = self.input.fill(&mut self.reader) => {
                    if read? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.take_all()?;
                }
                // Before any more work: who knows the site by now asks for the proof.
                _ = self.site.changed() => self.prove(),
                Some(work) = queue.recv(), if self.has_room() => self.send_all(work, queue),
                written = write_some(
                    &mut self.writer,
                    &self.output[self.written..]
                ), if writing => self.wrote(written?),
                _ = clock.tick() => self.look_at_clocks(queue)?,
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Whether more may be added to the output. While the proof is awaited, what waits does so.
    fn has_room(&self) -> bool {
        self.output.len() < FULL
            && self.ring.requests() < MAX_AWAITED
            && self.link.condition() != Condition::Unproven
    }

    /// Sends what waits, as far as there is room. What was on its way to an engine when it turned out to be sealed,
    /// stopping or not the site's goes elsewhere.
    fn send_all(&mut self, first: Work, queue: &mut mpsc::UnboundedReceiver<Work>) {
        let mut next = Some(first);
        while let Some(mut work) = next {
            if !matches!(self.link.condition(), Condition::Up | Condition::Suspect) {
                self.link.take_load(work.range.len());
                work.trace.tried |= self.bit();
                self.pool.pass_on(work);
            } else {
                self.send(&work);
            }
            next = if self.has_room() { queue.try_recv().ok() } else { None };
        }
    }

    fn wrote(&mut self, length: usize) {
        if length == 0 {
            self.unflushed = false;
            return;
        }
        self.written += length;
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
    }

    fn set(&mut self, condition: Condition) {
        self.has_worked |= matches!(condition, Condition::Up | Condition::Sealed);
        self.link.set(condition);
        self.pool.judge();
    }

    fn address(&self) -> &str {
        &self.pool.engines[self.link.engine].address
    }

    /// This connection's engine, among those that were tried.
    fn bit(&self) -> u64 {
        1 << self.link.engine
    }

    /// The connection has broken while a request was awaited: another engine gets it, or another connection to
    /// this one. A request under which one connection after another breaks is not tried for ever.
    fn break_under(&self, mut work: Work) {
        work.trace.breaks += 1;
        if work.trace.breaks >= MAX_BREAKS {
            let error = "the connections to the engines broke under it, one after another";
            return self.pool.refuse(&work, &EngineError::Away(error.into()));
        }
        let before = work.trace.tried;
        work.trace.tried |= self.bit();
        // An engine that was tried may be well again; and of this one there may be another connection.
        for tried in [work.trace.tried, before, 0] {
            work.trace.tried = tried;
            if self.pool.has_another(&work) {
                break;
            }
        }
        self.pool.pass_on(work);
    }

    fn look_at_clocks(&mut self, queue: &mut mpsc::UnboundedReceiver<Work>) -> io::Result<()> {
        let silent = self.last_read.elapsed();
        if !self.ring.is_empty() && silent >= DEAD {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if !self.ring.is_empty() && silent >= SUSPECT {
            self.suspect(queue);
        }
        if self.last_ping.elapsed() >= PING {
            self.ping();
        }
        if self.last_status.elapsed() >= STATUS {
            self.ask_status();
        }
        let foreign = self.link.condition() == Condition::Foreign;
        if foreign && self.last_proof.elapsed() >= PROVE_AGAIN {
            self.prove();
        }
        Ok(())
    }

    /// The engine owes an answer for too long: what it owes, and what waits for it, goes elsewhere, as far as
    /// there is another.
    fn suspect(&mut self, queue: &mut mpsc::UnboundedReceiver<Work>) {
        if self.link.condition() == Condition::Up {
            tracing::warn!(engine = %self.address(), "an engine does not answer: its work goes elsewhere");
            self.set(Condition::Suspect);
        }
        let (pool, bit) = (self.pool.clone(), self.bit());
        let another = |batch: &Arc<Batch>, at: usize, trace: Trace| {
            let trace = Trace { tried: trace.tried | bit, ..trace };
            let work = Work { batch: batch.clone(), range: at..at + 1, trace };
            pool.has_a_proven_one(&work).then_some(work)
        };
        let owed = self.ring.take_requests(|batch, at, trace| another(batch, at, trace).is_some());
        self.link.take_load(owed.len());
        for (batch, at, trace) in owed {
            let trace = Trace { tried: trace.tried | bit, ..trace };
            pool.pass_on(Work { batch, range: at..at + 1, trace });
        }
        let mut kept = Vec::new();
        while let Ok(mut work) = queue.try_recv() {
            if another(&work.batch, work.range.start, work.trace).is_some() {
                self.link.take_load(work.range.len());
                work.trace.tried |= bit;
                pool.pass_on(work);
            } else {
                kept.push(work);
            }
        }
        for work in kept {
            self.link.give_back(work);
        }
    }
}

/// Writes some bytes, or flushes when there are none. Safe to cancel.
async fn write_some(
    writer: &mut WriteHalf<TlsStream<TcpStream>>,
    bytes: &[u8],
) -> io::Result<usize> {
    if bytes.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    match writer.write(bytes).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        length => Ok(length),
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.output.zeroize();
    }
}
