//! Several connections, each kept up by a task of its own, and requests that move from one that fails
//! to another.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use sealwire_protocol::Opcode;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::driver::{Body, Command, Connection, Outcome};
use crate::endpoint::{Claim, Endpoints, Reached, Unreached, Wish};
use crate::roster::{Gauge, Link, Roster, State};
use crate::{Error, random};

/// Requests that wait in the connections' queues, all together, before callers have to.
const QUEUE: usize = 1024;

/// Time that the first connection has for itself before the others try as well: where it comes up, or
/// is refused, the server sees one login, not one for each connection.
const HEAD_START: Duration = Duration::from_millis(250);

/// Age from which a connection counts as having worked: the next one is made without delay.
const SETTLED: Duration = Duration::from_secs(5);

/// The same for one that the server asked to leave: GOAWAY is no failure, but a server that says it
/// at once shall not be logged in to without a pause.
const SETTLED_BEFORE_GOAWAY: Duration = Duration::from_millis(500);

/// Longest delay between two tries to connect.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Delay between two tries to replace a connection that is silent.
const REPLACE_AGAIN: Duration = Duration::from_secs(1);

/// Milliseconds after which a connection looks whether it had better be to another machine; at random
/// up to twice as many, so that not all clients move at once. This brings a restarted gateway, and a
/// new record of a name, their share.
const SPREAD_MS: u64 = 30_000;

/// Connections that a request may see break before it is told. One that has broken so many is likelier
/// to be the reason than the victim: no request shall go round and bring all gateways down.
const MAX_LOST: u32 = 5;

/// The delays between tries to connect: doubling, with jitter.
fn delays() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(MAX_DELAY)
        .with_jitter()
        // Without a seed all clients would have the same jitter: the crate is built without `std`.
        .with_jitter_seed(random::bits())
        .without_max_times()
        .build()
}

/// See the module. When it is dropped, its connections finish what is in flight and close.
pub(crate) struct Pool {
    roster: Arc<Roster>,
    /// Keeps the keepers at work.
    _open: watch::Sender<()>,
}

impl Pool {
    /// Returns as soon as one connection stands; the others follow.
    pub(crate) async fn open(endpoints: Endpoints, connections: usize) -> Result<Self, Error> {
        let (open, closed) = watch::channel(());
        let roster = Arc::new(Roster::new());
        let (endpoints, queue) = (Arc::new(endpoints), QUEUE.div_ceil(connections));
        let (report, mut reports) = mpsc::channel(connections);
        let start = |report| {
            let (endpoints, roster) = (endpoints.clone(), roster.clone());
            Keeper { endpoints, roster, queue }.start(closed.clone(), report);
        };
        start(report.clone());
        let first = timeout(HEAD_START, reports.recv()).await.ok().flatten();
        if let Some(Err(error)) = first {
            // It has tried every machine: the others would learn nothing new.
            return Err(error);
        }
        (1..connections).for_each(|_| start(report.clone()));
        drop(report);
        if first.is_none() {
            any_good(&mut reports).await?;
        }
        Ok(Self { roster, _open: open })
    }

    /// Sends a request, and sends it again elsewhere when its connection fails or its server refuses
    /// it for now, for as long as `deadline` allows; the caller sees to it that it ends then.
    ///
    /// That is safe for every request there is: all are idempotent (spec.md, section 6).
    pub(crate) async fn ask(
        &self,
        opcode: Opcode,
        mut body: Body,
        deadline: Instant,
    ) -> Result<Bytes, Error> {
        let (mut refused_by, mut refusal, mut lost) = (Vec::new(), None, 0);
        while Instant::now() < deadline {
            let (reply, outcome) = oneshot::channel();
            let command = Command { opcode, body, reply, deadline };
            let endpoint = match &refusal {
                None => self.roster.deliver(command).await?,
                Some(refusal) => match self.roster.deliver_elsewhere(command, &refused_by) {
                    Ok(endpoint) => endpoint,
                    Err(_) => return Err(Error::clone(refusal)),
                },
            };
            match outcome.await.map_err(|_| Error::closed())? {
                Outcome::Done(answer) => return answer,
                Outcome::Elsewhere(back) => body = back,
                Outcome::Lost(back, error) => {
                    lost += 1;
                    if lost == MAX_LOST {
                        return Err(error);
                    }
                    body = back;
                }
                Outcome::Refused(back, error) => {
                    refused_by.push(endpoint);
                    refusal = Some(error);
                    body = back;
                }
            }
        }
        Err(Error::deadline())
    }
}

