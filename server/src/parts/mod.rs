//! The parts, wired together: all in one process, or a gateway or a manager by itself.

mod engines;

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use sealwire_engine::audit::AuditRole;
use sealwire_engine::host::certificate::{Certificate, certificate};
use sealwire_engine::host::process::now;
use sealwire_engine::host::{bind_socket, data_dir, infallible, watched};
use sealwire_engine::wire::Role;
use sealwire_engine::wire::manage::ManageOrder;
use sealwire_engine::{Engine, State};
use sealwire_gateway::http::{self, HttpService};
use sealwire_gateway::listener::{self, Service};
use sealwire_gateway::{Directory, Gateway, KeyMaker, KeyMakerError, KeyOrder, MadeKey, Managers};
use sealwire_keystore::audit::{Auditor, SiteSource};
use sealwire_keystore::{Keystore, Marks};
use sealwire_manager::api::https;
use sealwire_manager::{Manager, ManagerError, RootPin, orders};
use sealwire_protocol::ErrorCode;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::config::{Config, FaceConfig, HttpConfig, Part};
use crate::health::{self, Expiry, Watched};
use crate::metrics;
use crate::storage;
pub(crate) use engines::{Engines, Opened};

/// Time beyond the connections' own limits that parts get to end.
const GRACE: Duration = Duration::from_secs(2);

/// Time between two tries to make the site's keys.
const SITE_RETRY: Duration = Duration::from_secs(1);

