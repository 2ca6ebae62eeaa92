//! What keeps a connection up: one task for each, which makes it, watches it, and replaces it.

use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::driver::Connection;
use crate::endpoint::{Claim, Endpoints, Reached, Unreached, Wish};
use crate::gauge::{Gauge, State};
use crate::pool::delays;
use crate::queues::Queues;
use crate::random;
use crate::roster::{Link, Place, Roster};

/// Age from which a connection counts as having worked: the next one is made without delay.
const SETTLED: Duration = Duration::from_secs(5);

/// The same for one that the server asked to leave: GOAWAY is no failure, but a server that says it
/// at once shall not be logged in to without a pause.
const SETTLED_BEFORE_GOAWAY: Duration = Duration::from_millis(500);

/// Delays between tries to connect: with what chance adds to them, a second at most.
const RECONNECT: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];

/// Least delay between tries to connect, however many requests begin to wait in the meantime.
const LEAST: Duration = Duration::from_millis(100);

/// Delay between tries to connect when our credentials are refused, and at random up to twice as
/// long: it takes a change at the site, and each try is one more line in its log of refusals.
const STRANGER: Duration = Duration::from_millis(2500);

/// Time over which the clients of a server that says GOAWAY, which hear it all at once, spread their
/// new connections, those that have another to work with.
const HERD: Duration = Duration::from_millis(500);

/// Delay between two tries to replace a connection.
const REPLACE_AGAIN: Duration = Duration::from_secs(1);

/// Time for which a server must refuse before its connection is moved: a refusal here and there,
/// between good answers, is no reason to.
const REFUSING: Duration = Duration::from_millis(250);

/// The same after connection upon connection was refused and none ever had a good answer: doubling
/// up to this.
const REFUSING_STILL: Duration = Duration::from_secs(10);

/// How often a connection that works is looked after.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Without traffic for about so long, PING is sent.
    pub(crate) idle_ping: Duration,
    /// After this, at random up to twice as long, so that not all clients move at once, a connection
    /// looks whether it had better be to another machine. That brings a restarted gateway, and a new
    /// record of a name, their share.
    pub(crate) rebalance: Duration,
}

/// Keeps one connection up.
pub(crate) struct Keeper {
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) roster: Arc<Roster>,
    /// Requests that may wait for the connection.
    pub(crate) queue: usize,
    pub(crate) pace: Pace,
}

/// Who hears how a keeper's first try went.
type Report = mpsc::Sender<Result<(), Unreached>>;

impl Keeper {
    /// Works until `closed` is. `report` is told how the first try went.
    pub(crate) fn start(self, mut closed: watch::Receiver<()>, report: Report) {
        tokio::spawn(async move {
            tokio::select! {
                // Nothing is ever sent: it is an error, once the pool is gone.
                _ = closed.changed() => {}
                () = self.keep(report) => {}
            }
        });
    }

    async fn keep(&self, report: Report) {
        let mut delays = delays(RECONNECT);
        let mut kept = self.first(report, &mut delays).await;
        let mut patience = REFUSING;
        loop {
            let begun = Instant::now();
            let replacement = self.attend(&kept, patience).await;
            let state = kept.link.gauge.state();
            patience = match state {
                State::Refusing if !kept.link.gauge.has_served() => {
                    (2 * patience).min(REFUSING_STILL)
                }
                _ => REFUSING,
            };
            let asked_to = matches!(state, State::Leaving | State::Stopping);
            let enough = if asked_to { SETTLED_BEFORE_GOAWAY } else { SETTLED };
            let settled = begun.elapsed() >= enough;
            if settled {
                delays = self::delays(RECONNECT);
            }
            // The new one stands before the old one is let go; where there is none yet, the old one
            // finishes what it has on its own, while this looks for the new one.
            kept = match replacement {
                Some(reached) => self.install(reached),
                None => {
                    drop(kept);
                    let due = if settled { Duration::ZERO } else { next(&mut delays) };
                    let herds = asked_to && self.roster.has_fine();
                    let herd = if herds { HERD } else { Duration::ZERO };
                    self.pause(due.min(LEAST), due.max(random::time(herd))).await;
                    self.install(self.reconnect(&mut delays).await)
                }
            };
        }
    }

    /// The first connection.
    async fn first(&self, report: Report, delays: &mut ExponentialBackoff) -> Kept {
        match self.endpoints.open(Wish::Any).await {
            Ok(reached) => {
                let kept = self.install(reached);
                let _ = report.send(Ok(())).await;
                kept
            }
            Err(unreached) => {
                self.roster.set_unreached(unreached.error.clone());
                let _ = report.send(Err(unreached)).await;
                drop(report);
                self.pause(LEAST, next(delays)).await;
                self.install(self.reconnect(delays).await)
            }
        }
    }

