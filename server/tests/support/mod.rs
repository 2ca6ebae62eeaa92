//! A real server process, with a root key on three cards, and what tests do to it.

#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod browser;
pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod face;
pub(crate) mod gateway;
pub(crate) mod load;
#[path = "../../keystore/tests/support/mariadb.rs"]
pub(crate) mod mariadb;
pub(crate) mod officer;
pub(crate) mod operators;
/// The example that recovers a root key without Sealwire: what tests compare with.
#[path = "../../engine/examples/recover_root_key.rs"]
pub(crate) mod recover;
pub(crate) mod web;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sealwire_client::{Client, Credentials};
use sealwire_engine::custody::{CeremonyClient, CeremonyKind, Opened, ShownCard};
use sealwire_manager::{CreateApp, CreateKey, KeyView, ManagerClient};
use sealwire_protocol::auth::{Channel, Transcript};
use sealwire_protocol::message::{AuthRequest, AuthResponse, Failure};
use sealwire_protocol::{ErrorCode, Flags, Frame, Header, Opcode, credential, frame, limits};
use tempfile::TempDir;

/// The binary under test.
pub(crate) const SEALWIRE: &str = env!("CARGO_BIN_EXE_sealwire");

/// An app's credentials.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) key: String,
    pub(crate) secret: String,
}

impl App {
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(&self.key, &self.secret).expect("in their form")
    }
}

/// A server process over a folder of its own.
pub(crate) struct Server {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    child: Child,
    pub(crate) cards: Vec<ShownCard>,
    config: String,
    pub(crate) env: Vec<(&'static str, PathBuf)>,
}

impl Server {
    /// A server with a software chip, opened, its defaults changed by lines of TOML for `[gateway]`.
    pub(crate) async fn start_with(gateway: &str) -> Self {
        let mut server = Self::sealed(gateway);
        server.init(3, 3).await;
        server
    }

    /// Makes the root key and its cards, and waits until the site has its keys.
    pub(crate) async fn init(&mut self, threshold: u8, cards: usize) {
        let ceremony = self.ceremony();
        let mut init = ceremony.begin(CeremonyKind::Init).await.expect("begun");
        self.cards = init.make(threshold, vec![None; cards]).await.expect("a root key");
        for card in &self.cards[..usize::from(threshold)] {
            let bytes = card.bytes().expect("a card");
            init.confirm(&bytes, &card.passphrase).await.expect("confirmed");
        }
        init.install().await.expect("in force");
        self.wait_for_site().await;
    }

    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// A server that has no root key yet, its defaults changed by lines of TOML for `[gateway]`.
    pub(crate) fn sealed(gateway: &str) -> Self {
        Self::with("chip = 'software'\nchip_key_file = 'FOLDER/chip.key'", gateway, Vec::new())
    }

