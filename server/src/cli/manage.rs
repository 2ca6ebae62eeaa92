//! The commands of management: keys, apps, the keystore.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Subcommand};
use ipnet::IpNet;
use sealwire_engine::document::Grant;
use sealwire_protocol::Suite;

use super::operators::Switch;

#[derive(Args)]
pub(crate) struct ManagerSocket {
    /// The manager's socket; SEALWIRE_SOCKET unless given.
    #[arg(long = "socket", value_name = "PATH", conflicts_with = "url")]
    path: Option<PathBuf>,
    /// The manager over a network, instead of its socket: https://HOST or https://HOST:PORT, 7702 unless given.
    /// SEALWIRE_MANAGER unless given, or --socket is.
    #[arg(long = "manager", value_name = "URL")]
    url: Option<String>,
    /// A file with the certificate authorities to trust for that, in PEM; the system's unless given.
    #[arg(long = "manager-ca", env = "SEALWIRE_MANAGER_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl ManagerSocket {
    /// Where the manager is: what stands on the command line comes before the environment.
    pub(crate) fn place(&self) -> ManagerPlace {
        let of_environment = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let url = || of_environment("SEALWIRE_MANAGER").and_then(|url| url.into_string().ok());
        let socket = || of_environment("SEALWIRE_SOCKET").map(PathBuf::from);
        let network = |url| ManagerPlace::Network { url, ca: self.ca.clone() };
        let place = match (&self.url, &self.path) {
            (Some(url), _) => Some(network(url.clone())),
            (None, Some(path)) => Some(ManagerPlace::Socket(path.clone())),
            (None, None) => url().map(network).or_else(|| socket().map(ManagerPlace::Socket)),
        };
        place.unwrap_or_else(|| {
            let what = "name the manager: --socket PATH (or SEALWIRE_SOCKET), or --manager URL (or SEALWIRE_MANAGER)";
            super::Cli::command().error(ErrorKind::MissingRequiredArgument, what).exit()
        })
    }
}

/// Where the manager is.
#[derive(Clone)]
pub(crate) enum ManagerPlace {
    Socket(PathBuf),
    Network { url: String, ca: Option<PathBuf> },
}

#[derive(Subcommand)]
pub(crate) enum Key {
    /// Make a key; the same name again gives the same key.
    #[command(
        after_help = "Examples:\n  sealwire key create chat\n  sealwire key create archive --index 100 --suite aes-256-gcm-siv"
    )]
    Create {
        /// The name, in any language.
        name: String,
        /// The index; the next free one unless given.
        #[arg(long)]
        index: Option<u32>,
        /// A suite that it may seal with, the first being its default; all unless given.
        #[arg(long = "suite")]
        suites: Vec<Suite>,
        /// Whether granting DEC on it takes two persons.
        #[arg(long)]
        sensitive: bool,
        /// Whether every message must be bound to a context: without one, nothing is sealed.
        #[arg(long)]
        context_required: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: ManagerSocket,
    },
    /// List keys.
    #[command(after_help = "Examples:\n  sealwire key list\n  sealwire key list --json")]
    List {
        /// Print JSON: an array of objects.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: ManagerSocket,
    },
    /// Show a key with its wrapped versions.
    #[command(after_help = "Example:\n  sealwire key show chat")]
    Show {
        /// A name or an index.
        key: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: ManagerSocket,
    },
    /// Add a version: ENC uses it from now on, older ones still open.
    #[command(after_help = "Example:\n  sealwire key rotate chat")]
    Rotate(OneKey),
    /// Seal no more: what is sealed still opens.
    #[command(after_help = "Example:\n  sealwire key close chat")]
    Close(SomeVersions),
    /// Neither seal nor open, on every gateway within a second, until it is enabled again.
    #[command(
        after_help = "Examples:\n  sealwire key disable chat\n  sealwire key disable chat --version 2"
    )]
    Disable(SomeVersions),
    /// Take back `close` or `disable`: versions open again, and the newest one seals.
    #[command(after_help = "Example:\n  sealwire key enable chat")]
    Enable(SomeVersions),
    /// Schedule that a version is destroyed: what it has sealed never opens again.
    #[command(
        after_help = "A version that seals is not destroyed: rotate the key, or disable it, first. Until its time has\n\
                      come, `sealwire key cancel-destroy` calls it off. Then its wrapped key is overwritten and erased.\n\n\
                      Examples:\n  sealwire key destroy chat --version 1 --after 30d\n  sealwire key destroy chat"
    )]
    Destroy {
        #[command(flatten)]
        versions: SomeVersions,
        /// Time until then, such as 30d; the site's waiting time unless given, and never less.
        #[arg(long, value_parser = humantime::parse_duration)]
        after: Option<Duration>,
    },
    /// Call a destruction off: the version is disabled then.
    #[command(after_help = "Example:\n  sealwire key cancel-destroy chat --version 1")]
    CancelDestroy(SomeVersions),
    /// Set a key's suites, its lowest versions, and when it is renewed. What is not given stays.
    #[command(
        after_help = "Examples:\n  sealwire key set chat --min-dec 3\n  sealwire key set chat --renew-after 90d\n  \
                      sealwire key set chat --suite xaes-256-gcm --renew-after never"
    )]
    Set {
        #[command(flatten)]
        key: OneKey,
        /// A suite that it may seal with, the first being its default.
        #[arg(long = "suite")]
        suites: Vec<Suite>,
        /// The lowest version that may seal.
        #[arg(long)]
        min_enc: Option<u32>,
        /// The lowest version that may open.
        #[arg(long)]
        min_dec: Option<u32>,
        /// Age at which the active version is followed by a new one, such as 90d, or never.
        #[arg(long, value_parser = seconds_or_never)]
        renew_after: Option<u64>,
        /// Whether granting DEC on it takes two persons; `off` takes two persons itself, and stands alone.
        #[arg(long)]
        sensitive: Option<Switch>,
        /// Whether apps with the grant `manage` may have it deleted: then an operator is asked.
        #[arg(long)]
        deletion_allowed: Option<Switch>,
        /// Messages under one suite after which it is, or never.
        #[arg(long, value_parser = number_or_never)]
        renew_after_messages: Option<u64>,
    },
}

