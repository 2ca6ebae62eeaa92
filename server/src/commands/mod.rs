//! The commands, one file each.

mod app;
mod audit;
mod bench;
mod crypt;
mod identity;
mod key;
mod keystore;
mod operator;
mod quickstart;
mod request;
mod root;
mod serve;
mod steal;
mod tls;

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use sealwire_client::{Builder, Client, Credentials};
use sealwire_manager::ClientError;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::cli::{Command, Config as ConfigCommand, Connection};
use crate::config::{Config, Part};

/// The variable that holds the AppSecret: it is never an argument.
const APP_SECRET: &str = "SEALWIRE_APP_SECRET";

/// Runs a command.
pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Quickstart(args) => quickstart::run(args).await,
        Command::Serve { config } => serve::run(&config, Part::All).await,
        Command::Gateway { config } => serve::run(&config, Part::Gateway).await,
        Command::Manager { config } => serve::run(&config, Part::Manager).await,
        Command::Tls(command) => tls::run(&command),
        // A ceremony whose output nobody has seen has not been held.
        Command::Root(command) => root::run(command).await.map_err(|error| {
            if is_output_closed(&error) { anyhow::anyhow!("{error:#}") } else { error }
        }),
        Command::Key(command) => key::run(command).await,
        Command::App(command) => app::run(command).await,
        Command::Operator(command) => operator::run(command).await,
        Command::Request(command) => request::run(command).await,
        Command::Policy(command) => request::policy(command).await,
        Command::Audit(command) => audit::run(command).await,
        Command::SignIn(args) => identity::sign_in(args).await,
        Command::SignOut { socket } => identity::sign_out(&socket).await,
        Command::WhoAmI { socket } => identity::who_am_i(&socket).await,
        Command::Keystore(command) => keystore::run(command).await,
        Command::Enc(args) => crypt::enc(args).await,
        Command::Dec(args) => crypt::dec(args).await,
        Command::Reenc(args) => crypt::reenc(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Config(ConfigCommand::Check { file }) => {
            let config = Config::read(&file)?;
            config
                .suits_something()
                .with_context(|| format!("configuration {}", file.display()))?;
            print(&format!("{config}\n"))
        }
    }
}

/// Whoever reads our output is gone.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
struct OutputClosed;

/// Whether whoever reads our output is gone, which is not our failure.
pub(crate) fn is_output_closed(error: &anyhow::Error) -> bool {
    error.is::<OutputClosed>()
}

/// Tells a reader of our output that is gone from other errors of writing it.
fn written<T>(result: io::Result<T>) -> Result<T> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => OutputClosed.into(),
        _ => error.into(),
    })
}

/// Prints to stdout.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Prints JSON to stdout.
fn print_json<T: Serialize>(value: &T) -> Result<()> {
    let text = Zeroizing::new(serde_json::to_string_pretty(value)?);
    print(&text)?;
    print("\n")
}

/// What was asked for, and waits for a second person: that is what there was to do.
pub(crate) fn is_asked(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::Asked(_)))
}

/// Unix time in seconds, for people.
fn time(unix: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(unix));
    time.map_or_else(|| "never".into(), |time| humantime::format_rfc3339_seconds(time).to_string())
}

/// Names the rows that do not verify.
fn warn_unverified(kind: &str, names: &[String]) {
    for name in names {
        eprintln!(
            "sealwire: {kind} `{name}` does not verify and is not used: its row in the keystore was \
             changed, added or moved"
        );
    }
}

/// The credentials of the environment.
fn credentials(connection: &Connection) -> Result<Credentials> {
    let secret = std::env::var(APP_SECRET).map(Zeroizing::new);
    let secret = secret.with_context(|| {
        format!("{APP_SECRET} is not set: `app create` has shown the secret; `quickstart --stay` writes it to client.env")
    })?;
    Ok(Credentials::new(&connection.app_key, &secret)?)
}

/// The authorities to trust.
fn ca_pem(connection: &Connection) -> Result<Option<Vec<u8>>> {
    let Some(path) = &connection.ca else { return Ok(None) };
    Ok(Some(std::fs::read(path).with_context(|| format!("CA file {}", path.display()))?))
}

/// A client of the environment's server.
async fn client(connection: &Connection) -> Result<Client> {
    let mut builder: Builder =
        Client::builder(&connection.addr, credentials(connection)?).connections(1);
    if let Some(pem) = ca_pem(connection)? {
        builder = builder.ca_pem(pem);
    }
    builder.connect().await.with_context(|| format!("server {}", connection.addr))
}

/// A key's index, by name or index.
async fn key_index(client: &Client, key: &str) -> Result<u32> {
    match key.parse() {
        Ok(index) if key.bytes().all(|byte| byte.is_ascii_digit()) => Ok(index),
        _ => Ok(client.key(key).await.with_context(|| format!("key `{key}`"))?.index),
    }
}
