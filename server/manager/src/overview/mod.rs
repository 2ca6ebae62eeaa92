//! What goes on at the site, at a glance: is it open, what needs attention, what is it used for.
//!
//! | module | what it tells |
//! |---|---|
//! | here | the engines and the keystore |
//! | `attention` | keys that somebody should look at |
//! | `traffic` | messages and refusals, minute by minute; an app's last logins |

mod attention;
mod traffic;

pub use attention::{AttentionView, Concern};
pub use traffic::{AppLogins, AppTraffic, LoginView, MinuteView, TrafficView};

use sealwire_engine::{EngineStatus, State};
use serde::{Deserialize, Serialize};
use std::time::Instant;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::{Manager, ManagerError};

/// Whether an engine, or the site, can work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Seal {
    /// It can.
    Open,
    /// It takes key cards to go on.
    Sealed,
    /// It cannot be reached.
    Away,
}

impl From<State> for Seal {
    fn from(state: State) -> Self {
        match state {
            State::Open { .. } => Self::Open,
            State::Sealed => Self::Sealed,
            State::Away => Self::Away,
        }
    }
}

/// Whether the site can work, for whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SealView {
    /// Open as soon as one engine is.
    pub state: Seal,
    /// Key cards that are still to be shown, at the engine that needs the fewest; `None` while it is open, or nobody
    /// knows.
    pub missing: Option<u8>,
}

/// An engine, as the manager knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineView {
    /// HOST:PORT; `None` for the one in the manager's own process.
    pub address: Option<String>,
    /// What it is.
    pub state: Seal,
    /// Key cards that are still to be shown; `None` while it is open, or nobody knows.
    pub missing: Option<u8>,
    /// Unix time in seconds since when it is open or sealed; `None` while it is away.
    pub since: Option<u64>,
    /// Its version; `None` while it is away.
    pub version: Option<String>,
    /// Its root key's id; `None` unless it is open.
    pub root: Option<String>,
    /// Whether a root rotation is under way in it.
    pub rotating: bool,
    /// Whether it is open with another root key than the site's: it gets no work.
    pub foreign: bool,
}

impl EngineView {
    fn new(EngineStatus { address, status, is_foreign }: EngineStatus) -> Self {
        let root = match status.as_ref().map(|status| status.state) {
            Some(State::Open { root }) => Some(root.to_string()),
            _ => None,
        };
        Self {
            address,
            state: status.as_ref().map_or(Seal::Away, |status| status.state.into()),
            missing: status.as_ref().and_then(|status| status.missing),
            since: status.as_ref().map(|status| status.since),
            rotating: status.as_ref().is_some_and(|status| status.rotating),
            version: status.map(|status| status.version),
            root,
            foreign: is_foreign,
        }
    }
}

/// How the site's parts are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// The engines taken together.
    pub seal: SealView,
    /// Each of them.
    pub engines: Vec<EngineView>,
    /// The site's revision in the keystore: that of its newest document; `None` while the keystore is away.
    pub revision: Option<u64>,
    /// The manager's version.
    pub version: String,
    /// Unix time in seconds, by the manager's clock.
    pub now: u64,
}

/// What is costly to find out, and asked for by every page: by one at a time, and told again for a while.
#[derive(Default)]
pub(crate) struct Glances {
    /// As long as no document has changed, and for half a minute.
    attention: Mutex<Option<(u64, Instant, AttentionView)>>,
    /// For as many minutes, and for a few seconds.
    traffic: Mutex<Option<(u64, Instant, TrafficView)>>,
}

impl Manager {
    /// Whether the site can work.
    #[must_use]
    pub fn seal(&self) -> SealView {
        let state = Seal::from(self.engine.state());
        let statuses = self.rotation.statuses().into_iter();
        let missing = statuses.filter_map(|one| one.status?.missing).min();
        SealView { state, missing: missing.filter(|_| state != Seal::Open) }
    }

    /// How the site's parts are: also when they are not well.
    pub async fn status(&self) -> StatusView {
        let revision = self.keystore.revision().await;
        let revision = revision.inspect_err(|error| tracing::warn!(%error, "the keystore")).ok();
        let engines = self.rotation.statuses().into_iter();
        StatusView {
            seal: self.seal(),
            engines: engines.map(EngineView::new).collect(),
            revision,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now: self.now(),
        }
    }

    /// Whether the engine is open; else why nothing can be told of what only it verifies.
    pub(crate) fn must_be_open(&self) -> Result<(), ManagerError> {
        match self.engine.state() {
            State::Open { .. } => Ok(()),
            _ => Err(sealwire_engine::EngineError::Sealed.into()),
        }
    }
}
