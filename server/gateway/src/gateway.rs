//! The gateway: what its connections share.

use std::num::NonZero;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use sealwire_engine::GatewayRole;
use sealwire_engine::wire::manage::ManageOrder;
use sealwire_keystore::audit::Auditor;
use sealwire_protocol::message::SessionLimits;
use sealwire_protocol::{Suite, limits};
use tokio::sync::Semaphore;

use crate::Directory;
use crate::figures::FIGURES;
use crate::guesses::Guesses;

/// What a connection may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections in all.
    pub max_connections: usize,
    /// Connections of one address (IPv6: of one /64).
    pub max_connections_per_source: usize,
    /// Connections that have not authenticated yet.
    pub max_unauthenticated: usize,
    /// Connections of one source that have not authenticated yet.
    pub max_unauthenticated_per_source: usize,
    /// Time for AUTH, TLS included.
    pub auth_timeout: Duration,
    /// Time for a frame that has begun to arrive.
    pub frame_timeout: Duration,
    /// Time for the peer to take what is written.
    pub write_timeout: Duration,
    /// Time without a request after which a connection is closed.
    pub idle_timeout: Duration,
    /// Time after which a session must log in again.
    pub session_lifetime: Duration,
    /// Time that clients get to leave when the server stops.
    pub drain_timeout: Duration,
    /// Largest frame, in bytes, header included.
    pub max_frame: usize,
    /// Most requests of a connection that wait for something.
    pub max_in_flight: usize,
    /// Body of a request from which it runs beside its connection, in bytes.
    pub offload: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_connections_per_source: 4096,
            max_unauthenticated: 512,
            max_unauthenticated_per_source: 128,
            auth_timeout: Duration::from_secs(5),
            frame_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(600),
            session_lifetime: Duration::from_secs(12 * 3600),
            drain_timeout: Duration::from_secs(10),
            max_frame: limits::DEFAULT_MAX_FRAME,
            max_in_flight: 1024,
            offload: 48 * 1024,
        }
    }
}

impl Limits {
    /// What the peer is told of them.
    pub(crate) fn offered(&self) -> SessionLimits {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        SessionLimits {
            max_frame: number(self.max_frame),
            max_in_flight: number(self.max_in_flight),
            session_seconds: u32::try_from(self.session_lifetime.as_secs()).unwrap_or(u32::MAX),
        }
    }
}

/// A key to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOrder {
    /// The AppKey of who orders it.
    pub app: String,
    /// The name.
    pub name: String,
    /// The index; `None` takes the next free one.
    pub index: Option<u32>,
    /// The suites, the first being the default; empty takes the site's.
    pub suites: Vec<Suite>,
}

/// A key that was made, or found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MadeKey {
    /// The index.
    pub index: u32,
    /// The newest version.
    pub version: u32,
    /// The default suite.
    pub suite: Suite,
    /// Whether this order made it.
    pub created: bool,
}

/// Why no key was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}; {detail}")]
pub struct KeyMakerError {
    /// The number in the registry.
    pub code: sealwire_protocol::ErrorCode,
    /// What was wrong, for people.
    pub detail: String,
}

/// Who makes and changes keys: the manager, in this process or in another.
#[async_trait]
pub trait KeyMaker: Send + Sync {
    /// Makes a key, or finds the one that was made before. Durable when it returns.
    ///
    /// # Errors
    /// [`KeyMakerError`].
    async fn genkey(&self, order: KeyOrder) -> Result<MadeKey, KeyMakerError>;

    /// Does something to a key for an app that may manage it. Durable when it returns.
    ///
    /// # Errors
    /// [`KeyMakerError`].
    async fn manage(&self, order: ManageOrder) -> Result<(), KeyMakerError>;
}

/// What the connections of a gateway share.
pub struct Gateway {
    pub(crate) engine: GatewayRole,
    pub(crate) directory: Arc<Directory>,
    pub(crate) key_maker: Arc<dyn KeyMaker>,
    pub(crate) limits: Limits,
    pub(crate) auditor: Arc<Auditor>,
    /// Large messages that are worked on at once: as many as there are cores, so that they do not
    /// crowd out small ones.
    pub(crate) heavy: Arc<Semaphore>,
    /// Requests in bulk that are worked on at once, in this process: by half of the cores.
    pub(crate) bulk: Semaphore,
    /// Who has sent many wrong AUTHs.
    pub(crate) guesses: Guesses,
}

impl Gateway {
    /// A gateway.
    #[must_use]
    pub fn new(
        engine: GatewayRole,
        directory: Arc<Directory>,
        key_maker: Arc<dyn KeyMaker>,
        auditor: Arc<Auditor>,
        limits: Limits,
    ) -> Arc<Self> {
        // Shown from the start on, with 0 in them.
        LazyLock::force(&FIGURES);
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let (heavy, bulk) = (Arc::new(Semaphore::new(cores)), Semaphore::new(cores.div_ceil(2)));
        let guesses = Guesses::new();
        Arc::new(Self { engine, directory, key_maker, limits, auditor, heavy, bulk, guesses })
    }
}
