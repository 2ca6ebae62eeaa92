//! What a configuration means, in words: `sealwire config check`.

use std::fmt;

use sealwire_engine::Protection;
use sealwire_engine::settings::{ChipName, EngineSettings};

use super::{Config, Part};
use crate::storage::Storage;

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gateway = &self.gateway;
        let tls = if gateway.tls_certificate.is_some() { "TLS 1.3" } else { "no TLS" };
        let plain = if gateway.plain_tcp_beyond_loopback {
            "plain TCP EVERYWHERE: whoever is on the way can read every message"
        } else {
            "plain TCP on loopback only"
        };
        writeln!(f, "data folder      {}", self.data_dir.display())?;
        self.commands(f)?;
        if let Some(engine) = &self.engine {
            of_engine(f, engine)?;
            writeln!(f, "ceremony socket  {}", self.ceremony_socket().display())?;
        }
        if !self.engines.addresses.is_empty() {
            writeln!(
                f,
                "engines          {}, {} connections to each",
                self.engines.addresses.join(", "),
                self.engines.connections + 2
            )?;
        }
        if let Some(tls) = &self.tls {
            writeln!(
                f,
                "between parts    TLS 1.3, both sides certified by {}, here {}",
                tls.authority.display(),
                tls.certificate.display()
            )?;
        }
        writeln!(f, "manager socket   {}", self.manager_socket().display())?;
        if self.tls.is_some() {
            writeln!(f, "orders for keys  {}, of gateways", self.manager.listen)?;
        }
        if !gateway.managers.is_empty() {
            writeln!(f, "GENKEY           handed on to {}", gateway.managers.join(", "))?;
        }
        let keystore = match Storage::of(self, None) {
            Ok(Storage::Sqlite(path)) => format!("SQLite, {}", path.display()),
            Ok(Storage::Mysql(options)) => match &options.tls_ca {
                Some(_) => format!("{}, TLS with a verified name", options.url),
                None => format!("{}, on this machine, no TLS", options.url),
            },
            Err(error) => error.to_string(),
        };
        writeln!(f, "keystore         {keystore}")?;
        writeln!(
            f,
            "keystore away    cached keys go on for {} s, then everything is refused",
            self.keystore.max_stale_seconds
        )?;
        writeln!(f, "gateway          {}, {tls}, {plain}", gateway.listen)?;
        if let Some(proxy) = &gateway.proxy {
            let from: Vec<_> = proxy.from.iter().map(ToString::to_string).collect();
            writeln!(
                f,
                "load balancers   {}, from {} only, which say in a PROXY v2 header who connects",
                proxy.listen,
                from.join(", ")
            )?;
        }
        writeln!(
            f,
            "connections      {} in all, {} of one source; before AUTH {}, {} of one source",
            gateway.max_connections,
            gateway.max_connections_per_source,
            gateway.max_unauthenticated,
            gateway.max_unauthenticated_per_source
        )?;
        writeln!(f, "health           http://{}/health and /metrics", self.health.listen)?;
        writeln!(f, "frames           up to {} bytes", gateway.max_frame)?;
        let manager = &self.manager;
        writeln!(
            f,
            "new keys         index {} to {}, {}",
            manager.first_index,
            manager.last_index,
            manager.suites.join(", ")
        )?;
        let age = manager.renew_after_seconds.map(|seconds| format!("after {seconds} s, "));
        let messages =
            manager.renew_after_messages.map(|count| format!("after {count} messages, "));
        writeln!(
            f,
            "renewed          {}{}and at {} of what a suite with a short nonce allows",
            age.unwrap_or_default(),
            messages.unwrap_or_default(),
            gateway.renew_at_share
        )?;
        write!(
            f,
            "destroyed        {} s after it was said, at the earliest",
            manager.destroy_wait_seconds
        )
    }
}

impl Config {
    /// Which commands run with it, and why others do not.
    fn commands(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in Part::ALL {
            let command = part.command();
            match self.suits(part) {
                Ok(()) => writeln!(f, "runs             sealwire {command}")?,
                Err(why) => writeln!(f, "does not run     sealwire {command}: {why}")?,
            }
        }
        Ok(())
    }
}

fn of_engine(f: &mut fmt::Formatter<'_>, engine: &EngineSettings) -> fmt::Result {
    let chip = match engine.chip {
        ChipName::None => "none: the engine waits for its key cards at every start",
        ChipName::Software => {
            "software: the engine opens itself at start; a stolen machine opens itself, too"
        }
        ChipName::Pkcs11 => "pkcs11: the engine opens itself at start while its token is there",
    };
    let memory = match engine.memory {
        None => "memfd_secret where the kernel has it, else mlock",
        Some(Protection::MemfdSecret) => "memfd_secret, or the engine does not start",
        Some(Protection::Mlock) => "mlock: locked and not dumped; root could read it",
        Some(Protection::Unprotected) => {
            "UNPROTECTED: the root key lies in clear; for trying out a search of memory only"
        }
    };
    writeln!(f, "chip             {chip}")?;
    writeln!(f, "root key         {memory}")?;
    writeln!(f, "cards shown      forgotten after {} s", engine.unseal_lapse_seconds)
}
