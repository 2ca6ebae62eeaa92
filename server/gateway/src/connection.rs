//! A connection: one read buffer, one write for every reply that is ready.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealwire_engine::State;
use sealwire_engine::remote::Answers;
use sealwire_protocol::message::{Goaway, GoawayReason};
use sealwire_protocol::{ErrorCode, Frame, Header, Opcode, frame};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::Gateway;
use crate::figures::FIGURES;
use crate::handshake::{self, CONNECTION};
use crate::later::Reply;
use crate::link::{End, Link};
use crate::session::{Handled, Session};

pub use crate::handshake::Peer;

/// Output at which a batch is written, however much input is left.
const FLUSH_AT: usize = 64 * 1024;

/// Output from which its write may wait for those of other connections: many replies, or a long one.
const GATHER: usize = 4 * 1024;

/// How often a connection looks at its clocks.
const TICK: Duration = Duration::from_millis(500);

/// Serves a connection to its end: AUTH within its time limit, then requests, until the peer leaves,
/// breaks a rule, or `stop` asks it to go.
///
/// `authenticated` is called when AUTH has succeeded.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: Peer,
    gateway: &Arc<Gateway>,
    stop: &CancellationToken,
    deadline: tokio::time::Instant,
    authenticated: impl FnOnce(),
) {
    let mut link = Link::new(stream, gateway.limits.write_timeout);
    let authentication = handshake::authenticate(&mut link, &peer, gateway);
    let session = tokio::select! {
        session = tokio::time::timeout_at(deadline, authentication) => {
            session.unwrap_or_else(|_| Err(End::connection(ErrorCode::TIMEOUT)))
        }
        () = stop.cancelled() => Err(End::connection(ErrorCode::SHUTTING_DOWN)),
    };
    let end = match session {
        Err(end) => {
            if let End::Refused(_, refusal) = &end {
                FIGURES.count("auth", Err(refusal.code));
            }
            end
        }
        Ok(session) => {
            FIGURES.count("auth", Ok(()));
            authenticated();
            Connection::new(&mut link, session, gateway, stop).run().await
        }
    };
    tracing::debug!(%end, "connection ends");
    link.close(end).await;
}

/// A connection whose peer has proven itself.
struct Connection<'a, S> {
    link: &'a mut Link<S>,
    session: Session,
    gateway: &'a Gateway,
    stop: &'a CancellationToken,
    engine: watch::Receiver<State>,
    later: JoinSet<Reply>,
    /// Bytes held by what runs beside the connection.
    later_bytes: usize,
    clock: Interval,
    begun: Instant,
    last_look: Instant,
    last_request: Instant,
    /// When the frame that is incomplete now began to arrive.
    partial_since: Option<Instant>,
    /// When the connection ends after GOAWAY.
    leave_by: Option<Instant>,
}

/// What a connection woke up for.
enum Event {
    Input(io::Result<usize>),
    Reply(Option<Result<Reply, JoinError>>),
    Answers(Answers),
    AppChanged,
    EngineChanged,
    Stopping,
    Tick,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Connection<'a, S> {
    fn new(
        link: &'a mut Link<S>,
        session: Session,
        gateway: &'a Gateway,
        stop: &'a CancellationToken,
    ) -> Self {
        let mut clock = tokio::time::interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = Instant::now();
        Self {
            link,
            session,
            gateway,
            stop,
            engine: gateway.engine.watch(),
            later: JoinSet::new(),
            later_bytes: 0,
            clock,
            begun: now,
            last_look: now,
            last_request: now,
            partial_since: None,
            leave_by: None,
        }
    }

    async fn run(mut self) -> End {
        let end = loop {
            if let Err(end) = self.turn().await {
                break end;
            }
        };
        self.session.tell(self.link.take_bytes(), 0);
        end
    }

    /// How many requests are not answered yet, and the bytes that they hold.
    fn waiting(&self) -> (usize, usize) {
        let (sent, sent_bytes) = self.session.engine.waiting();
        (self.later.len() + sent, self.later_bytes + sent_bytes)
    }

    /// Whether as many requests wait as may.
    fn is_full(&self) -> bool {
        let (waiting, bytes) = self.waiting();
        let limits = &self.gateway.limits;
        waiting >= limits.max_in_flight || bytes > 4 * limits.max_frame
    }

