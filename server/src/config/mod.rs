//! The configuration: one TOML file.

mod audit;
mod gateway;
mod manager;
mod words;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sealwire_engine::remote::MAX_ENGINES;
use sealwire_engine::settings::{ChipName, EngineSettings, TlsSettings};
use sealwire_engine::wire::FRAME_ROOM;
use sealwire_gateway::DirectoryConfig;
use sealwire_protocol::limits;
use serde::{Deserialize, Serialize};

use crate::storage::Storage;
pub(crate) use audit::AuditConfig;
pub(crate) use gateway::FaceConfig;
pub(crate) use gateway::GatewayConfig;
pub(crate) use manager::{HttpConfig, ManagerConfig};

/// Seconds.
const CENTURY: u64 = 100 * 365 * 24 * 3600;

/// The configuration of a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the server keeps what it keeps. Made with mode 0700 when it is not there.
    pub(crate) data_dir: PathBuf,
    /// The engine, where it runs in the same process; `sealwire-engine` reads it, too.
    pub(crate) engine: Option<EngineSettings>,
    /// The engines, where they are processes of their own.
    #[serde(default)]
    pub(crate) engines: EnginesConfig,
    /// What the parts prove themselves to each other with, where they are apart.
    pub(crate) tls: Option<TlsSettings>,
    #[serde(default)]
    pub(crate) keystore: KeystoreConfig,
    #[serde(default)]
    pub(crate) manager: ManagerConfig,
    #[serde(default)]
    pub(crate) gateway: GatewayConfig,
    #[serde(default)]
    pub(crate) audit: AuditConfig,
    #[serde(default)]
    pub(crate) health: HealthConfig,
}

