//! Engines of other processes, as a gateway or a manager uses them.
//!
//! Each engine gets a few connections that are kept up, pipelined, and shared by all callers. A request
//! goes to the less loaded of two of them, chosen at random; one that breaks, hangs or is sealed is left
//! out, and what it has not answered goes to another engine: every word may be said twice.
//!
//! | module | what it does |
//! |---|---|
//! | `link` | keeps a connection up |
//! | `connection` | proves the engine, sends requests, takes answers |
//! | `ring` | what a connection waits for |
//! | `batch` | requests that go together, and their answers |
//! | `session` | ENC, DEC and REENC of one client |
//! | `waiting` | how much waits, and may |
//! | `calls` | the other words, one function each |

mod batch;
mod calls;
mod connection;
mod link;
mod ring;
mod session;
mod waiting;

pub use batch::{Answers, ClientRequest, Refused};
pub(crate) use session::RemoteSession;
use waiting::Queued;
pub use waiting::Waiting;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::wire::message::{Lane, Status};
use crate::wire::tls::Identity;
use crate::{EngineError, SignedDocument, Site, State};
use batch::{Batch, Work};
use link::{Condition, Link};

/// Most engines of a site.
pub const MAX_ENGINES: usize = 64;

/// Time after which a request that did not succeed at one engine is not tried at another: whoever waits for it
/// has most likely gone. What may wait gets longer.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_OF_BULK: Duration = Duration::from_secs(60);

/// Where the engines are.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// HOST:PORT of each engine, at most [`MAX_ENGINES`].
    pub engines: Vec<String>,
    /// Connections to each for live traffic; one more is for long messages, and one for what may wait.
    pub connections: usize,
    /// Time for a connection, TLS included.
    pub connect_timeout: Duration,
    /// Requests that may wait for the engines, in each lane. Beyond, they are refused at once.
    pub max_waiting: Waiting,
}

/// Connections to the engines of a site.
pub struct Pool {
    engines: Vec<Engine>,
    identity: Arc<Identity>,
    connect_timeout: Duration,
    /// The site's keys, and a document that only they verify.
    site: watch::Sender<Option<Arc<Proof>>>,
    state: watch::Sender<State>,
    next_session: AtomicU64,
    /// By lane: what may wait keeps nothing out that may not.
    queued: [Queued; Lane::ALL.len()],
    max_waiting: Waiting,
    dice: AtomicU64,
}

/// An engine.
struct Engine {
    address: String,
    /// By lane.
    links: [Vec<Arc<Link>>; Lane::ALL.len()],
    /// What it has told last, while it is connected.
    status: Mutex<Option<Status>>,
    /// What it has proven itself with last.
    certificate: Mutex<Option<CertificateDer<'static>>>,
}

/// What an engine must verify before it gets work.
pub(crate) struct Proof {
    pub(crate) site: Arc<[u8]>,
    pub(crate) decoy: SignedDocument,
}

/// What is known of an engine.
#[derive(Debug, Clone)]
pub struct EngineReport {
    /// HOST:PORT.
    pub address: String,
    /// What it has told last; `None` while it cannot be reached.
    pub status: Option<Status>,
    /// Connections that take work.
    pub links_up: usize,
    /// Whether it is open with another root key than the site's.
    pub is_foreign: bool,
    /// The certificate that it proves itself with, DER.
    pub certificate: Option<CertificateDer<'static>>,
}