    /// A server that has no root key yet, with lines of TOML for `[engine]`, in which FOLDER stands for
    /// its folder, and for `[gateway]` and what follows it, and an environment.
    pub(crate) fn with(engine: &str, gateway: &str, env: Vec<(&'static str, PathBuf)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().display().to_string();
        let listen = if gateway.starts_with("listen = ") { "" } else { "listen = '127.0.0.1:0'\n" };
        let config = format!(
            "data_dir = '{path}/data'\n[engine]\n{}\n[health]\nlisten = '127.0.0.1:0'\n[gateway]\n{listen}{gateway}\n",
            engine.replace("FOLDER", &path)
        )
        .replace("FOLDER", &path);
        Self::launch(folder, config, env)
    }

    fn launch(folder: TempDir, config: String, env: Vec<(&'static str, PathBuf)>) -> Self {
        if config.contains("mysql://") {
            migrate(&folder, &config);
        }
        let (child, address) = spawn(&folder, &config, &env);
        Self { folder, address, child, cards: Vec::new(), config, env }
    }

    /// Brings the schema of another database up to date.
    pub(crate) fn migrate(&self) {
        migrate(&self.folder, &self.config);
    }

    /// A server over a database, opened.
    pub(crate) async fn on(url: &str, gateway: &str) -> Self {
        Self::start_with(&format!("{gateway}\n[keystore]\nurl = '{url}'")).await
    }

    /// Another server of the same site, on another machine: its root key, its keystore, a folder of its
    /// own.
    pub(crate) async fn twin(&self) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        std::fs::DirBuilder::new().mode(0o700).create(&data).expect("made");
        for file in ["data/root.sealed", "data/root.pin", "chip.key"] {
            std::fs::copy(self.folder.path().join(file), folder.path().join(file)).expect(file);
        }
        let (here, there) = (self.folder.path().display(), folder.path().display());
        let config = self.config.replace(&here.to_string(), &there.to_string());
        let twin = Self::launch(folder, config, self.env.clone());
        twin.wait_for_site().await;
        twin
    }

    /// Has the next process read another configuration.
    pub(crate) fn reconfigure(&mut self, from: &str, to: &str) {
        assert!(self.config.contains(from), "{}", self.config);
        self.config = self.config.replace(from, to);
    }

    /// Has the next process read more lines, behind the others.
    pub(crate) fn append(&mut self, lines: &str) {
        self.config = format!("{}\n{lines}\n", self.config);
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the server has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    /// Waits until the server has said something: what it writes arrives here a little later.
    pub(crate) fn await_log(&self, text: &str) {
        let begun = Instant::now();
        while !self.log().contains(text) {
            assert!(begun.elapsed() < Duration::from_secs(20), "no {text:?} in {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the process as a power loss would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Starts a new process over the same folder.
    pub(crate) fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        (self.child, self.address) = spawn(&self.folder, &self.config, &self.env);
    }

    /// Has the next process listen on a port of the test's choice.
    pub(crate) fn listen_on(&mut self, port: u16) {
        let (before, gateway) = self.config.split_once("[gateway]").expect("a gateway");
        let gateway = gateway.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
        self.config = format!("{before}[gateway]{gateway}");
    }

    /// Stops the process in its tracks, and returns when each of its threads stands still.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
        await_halt(self.child.id());
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill").success());
    }

    /// Sends SIGTERM, and gives the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child.wait().expect("ends").code()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn ceremony(&self) -> CeremonyClient {
        CeremonyClient::new(self.data().join("engine.sock"))
    }

    pub(crate) fn manager(&self) -> ManagerClient {
        ManagerClient::new(self.data().join("manager.sock"))
    }

    pub(crate) async fn unseal(&self) {
        for card in &self.cards {
            let shown =
                self.ceremony().unseal(&card.bytes().expect("a card"), &card.passphrase).await;
            if let Opened::Open { .. } = shown.expect("taken") {
                return;
            }
        }
        panic!("the cards did not open the engine");
    }

    pub(crate) async fn key(&self, name: &str) -> KeyView {
        let key = CreateKey { name: name.into(), ..CreateKey::default() };
        self.manager().create_key(&key).await.expect("a key")
    }

    pub(crate) async fn app(&self, allow: &[&str], grants: &[&str]) -> App {
        let name = format!("app-{}", grants.join("+")) + &allow.join("+");
        let request = CreateApp {
            name,
            allow: allow.iter().map(|text| text.parse().expect(text)).collect(),
            grants: grants.iter().map(|text| text.parse().expect(text)).collect(),
            http: false,
        };
        let made = self.manager().create_app(&request).await.expect("an app");
        App { key: made.app.app_key, secret: made.app_secret.as_ref().expect("made").to_string() }
    }

    pub(crate) async fn local_app(&self, grants: &[&str]) -> App {
        self.app(&["127.0.0.0/8"], grants).await
    }

    pub(crate) fn url(&self) -> String {
        format!("sealwire+tcp://{}", self.address)
    }

    /// What the server answers over HTTP at a path of health and metrics.
    pub(crate) fn monitor(&self, path: &str) -> String {
        let log = self.log();
        let address = log.lines().rev().find_map(|line| {
            line.strip_prefix("sealwire: health and metrics on ").map(str::to_owned)
        });
        let mut stream = TcpStream::connect(address.expect("in the log")).expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// A client that tells at once what the server says.
    pub(crate) async fn client(&self, app: &App) -> Client {
        let client = Client::connect(&self.url(), app.credentials()).await.expect("connects");
        client.with_refusals_at_once()
    }

    /// A command of the binary with the client's environment.
    pub(crate) fn command(&self, app: &App, args: &[&str]) -> Command {
        let mut command = Command::new(SEALWIRE);
        command
            .args(args)
            .env("SEALWIRE_ADDR", self.url())
            .env("SEALWIRE_APP_KEY", &app.key)
            .env("SEALWIRE_APP_SECRET", &app.secret)
            .env("SEALWIRE_SOCKET", self.data().join("manager.sock"))
            .env("SEALWIRE_CEREMONY_SOCKET", self.data().join("engine.sock"));
        command
    }

    /// The site's keys are made in the background, right after the first unsealing.
    pub(crate) async fn wait_for_site(&self) {
        self.wait_for_site_as(&self.manager()).await;
    }

    /// The same, where the manager asks who calls.
    pub(crate) async fn wait_for_site_as(&self, manager: &ManagerClient) {
        for _ in 0..200 {
            if manager.list_keys().await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the site was not made");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn migrate(folder: &TempDir, config: &str) {
    let file = folder.path().join("sealwire.toml");
    std::fs::write(&file, config).expect("written");
    let mut migrate = Command::new(SEALWIRE);
    let migrated = migrate.args(["keystore", "migrate", "--config"]).arg(&file).output();
    let migrated = migrated.expect("runs");
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
}

fn spawn(folder: &TempDir, config: &str, env: &[(&str, PathBuf)]) -> (Child, SocketAddr) {
    let file = folder.path().join("sealwire.toml");
    std::fs::write(&file, config).expect("written");
    let mut child = Command::new(SEALWIRE)
        .args(["serve", "--config"])
        .arg(&file)
        .env("SEALWIRE_LOG", "info")
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped"));
    let mut text = String::new();
    let address = loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).expect("reads") > 0, "the server ended: {text}");
        text.push_str(&line);
        if let Some(address) = gateway_address(&line) {
            break address;
        }
    };
    let log = folder.path().join("server.log");
    std::thread::spawn(move || {
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let _ = file.write_all(text.as_bytes());
        let _ = std::io::copy(&mut lines, &mut file);
    });
    (child, address)
}

/// Where the gateway listens, when a line says so, for people or in JSON.
fn gateway_address(line: &str) -> Option<SocketAddr> {
    let json: Option<serde_json::Value> = serde_json::from_str(line).ok();
    let said = match &json {
        Some(json) => json["message"].as_str()?,
        None => line.strip_prefix("sealwire: ")?,
    };
    said.strip_prefix("gateway on ")?.trim().parse().ok()
}

/// A connection that speaks raw bytes.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    input: Vec<u8>,
}

/// Waits until SIGSTOP has reached every thread of a process: the signal's sender is not made to wait for
/// that, and a thread on another core still answers a request that comes at once.
pub(crate) fn await_halt(process: u32) {
    let halted = |stat: String| {
        // The state follows the name, which stands in parentheses (proc(5)).
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    let threads = || {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("runs");
        tasks.map(|task| std::fs::read_to_string(task.expect("a thread").path().join("stat")))
    };
    let begun = Instant::now();
    while !threads().all(|stat| stat.is_ok_and(halted)) {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "process {process} does not stand still"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A frame that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
}

impl Arrived {
    /// The error's number, when it is a failure.
    pub(crate) fn error(&self) -> Option<ErrorCode> {
        (self.header.flags == Flags::FAILURE)
            .then(|| Failure::parse(&self.body).expect("a failure").code)
    }
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("connects"))
    }

    /// Over a connection that there is.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nonblocking(false).expect("set");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        Self { stream, input: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // The server may have closed already: what counts is what it answered.
        let _ = self.stream.write_all(bytes);
    }