#[derive(Args)]
pub(crate) struct OneKey {
    /// A name or an index.
    pub(crate) key: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: ManagerSocket,
}

#[derive(Args)]
pub(crate) struct SomeVersions {
    #[command(flatten)]
    pub(crate) key: OneKey,
    /// The version; all unless given.
    #[arg(long)]
    pub(crate) version: Option<u32>,
}

/// A time of at least a second; 0 for never.
fn seconds_or_never(text: &str) -> Result<u64, String> {
    if text == "never" {
        return Ok(0);
    }
    match humantime::parse_duration(text).map_err(|error| error.to_string())?.as_secs() {
        0 => Err("at least a second, or `never`".to_owned()),
        seconds => Ok(seconds),
    }
}

/// A number from 1; 0 for never.
fn number_or_never(text: &str) -> Result<u64, String> {
    match text {
        "never" => Ok(0),
        _ => match text.parse().map_err(|_| format!("`{text}` is not a number"))? {
            0 => Err("at least 1, or `never`".to_owned()),
            number => Ok(number),
        },
    }
}

#[derive(Subcommand)]
pub(crate) enum App {
    /// Make an app. Its secret is shown this once.
    #[command(
        after_help = "Example:\n  sealwire app create im-gateway --allow 10.1.0.0/16 --grant enc,dec,reenc:chat\n\n\
                            A grant is operations (enc, dec, reenc, genkey, datakey, manage), a colon and a key: a name, PREFIX* or *.\n\
                            reenc:A>B lets the app re-encrypt from key A to key B, which opens A to B's readers."
    )]
    Create {
        /// The name, in any language.
        name: String,
        /// An address or network that it may log in from. None: it may not log in.
        #[arg(long, num_args = 1.., value_parser = network)]
        allow: Vec<IpNet>,
        /// What it may do. None: nothing.
        #[arg(long, num_args = 1..)]
        grant: Vec<Grant>,
        /// Let it come over HTTP, too: with a second secret for that, which passes through the gateway.
        #[arg(long)]
        http: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: ManagerSocket,
    },
    /// Show an app.
    #[command(after_help = "Example:\n  sealwire app show im-gateway")]
    Show(OneApp),
    /// Set what an app may do, and from where. What is given takes the place of all that was; its sessions end, and it
    /// logs in again.
    #[command(
        after_help = "Examples:\n  sealwire app set im-gateway --allow 10.1.0.0/16 10.2.0.0/16\n  \
                            sealwire app set im-gateway --grant enc,dec:chat enc:archive"
    )]
    Set {
        #[command(flatten)]
        app: OneApp,
        /// Addresses and networks that it may log in from.
        #[arg(long, num_args = 1.., value_parser = network, required_unless_present_any = ["grant", "no_http"])]
        allow: Vec<IpNet>,
        /// What it may do.
        #[arg(long, num_args = 1..)]
        grant: Vec<Grant>,
        /// Let it come over HTTP no longer: its tokens end.
        #[arg(long, conflicts_with_all = ["allow", "grant"])]
        no_http: bool,
    },
    /// Keep an app from logging in, and end its sessions, on every gateway within a second.
    #[command(after_help = "Example:\n  sealwire app disable im-gateway")]
    Disable(OneApp),
    /// Let it log in again.
    #[command(after_help = "Example:\n  sealwire app enable im-gateway")]
    Enable(OneApp),
    /// Give an app a new secret, shown this once. The one of before is taken for a while.
    #[command(after_help = "Examples:\n  sealwire app rotate-secret im-gateway --overlap 1h\n  \
                            sealwire app rotate-secret im-gateway --overlap 0s\n  \
                            sealwire app rotate-secret im-gateway --http")]
    RotateSecret {
        #[command(flatten)]
        app: OneApp,
        /// Time for which the secret of before is still taken.
        #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
        overlap: Duration,
        /// Take a still older secret no more, although its time is not over.
        #[arg(long)]
        drop_older: bool,
        /// The HTTP secret instead of the AppSecret. The first one lets the app come over HTTP.
        #[arg(long)]
        http: bool,
    },
    /// List apps.
    #[command(after_help = "Example:\n  sealwire app list --json")]
    List {
        /// Print JSON: an array of objects.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: ManagerSocket,
    },
}

