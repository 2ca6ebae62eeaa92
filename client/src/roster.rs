//! The connections that stand, and the choice among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::{Notify, mpsc, watch};

use crate::command::{Command, Lane};
use crate::endpoint::Endpoint;
use crate::gauge::{Gauge, State};
use crate::{Error, random};

/// Which connection it is. Several may lead to one endpoint, and behind that endpoint, where a load
/// balancer stands there, to several servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) endpoint: Endpoint,
    pub(crate) id: u64,
}

/// A connection, as callers see it.
pub(crate) struct Link {
    pub(crate) place: Place,
    /// Its queues, by lane: a live request never stands behind one that may wait.
    pub(crate) live: mpsc::Sender<Command>,
    pub(crate) bulk: mpsc::Sender<Command>,
    pub(crate) gauge: Arc<Gauge>,
}

impl Link {
    fn queue(&self, lane: Lane) -> &mpsc::Sender<Command> {
        match lane {
            Lane::Live => &self.live,
            Lane::Bulk => &self.bulk,
        }
    }

    /// Requests on the connection, queued or sent. No counter of its own: nothing that callers would
    /// have to keep in step with the driver.
    fn load(&self) -> usize {
        let queued = |queue: &mpsc::Sender<Command>| queue.max_capacity() - queue.capacity();
        queued(&self.live) + queued(&self.bulk) + self.gauge.in_flight()
    }
}

/// The connections that stand. Reading it takes a read lock that is written when connections come
/// and go, never when requests do.
pub(crate) struct Roster {
    standing: watch::Sender<Standing>,
    last_id: AtomicU64,
    wanted: Notify,
}

#[derive(Default)]
struct Standing {
    links: Vec<Arc<Link>>,
    /// Counts refusals, so that who waits can tell one that came while it waited.
    refusals: u64,
    refusal: Option<Error>,
    /// Why the last try to connect has failed; none since a connection stands.
    unreached: Option<Error>,
}

/// What has become of a request that was to be handed to a connection.
pub(crate) enum Delivery {
    /// It is handed over.
    To(Place),
    /// Everyone who may answer has refused it.
    NobodyElse(Command),
}

impl Roster {
    pub(crate) fn new() -> Self {
        let standing = watch::Sender::new(Standing::default());
        Self { standing, last_id: AtomicU64::new(0), wanted: Notify::new() }
    }

    /// A number that no other connection has.
    pub(crate) fn new_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn add(&self, link: Arc<Link>) {
        self.standing.send_modify(|standing| {
            standing.links.push(link);
            standing.unreached = None;
        });
    }

    pub(crate) fn remove(&self, link: &Arc<Link>) {
        self.standing.send_modify(|standing| standing.links.retain(|one| !Arc::ptr_eq(one, link)));
    }

    /// Tells those who wait for a connection that waiting is in vain.
    pub(crate) fn refuse(&self, error: &Error) {
        self.standing.send_modify(|standing| {
            standing.refusals += 1;
            standing.refusal = Some(error.clone());
        });
    }

    /// Remembers why no connection could be made. Nobody is woken: they wait on.
    pub(crate) fn set_unreached(&self, error: Error) {
        self.standing.send_if_modified(|standing| {
            if standing.links.is_empty() {
                standing.unreached = Some(error);
            }
            false
        });
    }

    /// Why no connection stands, when it is known.
    pub(crate) fn unreached(&self) -> Option<Error> {
        self.standing.borrow().unreached.clone()
    }

    /// Whether a connection works.
    pub(crate) fn has_fine(&self) -> bool {
        self.has_fine_besides(None)
    }

    /// Whether a connection other than this one works, wherever it leads.
    pub(crate) fn has_fine_besides(&self, id: Option<u64>) -> bool {
        let fine =
            |link: &Arc<Link>| link.gauge.state() == State::Fine && Some(link.place.id) != id;
        self.standing.borrow().links.iter().any(fine)
    }

