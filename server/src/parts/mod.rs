//! The parts, wired together in one process.

use std::fs::File;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use futures_util::FutureExt;
use sealwire_engine::custody::{self, Custodian};
use sealwire_engine::{
    Engine, EngineConfig, GatewayRole, ManagerRole, Protection, RotationRole, State,
};
use sealwire_gateway::listener::{self, Service};
use sealwire_gateway::{Directory, Gateway, KeyMaker, KeyMakerError, KeyOrder, MadeKey, tls};
use sealwire_keystore::{Keystore, Marks};
use sealwire_manager::{Manager, RootPin};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::process::now;
use crate::{data_dir, health, storage};

/// Time beyond the connections' own limits that parts get to end.
const GRACE: Duration = Duration::from_secs(2);

/// Time between two tries to make the site's keys.
const SITE_RETRY: Duration = Duration::from_secs(1);

/// All parts, running.
pub(crate) struct Parts {
    /// Where the gateway listens.
    pub(crate) listen: SocketAddr,
    /// Where health and metrics are.
    pub(crate) health: SocketAddr,
    /// Whether the chip has opened the engine.
    pub(crate) opened_by_chip: bool,
    /// Why it has not, when it should have.
    pub(crate) chip_problem: Option<String>,
    engine: Arc<Engine>,
    keystore: Arc<dyn Keystore>,
    marks: Arc<Marks>,
    tasks: TaskTracker,
    stop: CancellationToken,
    sockets: [PathBuf; 2],
    patience: Duration,
    /// Held for as long as the parts run.
    _lock: File,
}

impl Parts {
    /// Starts all parts.
    pub(crate) async fn start(config: &Config) -> Result<Self> {
        data_dir::make(&config.data_dir)?;
        let lock = data_dir::lock(&config.data_dir)?;
        health::record();
        let engine = make_engine(config)?;
        let (data, chip) = (config.data_dir.clone(), config.chip()?);
        let custodian = Custodian::new(engine.clone(), data, chip, config.lapse());
        let (opened_by_chip, chip_problem) = match custodian.start() {
            Ok(opened) => (opened, None),
            Err(error) => (false, Some(format!("{:#}", anyhow::Error::new(error)))),
        };
        if let Some(problem) = &chip_problem {
            tracing::error!(
                problem,
                "the chip did not open the root key: unseal with the key cards"
            );
        }
        let keystore = storage::open(config).await?;
        let marks = storage::open_marks(config).await?;
        let manager = Arc::new(Manager::new(
            ManagerRole::new(engine.clone()),
            RotationRole::new(custodian.clone()),
            RootPin::new(config.data_dir.clone()),
            (keystore.clone(), marks.clone()),
            config.settings()?,
            now,
        ));
        let listener = TcpListener::bind(config.gateway.listen)
            .await
            .with_context(|| format!("gateway: {}", config.gateway.listen))?;
        let listen = listener.local_addr()?;
        let monitors = TcpListener::bind(config.health.listen)
            .await
            .with_context(|| format!("health: {}", config.health.listen))?;
        let health = monitors.local_addr()?;
        let role = GatewayRole::new(engine.clone());
        let directory =
            Directory::new(keystore.clone(), role.clone(), marks.clone(), &config.directory());
        let maker = Arc::new(InProcess(manager.clone()));
        let gateway = Gateway::new(role, directory.clone(), maker, config.limits());
        let service = Service {
            gateway,
            tls: read_tls(config)?,
            plain_everywhere: config.gateway.plain_tcp_beyond_loopback,
        };

        let ceremonies = bind_socket(&config.ceremony_socket())?;
        let management = bind_socket(&config.manager_socket())?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let site = make_site(engine.clone(), manager.clone(), stop.clone());
        tasks.spawn(watched("the site's keys", stop.clone(), infallible(site)));
        let monitored = health::serve(monitors, engine.clone(), directory.clone(), stop.clone());
        tasks.spawn(watched("health", stop.clone(), monitored));
        let follow = directory.follow(stop.clone());
        tasks.spawn(watched("directory", stop.clone(), infallible(follow)));
        let gateway = listener::run(listener, service, stop.clone());
        tasks.spawn(watched("gateway", stop.clone(), infallible(gateway)));
        let officers = custody::serve(ceremonies, custodian, stop.clone());
        tasks.spawn(watched("ceremony socket", stop.clone(), infallible(officers)));
        let rotations = manager.clone().lead_rotations(stop.clone());
        tasks.spawn(watched("root rotation", stop.clone(), infallible(rotations)));
        let tended = manager.clone().tend_keys(stop.clone());
        tasks.spawn(watched("due keys", stop.clone(), infallible(tended)));
        let api = sealwire_manager::api::serve(management, manager, stop.clone());
        tasks.spawn(watched("manager socket", stop.clone(), api));
        let patience = config.limits().drain_timeout + config.limits().write_timeout + GRACE;
        let sockets = [config.ceremony_socket(), config.manager_socket()];
        Ok(Self {
            listen,
            health,
            opened_by_chip,
            chip_problem,
            engine,
            keystore,
            marks,
            tasks,
            stop,
            sockets,
            patience,
            _lock: lock,
        })
    }