    /// Answers what has arrived, then waits for what comes next. Input comes first, so that a busy
    /// connection touches nothing that others touch; what else may have happened is looked at twice
    /// a second all the same.
    async fn turn(&mut self) -> Result<(), End> {
        self.answer_all().await?;
        if self.last_look.elapsed() >= TICK {
            self.look_around().await?;
        }
        let event = self.next_event().await;
        self.take(event).await
    }

    /// Whether the app or the engine has changed, the server is stopping, or a time limit has passed.
    async fn look_around(&mut self) -> Result<(), End> {
        self.last_look = Instant::now();
        self.session.tell(self.link.take_bytes(), self.waiting().0);
        if self.session.app.has_changed().unwrap_or(true) {
            return Err(End::connection(ErrorCode::SESSION_ENDED));
        }
        if self.engine.has_changed().unwrap_or(true) {
            self.engine.mark_unchanged();
            self.session.purge();
        }
        if self.leave_by.is_none() && self.stop.is_cancelled() {
            self.say_goaway(GoawayReason::SHUTDOWN).await?;
        }
        self.look_at_clocks().await
    }

    /// Answers every whole frame that has arrived, as far as the limits allow, batch by batch.
    async fn answer_all(&mut self) -> Result<(), End> {
        loop {
            let more = self.answer_batch()?;
            self.session.engine.send();
            if self.link.output.len() >= GATHER {
                // The other connections that are ready work first, and the writes follow each other: a
                // peer with many connections is woken once for all of them, not once for each.
                tokio::task::yield_now().await;
            }
            if !self.link.output.is_empty() {
                self.link.flush().await?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Answers frames until the output is worth a write. Returns whether frames may be left.
    fn answer_batch(&mut self) -> Result<bool, End> {
        if self.link.input.unread().is_empty() {
            self.partial_since = None;
            return Ok(false);
        }
        let now = Instant::now();
        self.session.begin_batch(now);
        let more = self.answer_frames(now)?;
        self.session.tally.end_batch(now);
        Ok(more)
    }

    fn answer_frames(&mut self, now: Instant) -> Result<bool, End> {
        let max_frame = self.gateway.limits.max_frame;
        while self.link.output.len() < FLUSH_AT {
            if self.is_full() {
                return Ok(false);
            }
            let Link { input, output, .. } = &mut *self.link;
            match Frame::parse(input.unread(), max_frame) {
                Ok(Some(frame)) => {
                    self.last_request = now;
                    self.partial_since = None;
                    match self.session.handle(&frame, output) {
                        Handled::Replied | Handled::Sent => {}
                        Handled::Fatal => return Err(End::Written),
                        Handled::Later(job) => {
                            self.later_bytes += job.size();
                            self.later.spawn(job.run());
                        }
                    }
                    let length = frame.wire_len();
                    input.consume(length);
                }
                Ok(None) => {
                    let arriving = !input.unread().is_empty();
                    self.partial_since = arriving.then(|| self.partial_since.unwrap_or(now));
                    return Ok(false);
                }
                Err(error) => return Err(End::Refused(CONNECTION, error.into())),
            }
        }
        Ok(true)
    }

    async fn next_event(&mut self) -> Event {
        let (sent, _) = self.session.engine.waiting();
        let busy = self.is_full();
        let leaving = self.leave_by.is_some();
        tokio::select! {
            biased;
            answers = self.session.engine.answers(), if sent > 0 => Event::Answers(answers),
            read = self.link.fill(), if !busy => Event::Input(read),
            reply = self.later.join_next(), if !self.later.is_empty() => Event::Reply(reply),
            _ = self.session.app.changed() => Event::AppChanged,
            _ = self.engine.changed() => Event::EngineChanged,
            () = self.stop.cancelled(), if !leaving => Event::Stopping,
            _ = self.clock.tick() => Event::Tick,
        }
    }

    async fn take(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Input(read) => {
                if read? == 0 {
                    return self.finish().await;
                }
            }
            Event::Reply(reply) => self.append(reply),
            Event::Answers(answers) => self.pass(answers),
            Event::AppChanged => return Err(End::connection(ErrorCode::SESSION_ENDED)),
            Event::EngineChanged => self.session.purge(),
            Event::Stopping => {
                self.say_goaway(GoawayReason::SHUTDOWN).await?;
            }
            Event::Tick => self.look_around().await?,
        }
        while let Some(reply) = self.later.try_join_next() {
            self.append(Some(reply));
        }
        while let Some(answers) = self.session.engine.try_answers() {
            self.pass(answers);
        }
        Ok(())
    }

    /// Passes on what engines of other processes have answered.
    fn pass(&mut self, answers: Answers) {
        let now = Instant::now();
        for tag in &answers.done {
            let seconds = now.duration_since(tag.began).as_secs_f64();
            self.session.answered(tag, seconds);
        }
        self.link.output.extend_from_slice(&answers.frames);
        for refused in answers.refused {
            if let Some(job) = self.session.refused(refused, &mut self.link.output) {
                self.later_bytes += job.size();
                self.later.spawn(job.run());
            }
        }
    }

    /// Waits for an answer that is owed; `false` when there is none.
    async fn settle_one(&mut self) -> bool {
        let (sent, _) = self.session.engine.waiting();
        if sent == 0 && self.later.is_empty() {
            return false;
        }
        tokio::select! {
            answers = self.session.engine.answers(), if sent > 0 => self.pass(answers),
            reply = self.later.join_next(), if !self.later.is_empty() => self.append(reply),
        }
        true
    }

    fn append(&mut self, reply: Option<Result<Reply, JoinError>>) {
        match reply {
            Some(Ok(reply)) => {
                self.later_bytes -= reply.held;
                let Reply { tag, outcome, .. } = &reply;
                match outcome {
                    Ok(()) => {
                        let seconds = tag.began.elapsed().as_secs_f64();
                        self.session.answered(tag, seconds);
                    }
                    Err(code) => {
                        self.session.tally.refused(tag.header.opcode, tag.suite, *code);
                    }
                }
                self.link.output.extend_from_slice(&reply.frame);
            }
            Some(Err(error)) => tracing::error!(%error, "a request failed"),
            None => {}
        }
    }

    /// The peer will send nothing more: every whole frame that it has sent is still answered.
    async fn finish(&mut self) -> Result<(), End> {
        loop {
            self.answer_all().await?;
            if !self.settle_one().await {
                return Err(End::Closed);
            }
        }
    }

    async fn look_at_clocks(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let limits = &self.gateway.limits;
        let over = |since: Instant, limit| now.duration_since(since) >= limit;
        if self.partial_since.is_some_and(|since| over(since, limits.frame_timeout)) {
            return Err(End::connection(ErrorCode::TIMEOUT));
        }
        let idle = self.later.is_empty() && self.session.engine.waiting().0 == 0;
        if idle && over(self.last_request, limits.idle_timeout) {
            return Err(End::connection(ErrorCode::IDLE));
        }
        match self.leave_by {
            Some(time) if now >= time => Err(self.leave().await),
            None if over(self.begun, limits.session_lifetime) => {
                self.say_goaway(GoawayReason::SESSION_LIFETIME).await
            }
            _ => Ok(()),
        }
    }

    /// The grace is over: what runs is still answered, nothing more is read.
    async fn leave(&mut self) -> End {
        while self.settle_one().await {}
        let stopping = self.stop.is_cancelled();
        End::connection(if stopping { ErrorCode::SHUTTING_DOWN } else { ErrorCode::SESSION_ENDED })
    }

    /// Asks the client to move to another connection, and goes on answering for a while.
    async fn say_goaway(&mut self, reason: GoawayReason) -> Result<(), End> {
        let grace = self.gateway.limits.drain_timeout;
        tracing::debug!(app = %self.session.app_key, ?reason, "GOAWAY");
        self.leave_by = Some(Instant::now() + grace);
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        let open =
            frame::begin(&mut self.link.output, Header { opcode: Opcode::GOAWAY, ..CONNECTION });
        Goaway { reason, grace_ms }.encode(&mut self.link.output);
        open.finish(&mut self.link.output);
        self.link.flush().await
    }
}