    /// The next frame; `None` when the server has closed.
    pub(crate) fn next(&mut self) -> Option<Arrived> {
        loop {
            if let Some(frame) = Frame::parse(&self.input, limits::MAX_FRAME).expect("sound frames")
            {
                let (arrived, length) =
                    (Arrived { header: frame.header, body: frame.body.to_vec() }, frame.wire_len());
                self.input.drain(..length);
                return Some(arrived);
            }
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(length) => self.input.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }

    /// Everything up to the end of the connection, raw.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.input);
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// The hello of AUTH, and the transcript that it leads to.
    pub(crate) fn hello<'a>(&mut self, app_key: &'a str) -> Transcript<'a> {
        let client_nonce = [0x11; 32];
        let app_key = app_key.as_bytes();
        self.send(&auth_frame(1, &AuthRequest::Hello { client_nonce, app_key }));
        let challenge = self.next().expect("a challenge");
        match AuthResponse::parse(&challenge.body).expect("a challenge") {
            AuthResponse::Challenge { server_nonce, limits } => {
                Transcript { channel: Channel::Tcp, client_nonce, server_nonce, app_key, limits }
            }
            AuthResponse::Accepted { .. } => panic!("accepted without a proof"),
        }
    }

    /// Logs in.
    pub(crate) fn login(address: SocketAddr, app: &App) -> Self {
        let mut raw = Self::connect(address);
        raw.log_in(app);
        raw
    }

    /// Logs in on this connection.
    pub(crate) fn log_in(&mut self, app: &App) {
        assert_eq!(self.try_log_in(app), None);
    }

    /// Logs in on this connection, or says why not.
    pub(crate) fn try_log_in(&mut self, app: &App) -> Option<ErrorCode> {
        let transcript = self.hello(&app.key);
        let secret = credential::decode_app_secret(&app.secret).expect("in its form");
        let proof = transcript.client_proof(secret.as_slice());
        self.send(&auth_frame(2, &AuthRequest::Proof { proof }));
        let answer = self.next().expect("an answer");
        if answer.error().is_some() {
            return answer.error();
        }
        match AuthResponse::parse(&answer.body).expect("accepted") {
            AuthResponse::Accepted { proof: server } => {
                assert!(transcript.verify_server_proof(secret.as_slice(), &proof, &server));
                None
            }
            AuthResponse::Challenge { .. } => panic!("a second challenge"),
        }
    }
}

pub(crate) fn auth_frame(request_id: u64, request: &AuthRequest<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    request.encode(&mut body).expect("encodes");
    request_frame(Opcode::AUTH, request_id, &body)
}

pub(crate) fn request_frame(opcode: Opcode, request_id: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let open = frame::begin(&mut out, Header { opcode, flags: Flags::REQUEST, request_id });
    out.extend_from_slice(body);
    open.finish(&mut out);
    out
}
