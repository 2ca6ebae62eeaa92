//! A site whose parts are processes of their own: engines, a manager, gateways, over one MariaDB.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use sealwire_client::{Builder, Client};
use sealwire_engine::custody::{CeremonyClient, CeremonyKind, Opened, ShownCard};
use sealwire_manager::{CreateApp, CreateKey, KeyView, ManagerClient};
use tempfile::TempDir;

use super::face::{Face, HTTP, HttpApp};
use super::mariadb::Mariadb;
use super::{App, SEALWIRE};

/// The engine's binary, beside the one under test. It is another package's, so that Cargo builds it only
/// when told.
pub(crate) fn engine_binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let beside = Path::new(SEALWIRE).parent().expect("a folder");
        let release = beside.ends_with("release");
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let built = Command::new(cargo)
            .args(["build", "--locked", "--quiet", "-p", "sealwire-engine", "--bin"])
            .arg("sealwire-engine")
            .args(release.then_some("--release"))
            .arg("--target-dir")
            .arg(beside.parent().expect("the target folder"))
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the engine was not built");
        beside.join("sealwire-engine")
    })
}

/// A port below those that the kernel gives to outgoing connections: it stays free while a process that
/// was killed is not there.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).expect("small");
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A process with a folder of its own.
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) port: u16,
    monitor: u16,
    folder: PathBuf,
    command: (PathBuf, Vec<String>),
    child: Option<Child>,
}

