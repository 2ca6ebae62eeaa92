//! The engine as a process of its own: what listens for gateways and managers.
//!
//! | module | what it does |
//! |---|---|
//! | `connection` | the loop of a connection: a read, every answer that is ready, a write |
//! | `caller` | what a connection has said so far, and the words |
//! | `keys` | the wrapped keys that a connection has used lately |

mod caller;
mod connection;
mod keys;
mod refusal;

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::custody::Custodian;
use crate::host::accept;
use crate::host::admission::{Admission, Places};
use crate::wire::Role;
use crate::wire::message::{Figures, Status};
use crate::wire::tls::Identity;

/// Connections that are served at once: a gateway has a few.
const PLACES: Places =
    Places { all: 1024, of_source: 512, unauthenticated: 128, unauthenticated_of_source: 64 };

/// Time that callers get to leave when the engine stops.
const DRAIN: Duration = Duration::from_secs(10);

/// What answers gateways and managers.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

/// What the connections of an engine share.
struct Shared {
    custodian: Arc<Custodian>,
    counters: Counters,
    /// What may wait is worked on by half of the cores at most, so that live traffic always finds one.
    bulk: Semaphore,
}

/// Counted by each connection for itself, and added up here once for each batch.
#[derive(Default)]
struct Counters {
    enc: AtomicU64,
    dec: AtomicU64,
    reenc: AtomicU64,
    auth: AtomicU64,
    refused: AtomicU64,
    connections: AtomicU64,
}

impl Counters {
    fn add(&self, done: &mut Figures) {
        for (counter, count) in [
            (&self.enc, done.enc),
            (&self.dec, done.dec),
            (&self.reenc, done.reenc),
            (&self.auth, done.auth),
            (&self.refused, done.refused),
        ] {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
        *done = Figures::default();
    }
}

impl Shared {
    fn status(&self) -> Status {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let figures = Figures {
            enc: read(&counters.enc),
            dec: read(&counters.dec),
            reenc: read(&counters.reenc),
            auth: read(&counters.auth),
            refused: read(&counters.refused),
            connections: read(&counters.connections),
            ciphers: self.custodian.engine().cached_ciphers(),
        };
        Status::of(&self.custodian, figures)
    }
}

impl Service {
    /// The engine, and what may be done with its root key.
    #[must_use]
    pub fn new(custodian: Arc<Custodian>) -> Self {
        let half = std::thread::available_parallelism().map_or(1, NonZero::get).div_ceil(2);
        let (counters, bulk) = (Counters::default(), Semaphore::new(half));
        Self { shared: Arc::new(Shared { custodian, counters, bulk }) }
    }

    /// Serves a caller whose role is known, over a stream of any kind, to the end of its connection. `peer` is
    /// for the log.
    pub async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        (role, peer): (Role, &str),
        stop: &CancellationToken,
    ) {
        connection::serve(stream, (role, peer), &self.shared, stop).await;
    }
}

/// Serves gateways and managers until `stop`, then lets those that are connected finish.
pub async fn run(
    listener: TcpListener,
    identity: Arc<Identity>,
    service: Service,
    stop: CancellationToken,
) {
    let admission = Admission::new(&PLACES);
    let connections = TaskTracker::new();
    while let Some((stream, peer)) = accept(&listener, &stop).await {
        let Some(mut place) = admission.admit(peer.ip().to_canonical()) else {
            tracing::warn!(%peer, "too many connections");
            continue;
        };
        let (service, identity, stop) = (service.clone(), identity.clone(), stop.clone());
        connections.spawn(async move {
            let peer = peer.to_string();
            match identity.accept(stream, &[Role::Gateway, Role::Manager]).await {
                Ok((stream, role)) => {
                    place.authenticated();
                    service.converse(stream, (role, &peer), &stop).await;
                }
                Err(error) => tracing::warn!(%peer, %error, "a caller was refused"),
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "connections did not end in time");
    }
}
