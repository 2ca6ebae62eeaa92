//! A connection to an engine, while it lasts: one read buffer, one write for all requests that are
//! ready.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealwire_protocol::message::{Failure, PingRequest};
use sealwire_protocol::{ErrorCode, Flags, Frame, Header, Opcode, frame};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize;

use super::batch::{Answers, Batch, Refused, Work};
use super::link::{Condition, Link};
use super::ring::{Awaited, Ring};
use super::{Pool, Proof};
use crate::wire::message::{Status, push_document};
use crate::wire::{MAX_FRAME, MAX_SESSIONS, ReadBuffer, failure, word};
use crate::{EngineError, State};

/// Output beyond which nothing is added before some of it was written.
const FULL: usize = 256 * 1024;

/// Requests that a connection waits for at most.
const MAX_AWAITED: usize = 32_768;

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
    said_site: Option<Arc<[u8]>>,
    said_sessions: HashSet<u64>,
    /// The last session that the engine has refused, and why.
    bad_session: Option<(u64, EngineError)>,
    state: Option<State>,
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
            said_sessions: HashSet::new(),
            bad_session: None,
            state: None,
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
    ) -> io::Result<()> {
        let ended = self.work(queue, stop).await;
        self.link.set(Condition::Down);
        let engine = &self.pool.engines[self.link.engine];
        let others = engine.links.iter().flatten().any(|link| link.is_up());
        let left = self.ring.take_requests(|_, _, _| true);
        self.pass_on(left, !others);
        ended
    }

    async fn work(
        &mut self,
        queue: &mut mpsc::UnboundedReceiver<Work>,
        stop: &CancellationToken,
    ) -> io::Result<()> {
        let mut clock = tokio::time::interval(TICK);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut works = Vec::new();
        self.ask_status();
        loop {
            let writing = self.written < self.output.len() || self.unflushed;
            let room = self.output.len() < FULL && self.ring.requests() < MAX_AWAITED;
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
                _ = queue.recv_many(&mut works, 256), if room => {
                    for work in works.drain(..) {
                        self.send(&work);
                    }
                }
                written = write_some(
                    &mut self.writer,
                    &self.output[self.written..]
                ), if writing => self.wrote(written?),
                _ = self.site.changed() => self.prove(),
                _ = clock.tick() => self.look_at_clocks()?,
                () = stop.cancelled() => return Ok(()),
            }
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

    /// Puts a frame into the output, and gives it the next id.
    fn say(&mut self, opcode: Opcode, awaited: Awaited, encode: impl FnOnce(&mut Vec<u8>)) {
        let request_id = self.ring.push(awaited);
        let header = Header { opcode, flags: Flags::REQUEST, request_id };
        let open = frame::begin(&mut self.output, header);
        encode(&mut self.output);
        open.finish(&mut self.output);
        self.unflushed = true;
    }

    fn ask_status(&mut self) {
        self.last_status = Instant::now();
        let lane = self.link.lane as u8;
        self.say(word::STATUS, Awaited::Status, |out| out.push(lane));
    }

    fn say_site(&mut self, site: &Arc<[u8]>) {
        if self.said_site.as_ref() != Some(site) {
            self.said_site = Some(site.clone());
            self.say(word::SITE, Awaited::Nothing, |out| out.extend_from_slice(site));
        }
    }

    /// Has the engine verify a document that only the site's keys verify. Without a site there is nothing
    /// to prove: its keys are yet to be made.
    fn prove(&mut self) {
        if !matches!(self.state, Some(State::Open { .. })) {
            return;
        }
        let proof = self.site.borrow_and_update().clone();
        let Some(proof) = proof else { return self.take_up() };
        self.last_proof = Instant::now();
        self.say_site(&proof.site);
        self.say(word::VERIFY, Awaited::Proof, |out| push_document(out, &proof.decoy));
    }

    fn take_up(&self) {
        if !matches!(self.link.condition(), Condition::Up | Condition::Leaving) {
            tracing::info!(engine = %self.address(), lane = ?self.link.lane, "an engine takes work");
            self.link.set(Condition::Up);
        }
    }

    fn address(&self) -> &str {
        &self.pool.engines[self.link.engine].address
    }

    /// Puts requests into the output, behind what they rest on.
    fn send(&mut self, work: &Work) {
        let batch = &work.batch;
        let own = || self.site.borrow().as_ref().map(|proof| proof.site.clone());
        if let Some(site) = batch.site.clone().or_else(own) {
            self.say_site(&site);
        }
        for at in work.range.clone() {
            self.send_one(batch, at, (work.tried, false));
        }
    }

    fn send_one(&mut self, batch: &Arc<Batch>, at: usize, (tried, again): (u64, bool)) {
        if let Some(ticket) = &batch.session
            && !self.said_sessions.contains(&ticket.number)
        {
            if self.said_sessions.len() >= MAX_SESSIONS {
                self.said_sessions.clear();
            }
            self.said_sessions.insert(ticket.number);
            let awaited = Awaited::Session(ticket.number);
            self.say(word::SESSION, awaited, |out| out.extend_from_slice(&ticket.body));
        }
        let id = self.ring.push(Awaited::Request { batch: batch.clone(), at, tried, again });
        let start = self.output.len();
        self.output.extend_from_slice(batch.frame(at));
        self.output[start + 8..start + 16].copy_from_slice(&id.to_be_bytes());
        self.unflushed = true;
    }

    /// Takes every whole frame that has arrived.
    fn take_all(&mut self) -> io::Result<()> {
        self.last_read = Instant::now();
        if self.link.condition() == Condition::Suspect {
            self.link.set(Condition::Up);
        }
        let mut input = std::mem::take(&mut self.input);
        let taken = loop {
            match Frame::parse(input.unread(), MAX_FRAME) {
                Ok(Some(frame)) => {
                    if let Err(error) = self.take(&frame) {
                        break Err(error);
                    }
                    let length = frame.wire_len();
                    input.consume(length);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        };
        self.input = input;
        self.deliver();
        taken
    }

    fn take(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let broken = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
        let header = frame.header;
        let refusal = match header.flags {
            Flags::RESPONSE => None,
            Flags::FAILURE => {
                Some(Failure::parse(frame.body).map_err(|error| broken(&error.to_string()))?)
            }
            _ => return Err(broken("a frame that is no answer")),
        };
        if header.request_id == 0 {
            return match (header.opcode, refusal) {
                (_, Some(refusal)) => Err(broken(refusal.code.name())),
                (Opcode::GOAWAY, None) => {
                    self.link.set(Condition::Leaving);
                    Ok(())
                }
                (word::STATUS, None) => self.note_status(frame.body),
                _ => Ok(()),
            };
        }
        match (self.ring.take(header.request_id), refusal) {
            (Some(Awaited::Request { batch, at, .. }), None) => self.answer(&batch, at, frame.body),
            (Some(Awaited::Request { batch, at, tried, again }), Some(refusal)) => {
                self.refuse(&batch, at, (tried, again), &refusal);
            }
            (Some(Awaited::Status), None) => self.note_status(frame.body)?,
            (Some(Awaited::Proof), refusal) => self.note_proof(refusal.as_ref()),
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
        let status: Status = serde_json::from_slice(body)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let state = status.state;
        self.pool.note(self.link.engine, Some(status));
        if self.state.replace(state) == Some(state) {
            return Ok(());
        }
        // What was said before, the engine has forgotten.
        self.said_sessions.clear();
        if let State::Open { .. } = state {
            self.prove();
        } else if self.link.condition() != Condition::Leaving {
            tracing::warn!(engine = %self.address(), "an engine is sealed");
            self.link.set(Condition::Sealed);
        }
        Ok(())
    }

    fn note_proof(&mut self, refusal: Option<&Failure<'_>>) {
        match refusal.map(|refusal| failure::error(refusal)) {
            None => self.take_up(),
            Some(EngineError::Sealed) => self.link.set(Condition::Sealed),
            Some(error) => {
                if self.link.condition() != Condition::Foreign {
                    let engine = self.address();
                    tracing::error!(engine, %error, "an engine does not hold the site's root key: it gets no work");
                }
                self.link.set(Condition::Foreign);
            }
        }
    }

    /// Adds an answer to those of the same origin.
    fn answer(&mut self, batch: &Arc<Batch>, at: usize, body: &[u8]) {
        let tag = batch.items[at].tag;
        let answers = self.group_of(batch, at);
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
            self.pool.deliver(&origin, answers);
        }
    }

    /// What an engine cannot do now, or for want of something, another one may.
    #[cold]
    fn refuse(
        &mut self,
        batch: &Arc<Batch>,
        at: usize,
        (tried, again): (u64, bool),
        refusal: &Failure<'_>,
    ) {
        let mut error = failure::error(refusal);
        if refusal.code == ErrorCode::NO_SESSION {
            let number = batch.session.as_ref().map(|ticket| ticket.number);
            if !again {
                self.said_site = None;
                number.map(|number| self.said_sessions.remove(&number));
                let work = Work { batch: batch.clone(), range: at..at, tried };
                self.send(&work);
                return self.send_one(batch, at, (tried, true));
            }
            match &self.bad_session {
                Some((bad, why)) if Some(*bad) == number => error = why.clone(),
                _ => {}
            }
        }
        let elsewhere = matches!(
            error,
            EngineError::Sealed | EngineError::OtherRoot { .. } | EngineError::Away(_)
        );
        let tried = tried | 1 << self.link.engine;
        let work = Work { batch: batch.clone(), range: at..at + 1, tried };
        if elsewhere && self.pool.has_another(&work) {
            self.link.take_load(1);
            return self.pool.pass_on(work);
        }
        let tag = batch.items[at].tag;
        let request = (batch.clone(), at);
        self.group_of(batch, at).refused.push(Refused { tag, error, request });
    }

    /// Gives requests to other links.
    fn pass_on(&self, requests: Vec<(Arc<Batch>, usize, u64)>, tried_here: bool) {
        let bit = if tried_here { 1 << self.link.engine } else { 0 };
        self.link.take_load(requests.len());
        let mut works: Vec<Work> = Vec::new();
        for (batch, at, tried) in requests {
            let tried = tried | bit;
            match works.last_mut() {
                Some(Work { batch: last, range: Range { end, .. }, tried: same })
                    if Arc::ptr_eq(last, &batch) && *end == at && *same == tried =>
                {
                    *end += 1;
                }
                _ => works.push(Work { batch, range: at..at + 1, tried }),
            }
        }
        for work in works {
            self.pool.pass_on(work);
        }
    }

    fn look_at_clocks(&mut self) -> io::Result<()> {
        let silent = self.last_read.elapsed();
        if !self.ring.is_empty() && silent >= DEAD {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if !self.ring.is_empty() && silent >= SUSPECT {
            self.suspect();
        }
        if self.last_ping.elapsed() >= PING {
            self.last_ping = Instant::now();
            self.say(Opcode::PING, Awaited::Nothing, |out| {
                PingRequest { echo: b"" }.encode(out);
            });
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

    /// The engine owes an answer for too long: what it owes goes elsewhere, as far as there is another.
    fn suspect(&mut self) {
        if self.link.condition() == Condition::Up {
            tracing::warn!(engine = %self.address(), "an engine does not answer: its work goes elsewhere");
            self.link.set(Condition::Suspect);
        }
        let (pool, bit) = (self.pool.clone(), 1 << self.link.engine);
        let elsewhere = self.ring.take_requests(|batch, at, tried| {
            let work = Work { batch: batch.clone(), range: at..at + 1, tried: tried | bit };
            pool.has_another(&work)
        });
        self.pass_on(elsewhere, true);
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
