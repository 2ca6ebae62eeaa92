//! What the requests of a connection share: where it comes from, whose it is, and the session of that app.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use sealwire_engine::EngineError;
use sealwire_engine::State;
use sealwire_engine::document::{Grants, Op};
use sealwire_engine::host::admission::Place;
use sealwire_protocol::message::Failure;
use sealwire_protocol::{ErrorCode, Flags, Frame, Header, Opcode};
use tokio::sync::watch;
use zeroize::{Zeroize, Zeroizing};

use super::answer::{Problem, RequestId};
use super::token::{Token, hash_of};
use super::{HttpLimits, Shared};
use crate::Refusal;
use crate::directory::{Directory, KeyEntry, NEVER};
use crate::later::Job;
use crate::listener::Counted;
use crate::session::{Handled, Session};

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 256;

/// Keys that are kept by name.
const KEYS: usize = 64;

/// A buffer above which it is given back after a long message, in bytes.
const KEEP: usize = 256 * 1024;

/// How fast an answer is taken at least, in bytes a second: meanwhile it holds room that others wait for.
const LEAST_RATE: u64 = 128 * 1024;

/// How long an answer may be on its way in all, beside others.
const LONGEST: Duration = Duration::from_secs(600);

/// A request that is being answered. Times are milliseconds after the beginning.
struct Turn {
    until: u64,
    /// No later than this, whatever goes beside it.
    last: u64,
    /// Of its answer; 0 before there is one.
    bytes: u64,
}

/// See the module.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: IpAddr,
    place: Mutex<(Place, Counted)>,
    known: AtomicBool,
    engine: Mutex<watch::Receiver<State>>,
    caller: Mutex<Option<Arc<Caller>>>,
    /// A random number, and that of the last request.
    id: u64,
    requests: AtomicU64,
    begun: Instant,
    /// When the last request was answered, in milliseconds after the beginning.
    last: AtomicU64,
    /// Those that are being answered, by number.
    busy: Mutex<HashMap<u64, Turn>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request that is being answered, until its answer is taken.
pub(super) struct Busy {
    connection: Arc<Connection>,
    number: u64,
}