    /// Sealed or open.
    pub(crate) fn state(&self) -> State {
        self.engine.state()
    }

    /// The engine, for the quickstart's search of files.
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Ends when a part has failed.
    pub(crate) async fn failed(&self) {
        self.stop.cancelled().await;
    }

    /// Stops accepting, finishes what is in flight, and closes everything.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(self.patience, self.tasks.wait()).await.is_err() {
            tracing::warn!("some parts did not end in time");
        }
        self.keystore.close().await;
        self.marks.close().await;
        self.engine.seal();
        for socket in &self.sockets {
            if let Err(error) = std::fs::remove_file(socket) {
                tracing::warn!(%error, socket = %socket.display(), "removing a socket");
            }
        }
    }
}

/// The manager as the gateway's maker of keys, in this process.
struct InProcess(Arc<Manager>);

#[async_trait]
impl KeyMaker for InProcess {
    async fn genkey(&self, order: KeyOrder) -> Result<MadeKey, KeyMakerError> {
        let made = self.0.genkey(&order.name, order.index, &order.suites).await;
        let made = made.map_err(|error| {
            tracing::warn!(%error, key = %order.name, "GENKEY");
            KeyMakerError { code: error.code(), detail: error.to_string() }
        })?;
        let key = made.key;
        let (index, created) = (key.index, made.created);
        let version = key.newest_active().unwrap_or(0);
        Ok(MadeKey { index, version, suite: key.suites[0], created })
    }
}

/// Makes the site's own keys as soon as the engine is open.
async fn make_site(engine: Arc<Engine>, manager: Arc<Manager>, stop: CancellationToken) {
    let mut states = engine.watch();
    loop {
        if *states.borrow_and_update() != State::Sealed {
            match manager.site().await {
                Ok(_) => return,
                Err(error) => tracing::error!(%error, "the site's keys"),
            }
        }
        let open = *states.borrow() != State::Sealed;
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(SITE_RETRY), if open => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Runs a part; when it fails, or panics, everything stops: half a server is worse than none.
async fn watched(
    name: &str,
    stop: CancellationToken,
    part: impl Future<Output = std::io::Result<()>>,
) {
    let problem = match AssertUnwindSafe(part).catch_unwind().await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it has panicked".to_owned(),
    };
    tracing::error!(problem, "{name}");
    eprintln!("sealwire: {name}: {problem}");
    stop.cancel();
}

/// A part that cannot fail but by a panic.
async fn infallible(part: impl Future<Output = ()>) -> std::io::Result<()> {
    part.await;
    Ok(())
}

/// Binds a unix socket, mode 0600. One that another process left behind is removed.
fn bind_socket(path: &Path) -> Result<UnixListener> {
    let bind = || -> Result<UnixListener> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bind().with_context(|| format!("socket {}", path.display()))
}

/// Makes a sealed engine, in memory that is protected as the configuration says.
fn make_engine(config: &Config) -> Result<Arc<Engine>> {
    let (cached_ciphers, protection) = (config.engine.cached_ciphers, config.engine.memory);
    let engine = Engine::new(&EngineConfig { cached_ciphers, protection }, now).context(
        "memory for the root key: the kernel must have memfd_secret, or the process must be allowed to lock \
         192 KiB (`ulimit -l`, LimitMEMLOCK= in a systemd unit)",
    )?;
    match engine.vault().protection() {
        Protection::MemfdSecret => {}
        Protection::Mlock => {
            tracing::info!("the root key lies in locked memory, without memfd_secret");
        }
        Protection::Unprotected => tracing::warn!(
            "engine.memory is `unprotected`: the root key lies in clear; for trying out a search of memory only"
        ),
    }
    Ok(engine)
}

fn read_tls(config: &Config) -> Result<Option<tokio_rustls::TlsAcceptor>> {
    let (Some(certificate), Some(key)) = (&config.gateway.tls_certificate, &config.gateway.tls_key)
    else {
        return Ok(None);
    };
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("gateway: TLS: {}", path.display()))
    };
    let key = zeroize::Zeroizing::new(read(key)?);
    Ok(Some(tls::acceptor(&read(certificate)?, &key)?))
}