    /// Returns when a request begins to wait for a connection.
    pub(crate) fn wanted(&self) -> &Notify {
        &self.wanted
    }

    /// Hands a request to a connection; waits while there is none, or where its queue is full. Those
    /// in `refused_by` are left out: first all connections to the same endpoint, then themselves.
    ///
    /// Who waits does so in its own future: nothing here grows with the number of those who wait.
    pub(crate) async fn deliver(
        &self,
        mut command: Command,
        refused_by: &[Place],
    ) -> Result<Delivery, Error> {
        let mut waiting = None;
        loop {
            let Some(link) = self.choose(refused_by) else {
                if !refused_by.is_empty() {
                    return Ok(Delivery::NobodyElse(command));
                }
                self.wait(&mut waiting).await?;
                continue;
            };
            let queue = link.queue(command.lane);
            command = match queue.try_send(command) {
                Ok(()) => return Ok(Delivery::To(link.place)),
                Err(TrySendError::Full(back)) => match queue.send(back).await {
                    Ok(()) => return Ok(Delivery::To(link.place)),
                    Err(SendError(back)) => back,
                },
                // Its driver has ended, and has said so: it is not chosen again.
                Err(TrySendError::Closed(back)) => back,
            };
        }
    }

    /// The first call only notes where things stand: between it and the next, the caller looks again,
    /// so that no change is missed.
    async fn wait(&self, waiting: &mut Option<Waiting>) -> Result<(), Error> {
        let Some(Waiting { changes, refusals }) = waiting else {
            let changes = self.standing.subscribe();
            let refusals = changes.borrow().refusals;
            *waiting = Some(Waiting { changes, refusals });
            self.wanted.notify_waiters();
            return Ok(());
        };
        changes.changed().await.map_err(|_| Error::closed())?;
        let standing = changes.borrow();
        match &standing.refusal {
            Some(refusal) if standing.refusals != *refusals && standing.links.is_empty() => {
                Err(refusal.clone())
            }
            _ => Ok(()),
        }
    }

    /// The best connection for a request: one that works, or else one whose server has refused others
    /// for now. One that is silent is taken when there is no other, and the request is new.
    fn choose(&self, refused_by: &[Place]) -> Option<Arc<Link>> {
        let standing = self.standing.borrow();
        let links = &standing.links;
        let is = |state| move |link: &Link| link.gauge.state() == state;
        let elsewhere =
            |link: &Link| refused_by.iter().all(|place| place.endpoint != link.place.endpoint);
        let unasked = |link: &Link| refused_by.iter().all(|place| place.id != link.place.id);
        let (fine, refusing, suspect) = (is(State::Fine), is(State::Refusing), is(State::Suspect));
        less_loaded(links, |link| fine(link) && elsewhere(link))
            .or_else(|| less_loaded(links, |link| fine(link) && unasked(link)))
            .or_else(|| less_loaded(links, |link| refusing(link) && elsewhere(link)))
            .or_else(|| less_loaded(links, |link| refused_by.is_empty() && suspect(link)))
            .cloned()
    }
}

struct Waiting {
    changes: watch::Receiver<Standing>,
    refusals: u64,
}

/// The less loaded of two connections chosen at random: nearly as even as asking all of them, and no
/// rush of everybody to the same one (Mitzenmacher, "The power of two choices in randomized load
/// balancing", 2001).
fn less_loaded(links: &[Arc<Link>], suits: impl Fn(&Link) -> bool) -> Option<&Arc<Link>> {
    let first = random::below(links.len());
    let second = first + 1 + random::below(links.len().saturating_sub(1));
    let pair = [first, second % links.len().max(1)].map(|place| links.get(place));
    match pair.map(|link| link.filter(|link| suits(link))) {
        [Some(one), Some(other)] => Some(if other.load() < one.load() { other } else { one }),
        [Some(one), None] | [None, Some(one)] => Some(one),
        [None, None] => links.iter().find(|link| suits(link)),
    }
}