    /// Watches a connection until it takes no more requests, or a better one has been found. A server
    /// that refuses is given `patience`.
    async fn attend(&self, kept: &Kept, patience: Duration) -> Option<Reached> {
        let (gauge, endpoint) = (&kept.link.gauge, kept.link.place.endpoint);
        let mut before = State::Fine;
        loop {
            let state = gauge.state();
            let (pause, wish) = match state {
                State::Fine => {
                    let rebalance = self.pace.rebalance;
                    (rebalance + random::time(rebalance), Wish::Emptier(endpoint))
                }
                State::Refusing => (patience, Wish::Other(endpoint)),
                State::Suspect => (Duration::ZERO, Wish::Other(endpoint)),
                State::Leaving => return None,
                State::Stopping | State::Gone => {
                    self.endpoints.has_failed(endpoint);
                    return None;
                }
            };
            match (before, state) {
                (State::Fine, State::Fine) => {}
                (_, State::Fine) => self.endpoints.is_well(endpoint),
                _ => self.endpoints.has_failed(endpoint),
            }
            before = state;
            let better = async {
                sleep(pause).await;
                let opened = self.endpoints.open(wish).await;
                if opened.is_err() {
                    sleep(REPLACE_AGAIN).await;
                }
                opened.ok()
            };
            tokio::select! {
                () = gauge.changed() => {}
                better = better => if better.is_some() {
                    return better;
                }
            }
        }
    }

    /// Connects, with back-off, until it succeeds. Requests wait for that, unless it is in vain: then
    /// they fail with the reason.
    async fn reconnect(&self, delays: &mut ExponentialBackoff) -> Reached {
        loop {
            let Unreached { error, hopeless } = match self.endpoints.open(Wish::Any).await {
                Ok(reached) => return reached,
                Err(unreached) => unreached,
            };
            self.roster.set_unreached(error.clone());
            if hopeless {
                self.roster.refuse(&error);
            }
            if hopeless && error.is_auth() {
                sleep(STRANGER + random::time(STRANGER)).await;
            } else {
                self.pause(LEAST, next(delays)).await;
            }
        }
    }

    /// Waits for `most`; for `least` alone when a request begins to wait for a connection.
    async fn pause(&self, least: Duration, most: Duration) {
        let mut wanted = std::pin::pin!(self.roster.wanted().notified());
        // From now on, so that it is not missed in the first part either.
        wanted.as_mut().enable();
        sleep(least.min(most)).await;
        tokio::select! {
            () = wanted => {}
            () = sleep(most.saturating_sub(least)) => {}
        }
    }

    /// Starts the connection's driver, and puts the connection where callers find it.
    fn install(&self, reached: Reached) -> Kept {
        let Reached { opened, claim } = reached;
        let ((live, live_queue), (bulk, bulk_queue)) =
            (mpsc::channel(self.queue), mpsc::channel(self.queue));
        let (roster, gauge) = (self.roster.clone(), Arc::new(Gauge::default()));
        let place = Place { endpoint: claim.endpoint, id: roster.new_id() };
        let driver = Connection::new(
            opened,
            place.id,
            Queues::new(live_queue, bulk_queue),
            gauge.clone(),
            roster.clone(),
            self.pace.idle_ping,
        );
        tokio::spawn(driver.run());
        let link = Arc::new(Link { place, live, bulk, gauge });
        roster.add(link.clone());
        Kept { roster, link, _claim: claim }
    }
}

fn next(delays: &mut ExponentialBackoff) -> Duration {
    delays.next().unwrap_or(RECONNECT[1])
}

/// A connection in the roster. Off it, nobody can send to it any more: its driver finishes, and ends.
struct Kept {
    roster: Arc<Roster>,
    link: Arc<Link>,
    _claim: Claim,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.roster.remove(&self.link);
    }
}

#[cfg(test)]
mod tests {
    use sealwire_protocol::Opcode;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;
    use crate::command::{Command, Lane};
    use crate::{Address, Credentials};

    #[tokio::test]
    async fn a_request_that_begins_to_wait_ends_the_pause_before_the_next_try() {
        const AN_HOUR: Duration = Duration::from_secs(3600);
        let addresses = Address::list("sealwire+tcp://127.0.0.1").expect("one");
        let secret = format!("sws1_{}", "A".repeat(43));
        let credentials = Credentials::new("ak", &secret).expect("in form");
        let endpoints = Endpoints::new(addresses, credentials, None, false, AN_HOUR);
        let keeper = Keeper {
            endpoints: Arc::new(endpoints.expect("made")),
            roster: Arc::new(Roster::new()),
            queue: 1,
            pace: Pace { idle_ping: AN_HOUR, rebalance: AN_HOUR },
        };
        let (reply, _outcome) = oneshot::channel();
        let deadline = Instant::now() + AN_HOUR;
        let (opcode, lane, body) = (Opcode::ENC, Lane::Live, Default::default());
        let command = Command { opcode, lane, body, reply, deadline };
        let ended = async {
            tokio::select! {
                // The pause first: it is a request that begins to wait in the meantime that ends it.
                biased;
                () = keeper.pause(Duration::from_millis(10), AN_HOUR) => {}
                _ = keeper.roster.deliver(command, &[]) => panic!("there is no connection"),
            }
        };
        timeout(Duration::from_secs(60), ended).await.expect("an hour is cut short");
    }
}