impl Process {
    /// Writes the configuration; nothing runs yet. MONITOR and PORT stand in it for ports.
    fn new(site: &Path, name: &str, (binary, part): (&Path, Option<&str>), config: &str) -> Self {
        let folder = site.join(name);
        fs::DirBuilder::new().mode(0o700).create(&folder).expect("made");
        let (port, monitor) = (free_port(), free_port());
        let config = config
            .replace("FOLDER", &folder.display().to_string())
            .replace("PORT", &port.to_string())
            .replace("MONITOR", &monitor.to_string());
        let file = folder.join("config.toml");
        fs::write(&file, config).expect("written");
        let mut args: Vec<String> = part.into_iter().map(str::to_owned).collect();
        args.extend(["--config".to_owned(), file.display().to_string()]);
        let command = (binary.to_owned(), args);
        Self { name: name.to_owned(), port, monitor, folder, command, child: None }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("config.toml")
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Starts the process, and waits until it listens.
    pub(crate) fn run(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log"));
        let child = Command::new(&self.command.0)
            .args(&self.command.1)
            .env("SEALWIRE_LOG", "info")
            .stderr(log.expect("a log"))
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        self.child = Some(child);
        let begun = Instant::now();
        while TcpStream::connect(self.address()).is_err() {
            let child = self.child.as_mut().expect("runs");
            if let Some(code) = child.try_wait().expect("a state") {
                panic!("{} has ended: {code}\n{}", self.name, self.log());
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{}: {}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it as a power loss would.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("runs");
        child.kill().expect("killed");
        child.wait().expect("gone");
    }

    /// Stops it with SIGTERM, and starts it again.
    pub(crate) fn roll(&mut self) {
        self.signal("-TERM");
        let code = self.child.take().expect("runs").wait().expect("ends").code();
        assert_eq!(code, Some(0), "{}: {}", self.name, self.log());
        self.run();
    }

    /// Stops it in its tracks, and returns when each of its threads stands still.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
        super::await_halt(self.child.as_ref().expect("runs").id());
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().expect("runs").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill").success());
    }

    /// What it answers over HTTP at a path of health and metrics.
    pub(crate) fn monitor(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor)).expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// A figure of the metrics, such as `sealwire_sealed`, with its labels.
    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        let text = self.monitor("/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.parse().ok()
    }

    /// Waits until a figure is what it should be: connections tell what they have counted twice a second.
    pub(crate) async fn await_figure(&self, name: &str, value: f64) {
        let begun = Instant::now();
        while self.figure(name).is_none_or(|found| (found - value).abs() > 0.5) {
            let metrics = || self.monitor("/metrics");
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{name} is not {value}: {}",
                metrics()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The whole site.
pub(crate) struct Cluster {
    pub(crate) engines: Vec<Process>,
    pub(crate) manager: Process,
    pub(crate) gateways: Vec<Process>,
    pub(crate) cards: Vec<ShownCard>,
    pub(crate) database: Mariadb,
    /// The keystore's URL.
    pub(crate) keystore: String,
    pub(crate) folder: TempDir,
}

impl Cluster {
    /// A site that serves. The engines have software chips.
    pub(crate) async fn start(engines: usize, gateways: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (site, database) = (folder.path(), Mariadb::start());
        tls_init(&site.join("tls"), &[]);
        let tls = |part: &str| {
            let dir = site.join("tls").display().to_string();
            format!(
                "[tls]\nauthority = '{dir}/authority.pem'\ncertificate = '{dir}/{part}.pem'\nkey = '{dir}/{part}.key'\n"
            )
        };
        let mut engines: Vec<Process> = (1..=engines)
            .map(|number| {
                let config = format!(
                    "data_dir = 'FOLDER/data'\n[engine]\nchip = 'software'\nchip_key_file = 'FOLDER/chip.key'\n\
                     listen = '127.0.0.1:PORT'\n{}",
                    tls("engine")
                );
                let name = format!("engine-{number}");
                Process::new(site, &name, (engine_binary(), None), &config)
            })
            .collect();
        let cards = make_root(&mut engines).await;
        let addresses: Vec<_> = engines.iter().map(|e| format!("'{}'", e.address())).collect();
        let keystore = database.database("site");
        let common = format!(
            "data_dir = 'FOLDER/data'\n[engines]\naddresses = [{}]\n[keystore]\nurl = '{}'\n[health]\n\
             listen = '127.0.0.1:MONITOR'\n",
            addresses.join(", "),
            keystore
        );
        let of_manager =
            format!("{common}{}[manager]\nlisten = '127.0.0.1:PORT'\n", tls("manager"));
        let mut manager =
            Process::new(site, "manager", (Path::new(SEALWIRE), Some("manager")), &of_manager);
        let mut migrate = Command::new(SEALWIRE);
        migrate.args(["keystore", "migrate", "--config"]).arg(manager.config());
        let migrated = migrate.output().expect("runs");
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        manager.run();
        let of_gateway = format!(
            "{common}{}[gateway]\nlisten = '127.0.0.1:PORT'\nmanagers = ['{}']\n{HTTP}\n",
            tls("gateway"),
            manager.address()
        );
        let mut gateways: Vec<Process> = (1..=gateways)
            .map(|number| {
                let name = format!("gateway-{number}");
                Process::new(site, &name, (Path::new(SEALWIRE), Some("gateway")), &of_gateway)
            })
            .collect();
        gateways.iter_mut().for_each(Process::run);
        let cluster = Self { engines, manager, gateways, cards, database, keystore, folder };
        cluster.wait_for_site().await;
        cluster
    }

    async fn wait_for_site(&self) {
        let begun = Instant::now();
        let serves = |gateway: &Process| gateway.monitor("/readyz").starts_with("HTTP/1.1 200");
        while self.managing().list_keys().await.is_err() || !self.gateways.iter().all(serves) {
            let logs = || format!("{}\n{}", self.manager.log(), self.gateways[0].log());
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn managing(&self) -> ManagerClient {
        ManagerClient::new(self.manager.data().join("manager.sock"))
    }

    pub(crate) async fn key(&self, name: &str) -> KeyView {
        let key = CreateKey { name: name.into(), ..CreateKey::default() };
        self.managing().create_key(&key).await.expect("a key")
    }

    pub(crate) async fn app(&self, grants: &[&str]) -> App {
        let request = CreateApp {
            name: format!("app-{}", grants.join("+")),
            allow: vec!["127.0.0.0/8".parse().expect("a network")],
            grants: grants.iter().map(|text| text.parse().expect(text)).collect(),
            http: false,
        };
        let made = self.managing().create_app(&request).await.expect("an app");
        App { key: made.app.app_key, secret: made.app_secret.as_ref().expect("made").to_string() }
    }

    pub(crate) async fn http_app(&self, name: &str, grants: &[&str]) -> HttpApp {
        HttpApp::make(&self.managing(), name, grants).await
    }

    /// The HTTP face of a gateway, to somebody without a token.
    pub(crate) fn face(&self, gateway: usize) -> Face {
        Face::said_in(&self.gateways[gateway].log())
    }

    /// A client of every gateway.
    pub(crate) fn client(&self, app: &App) -> Builder {
        let addresses: Vec<_> = self
            .gateways
            .iter()
            .map(|gateway| format!("sealwire+tcp://{}", gateway.address()))
            .collect();
        Client::builder(&addresses.join(","), app.credentials())
    }

    pub(crate) fn ceremony(&self, engine: usize) -> CeremonyClient {
        CeremonyClient::new(self.engines[engine].data().join("engine.sock"))
    }

    pub(crate) async fn unseal(&self, engine: usize) {
        for card in &self.cards {
            let bytes = card.bytes().expect("a card");
            let shown = self.ceremony(engine).unseal(&bytes, &card.passphrase).await;
            if let Opened::Open { .. } = shown.expect("taken") {
                return;
            }
        }
        panic!("the cards did not open the engine");
    }
}

/// Makes certificates.
pub(crate) fn tls_init(dir: &Path, more: &[&str]) {
    let mut init = Command::new(SEALWIRE);
    let made = init.args(["tls", "init", "--dir"]).arg(dir).args(more).output().expect("runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A root key at the first engine, and its folder for the others, as if each had been given the cards.
async fn make_root(engines: &mut [Process]) -> Vec<ShownCard> {
    engines[0].run();
    let ceremony = CeremonyClient::new(engines[0].data().join("engine.sock"));
    let mut init = ceremony.begin(CeremonyKind::Init).await.expect("begun");
    let cards = init.make(2, vec![None; 3]).await.expect("a root key");
    for card in &cards[..2] {
        init.confirm(&card.bytes().expect("a card"), &card.passphrase).await.expect("confirmed");
    }
    init.install().await.expect("in force");
    let (first, others) = engines.split_first_mut().expect("an engine");
    for other in others {
        fs::DirBuilder::new().mode(0o700).create(other.data()).expect("made");
        for file in ["data/root.sealed", "data/root.pin", "chip.key"] {
            fs::copy(first.folder.join(file), other.folder.join(file)).expect(file);
        }
        other.run();
    }
    cards
}
