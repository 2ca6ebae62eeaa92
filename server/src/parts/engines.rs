//! Where the engine is: in this process, or in others.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use sealwire_engine::custody::{self, Custodian};
use sealwire_engine::host::{bind_socket, infallible, watched};
use sealwire_engine::remote::{Pool, PoolConfig, Waiting};
use sealwire_engine::wire::Role;
use sealwire_engine::wire::tls::Identity;
use sealwire_engine::{GatewayRole, ManagerRole, RotationRole, State};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;

/// Where the engine is.
pub(crate) enum Engines {
    /// In this process.
    Here(Arc<Custodian>),
    /// In others.
    There {
        pool: Arc<Pool>,
        /// What this process proves itself with.
        identity: Arc<Identity>,
        /// Ends the connections, when nobody asks any more.
        stop: CancellationToken,
    },
}

/// How the engine of this process has opened.
#[derive(Default)]
pub(crate) struct Opened {
    /// Whether the chip has opened it.
    pub(crate) by_chip: bool,
    /// Why it has not, when it should have.
    pub(crate) problem: Option<String>,
}

impl Engines {
    /// An engine in this process.
    pub(crate) fn here(config: &Config) -> Result<(Self, Opened)> {
        let settings = config.engine.as_ref().context("the section [engine] is missing")?;
        let custodian = settings.make(&config.data_dir)?;
        let opened = match custodian.start() {
            Ok(by_chip) => Opened { by_chip, problem: None },
            Err(error) => {
                Opened { by_chip: false, problem: Some(format!("{:#}", anyhow::Error::new(error))) }
            }
        };
        Ok((Self::Here(custodian), opened))
    }

    /// The engines that a configuration names.
    pub(crate) fn there(config: &Config, role: Role) -> Result<Self> {
        let tls = config.tls.as_ref().context("the section [tls] is missing")?;
        let identity = Identity::read(tls.files(), role).context("tls")?;
        let engines = &config.engines;
        let settings = PoolConfig {
            engines: engines.addresses.clone(),
            connections: engines.connections,
            connect_timeout: Duration::from_secs(engines.connect_timeout_seconds),
            max_waiting: Waiting::default(),
        };
        let stop = CancellationToken::new();
        let pool = Pool::start(&settings, identity.clone(), &stop);
        Ok(Self::There { pool, identity, stop })
    }

    /// Starts what serves beside: the ceremony socket of an engine here; certificates that are renewed.
    pub(crate) fn attend(
        &self,
        config: &Config,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Option<PathBuf>> {
        match self {
            Self::Here(custodian) => {
                let path = config.ceremony_socket();
                let officers = custody::serve(bind_socket(&path)?, custodian.clone(), stop.clone());
                tasks.spawn(watched("ceremony socket", stop.clone(), infallible(officers)));
                Ok(Some(path))
            }
            Self::There { identity, .. } => {
                let follow = identity.clone().follow(stop.clone());
                tasks.spawn(watched("certificates", stop.clone(), infallible(follow)));
                Ok(None)
            }
        }
    }

    pub(crate) fn gateway_role(&self) -> GatewayRole {
        match self {
            Self::Here(custodian) => GatewayRole::new(custodian.engine().clone()),
            Self::There { pool, .. } => GatewayRole::remote(pool.clone()),
        }
    }

    pub(crate) fn manager_role(&self) -> ManagerRole {
        match self {
            Self::Here(custodian) => ManagerRole::new(custodian.engine().clone()),
            Self::There { pool, .. } => ManagerRole::remote(pool.clone()),
        }
    }

    pub(crate) fn rotation_role(&self) -> RotationRole {
        match self {
            Self::Here(custodian) => RotationRole::new(custodian.clone()),
            Self::There { pool, .. } => RotationRole::remote(pool.clone()),
        }
    }

    /// What this process proves itself with to others, where the parts are apart.
    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        match self {
            Self::Here(_) => None,
            Self::There { identity, .. } => Some(identity.clone()),
        }
    }

    /// The engines of other processes.
    pub(crate) fn pool(&self) -> Option<Arc<Pool>> {
        match self {
            Self::Here(_) => None,
            Self::There { pool, .. } => Some(pool.clone()),
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<State> {
        self.gateway_role().watch()
    }

    pub(crate) fn state(&self) -> State {
        self.gateway_role().state()
    }

    /// Seals the engine of this process; lets those of others go.
    pub(crate) fn close(&self) {
        match self {
            Self::Here(custodian) => custodian.engine().seal(),
            Self::There { stop, .. } => stop.cancel(),
        }
    }
}
