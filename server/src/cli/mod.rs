//! The command line.

mod audit;
mod manage;
mod operators;
pub(crate) mod root;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sealwire_engine::host::process::LogFormat;
use sealwire_protocol::Suite;

pub(crate) use audit::{Audit, AuditList};
pub(crate) use manage::{
    Account, App, Key, Keystore, ManagerPlace, ManagerSocket, OneApp, OneKey, SomeVersions,
};
pub(crate) use operators::{OneOperator, OneRequest, Operator, Policy, Request, SignIn, Switch};
pub(crate) use root::{Engines, Root, Shared};

/// Server-side message encryption for IM systems.
#[derive(Parser)]
#[command(
    name = "sealwire",
    version,
    max_term_width = 100,
    after_help = "Start here:\n  sealwire quickstart           see the whole way in half a minute\n  \
                  sealwire quickstart --stay    the same, and keep serving"
)]
pub(crate) struct Cli {
    /// What to log to stderr: error, warn, info, debug, or a tracing filter.
    /// Unless given: info for what serves, else warn.
    #[arg(long, global = true, env = "SEALWIRE_LOG")]
    pub(crate) log: Option<String>,
    /// How to log.
    #[arg(long, global = true, env = "SEALWIRE_LOG_FORMAT", value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Everything in one: a ceremony, a key, an app, a message there and back, and an attempt to steal.
    #[command(
        after_help = "Examples:\n  sealwire quickstart\n  sealwire quickstart --dir ./demo --stay"
    )]
    Quickstart(Quickstart),
    /// Run all parts in one process.
    #[command(after_help = "Example:\n  sealwire serve --config /etc/sealwire/sealwire.toml")]
    Serve {
        /// The configuration; `sealwire config check FILE` says what it means.
        #[arg(long, env = "SEALWIRE_CONFIG")]
        config: PathBuf,
    },
    /// Run a gateway by itself: the crypto service, with engines and managers of other processes.
    #[command(after_help = "Example:\n  sealwire gateway --config /etc/sealwire/gateway.toml")]
    Gateway {
        /// The configuration; `sealwire config check FILE` says what it means.
        #[arg(long, env = "SEALWIRE_CONFIG")]
        config: PathBuf,
    },
    /// Run a manager by itself: the management service, with engines of other processes.
    #[command(after_help = "Example:\n  sealwire manager --config /etc/sealwire/manager.toml")]
    Manager {
        /// The configuration; `sealwire config check FILE` says what it means.
        #[arg(long, env = "SEALWIRE_CONFIG")]
        config: PathBuf,
    },
    /// Certificates of a site's parts, for trying out.
    #[command(subcommand)]
    Tls(Tls),
    /// The root key: ceremonies with key cards.
    #[command(subcommand)]
    Root(Root),
    /// Business keys, shown only wrapped.
    #[command(subcommand)]
    Key(Key),
    /// Apps: the business systems that may log in.
    #[command(subcommand)]
    App(App),
    /// Operators: the people who manage the site.
    #[command(subcommand)]
    Operator(Operator),
    /// What waits for a second person.
    #[command(subcommand)]
    Request(Request),
    /// Whether two persons are needed, and how long a destruction waits.
    #[command(subcommand)]
    Policy(Policy),
    /// Who did what: show records, and check that none was tampered with.
    #[command(subcommand)]
    Audit(Audit),
    /// Sign in as an operator: the commands that follow call as them.
    #[command(after_help = "Example:\n  sealwire sign-in alice")]
    SignIn(SignIn),
    /// End the session.
    #[command(after_help = "Example:\n  sealwire sign-out")]
    SignOut {
        #[command(flatten)]
        socket: ManagerSocket,
    },
    /// Whom the manager takes you for.
    #[command(after_help = "Example:\n  sealwire who-am-i")]
    WhoAmI {
        #[command(flatten)]
        socket: ManagerSocket,
    },
    /// Where keys and apps are stored: schema, moving house, backups.
    #[command(subcommand)]
    Keystore(Keystore),
    /// Encrypt standard input.
    #[command(
        after_help = "Examples:\n  echo -n hello | sealwire enc --key chat > hello.sealed\n  \
                            sealwire enc --key chat --lines < chat.jsonl > chat.sealed"
    )]
    Enc(Enc),
    /// Decrypt standard input.
    #[command(
        after_help = "Examples:\n  sealwire dec < hello.sealed\n  sealwire dec --lines < chat.sealed"
    )]
    Dec(Dec),
    /// Re-encrypt standard input: under the newest version of its key, or under another key.
    #[command(after_help = "Examples:\n  sealwire reenc --lines < old.sealed > new.sealed\n  \
                            sealwire reenc --to archive --lines < chat.sealed")]
    Reenc(Reenc),
    /// Load a running server and measure it.
    #[command(
        after_help = "Example:\n  sealwire bench --key chat --connections 16 --depth 64 --size 256 --op enc"
    )]
    Bench(Bench),
    /// Look at a configuration.
    #[command(subcommand)]
    Config(Config),
}