/// What a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything, the engine too.
    All,
    /// The crypto service.
    Gateway,
    /// The management service.
    Manager,
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::All, Self::Gateway, Self::Manager];

    /// The command that runs it.
    pub(crate) const fn command(self) -> &'static str {
        match self {
            Self::All => "serve",
            Self::Gateway => "gateway",
            Self::Manager => "manager",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EnginesConfig {
    /// HOST:PORT of each engine.
    pub(crate) addresses: Vec<String>,
    /// Connections to each for live traffic; one more is for long messages, and one for what may wait.
    pub(crate) connections: usize,
    pub(crate) connect_timeout_seconds: u64,
}

impl Default for EnginesConfig {
    fn default() -> Self {
        Self { addresses: Vec::new(), connections: 2, connect_timeout_seconds: 3 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KeystoreConfig {
    /// `sqlite:PATH`, or `mysql://USER@HOST[:PORT][,HOST[:PORT]…]/DATABASE`; `sqlite:DATA_DIR/keystore.db`
    /// unless set.
    pub(crate) url: Option<String>,
    /// A file with the account's password, mode 0600; the variable SEALWIRE_KEYSTORE_PASSWORD unless set.
    pub(crate) password_file: Option<PathBuf>,
    /// The certificate authority of the database, PEM: needed off loopback.
    pub(crate) tls_ca: Option<PathBuf>,
    /// Most connections for reading from a database server; five more are for other work.
    pub(crate) connections: u32,
    /// Seconds for a call of a database server.
    pub(crate) timeout_seconds: u64,
    /// Seconds for which what is cached is trusted while the keystore is away.
    pub(crate) max_stale_seconds: u64,
    /// Keys that the gateway keeps.
    pub(crate) cached_keys: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HealthConfig {
    /// Where health and metrics are served, over HTTP.
    pub(crate) listen: SocketAddr,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 7704)) }
    }
}

impl Default for KeystoreConfig {
    fn default() -> Self {
        let directory = DirectoryConfig::default();
        Self {
            url: None,
            password_file: None,
            tls_ca: None,
            connections: 8,
            timeout_seconds: 5,
            max_stale_seconds: directory.max_stale.as_secs(),
            cached_keys: directory.cached_keys,
        }
    }
}

impl Config {
    /// Reads and checks a file for a process of a kind.
    pub(crate) fn read_for(path: &Path, part: Part) -> Result<Self> {
        let config = Self::read(path)?;
        config.suits(part).with_context(|| format!("configuration {}", path.display()))?;
        Ok(config)
    }

    /// Reads and checks a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("configuration {}", path.display()))?;
        let config: Self =
            toml::from_str(&text).with_context(|| format!("configuration {}", path.display()))?;
        config.check().with_context(|| format!("configuration {}", path.display()))?;
        Ok(config)
    }

    /// What a demonstration needs: everything in one folder, a software chip beside it.
    pub(crate) fn demonstration(dir: &Path, listen: SocketAddr) -> Self {
        Self {
            data_dir: dir.join("data"),
            engine: Some(EngineSettings {
                chip_key_file: Some(dir.join("chip.key")),
                ..EngineSettings::new(ChipName::Software)
            }),
            engines: EnginesConfig::default(),
            tls: None,
            keystore: KeystoreConfig::default(),
            manager: ManagerConfig::default(),
            gateway: GatewayConfig {
                listen,
                http: Some(FaceConfig {
                    listen: match listen.port() {
                        0 => listen,
                        _ => FaceConfig::default().listen,
                    },
                    ..FaceConfig::default()
                }),
                ..GatewayConfig::default()
            },
            audit: AuditConfig::default(),
            health: HealthConfig {
                // Beside a port of one's own choice, one that is free.
                listen: match listen.port() {
                    0 => listen,
                    _ => HealthConfig::default().listen,
                },
            },
        }
    }

    fn check(&self) -> Result<()> {
        if let Some(engine) = &self.engine {
            engine.check(&self.data_dir)?;
        }
        ensure!(
            self.engines.addresses.len() <= MAX_ENGINES,
            "engines: at most {MAX_ENGINES} addresses"
        );
        ensure!(
            (1..=64).contains(&self.engines.connections)
                && (1..=60).contains(&self.engines.connect_timeout_seconds),
            "engines: connections must be from 1 to 64, connect_timeout_seconds from 1 to 60"
        );
        Storage::of(self, None)?;
        ensure!(self.keystore.connections > 0, "keystore: connections must not be 0");
        ensure!(
            (1..=10).contains(&self.keystore.timeout_seconds),
            "keystore: timeout_seconds must be from 1 to 10"
        );
        ensure!(self.keystore.cached_keys >= 16, "keystore: cached_keys must be at least 16");
        ensure!(
            self.keystore.max_stale_seconds >= 2,
            "keystore: max_stale_seconds must be at least 2"
        );
        self.manager.settings()?;
        self.audit.check()?;
        self.gateway.check()
    }

    /// Whether any process can run with it.
    pub(crate) fn suits_something(&self) -> Result<()> {
        let why_not: Vec<String> = Part::ALL
            .into_iter()
            .map_while(|part| self.suits(part).err().map(|error| error.to_string()))
            .collect();
        ensure!(why_not.len() < Part::ALL.len(), "no command runs with it: {}", why_not.join("; "));
        Ok(())
    }

    /// Whether a process of this kind can run with it.
    pub(crate) fn suits(&self, part: Part) -> Result<()> {
        if part == Part::All {
            ensure!(
                self.engine.is_some(),
                "`serve` runs the engine, too: the section [engine] must name its chip"
            );
            ensure!(
                self.engines.addresses.is_empty(),
                "`serve` runs the engine in its own process: [engines] addresses are for `gateway` and `manager`"
            );
            return Ok(());
        }
        let command = part.command();
        ensure!(
            self.tls.is_some(),
            "`{command}` needs the section [tls]: authority, certificate and key (`sealwire tls init` makes them \
             for a trial)"
        );
        ensure!(
            !self.engines.addresses.is_empty(),
            "`{command}` needs [engines] addresses, HOST:PORT of each engine"
        );
        ensure!(
            self.keystore.url.is_some(),
            "`{command}` needs [keystore] url: gateways and managers share a keystore"
        );
        if part == Part::Gateway {
            ensure!(
                !self.gateway.managers.is_empty(),
                "`gateway` needs [gateway] managers, HOST:PORT of each: GENKEY is handed on to them"
            );
            ensure!(
                self.gateway.max_frame + FRAME_ROOM <= limits::MAX_FRAME,
                "gateway: with engines apart, max_frame must be at most {} bytes",
                limits::MAX_FRAME - FRAME_ROOM
            );
        }
        Ok(())
    }

    /// The marks of what was seen of the keystore: kept outside it.
    pub(crate) fn marks(&self) -> PathBuf {
        self.data_dir.join("marks.db")
    }

    pub(crate) fn directory(&self) -> DirectoryConfig {
        DirectoryConfig {
            cached_keys: self.keystore.cached_keys,
            max_stale: Duration::from_secs(self.keystore.max_stale_seconds),
            renew_at_share: self.gateway.renew_at_share,
        }
    }

    pub(crate) fn ceremony_socket(&self) -> PathBuf {
        let set = self.engine.as_ref().map(|engine| engine.ceremony_socket(&self.data_dir));
        set.unwrap_or_else(|| self.data_dir.join("engine.sock"))
    }

    pub(crate) fn manager_socket(&self) -> PathBuf {
        self.manager.socket.clone().unwrap_or_else(|| self.data_dir.join("manager.sock"))
    }
}
