//! The machines behind the addresses: who they are, who has how many connections, and which one the
//! next connection goes to.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sealwire_protocol::ErrorCode;
use tokio::time::{Instant, timeout};

use crate::connect::{Connector, Opened, tls_connector};
use crate::names::Names;
use crate::{Address, Credentials, Error, random};

/// Time for which a machine that failed comes after all others: long enough for a restart, short
/// enough that it is soon given its share again.
const SHUNNED: Duration = Duration::from_secs(10);

/// Machines that must refuse our credentials before they count as wrong: one alone may not have heard
/// of a change yet.
const REFUSALS: usize = 2;

/// A machine: one record of one of the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    /// Which of the addresses: it decides on TLS, and on the name to verify.
    address: usize,
    socket: SocketAddr,
}

/// Which machine a connection is wanted to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish {
    /// Whichever has the fewest connections.
    Any,
    /// Not this one, which does not answer, or refuses: only where no other takes us, it again. Behind
    /// its address there may be another server by now, or it may be well again.
    Other(Endpoint),
    /// One with at least two connections fewer than this one, so that moving one evens them out.
    Emptier(Endpoint),
}

/// Why no connection could be made.
#[derive(Debug)]
pub(crate) struct Unreached {
    /// The clearest of the errors.
    pub(crate) error: Error,
    /// Nothing that was tried will get better by itself: waiting would be in vain.
    pub(crate) hopeless: bool,
}

/// A connection, and its place in the count.
pub(crate) struct Reached {
    pub(crate) opened: Opened,
    pub(crate) claim: Claim,
}

/// All machines, as far as they are known.
pub(crate) struct Endpoints {
    connectors: Vec<Connector>,
    names: Arc<Names>,
    credentials: Credentials,
    connect_timeout: Duration,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    /// Connections that stand or are being made; machines without any are not listed.
    connections: HashMap<Endpoint, usize>,
    /// Who failed, and when.
    failed: HashMap<Endpoint, Instant>,
    /// Who said SEALED, and when, and has not answered since.
    sealed: HashMap<Endpoint, Instant>,
    /// Who has ever taken us.
    served: HashSet<Endpoint>,
}

impl Endpoints {
    pub(crate) fn new(
        addresses: Vec<Address>,
        credentials: Credentials,
        ca_pem: Option<&[u8]>,
        plain_everywhere: bool,
        connect_timeout: Duration,
    ) -> Result<Self, Error> {
        let any_tls = addresses.iter().any(|address| address.tls);
        let tls = any_tls.then(|| tls_connector(ca_pem)).transpose()?;
        let names = Arc::new(Names::new(addresses.clone()));
        let connectors = addresses
            .into_iter()
            .map(|address| Connector::new(address, tls.as_ref(), plain_everywhere))
            .collect::<Result<_, _>>()?;
        Ok(Self { connectors, names, credentials, connect_timeout, ledger: Mutex::default() })
    }

    /// Connects to one machine after the other, the emptiest first, until one takes us. The names
    /// are looked up anew. All of it takes no longer than the connect timeout, and each machine no
    /// more than its share of what is left: one that is dead does not use up the time of the others.
    pub(crate) async fn open(self: &Arc<Self>, wish: Wish) -> Result<Reached, Unreached> {
        let end = Instant::now() + self.connect_timeout;
        self.names.refresh(self.connect_timeout).await;
        let mut untried = self.machines();
        self.tidy(&untried);
        let (mut errors, mut strangers) = (self.names.errors(), untried.len().clamp(1, REFUSALS));
        while let Some(claim) = self.claim(&untried, wish) {
            let left = end.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(untried.len()).unwrap_or(u32::MAX);
            untried.retain(|endpoint| *endpoint != claim.endpoint);
            match self.connect(claim.endpoint, share).await {
                Ok(opened) => return Ok(Reached { opened, claim }),
                Err(error) => {
                    strangers -= usize::from(error.is_auth());
                    errors.push(error);
                    // The same credentials are as wrong elsewhere, and guessing fills the site's
                    // log of refusals.
                    if strangers == 0 {
                        break;
                    }
                }
            }
        }
        let in_vain = strangers == 0
            || errors.iter().all(|error| !error.is_retryable())
            || self.all_are_sealed();
        let hopeless = !errors.is_empty() && in_vain;
        let clearest = errors.into_iter().max_by_key(Error::clarity);
        Err(Unreached { error: clearest.unwrap_or_else(|| Error::deadline(None)), hopeless })
    }

    /// Connects to one machine, and remembers how that went.
    async fn connect(&self, endpoint: Endpoint, time: Duration) -> Result<Opened, Error> {
        let Endpoint { address, socket } = endpoint;
        let connecting = self.connectors[address].connect(socket, &self.credentials);
        let connected =
            timeout(time, connecting).await.unwrap_or_else(|_| Err(Error::deadline(None)));
        match &connected {
            Ok(_) => {
                self.is_well(endpoint);
                self.ledger().served.insert(endpoint);
            }
            Err(error) => {
                let name = self.connectors[address].name(socket);
                tracing::warn!(server = name, %error, "connecting failed");
                self.has_failed(endpoint);
                if error.code() == Some(ErrorCode::SEALED) {
                    self.is_sealed(endpoint);
                }
            }
        }
        connected
    }

    /// Remembers that a machine does not do its work: the next connection goes elsewhere, if it can.
    pub(crate) fn has_failed(&self, endpoint: Endpoint) {
        self.ledger().failed.insert(endpoint, Instant::now());
    }

    /// Remembers that a machine waits for people.
    pub(crate) fn is_sealed(&self, endpoint: Endpoint) {
        self.ledger().sealed.insert(endpoint, Instant::now());
    }