impl Command {
    /// Whether it serves, rather than does something and ends.
    pub(crate) fn serves(&self) -> bool {
        matches!(self, Self::Serve { .. } | Self::Gateway { .. } | Self::Manager { .. })
    }
}

#[derive(Subcommand)]
pub(crate) enum Tls {
    /// Make a small authority, and a certificate for each role. Repeat it, with the same names, to renew the
    /// certificates under the same authority: the parts take them into use by themselves.
    #[command(after_help = "Examples:\n  sealwire tls init --dir ./tls\n  \
                            sealwire tls init --dir ./tls --days 30 --gateway-name im.example.net\n\n\
                            For earnest use your own authority: a certificate names its role as a DNS name,\n\
                            engine.sealwire.internal, gateway.sealwire.internal or manager.sealwire.internal.")]
    Init {
        /// Where to put them.
        #[arg(long)]
        dir: PathBuf,
        /// Days for which the certificates are good; the authority is for ten years.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// Names or addresses that clients call the gateway by: makes `gateway-clients.pem`, for
        /// `[gateway] tls_certificate`.
        #[arg(long)]
        gateway_name: Vec<String>,
    },
}

#[derive(Args)]
pub(crate) struct Quickstart {
    /// Where to put everything. With --stay: ./sealwire-quickstart unless given; else a temporary
    /// folder that is removed at the end.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Keep serving at the default addresses, and write DIR/client.env for the client commands.
    #[arg(long)]
    pub(crate) stay: bool,
}

/// How client commands reach the server. The secret comes from the environment alone.
#[derive(Args)]
pub(crate) struct Connection {
    /// The servers, separated by commas: sealwire://HOST:PORT (TLS) or sealwire+tcp://HOST:PORT (plain, loopback).
    #[arg(long, env = "SEALWIRE_ADDR")]
    pub(crate) addr: String,
    /// The AppKey. The AppSecret comes from SEALWIRE_APP_SECRET.
    #[arg(long, env = "SEALWIRE_APP_KEY")]
    pub(crate) app_key: String,
    /// A file with the certificate authorities to trust, in PEM; the system's unless given.
    #[arg(long, env = "SEALWIRE_CA")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Input {
    /// One message a line: envelopes are lines of base64.
    #[arg(long)]
    pub(crate) lines: bool,
    /// What the message is bound to; the same text is needed to decrypt.
    #[arg(long, default_value = "")]
    pub(crate) aad: String,
    /// A second thing that the message is bound to, as the Transit API's `context`.
    #[arg(long, default_value = "")]
    pub(crate) context: String,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

#[derive(Args)]
pub(crate) struct Enc {
    /// The key: a name or an index.
    #[arg(long)]
    pub(crate) key: String,
    /// The suite; the key's default unless given.
    #[arg(long)]
    pub(crate) suite: Option<Suite>,
    #[command(flatten)]
    pub(crate) input: Input,
}

#[derive(Args)]
pub(crate) struct Dec {
    #[command(flatten)]
    pub(crate) input: Input,
}

#[derive(Args)]
pub(crate) struct Reenc {
    /// Another key: a name or an index. Needs the grant reenc:A>B.
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// The suite; the key's default unless given.
    #[arg(long)]
    pub(crate) suite: Option<Suite>,
    #[command(flatten)]
    pub(crate) input: Input,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchOp {
    /// Seal messages.
    Enc,
    /// Open envelopes.
    Dec,
    /// Open and seal again.
    Reenc,
}

#[derive(Args)]
pub(crate) struct Bench {
    /// The key: a name or an index.
    #[arg(long, default_value = "chat")]
    pub(crate) key: String,
    /// Keys to seal with, from --key on, in an order that looks random: a site with a key for each
    /// conversation. More than the server caches are loaded from its database again and again.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) keys: u32,
    /// Connections.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: u32,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) depth: u32,
    /// Size of a message, in bytes.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) size: u32,
    /// What to do.
    #[arg(long, value_enum, default_value = "enc")]
    pub(crate) op: BenchOp,
    /// The suite; the key's default unless given.
    #[arg(long)]
    pub(crate) suite: Option<Suite>,
    /// Requests a second over all connections, evenly spaced, whatever the server does; as many as it answers unless
    /// given. A request's time counts from when it was due. Takes a core of its own.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) rate: Option<u32>,
    /// How long to measure, after a second of warming up.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

#[derive(Subcommand)]
pub(crate) enum Config {
    /// Check a configuration, and say what it means.
    #[command(after_help = "Example:\n  sealwire config check /etc/sealwire/sealwire.toml")]
    Check {
        /// The file.
        file: PathBuf,
    },
}
