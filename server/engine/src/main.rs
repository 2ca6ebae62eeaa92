//! `sealwire-engine`: the encryption server as a process of its own. It knows no database and no HTTP,
//! and keeps nothing but the root key and its pin.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use sealwire_engine::custody::{self, Custodian};
use sealwire_engine::host::followed::FileError;
use sealwire_engine::host::{bind_socket, data_dir, infallible, process, watched};
use sealwire_engine::serve::{self, Service};
use sealwire_engine::settings::{EngineSettings, TlsSettings};
use sealwire_engine::wire::Role;
use sealwire_engine::wire::tls::{Identity, TlsError};
use sealwire_engine::{State, chain};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroizing_alloc::ZeroAlloc;

/// Wipes what it takes back.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

/// Sealwire's encryption server: holds the root key, serves gateways and managers over TLS with
/// certificates on both sides.
#[derive(Parser)]
#[command(
    name = "sealwire-engine",
    version,
    max_term_width = 100,
    after_help = "Example:\n  sealwire-engine --config /etc/sealwire/engine.toml\n\n\
                  It is opened by its chip, or by the key cards: `sealwire root unseal --engine SOCKET`."
)]
struct Cli {
    /// The configuration: `data_dir`, and the sections `[engine]` and `[tls]`.
    #[arg(long)]
    config: PathBuf,
    /// Check the configuration, say what it means, and end.
    #[arg(long)]
    check: bool,
    /// What to log to stderr: error, warn, info, debug, or a tracing filter.
    #[arg(long, env = "SEALWIRE_LOG", default_value = "info")]
    log: String,
    /// How to log.
    #[arg(long, env = "SEALWIRE_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: process::LogFormat,
}

/// A configuration file, as far as it concerns an engine. The other parts may have theirs in the same file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    data_dir: PathBuf,
    engine: EngineSettings,
    tls: TlsSettings,
    #[serde(rename = "engines")]
    _engines: Option<IgnoredAny>,
    #[serde(rename = "keystore")]
    _keystore: Option<IgnoredAny>,
    #[serde(rename = "manager")]
    _manager: Option<IgnoredAny>,
    #[serde(rename = "gateway")]
    _gateway: Option<IgnoredAny>,
    #[serde(rename = "health")]
    _health: Option<IgnoredAny>,
}

/// How it calls itself on stderr.
const PROGRAM: &str = "sealwire-engine";

fn tell(text: &str) {
    process::tell(PROGRAM, text);
}

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    if let Err(problem) = process::check_cpu() {
        eprintln!("sealwire-engine: {problem}");
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    process::log(&cli.log, cli.log_format);
    let run = || -> Fallible<()> {
        process::harden()?;
        let config = read(&cli.config)?;
        if cli.check {
            println!("{}", words(&config));
            return check_identity(&config);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(serve(&config))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::tell_failure(PROGRAM, &chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn read(path: &Path) -> Fallible<Config> {
    let named =
        |error: &dyn std::fmt::Display| format!("configuration {}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    let config: Config = toml::from_str(&text).map_err(|error| named(&error))?;
    config.engine.check(&config.data_dir).map_err(|error| named(&chain(&error)))?;
    Ok(config)
}

fn words(config: &Config) -> String {
    let Config { data_dir, engine, tls, .. } = config;
    format!(
        "data folder      {}\nchip             {:?}\nceremony socket  {}\nlistens          {}, TLS 1.3, \
         client certificates of {}\ncertificate      {}, must name {}",
        data_dir.display(),
        engine.chip,
        engine.ceremony_socket(data_dir).display(),
        engine.listen,
        tls.authority.display(),
        tls.certificate.display(),
        Role::Engine.dns_name(),
    )
}

/// Whether the certificate is what it should be. On another machine than the engine's it is not there.
fn check_identity(config: &Config) -> Fallible<()> {
    match Identity::read(config.tls.files(), Role::Engine) {
        Ok(_) => Ok(()),
        Err(TlsError::File(error @ FileError::Unreadable { .. })) => {
            println!("but first        {}", chain(&error));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn serve(config: &Config) -> Fallible<()> {
    let (data, engine) = (&config.data_dir, &config.engine);
    data_dir::make(data)?;
    let _lock = data_dir::lock(data)?;
    let identity = Identity::read(config.tls.files(), Role::Engine)?;
    let custodian = engine.make(data)?;
    open_by_chip(&custodian);
    let listener = TcpListener::bind(engine.listen)
        .await
        .map_err(|error| format!("engine: {}: {error}", engine.listen))?;
    let listen = listener.local_addr()?;
    let socket = engine.ceremony_socket(data);
    let ceremonies = bind_socket(&socket)?;

    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let renewals = identity.clone().follow(stop.clone());
    tasks.spawn(watched("certificates", stop.clone(), infallible(renewals)));
    let officers = custody::serve(ceremonies, custodian.clone(), stop.clone());
    tasks.spawn(watched("ceremony socket", stop.clone(), infallible(officers)));
    let service = Service::new(custodian.clone());
    let callers = serve::run(listener, identity, service, stop.clone());
    tasks.spawn(watched("engine", stop.clone(), infallible(callers)));
    tell(&format!("engine on {listen}"));
    tell(&format!("ceremonies on {}", socket.display()));
    match custodian.engine().state() {
        State::Open { root } => tell(&format!("open, root key {root}")),
        _ => tell(&format!(
            "sealed; `sealwire root unseal --engine {} --card …` opens it",
            socket.display()
        )),
    }
    process::ready();

    let failed = process::until_stopped(&stop).await?;
    tell("stopping: finishing what is in flight");
    process::stopping();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    custodian.engine().seal();
    let _ = std::fs::remove_file(&socket);
    if failed {
        return Err("a part has failed".into());
    }
    tell("stopped");
    Ok(())
}

fn open_by_chip(custodian: &Custodian) {
    if let Err(error) = custodian.start() {
        let problem = chain(&error);
        process::tell_failure(
            PROGRAM,
            &format!("the chip did not open the root key, unseal with the key cards: {problem}"),
        );
    }
}