/// Waits for a connection to stand; for the clearest error when none does.
async fn any_good(reports: &mut mpsc::Receiver<Result<(), Error>>) -> Result<(), Error> {
    let mut clearest: Option<Error> = None;
    while let Some(report) = reports.recv().await {
        match report {
            Err(error) if !error.is_auth() => {
                if clearest.as_ref().is_none_or(|other| other.clarity() < error.clarity()) {
                    clearest = Some(error);
                }
            }
            told => return told,
        }
    }
    Err(clearest.unwrap_or_else(Error::closed))
}

/// Keeps one connection up.
struct Keeper {
    endpoints: Arc<Endpoints>,
    roster: Arc<Roster>,
    queue: usize,
}

impl Keeper {
    /// Works until the pool is dropped. `report` is told how the first try went.
    fn start(self, mut closed: watch::Receiver<()>, report: mpsc::Sender<Result<(), Error>>) {
        tokio::spawn(async move {
            tokio::select! {
                // Nothing is ever sent: it is an error, once the pool is gone.
                _ = closed.changed() => {}
                () = self.keep(report) => {}
            }
        });
    }

    async fn keep(&self, report: mpsc::Sender<Result<(), Error>>) {
        let mut delays = delays();
        let first = self.endpoints.open(Wish::Any).await;
        let mut kept = match first {
            Ok(reached) => {
                let kept = self.install(reached);
                let _ = report.send(Ok(())).await;
                drop(report);
                kept
            }
            Err(unreached) => {
                let _ = report.send(Err(unreached.error)).await;
                drop(report);
                sleep(delays.next().unwrap_or(MAX_DELAY)).await;
                self.install(self.reconnect(&mut delays).await)
            }
        };
        loop {
            let begun = Instant::now();
            let replacement = self.attend(&kept).await;
            let enough = match kept.link.gauge.state() {
                State::Leaving | State::Stopping => SETTLED_BEFORE_GOAWAY,
                _ => SETTLED,
            };
            let settled = begun.elapsed() >= enough;
            if settled {
                delays = self::delays();
            }
            // The new one stands before the old one is let go; where there is none yet, the old one
            // finishes what it has on its own, while this looks for the new one.
            kept = match replacement {
                Some(reached) => self.install(reached),
                None => {
                    drop(kept);
                    if !settled {
                        sleep(delays.next().unwrap_or(MAX_DELAY)).await;
                    }
                    self.install(self.reconnect(&mut delays).await)
                }
            };
        }
    }

    /// Watches a connection until it takes no more requests, or a better one has been found.
    async fn attend(&self, kept: &Kept) -> Option<Reached> {
        let (gauge, endpoint) = (&kept.link.gauge, kept.link.endpoint);
        loop {
            let state = gauge.state();
            let wish = match state {
                State::Fine => {
                    let while_fine = Duration::from_millis(SPREAD_MS + random::bits() % SPREAD_MS);
                    tokio::select! {
                        () = gauge.changed() => continue,
                        () = sleep(while_fine) => Wish::Emptier(endpoint),
                    }
                }
                State::Suspect => Wish::Other(endpoint),
                State::Leaving => return None,
                State::Stopping | State::Gone => {
                    self.endpoints.has_failed(endpoint);
                    return None;
                }
            };
            let better = async {
                if state == State::Suspect {
                    self.endpoints.has_failed(endpoint);
                }
                let opened = self.endpoints.open(wish).await;
                if opened.is_err() {
                    sleep(REPLACE_AGAIN).await;
                }
                opened
            };
            tokio::select! {
                () = gauge.changed() => {}
                opened = better => if let Ok(reached) = opened {
                    return Some(reached);
                }
            }
        }
    }

    /// Connects, with back-off, until it succeeds. Requests wait for that, unless the server refuses
    /// us: then they fail with its refusal.
    async fn reconnect(&self, delays: &mut impl Iterator<Item = Duration>) -> Reached {
        loop {
            match self.endpoints.open(Wish::Any).await {
                Ok(reached) => return reached,
                Err(Unreached { error, hopeless: true }) => self.roster.refuse(&error),
                Err(_) => {}
            }
            sleep(delays.next().unwrap_or(MAX_DELAY)).await;
        }
    }

    /// Starts the connection's driver, and puts the connection where callers find it.
    fn install(&self, reached: Reached) -> Kept {
        let Reached { opened, claim } = reached;
        let (commands, queue) = mpsc::channel(self.queue);
        let (gauge, endpoint) = (Arc::new(Gauge::default()), claim.endpoint);
        let roster = self.roster.clone();
        let driver = Connection::new(opened, endpoint, queue, gauge.clone(), roster.clone());
        tokio::spawn(driver.run());
        let link = Arc::new(Link { endpoint, commands, gauge });
        roster.add(link.clone());
        Kept { roster, link, _claim: claim }
    }
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