#[derive(Args)]
pub(crate) struct OneApp {
    /// An AppKey or a name.
    pub(crate) app: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: ManagerSocket,
}

#[derive(Subcommand)]
pub(crate) enum Keystore {
    /// Bring the schema of a MySQL keystore up to date, with an account that may.
    #[command(
        after_help = "Example:\n  SEALWIRE_KEYSTORE_PASSWORD=… sealwire keystore migrate --config /etc/sealwire/sealwire.toml \\\n    \
                      --url mysql://sealwire_owner@127.0.0.1/sealwire"
    )]
    Migrate(Account),
    /// Write everything to a file, for a backup or another database; keys only wrapped. The server may run.
    #[command(
        after_help = "Example:\n  sealwire keystore export --config /etc/sealwire/sealwire.toml keystore.jsonl"
    )]
    Export {
        #[command(flatten)]
        account: Account,
        /// The file; nothing is overwritten.
        out: PathBuf,
    },
    /// Read what `export` has written into an empty keystore. The server must be stopped.
    #[command(
        after_help = "Example:\n  sealwire keystore import --config /etc/sealwire/sealwire.toml keystore.jsonl"
    )]
    Import {
        #[command(flatten)]
        account: Account,
        /// The file.
        file: PathBuf,
    },
    /// Trust a database that was put back from a backup. The server must be stopped.
    #[command(
        after_help = "Without this, a gateway and a manager that have seen newer documents refuse older ones. Run it on\n\
                      one of their machines, and with --marks-only on each of the others.\n\n\
                      Example:\n  sealwire keystore restored --config /etc/sealwire/sealwire.toml"
    )]
    Restored {
        #[command(flatten)]
        account: Account,
        /// Only let this machine trust it: the database was seen to on another machine.
        #[arg(long)]
        marks_only: bool,
    },
}

/// Which keystore, and as whom.
#[derive(Args)]
pub(crate) struct Account {
    /// The server's configuration.
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// Another URL than the configuration's, for an account with other rights.
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// A file with its password, mode 0600; SEALWIRE_KEYSTORE_PASSWORD unless given.
    #[arg(long)]
    pub(crate) password_file: Option<PathBuf>,
}

/// An address alone is a network of one.
fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| format!("`{text}` is not an address or a network such as 10.1.0.0/16"))
}
