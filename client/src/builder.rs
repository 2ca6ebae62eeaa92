//! How a client is made.

use std::time::Duration;

use crate::endpoint::Endpoints;
use crate::keeper::Pace;
use crate::pool::Pool;
use crate::{Address, Client, Credentials, Error};

/// As good as for ever, and a time that can be added to any other.
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Nothing is looked after more often.
const LEAST_PACE: Duration = Duration::from_millis(100);

pub(crate) fn capped(time: Duration) -> Duration {
    time.min(A_YEAR)
}

/// How a client is made.
pub struct Builder {
    addresses: Vec<String>,
    credentials: Credentials,
    connections: Option<usize>,
    ca_pem: Option<Vec<u8>>,
    deadline: Duration,
    connect_timeout: Duration,
    pace: Pace,
    plain_everywhere: bool,
}

impl Builder {
    pub(crate) fn new(address: &str, credentials: Credentials) -> Self {
        let half_a_minute = Duration::from_secs(30);
        Self {
            addresses: vec![address.to_owned()],
            credentials,
            connections: None,
            ca_pem: None,
            deadline: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            pace: Pace { idle_ping: half_a_minute, rebalance: half_a_minute },
            plain_everywhere: false,
        }
    }

    /// One more address, or several with commas between them, beside those that are there.
    #[must_use]
    pub fn address(mut self, addresses: &str) -> Self {
        self.addresses.push(addresses.to_owned());
        self
    }

    /// Connections that are kept up, spread evenly over the servers; at least one. Unless set: as many
    /// as there are servers when the client connects (records of all names), but from 2 to 8, and 2
    /// for one server too. More than there are servers only pays when one connection's TLS keeps a
    /// core busy.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = Some(connections.max(1));
        self
    }

    /// Trusts these authorities under TLS, in PEM, instead of the system's.
    #[must_use]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// Time that a request may take, waiting for a connection and being sent again included. 10
    /// seconds unless set, a year at most. [`Client::with_deadline`] sets another for some requests.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Time for a connection, TLS and AUTH included, over all servers that are tried for it: each has
    /// its share. 5 seconds unless set, a year at most.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = capped(timeout);
        self
    }

    /// Time without traffic after which a server is asked by PING whether it is there, so that a way
    /// that was cut without a word is found before a request is sent on it. Up to half as long again
    /// may go by. 30 seconds unless set, at least 100 milliseconds; choose less than the idle time of
    /// whatever keeps track of connections on the way: firewalls, address translation, load balancers.
    #[must_use]
    pub fn idle_ping(mut self, idle: Duration) -> Self {
        self.pace.idle_ping = capped(idle).max(LEAST_PACE);
        self
    }

    /// Time after which a connection looks whether it had better be to another server, one with at
    /// least two connections fewer; at random up to twice as long. So a server that comes back is
    /// given its share again. 30 seconds unless set, at least 100 milliseconds.
    #[must_use]
    pub fn rebalance_after(mut self, time: Duration) -> Self {
        self.pace.rebalance = capped(time).max(LEAST_PACE);
        self
    }

    /// Speaks plain TCP beyond loopback, where everybody on the way can read along.
    #[must_use]
    pub fn plain_beyond_loopback(mut self) -> Self {
        self.plain_everywhere = true;
        self
    }

    /// Connects and authenticates. Returns when one connection stands; the others follow by
    /// themselves, and later failures are tried again for as long as the client is there.
    ///
    /// # Errors
    /// Text that is not an address; [AUTH refused](Error::is_auth), when two servers say so, or the only
    /// one; when no server takes us within the connect timeout, what is clearest of what they said.
    pub async fn connect(self) -> Result<Client, Error> {
        let addresses = Address::list(&self.addresses.join(","))?;
        let endpoints = Endpoints::new(
            addresses,
            self.credentials,
            self.ca_pem.as_deref(),
            self.plain_everywhere,
            self.connect_timeout,
        )?;
        let pool = Pool::open(endpoints, self.connections, self.pace).await?;
        Ok(Client::new(pool, self.deadline))
    }
}