impl Busy {
    /// The answer is there: from now on it is up to the peer to take so many bytes.
    pub(super) fn note_answered(&self, bytes: usize) {
        let write_timeout = self.connection.shared.gateway.limits.write_timeout;
        let least = |bytes| Duration::from_secs(bytes / LEAST_RATE);
        let bytes = bytes as u64;
        let mut busy = lock(&self.connection.busy);
        // All answers of a connection share its way: those that go have longer for this one.
        let more = u64::try_from(least(bytes).as_millis()).unwrap_or(u64::MAX);
        let mut all = bytes;
        for turn in busy.values_mut().filter(|turn| turn.bytes > 0) {
            turn.until = turn.until.saturating_add(more).min(turn.last);
            all += turn.bytes;
        }
        let until = self.connection.after(write_timeout + least(all));
        let last = until.max(self.connection.after(LONGEST));
        busy.insert(self.number, Turn { until, last, bytes });
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.connection.last.store(self.connection.elapsed(), Ordering::Relaxed);
        lock(&self.connection.busy).remove(&self.number);
    }
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, peer: IpAddr, place: (Place, Counted)) -> Self {
        let mut id = [0; 8];
        // Ids need only differ: without randomness, the number of the request still does.
        let _ = getrandom::fill(&mut id);
        let engine = Mutex::new(shared.gateway.engine.watch());
        Self {
            shared,
            peer,
            place: Mutex::new(place),
            known: AtomicBool::new(false),
            engine,
            caller: Mutex::default(),
            id: u64::from_le_bytes(id),
            requests: AtomicU64::new(0),
            begun: Instant::now(),
            last: AtomicU64::new(0),
            busy: Mutex::default(),
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn after(&self, time: Duration) -> u64 {
        self.elapsed().saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    /// A request begins.
    pub(super) fn begin(self: &Arc<Self>) -> (Busy, RequestId) {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let HttpLimits { body_timeout, request_timeout, .. } = self.shared.limits;
        let time = body_timeout + request_timeout + self.shared.gateway.limits.write_timeout;
        let until = self.after(time);
        lock(&self.busy).insert(number, Turn { until, last: until, bytes: 0 });
        (Busy { connection: self.clone(), number }, RequestId { connection: self.id, number })
    }

    /// Whether an app has shown on it who it is.
    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Whether nothing was asked for too long.
    pub(super) fn is_idle(&self) -> bool {
        let limit = self.shared.gateway.limits.idle_timeout;
        self.is_quiet() && self.has_passed(limit, self.last.load(Ordering::Relaxed))
    }

    /// Whether a request takes longer than it may, or its answer is taken too slowly.
    pub(super) fn is_stuck(&self) -> bool {
        let now = self.elapsed();
        lock(&self.busy).values().any(|turn| now >= turn.until)
    }

    fn has_passed(&self, time: Duration, since: u64) -> bool {
        u128::from(self.elapsed().saturating_sub(since)) >= time.as_millis()
    }

    /// Whether nothing is being answered.
    pub(super) fn is_quiet(&self) -> bool {
        lock(&self.busy).is_empty()
    }

    /// An app has shown who it is.
    pub(super) fn known(&self) {
        if !self.known.swap(true, Ordering::Relaxed) {
            let mut place = lock(&self.place);
            place.0.authenticated();
            place.1.authenticated();
        }
    }

    /// Tells what was counted, and drops what an engine that was sealed has opened.
    pub(super) fn look_around(&self) {
        let caller = lock(&self.caller).clone();
        let Some(caller) = caller else { return };
        let mut engine = lock(&self.engine);
        let changed = engine.has_changed().unwrap_or(true);
        engine.mark_unchanged();
        let mut work = lock(&caller.work);
        work.session.tell((0, 0), 0);
        if changed {
            work.session.purge();
        }
    }

    /// Whose request it is, when that is who has called before and nothing has changed.
    pub(super) fn known_caller(&self, headers: &HeaderMap) -> Option<Arc<Caller>> {
        let hash = hash_of(token_of(headers).ok()?);
        let caller = lock(&self.caller).clone()?;
        (caller.token.hash == hash && self.lets_go_on(&caller.token)).then_some(caller)
    }

    /// Whether a token is good, as far as can be told without asking anybody.
    pub(super) fn lets_go_on(&self, token: &Token) -> bool {
        self.shared.gateway.directory.is_kept_up() && self.shared.tokens.is_good(token)
    }

    /// Whose request it is.
    ///
    /// # Errors
    /// 403; 429, 503.
    pub(super) async fn caller(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Problem> {
        self.shared.gateway.directory.keep_up().await;
        if let Some(caller) = self.known_caller(headers) {
            return Ok(caller);
        }
        let hash = hash_of(token_of(headers)?);
        let token = self.shared.tokens.find(self.peer, &hash).await?;
        self.called_by(token).await
    }

    /// Takes an app's token as that of the connection, from now on.
    pub(super) async fn called_by(&self, token: Arc<Token>) -> Result<Arc<Caller>, Problem> {
        let gateway = &self.shared.gateway;
        if !token.lets_in(self.peer) {
            let reason = "the address is not on the app's allow-list";
            gateway.auditor.tell_refused(&token.app.id, Some(self.peer), reason);
            return Err(Problem::denied());
        }
        let mut site = gateway.directory.site().await?;
        let mut engine = gateway.engine.session(&site.site, &token.capability);
        if let Err(EngineError::OtherRoot { .. }) = engine {
            // A root rotation has ended since the site's keys were read.
            gateway.directory.doubt_site().await;
            site = gateway.directory.site().await?;
            engine = gateway.engine.session(&site.site, &token.capability);
        }
        let engine = engine.map_err(Refusal::from)?;
        let app = (token.app.id.clone(), self.peer);
        let session = Session::new(gateway.clone(), app, token.watch.clone(), engine).apart();
        let work = Work { session, request: Vec::new(), reply: Vec::new() };
        let keys = Mutex::default();
        let caller = Arc::new(Caller { token, work: Mutex::new(work), keys });
        self.known();
        *lock(&self.caller) = Some(caller.clone());
        Ok(caller)
    }
}

/// The token of a request, in one of the two headers that clients use.
pub(super) fn token_of(headers: &HeaderMap) -> Result<&[u8], Problem> {
    let bearer = || {
        let value = headers.get(AUTHORIZATION)?.as_bytes();
        let (scheme, token) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
    };
    let named = headers.get("x-vault-token").map(|value| value.as_bytes());
    let token = named.filter(|token| !token.is_empty()).or_else(bearer);
    token.filter(|token| !token.is_empty() && token.len() <= MAX_TOKEN).ok_or_else(Problem::denied)
}

/// An app, on a connection.
pub(super) struct Caller {
    pub(super) token: Arc<Token>,
    work: Mutex<Work>,
    /// Keys that it has named lately, and the directory's generation then.
    keys: Mutex<HashMap<String, (u64, Arc<KeyEntry>)>>,
}

/// Its session, and the frames that its requests become.
struct Work {
    session: Session,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Work {
    fn exchange(
        &mut self,
        opcode: Opcode,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), Refusal>,
        take: impl FnOnce(&[u8]),
    ) -> Result<Option<Box<Job>>, Refusal> {
        let Self { session, request, reply } = self;
        encode(request)?;
        let header = Header { opcode, flags: Flags::REQUEST, request_id: 1 };
        let now = Instant::now();
        session.begin_batch(now);
        let handled = session.handle(&Frame { header, body: request }, reply);
        session.tally.end_batch(now);
        match handled {
            Handled::Later(job) => Ok(Some(job)),
            _ => body(reply).map(take).map(|()| None),
        }
    }

    fn wipe(&mut self) {
        for buffer in [&mut self.request, &mut self.reply] {
            buffer[..].zeroize();
            buffer.clear();
            if buffer.capacity() > KEEP {
                *buffer = Vec::new();
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.wipe();
        self.session.tell((0, 0), 0);
    }
}

impl Caller {
    pub(super) fn grants(&self) -> &Grants {
        &self.token.app.grants
    }

    /// Whether the app may do this with the key of this name.
    ///
    /// # Errors
    /// 403.
    pub(super) fn check(&self, op: Op, name: &str) -> Result<(), Problem> {
        if self.grants().allows(op, name) { Ok(()) } else { Err(Problem::denied()) }
    }

    /// A key by its name, as the directory has it. It takes no lock that other connections share, while nothing has
    /// changed.
    ///
    /// # Errors
    /// As [`Directory::find`].
    pub(super) async fn find(
        &self,
        directory: &Directory,
        name: &str,
    ) -> Result<Arc<KeyEntry>, Refusal> {
        let generation = directory.generation();
        if let Some((known, key)) = lock(&self.keys).get(name)
            && *known == generation
            && generation != NEVER
        {
            return Ok(key.clone());
        }
        let key = Box::pin(directory.find(name)).await?;
        let mut keys = lock(&self.keys);
        if keys.len() >= KEYS {
            keys.clear();
        }
        keys.insert(name.to_owned(), (generation, key.clone()));
        Ok(key)
    }

    /// Whether engines are processes of their own: then several requests are under way at once.
    pub(super) fn is_remote(&self) -> bool {
        lock(&self.work).session.engine.is_remote()
    }

    /// Does what a frame of TCP would ask for, and hands the reply's body on, unless it comes later: then there is a
    /// job to be [finished](Caller::finish).
    ///
    /// # Errors
    /// [`Refusal`].
    pub(super) fn start(
        &self,
        opcode: Opcode,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), Refusal>,
        take: impl FnOnce(&[u8]),
    ) -> Result<Option<Box<Job>>, Refusal> {
        let mut work = lock(&self.work);
        work.wipe();
        let done = work.exchange(opcode, encode, take);
        // Whatever has become of it: one of them holds a message.
        work.wipe();
        done
    }

    /// Does a job: the frame of its reply, of which [`body`] takes the body.
    pub(super) async fn finish(&self, job: Box<Job>) -> Zeroizing<Vec<u8>> {
        let reply = job.run().await;
        let session = &mut lock(&self.work).session;
        let tag = &reply.tag;
        match reply.outcome {
            Ok(()) => session.answered(tag, tag.began.elapsed().as_secs_f64()),
            Err(code) => session.tally.refused(tag.header.opcode, tag.suite, code),
        }
        reply.frame
    }
}

/// The body of a reply.
///
/// # Errors
/// The refusal that it is.
pub(super) fn body(frame: &[u8]) -> Result<&[u8], Refusal> {
    let broken = || Refusal::from(ErrorCode::INTERNAL);
    let frame = Frame::parse(frame, usize::MAX).map_err(|_| broken())?.ok_or_else(broken)?;
    if frame.header.flags == Flags::RESPONSE {
        return Ok(frame.body);
    }
    let Failure { code, detail } = Failure::parse(frame.body).map_err(|_| broken())?;
    Err(Refusal::new(code, detail.to_owned()))
}
