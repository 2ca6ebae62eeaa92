//! A real MariaDB in a temporary folder, on a free port. It ends with the test, however that ends.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Runs a program, and kills it when its own standard input ends, with the test at the latest; then it removes
/// the program's folder, too, unless it is told to keep it.
const GUARD: &str = r#"folder=$1; shift; "$@" >/dev/null 2>&1 </dev/null & child=$!; echo $child; read word
kill -9 $child 2>/dev/null; [ "$word" = keep ] || rm -rf "$folder""#;

/// A MariaDB server.
pub(crate) struct Mariadb {
    folder: TempDir,
    pub(crate) port: u16,
    extra: Vec<String>,
    running: Option<Running>,
}

struct Running {
    guard: Child,
    pid: u32,
}

impl Mariadb {
    /// Installs a server's files, and starts it.
    pub(crate) fn start() -> Self {
        Self::with(free_port(), &[])
    }

    /// The same, with more options.
    pub(crate) fn with(port: u16, extra: &[String]) -> Self {
        let mut server = Self::prepared(port, extra);
        server.run();
        server
    }

    /// A server that is not running yet.
    pub(crate) fn prepared(port: u16, extra: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut install = Command::new("mariadb-install-db");
        install
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", folder.path().join("data").display()));
        // One that starts clears its folder for temporary files of what others have there.
        install.env("TMPDIR", folder.path());
        if is_root() {
            run(Command::new("chown").arg("nobody").arg(folder.path()));
            install.arg("--user=nobody");
        }
        run(&mut install);
        Self { folder, port, extra: extra.to_vec(), running: None }
    }

    /// Starts the server over its files.
    pub(crate) fn run(&mut self) {
        self.launch(&[]);
        self.wait();
    }

    /// Starts it without waiting, with options for this start alone.
    pub(crate) fn launch(&mut self, once: &[String]) {
        assert!(self.running.is_none(), "it runs already");
        let path = self.folder.path().display().to_string();
        let mut guard = Command::new("sh");
        guard
            .args(["-c", GUARD, "guard", &path, "mariadbd", "--no-defaults"])
            .arg(format!("--datadir={path}/data"))
            .arg(format!("--socket={path}/socket"))
            .arg(format!("--tmpdir={path}"))
            .arg(format!("--pid-file={path}/pid"))
            .arg(format!("--log-error={path}/error.log"))
            .arg(format!("--port={}", self.port))
            .args(["--bind-address=127.0.0.1", "--skip-log-bin", "--skip-name-resolve"])
            .args(&self.extra)
            .args(once)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if is_root() {
            guard.arg("--user=nobody");
        }
        let mut guard = guard.spawn().expect("sh");
        let mut line = String::new();
        let out = guard.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a process id");
        let pid = line.trim().parse().expect("a process id");
        self.running = Some(Running { guard, pid });
    }

    /// Waits until it answers.
    pub(crate) fn wait(&self) {
        let begun = Instant::now();
        while !self.answers() {
            assert!(begun.elapsed() < Duration::from_secs(90), "MariaDB: {}", self.errors());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn answers(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            && self
                .client()
                .args(["-e", "SELECT 1"])
                .output()
                .is_ok_and(|done| done.status.success())
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    pub(crate) fn runs(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().expect("it runs").pid
    }

    /// Kills the server as a power loss would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            signal(running.pid, "-KILL");
            let mut guard = running.guard.stdin.take().expect("piped");
            let _ = guard.write_all(b"keep\n");
            drop(guard);
            let _ = running.guard.wait();
            // Its port is free when the process is gone.
            while Path::new(&format!("/proc/{}", running.pid)).exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Stops the server in its tracks, or lets it go on.
    pub(crate) fn pause(&self, pause: bool) {
        signal(self.pid(), if pause { "-STOP" } else { "-CONT" });
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn client(&self) -> Command {
        let mut client = self.tool("mariadb");
        client.args(["--batch", "--skip-column-names"]);
        client
    }

    /// A tool of MariaDB's, connected as root.
    pub(crate) fn tool(&self, name: &str) -> Command {
        let mut tool = Command::new(name);
        tool.args(["--no-defaults", "-uroot", "-S"]).arg(self.socket());
        tool
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Runs SQL as root.
    pub(crate) fn sql(&self, statements: &str) -> String {
        let done = self.client().args(["-e", statements]).output().expect("runs");
        assert!(done.status.success(), "{statements}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("text")
    }

    /// Runs SQL as another user, who is refused; what the server says.
    pub(crate) fn refused(&self, user: &str, password: &str, statement: &str) -> String {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "-S"]).arg(self.socket()).args(["-u", user, "sealwire"]);
        let done =
            client.arg(format!("-p{password}")).args(["-e", statement]).output().expect("runs");
        assert!(!done.status.success(), "{user}: {statement}");
        String::from_utf8_lossy(&done.stderr).into_owned()
    }

    /// An empty database, and an account without a password that may do everything there.
    pub(crate) fn database(&self, name: &str) -> String {
        self.sql(&format!(
            "CREATE DATABASE {name} CHARACTER SET utf8mb4; CREATE USER '{name}'@'%'; \
             GRANT ALL ON {name}.* TO '{name}'@'%'"
        ));
        format!("mysql://{name}@127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout.starts_with(b"0\n")
}

fn signal(pid: u32, signal: &str) {
    let _ = Command::new("kill").args([signal, &pid.to_string()]).status();
}

fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; `./scripts/test` installs what the tests need")
    });
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