/// Parts, running.
pub(crate) struct Parts {
    /// Where things are, for people: what, and where.
    pub(crate) places: Vec<(&'static str, String)>,
    /// Where the gateway listens, when it runs here.
    pub(crate) listen: Option<SocketAddr>,
    /// Where it serves HTTP, when it does.
    pub(crate) listen_http: Option<SocketAddr>,
    /// How the engine has opened, when it runs here.
    pub(crate) opened: Opened,
    engines: Engines,
    keystore: Arc<dyn Keystore>,
    marks: Arc<Marks>,
    tasks: TaskTracker,
    stop: CancellationToken,
    auditing: Auditing,
    certificates: Vec<(&'static str, Expiry)>,
    sockets: Vec<PathBuf>,
    patience: Duration,
    /// Held for as long as the parts run.
    _lock: File,
}

impl Parts {
    /// Starts what a process of this kind runs.
    pub(crate) async fn start(config: &Config, part: Part) -> Result<Self> {
        data_dir::make(&config.data_dir)?;
        let lock = data_dir::lock(&config.data_dir)?;
        let (engines, opened) = match part {
            Part::All => Engines::here(config)?,
            Part::Gateway => (Engines::there(config, Role::Gateway)?, Opened::default()),
            Part::Manager => (Engines::there(config, Role::Manager)?, Opened::default()),
        };
        let keystore = storage::open(config).await?;
        let marks = storage::open_marks(config).await?;
        let patience =
            config.gateway.limits().drain_timeout + config.gateway.limits().write_timeout + GRACE;
        let mut parts = Self {
            places: Vec::new(),
            listen: None,
            listen_http: None,
            opened,
            engines,
            keystore,
            marks,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            auditing: Auditing::default(),
            certificates: Vec::new(),
            sockets: Vec::new(),
            patience,
            _lock: lock,
        };
        parts.run(config, part).await?;
        Ok(parts)
    }

    async fn run(&mut self, config: &Config, part: Part) -> Result<()> {
        let monitors = bind("health", config.health.listen).await?;
        self.place("health and metrics", monitors.local_addr()?.to_string());
        if let Some(socket) = self.engines.attend(config, &self.tasks, &self.stop)? {
            self.place("ceremonies", socket.display().to_string());
            self.sockets.push(socket);
        }
        let manager = match part {
            Part::Gateway => None,
            Part::All | Part::Manager => Some(self.run_manager(config, part).await?),
        };
        let certificate = match part {
            Part::Manager => None,
            Part::All | Part::Gateway => read_certificate(config)?,
        };
        let directory = match part {
            Part::Manager => None,
            Part::All | Part::Gateway => {
                Some(self.run_gateway(config, manager, certificate.clone()).await?)
            }
        };
        let internal = self.engines.identity().map(|identity| -> (_, Expiry) {
            ("internal", Arc::new(move || metrics::expiry(&identity.certificate())))
        });
        let of_gateway = certificate.map(|certificate| -> (_, Expiry) {
            ("gateway", Arc::new(move || metrics::expiry(&certificate.current().own)))
        });
        let own = std::mem::take(&mut self.certificates);
        let certificates = internal.into_iter().chain(of_gateway).chain(own).collect();
        let watched = Watched {
            auditors: self.auditing.auditors.clone(),
            engine: self.engines.gateway_role(),
            pool: self.engines.pool(),
            directory,
            keystore: self.keystore.clone(),
            certificates,
        };
        self.spawn("health", health::serve(monitors, watched, self.stop.clone()));
        Ok(())
    }

    async fn run_manager(&mut self, config: &Config, part: Part) -> Result<Arc<Manager>> {
        let auditor = self.auditor(config, self.engines.manager_role().audit()).await?;
        let manager = Arc::new(Manager::new(
            self.engines.manager_role(),
            self.engines.rotation_role(),
            RootPin::new(config.data_dir.clone()),
            (self.keystore.clone(), self.marks.clone(), auditor.clone()),
            config.manager.settings()?,
            now,
        ));
        let socket = config.manager_socket();
        let management = bind_socket(&socket)?;
        self.place("manager", socket.display().to_string());
        self.sockets.push(socket);
        let stop = self.stop.clone();
        let site = make_site(self.engines.watch(), manager.clone(), stop.clone());
        self.spawn("the site's keys", infallible(site));
        self.auditing.run(auditor, manager.clone());
        let watched = manager.clone().watch_audit(stop.clone());
        self.spawn("audit", infallible(watched));
        let rotations = manager.clone().lead_rotations(stop.clone());
        self.spawn("root rotation", infallible(rotations));
        let tended = manager.clone().tend_keys(stop.clone());
        self.spawn("due keys", infallible(tended));
        let api = sealwire_manager::api::serve(management, manager.clone(), stop.clone());
        self.spawn("manager socket", api);
        if let Some(http) = &config.manager.http {
            self.run_https(http, manager.clone()).await?;
        }
        if let (Part::Manager, Some(identity)) = (part, self.engines.identity()) {
            let listener = bind("manager", config.manager.listen).await?;
            self.place("orders for keys", listener.local_addr()?.to_string());
            let served = orders::serve(listener, identity, manager.clone(), stop);
            self.spawn("orders for keys", infallible(served));
        }
        Ok(manager)
    }

    /// The API over a network.
    async fn run_https(&mut self, http: &HttpConfig, manager: Arc<Manager>) -> Result<()> {
        let read = |files| certificate("the manager's certificate", files, https::PROTOCOLS);
        let own = http.tls().map(read).transpose().context("manager.http: TLS")?;
        let listener = bind("manager.http", http.listen).await?;
        let scheme = if own.is_some() { "https" } else { "http" };
        self.place("management", format!("{scheme}://{}", listener.local_addr()?));
        if let Some(own) = &own {
            self.spawn(
                "the manager's certificate",
                infallible(own.clone().follow(self.stop.clone())),
            );
            let own = own.clone();
            self.certificates
                .push(("manager", Arc::new(move || metrics::expiry(&own.current().own))));
        }
        let served = https::serve(listener, own, manager, self.stop.clone());
        self.spawn("management over the network", infallible(served));
        Ok(())
    }

    async fn run_gateway(
        &mut self,
        config: &Config,
        manager: Option<Arc<Manager>>,
        certificate: Option<Arc<Certificate>>,
    ) -> Result<Arc<Directory>> {
        let listener = bind("gateway", config.gateway.listen).await?;
        let listen = listener.local_addr()?;
        self.listen = Some(listen);
        self.place("gateway", listen.to_string());
        let role = self.engines.gateway_role();
        let directory = Directory::new(
            self.keystore.clone(),
            role.clone(),
            self.marks.clone(),
            &config.directory(),
        );
        let maker: Arc<dyn KeyMaker> = match (manager, self.engines.identity()) {
            (Some(manager), _) => Arc::new(InProcess(manager)),
            (None, Some(identity)) => {
                Arc::new(Managers::new(config.gateway.managers.clone(), identity))
            }
            (None, None) => unreachable!("a gateway by itself has an identity"),
        };
        if let Some(certificate) = certificate.clone() {
            let follow = certificate.follow(self.stop.clone());
            self.spawn("the gateway's certificate", infallible(follow));
        }
        let auditor = self.auditor(config, role.audit()).await?;
        self.auditing.run(auditor.clone(), directory.clone());
        let limits = config.gateway.limits();
        let gateway = Gateway::new(role, directory.clone(), maker, auditor, limits);
        let plain_everywhere = config.gateway.plain_tcp_beyond_loopback;
        let service = Service::new(gateway, certificate, plain_everywhere);
        if let Some(proxy) = &config.gateway.proxy {
            let listener = bind("gateway.proxy", proxy.listen).await?;
            self.place("gateway, behind load balancers", listener.local_addr()?.to_string());
            let (upstreams, service) = (proxy.upstreams(), service.clone());
            let run = listener::run_behind(listener, upstreams, service, self.stop.clone());
            self.spawn("gateway behind load balancers", infallible(run));
        }
        if let Some(face) = &config.gateway.http {
            self.run_http(config, face, service.clone()).await?;
        }
        let follow = directory.clone().follow(self.stop.clone());
        self.spawn("directory", infallible(follow));
        let run = listener::run(listener, service, self.stop.clone());
        self.spawn("gateway", infallible(run));
        Ok(directory)
    }

    /// The gateway's HTTP face.
    async fn run_http(
        &mut self,
        config: &Config,
        face: &FaceConfig,
        service: Service,
    ) -> Result<()> {
        let files = config.gateway.tls_certificate.clone().zip(config.gateway.tls_key.clone());
        let read =
            |files| certificate("the gateway's certificate, for HTTP", files, http::PROTOCOLS);
        let own = files.map(read).transpose().context("gateway: TLS")?;
        let listener = bind("gateway.http", face.listen).await?;
        let scheme = if own.is_some() { "https" } else { "http" };
        let address = listener.local_addr()?;
        self.listen_http = Some(address);
        self.place("gateway, HTTP", format!("{scheme}://{address}"));
        if let Some(own) = &own {
            let follow = own.clone().follow(self.stop.clone());
            self.spawn("the gateway's certificate, for HTTP", infallible(follow));
        }
        let service = HttpService::new(service, own, face.limits());
        self.spawn(
            "gateway over HTTP",
            infallible(http::run(listener, service, self.stop.clone())),
        );
        Ok(())
    }

    async fn auditor(&self, config: &Config, role: AuditRole) -> Result<Arc<Auditor>> {
        let settings = config.audit.settings(&config.data_dir);
        Ok(Auditor::open(&settings, role, self.keystore.clone()).await?)
    }

    fn place(&mut self, what: &'static str, place: String) {
        self.places.push((what, place));
    }

    fn spawn(
        &self,
        name: &'static str,
        part: impl Future<Output = std::io::Result<()>> + Send + 'static,
    ) {
        self.tasks.spawn(watched(name, self.stop.clone(), part));
    }

    /// Sealed, open or away.
    pub(crate) fn state(&self) -> State {
        self.engines.state()
    }

    /// The engine of this process, for the quickstart's search of files.
    pub(crate) fn engine(&self) -> Option<&Arc<Engine>> {
        match &self.engines {
            Engines::Here(custodian) => Some(custodian.engine()),
            Engines::There { .. } => None,
        }
    }

    /// Cancelled when a part has failed.
    pub(crate) fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Stops accepting, finishes what is in flight, and closes everything.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(self.patience, self.tasks.wait()).await.is_err() {
            tracing::warn!("some parts did not end in time");
        }
        // What was done until now is still recorded.
        self.auditing.stop().await;
        self.keystore.close().await;
        self.marks.close().await;
        self.engines.close();
        for socket in &self.sockets {
            if let Err(error) = std::fs::remove_file(socket) {
                tracing::warn!(%error, socket = %socket.display(), "removing a socket");
            }
        }
    }
}

/// Who writes audit records: they go on until everything else has ended.
#[derive(Default)]
struct Auditing {
    auditors: Vec<Arc<Auditor>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Auditing {
    fn run(&mut self, auditor: Arc<Auditor>, site: Arc<dyn SiteSource>) {
        self.auditors.push(auditor.clone());
        self.tasks.spawn(auditor.run(site, self.stop.clone()));
    }

    async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn bind(part: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{part}: {address}"))
}

/// The manager as the gateway's maker of keys, in this process.
struct InProcess(Arc<Manager>);

#[async_trait]
impl KeyMaker for InProcess {
    async fn genkey(&self, order: KeyOrder) -> Result<MadeKey, KeyMakerError> {
        // By itself: a connection that ends leaves nothing half done.
        let manager = self.0.clone();
        let make = async move {
            let KeyOrder { app, name, index, suites } = order;
            let made = manager.genkey_for(&app, &name, index, &suites).await;
            made.map_err(|error| failed(&error, &name, "GENKEY"))
        };
        let made = tokio::spawn(make.in_current_span()).await.map_err(panicked)??;
        let key = made.key;
        let (index, created) = (key.index, made.created);
        let version = key.newest_active().unwrap_or(0);
        Ok(MadeKey { index, version, suite: key.suites[0], created })
    }

    async fn manage(&self, order: ManageOrder) -> Result<(), KeyMakerError> {
        let manager = self.0.clone();
        let manage = async move {
            let key = order.key.clone();
            let done = manager.manage_for(order).await;
            done.map_err(|error| failed(&error, &key, "MANAGE"))
        };
        tokio::spawn(manage.in_current_span()).await.map_err(panicked)?
    }
}

fn panicked(_: tokio::task::JoinError) -> KeyMakerError {
    KeyMakerError { code: ErrorCode::INTERNAL, detail: String::new() }
}

fn failed(error: &ManagerError, key: &str, word: &str) -> KeyMakerError {
    tracing::warn!(%error, key, "{word}");
    KeyMakerError { code: error.code(), detail: error.to_string() }
}

/// Makes the site's own keys as soon as an engine is open.
async fn make_site(
    mut states: watch::Receiver<State>,
    manager: Arc<Manager>,
    stop: CancellationToken,
) {
    let is_open = |state: &State| matches!(state, State::Open { .. });
    loop {
        if is_open(&states.borrow_and_update()) {
            match manager.site().await {
                Ok(_) => return,
                Err(error) => tracing::error!(%error, "the site's keys"),
            }
        }
        let open = is_open(&states.borrow());
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(SITE_RETRY), if open => {}
            () = stop.cancelled() => return,
        }
    }
}

fn read_certificate(config: &Config) -> Result<Option<Arc<Certificate>>> {
    match (&config.gateway.tls_certificate, &config.gateway.tls_key) {
        (Some(certificate), Some(key)) => {
            let files = (certificate.clone(), key.clone());
            let read = self::certificate("the gateway's certificate", files, &[]);
            Ok(Some(read.context("gateway: TLS")?))
        }
        _ => Ok(None),
    }
}
