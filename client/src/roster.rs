//! The connections that stand, and the choice among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};

use crate::driver::Command;
use crate::endpoint::Endpoint;
use crate::{Error, random};

/// How a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum State {
    /// It works, as far as anyone can tell.
    Fine,
    /// It has been silent for too long, PING included. One word from the server and it is fine again.
    Suspect,
    /// It takes no more requests, the server being well: the session has reached its lifetime.
    Leaving,
    /// It takes no more requests, the server going away.
    Stopping,
    /// It broke.
    Gone,
}

/// What the driver of a connection tells of it.
#[derive(Default)]
pub(crate) struct Gauge {
    state: AtomicU8,
    in_flight: AtomicUsize,
    changed: Notify,
}

impl Gauge {
    pub(crate) fn state(&self) -> State {
        const ALL: [State; 4] = [State::Fine, State::Suspect, State::Leaving, State::Stopping];
        let state = usize::from(self.state.load(Ordering::Acquire));
        ALL.get(state).copied().unwrap_or(State::Gone)
    }

    pub(crate) fn set_state(&self, state: State) {
        if self.state.swap(state as u8, Ordering::AcqRel) != state as u8 {
            self.changed.notify_one();
        }
    }

    /// Requests that were sent, and not answered yet.
    pub(crate) fn set_in_flight(&self, count: usize) {
        self.in_flight.store(count, Ordering::Relaxed);
    }

    /// Returns when the state has changed since the last call. For one caller only.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// A connection, as callers see it.
pub(crate) struct Link {
    pub(crate) endpoint: Endpoint,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) gauge: Arc<Gauge>,
}

impl Link {
    /// Requests on the connection, queued or sent. No counter of its own: nothing that callers would
    /// have to keep in step with the driver.
    fn load(&self) -> usize {
        let queued = self.commands.max_capacity() - self.commands.capacity();
        queued + self.gauge.in_flight.load(Ordering::Relaxed)
    }

    fn suits(&self, state: State, except: &[Endpoint]) -> bool {
        self.gauge.state() == state && !except.contains(&self.endpoint)
    }
}

/// The connections that stand. Reading it takes a read lock that is written when connections come
/// and go, never when requests do.
pub(crate) struct Roster {
    standing: watch::Sender<Standing>,
}

#[derive(Default)]
struct Standing {
    links: Vec<Arc<Link>>,
    /// Counts refusals, so that who waits can tell one that came while it waited.
    refusals: u64,
    refusal: Option<Error>,
}

/// Why a request was not handed to a connection. The request comes back.
enum Undelivered {
    /// No connection takes requests.
    Nobody(Command),
    /// The best connection has as many queued as it may.
    Full(Command, Arc<Link>),
}

impl Roster {
    pub(crate) fn new() -> Self {
        Self { standing: watch::Sender::new(Standing::default()) }
    }

    pub(crate) fn add(&self, link: Arc<Link>) {
        self.standing.send_modify(|standing| standing.links.push(link));
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

    /// Whether a connection to another machine than these works.
    pub(crate) fn has_other(&self, than: &[Endpoint]) -> bool {
        self.standing.borrow().links.iter().any(|link| link.suits(State::Fine, than))
    }

    /// Hands a request to a connection, and says to which machine; waits while there is none.
    ///
    /// Who waits does so in its own future: nothing here grows with the number of those who wait.
    pub(crate) async fn deliver(&self, mut command: Command) -> Result<Endpoint, Error> {
        let mut waiting = None;
        loop {
            match self.try_deliver(command, &[]) {
                Ok(endpoint) => return Ok(endpoint),
                Err(Undelivered::Full(back, link)) => match link.commands.send(back).await {
                    Ok(()) => return Ok(link.endpoint),
                    Err(mpsc::error::SendError(back)) => command = back,
                },
                Err(Undelivered::Nobody(back)) => {
                    command = back;
                    self.wait(&mut waiting).await?;
                }
            }
        }
    }

    /// Hands a request to a connection to another machine than these, if one works and has room.
    pub(crate) fn deliver_elsewhere(
        &self,
        command: Command,
        than: &[Endpoint],
    ) -> Result<Endpoint, Command> {
        self.try_deliver(command, than).map_err(|undelivered| match undelivered {
            Undelivered::Nobody(command) | Undelivered::Full(command, _) => command,
        })
    }

    /// The first call only notes where things stand: between it and the next, the caller looks again,
    /// so that no change is missed.
    async fn wait(&self, waiting: &mut Option<Waiting>) -> Result<(), Error> {
        let Some(Waiting { changes, refusals }) = waiting else {
            let changes = self.standing.subscribe();
            let refusals = changes.borrow().refusals;
            *waiting = Some(Waiting { changes, refusals });
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

    fn try_deliver(&self, command: Command, except: &[Endpoint]) -> Result<Endpoint, Undelivered> {
        let standing = self.standing.borrow();
        let Some(link) = choose(&standing.links, except) else {
            return Err(Undelivered::Nobody(command));
        };
        match link.commands.try_send(command) {
            Ok(()) => Ok(link.endpoint),
            Err(TrySendError::Full(back)) => Err(Undelivered::Full(back, link.clone())),
            // Its driver has just ended, and says so before it takes itself off the list.
            Err(TrySendError::Closed(back)) => Err(Undelivered::Nobody(back)),
        }
    }
}

struct Waiting {
    changes: watch::Receiver<Standing>,
    refusals: u64,
}

/// The less loaded of two connections chosen at random: nearly as even as asking all of them, and no
/// rush of everybody to the same one (Mitzenmacher, "The power of two choices in randomized load
/// balancing", 2001). One that is silent is taken when there is no other, unless others are wanted.
fn choose<'a>(links: &'a [Arc<Link>], except: &[Endpoint]) -> Option<&'a Arc<Link>> {
    let first = random::below(links.len());
    let second = first + 1 + random::below(links.len().saturating_sub(1));
    let pair = [first, second % links.len().max(1)].map(|place| links.get(place));
    let fine = |link: &&Arc<Link>| link.suits(State::Fine, except);
    match pair.map(|link| link.filter(fine)) {
        [Some(one), Some(other)] => Some(if other.load() < one.load() { other } else { one }),
        [Some(one), None] | [None, Some(one)] => Some(one),
        [None, None] => links
            .iter()
            .find(fine)
            .or_else(|| links.iter().find(|l| except.is_empty() && l.suits(State::Suspect, &[]))),
    }
}