impl Engine {
    fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.links.iter().flatten()
    }

    /// Whether live traffic can go there. What other lanes can take says nothing of that.
    fn takes_work(&self) -> bool {
        use Condition::{Suspect, Up};
        let mut live = self.links[Lane::Live as usize].iter();
        live.any(|link| matches!(link.condition(), Up | Suspect))
    }

    fn certificate(&self) -> MutexGuard<'_, Option<CertificateDer<'static>>> {
        self.certificate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> MutexGuard<'_, Option<Status>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Connects to engines, until `stop`.
    #[must_use]
    pub fn start(
        config: &PoolConfig,
        identity: Arc<Identity>,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        let mut queues = Vec::new();
        let addresses = config.engines.iter().take(MAX_ENGINES).enumerate();
        let engines = addresses.map(|(number, address)| {
            let mut links = |lane, count: usize| {
                let made = (0..count).map(|_| {
                    let (sender, queue) = mpsc::unbounded_channel();
                    let link = Arc::new(Link::new(number, lane, sender));
                    queues.push((link.clone(), queue));
                    link
                });
                made.collect::<Vec<_>>()
            };
            let live = links(Lane::Live, config.connections.max(1));
            let links = [live, links(Lane::Bulk, 1), links(Lane::Long, 1)];
            Engine {
                address: address.clone(),
                links,
                status: Mutex::default(),
                certificate: Mutex::default(),
            }
        });
        let engines = engines.collect();
        let pool = Arc::new(Self {
            engines,
            identity,
            connect_timeout: config.connect_timeout,
            site: watch::Sender::new(None),
            state: watch::Sender::new(State::Away),
            next_session: AtomicU64::new(1),
            queued: Default::default(),
            max_waiting: config.max_waiting,
            dice: AtomicU64::new(0x9E37_79B9_7F4A_7C15),
        });
        for (link, queue) in queues {
            tokio::spawn(link::run(pool.clone(), link, queue, stop.clone()));
        }
        pool
    }

    /// How many engines there are.
    pub(crate) fn count(&self) -> usize {
        self.engines.len()
    }

    /// What is known of each engine.
    #[must_use]
    pub fn report(&self) -> Vec<EngineReport> {
        let report = |engine: &Engine| EngineReport {
            address: engine.address.clone(),
            status: engine.status().clone(),
            links_up: engine.links().filter(|link| link.is_up()).count(),
            is_foreign: engine.links().any(|link| link.condition() == Condition::Foreign),
            certificate: engine.certificate().clone(),
        };
        self.engines.iter().map(report).collect()
    }

    /// Requests that wait for engines.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queued.iter().map(|queued| queued.requests.load(Ordering::Relaxed)).sum()
    }

    /// Says which site it is: before an engine gets work, it must verify this document under these keys.
    pub(crate) fn set_site(&self, site: &Site, decoy: &SignedDocument) {
        let site: Arc<[u8]> = site.to_bytes().into();
        self.site.send_if_modified(|known| {
            let same =
                known.as_ref().is_some_and(|known| known.site == site && known.decoy == *decoy);
            if !same {
                *known = Some(Arc::new(Proof { site, decoy: decoy.clone() }));
            }
            !same
        });
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Notes what an engine has told; `None` when its last connection is gone.
    fn note(&self, engine: usize, status: Option<Status>) {
        *self.engines[engine].status() = status;
        self.judge();
    }

    /// What the engines are, taken together. One that is open but takes no work does not count: it is yet to
    /// prove that its root key is the site's, or has failed to. Sealed they are when it takes the cards to go on;
    /// while one is away, that may come back by itself.
    fn judge(&self) {
        // Within the lock of the state: the last verdict is the newest.
        self.state.send_if_modified(|known| {
            let state = self.verdict();
            std::mem::replace(known, state) != state
        });
    }

    fn verdict(&self) -> State {
        let (mut sealed, mut away) = (false, false);
        let mut open: Option<Status> = None;
        for engine in &self.engines {
            let Some(status) = engine.status().clone() else {
                away = true;
                continue;
            };
            match status.state {
                // In the midst of a root rotation, who holds both has the newer one.
                State::Open { .. }
                    if engine.takes_work() && (open.is_none() || status.previous.is_some()) =>
                {
                    open = Some(status);
                }
                State::Sealed => sealed = true,
                _ => {}
            }
        }
        let none = if sealed && !away { State::Sealed } else { State::Away };
        open.map_or(none, |status| status.state)
    }

    /// Sends messages to an engine, or tells their origin why not.
    pub(crate) fn dispatch(&self, work: Work) {
        let Waiting { requests, bytes } = self.note_waiting(&work);
        if requests > self.max_waiting.requests || bytes > self.max_waiting.bytes {
            let error = EngineError::Away("too many requests wait for the engines".into());
            return self.refuse(&work, &error);
        }
        self.pass_on(work);
    }

    /// Sends a word that is not about a message. Messages that wait do not keep it back: without words, nobody
    /// logs in, and no change is taken in.
    fn dispatch_word(&self, work: Work) {
        self.note_waiting(&work);
        self.pass_on(work);
    }

    /// Counts work among what waits, and gives how much that is.
    fn note_waiting(&self, work: &Work) -> Waiting {
        let bytes = bytes_of(&work.batch, &work.range);
        self.queued[work.batch.lane as usize].add(work.range.len(), bytes)
    }

    /// Sends work that waits already to an engine that was not tried, or gives it back as refused.
    fn pass_on(&self, work: Work) {
        let Batch { items, lane, .. } = &*work.batch;
        let patience = if *lane == Lane::Bulk { PATIENCE_OF_BULK } else { PATIENCE };
        if items[work.range.start].tag.began.elapsed() > patience {
            return self.refuse(&work, &EngineError::Away("it has waited for too long".into()));
        }
        match self.pick(&work) {
            Some(link) => {
                link.add_load(work.range.len());
                if let Err(mpsc::error::SendError(work)) = link.queue.send(work) {
                    self.refuse(&work, &EngineError::Away("shutting down".into()));
                }
            }
            None => self.refuse(&work, &self.why_not()),
        }
    }

    /// Whether work could go to an engine that was not tried.
    fn has_another(&self, work: &Work) -> bool {
        self.pick(work).is_some()
    }

    /// The same, for work that another engine may answer yet: to one that is about to prove itself, it does not go.
    fn has_a_proven_one(&self, work: &Work) -> bool {
        self.pick(work).is_some_and(|link| link.condition() != Condition::Unproven)
    }

    /// The less loaded of two links that are up, of engines that were not tried. One that is slow to answer
    /// is better than none; and so is one that is about to prove itself: it says nothing of the work before.
    fn pick(&self, work: &Work) -> Option<&Arc<Link>> {
        let Batch { lane, engine: only, .. } = *work.batch;
        let candidates = |condition: Condition| {
            let engines = self.engines.iter().enumerate();
            let engines = engines.filter(move |(number, _)| {
                work.trace.tried >> number & 1 == 0 && only.is_none_or(|only| only == *number)
            });
            engines
                .flat_map(move |(_, engine)| &engine.links[lane as usize])
                .filter(move |link| link.condition() == condition)
        };
        for condition in [Condition::Up, Condition::Suspect, Condition::Unproven] {
            let count = candidates(condition).count();
            if count == 0 {
                continue;
            }
            let (one, other) = (self.roll(count), self.roll(count));
            let one = candidates(condition).nth(one);
            let other = candidates(condition).nth(other);
            // Between two looks one may have gone.
            let best = [one, other].into_iter().flatten().min_by_key(|link| link.load());
            if best.is_some() {
                return best;
            }
        }
        None
    }

    /// A number below `sides`: chance spreads work, nothing else hangs on it.
    fn roll(&self, sides: usize) -> usize {
        let seed = self.dice.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let mut mixed = seed ^ (seed >> 30);
        mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^= mixed >> 27;
        mixed = mixed.wrapping_mul(0x94D0_49BB_1331_11EB) ^ (mixed >> 31);
        usize::try_from(mixed >> 33).unwrap_or(0) % sides
    }

    /// Why no engine can be asked.
    fn why_not(&self) -> EngineError {
        match self.state() {
            State::Sealed => EngineError::Sealed,
            _ => EngineError::Away("none is reachable, open, and of this site's root key".into()),
        }
    }

    /// Gives work back to its origin.
    fn refuse(&self, work: &Work, error: &EngineError) {
        let mut answers = Answers::new();
        for at in work.range.clone() {
            let (tag, request) = (work.batch.items[at].tag, (work.batch.clone(), at));
            answers.bytes += work.batch.frame(at).len();
            answers.refused.push(Refused { tag, error: error.clone(), request });
        }
        self.deliver(work.batch.lane, &work.batch.origin, answers);
    }

    /// Gives answers to requests of a lane to who waits for them.
    fn deliver(&self, lane: Lane, origin: &mpsc::UnboundedSender<Answers>, answers: Answers) {
        self.queued[lane as usize].take(answers.count(), answers.bytes);
        // Who has gone does not wait.
        let _ = origin.send(answers);
    }
}

fn bytes_of(batch: &Batch, range: &std::ops::Range<usize>) -> usize {
    let start = range.start.checked_sub(1).map_or(0, |before| batch.items[before].end);
    let end = range.end.checked_sub(1).map_or(0, |last| batch.items[last].end);
    end.saturating_sub(start)
}