    /// Forgets what was said against a machine.
    pub(crate) fn is_well(&self, endpoint: Endpoint) {
        let mut ledger = self.ledger();
        ledger.failed.remove(&endpoint);
        ledger.sealed.remove(&endpoint);
    }

    /// Whether every machine has said SEALED of late. One that has never taken us, and does not now
    /// either, does not count: a name may have records where nobody listens.
    pub(crate) fn all_are_sealed(&self) -> bool {
        let machines = self.machines();
        let ledger = self.ledger();
        let late = |when: Option<&Instant>| when.is_some_and(|when| when.elapsed() < SHUNNED);
        let sealed = |machine: &Endpoint| late(ledger.sealed.get(machine));
        let absent = |machine: &Endpoint| {
            late(ledger.failed.get(machine)) && !ledger.served.contains(machine)
        };
        machines.iter().any(sealed) && machines.iter().all(|one| sealed(one) || absent(one))
    }

    /// All machines that are known: the records of all names.
    pub(crate) fn machines(&self) -> Vec<Endpoint> {
        let mut machines = Vec::new();
        for (address, sockets) in self.names.known() {
            machines.extend(sockets.into_iter().map(|socket| Endpoint { address, socket }));
        }
        // The resolver names a record once for each kind of socket that it has been asked for.
        machines.sort_unstable_by_key(|endpoint| (endpoint.address, endpoint.socket));
        machines.dedup();
        machines
    }

    /// Forgets what is too old to matter, and machines that are no more.
    fn tidy(&self, machines: &[Endpoint]) {
        let mut ledger = self.ledger();
        ledger.failed.retain(|_, when| when.elapsed() < SHUNNED);
        ledger.sealed.retain(|_, when| when.elapsed() < SHUNNED);
        ledger.served.retain(|endpoint| machines.contains(endpoint));
    }

    /// Takes a place at the best of the machines: who has not failed of late, then who has the fewest
    /// connections, then anyone, so that many clients do not all begin with the same.
    fn claim(self: &Arc<Self>, among: &[Endpoint], wish: Wish) -> Option<Claim> {
        let mut ledger = self.ledger();
        let count = |endpoint: &Endpoint| ledger.connections.get(endpoint).copied().unwrap_or(0);
        let suits = |endpoint: &&Endpoint| match wish {
            Wish::Any | Wish::Other(_) => true,
            Wish::Emptier(than) => count(endpoint) + 1 < count(&than),
        };
        let best =
            among.iter().copied().filter(|endpoint| suits(&endpoint)).min_by_key(|endpoint| {
                let unwanted = matches!(wish, Wish::Other(than) if than == *endpoint);
                let shunned = ledger.failed.get(endpoint).is_some_and(|t| t.elapsed() < SHUNNED);
                (unwanted, shunned, count(endpoint), random::bits())
            })?;
        *ledger.connections.entry(best).or_default() += 1;
        Some(Claim { endpoints: self.clone(), endpoint: best })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Each change is one insertion or removal: a panic leaves nothing half done.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place in the count, given back when it goes.
pub(crate) struct Claim {
    endpoints: Arc<Endpoints>,
    pub(crate) endpoint: Endpoint,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut ledger = self.endpoints.ledger();
        if let Some(count) = ledger.connections.get_mut(&self.endpoint) {
            *count -= 1;
            if *count == 0 {
                ledger.connections.remove(&self.endpoint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints() -> Arc<Endpoints> {
        let addresses = Address::list("sealwire+tcp://127.0.0.1").expect("one");
        let secret = format!("sws1_{}", "A".repeat(43));
        let credentials = Credentials::new("ak", &secret).expect("in form");
        let second = Duration::from_secs(1);
        Arc::new(Endpoints::new(addresses, credentials, None, false, second).expect("made"))
    }

    fn machines(count: u16) -> Vec<Endpoint> {
        let socket = |port| SocketAddr::from(([127, 0, 0, 1], port));
        (0..count).map(|port| Endpoint { address: 0, socket: socket(port) }).collect()
    }

    #[test]
    fn connections_are_spread_evenly_from_a_random_start() {
        let (all, machines) = (endpoints(), machines(3));
        let claims: Vec<_> = (0..9).filter_map(|_| all.claim(&machines, Wish::Any)).collect();
        for machine in &machines {
            assert_eq!(claims.iter().filter(|claim| claim.endpoint == *machine).count(), 3);
        }
        drop(claims);
        assert!(all.ledger().connections.is_empty());
        let first = || all.claim(&machines, Wish::Any).expect("one").endpoint;
        let starts: HashSet<_> = (0..100).map(|_| first()).collect();
        assert_eq!(starts.len(), 3);
    }

    #[test]
    fn who_failed_comes_last_and_who_has_few_is_the_emptier() {
        let (all, machines) = (endpoints(), machines(2));
        all.has_failed(machines[0]);
        let claims = [(); 2].map(|()| all.claim(&machines, Wish::Any).expect("one"));
        assert!(claims.iter().all(|claim| claim.endpoint == machines[1]));
        let emptier = all.claim(&machines, Wish::Emptier(machines[1])).expect("none against two");
        assert_eq!(emptier.endpoint, machines[0]);
        assert!(all.claim(&machines, Wish::Emptier(machines[1])).is_none(), "one against two");
        let other = |among| all.claim(among, Wish::Other(machines[1])).expect("one").endpoint;
        assert_eq!(other(&machines[..]), machines[0], "though it has failed");
        assert_eq!(other(&machines[1..]), machines[1], "there is no other");
    }
}
