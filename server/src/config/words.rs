//! What a configuration means, in words: `sealwire config check`.

use std::fmt;

use sealwire_engine::settings::{ChipName, EngineSettings};
use sealwire_engine::wire::Role;
use sealwire_engine::wire::tls::{Identity, TlsError};
use sealwire_engine::{Protection, chain};

use super::{Config, Part};
use crate::storage::Storage;

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "data folder      {}", self.data_dir.display())?;
        let parts = self.commands(f)?;
        let has = |part| parts.contains(&part) || parts.contains(&Part::All);
        if parts.iter().any(|part| *part != Part::All) {
            self.between_parts(f)?;
        }
        if let Some(engine) = &self.engine {
            of_engine(f, engine)?;
            writeln!(f, "ceremony socket  {}", self.ceremony_socket().display())?;
        }
        self.of_keystore(f)?;
        if has(Part::Gateway) {
            self.of_gateway(f)?;
        }
        if has(Part::Manager) {
            self.of_manager(f, parts.contains(&Part::Manager))?;
        }
        write!(f, "health           http://{}/health and /metrics", self.health.listen)
    }
}

impl Config {
    /// Which commands run with it, and why others do not. Gives those that do.
    fn commands(&self, f: &mut fmt::Formatter<'_>) -> Result<Vec<Part>, fmt::Error> {
        let mut parts = Vec::new();
        for part in Part::ALL {
            let command = part.command();
            let identity = self.suits(part).map(|()| self.identity(part).err());
            match identity {
                Err(why) => writeln!(f, "does not run     sealwire {command}: {why}")?,
                Ok(Some(why @ TlsError::Role { .. })) => {
                    writeln!(f, "does not run     sealwire {command}: {why}")?;
                }
                Ok(problem) => {
                    writeln!(f, "runs             sealwire {command}")?;
                    if let Some(problem) = problem {
                        writeln!(f, "                 but first: {}", chain(&problem))?;
                    }
                    parts.push(part);
                }
            }
        }
        if self.engine.as_ref().is_some_and(|_| self.tls.is_some()) {
            let text =
                "sealwire-engine, which says itself what it means there: --config FILE --check";
            writeln!(f, "runs             {text}")?;
        }
        Ok(parts)
    }

    /// Reads what a part proves itself with to the others.
    fn identity(&self, part: Part) -> Result<(), TlsError> {
        let role = match part {
            Part::All => return Ok(()),
            Part::Gateway => Role::Gateway,
            Part::Manager => Role::Manager,
        };
        let Some(tls) = &self.tls else { return Ok(()) };
        Identity::read(tls.files(), role).map(drop)
    }

    fn between_parts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        Ok(())
    }

    fn of_keystore(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keystore = match Storage::of(self, None) {
            Ok(Storage::Sqlite(path)) => format!("SQLite, {}", path.display()),
            Ok(Storage::Mysql(options)) => match &options.tls_ca {
                Some(_) => format!("{}, TLS with a verified name", options.url),
                None => format!("{}, on this machine, no TLS", options.url),
            },
            Err(error) => error.to_string(),
        };
        writeln!(f, "keystore         {keystore}")
    }

    fn of_gateway(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gateway = &self.gateway;
        let tls = if gateway.tls_certificate.is_some() { "TLS 1.3" } else { "no TLS" };
        let plain = if gateway.plain_tcp_beyond_loopback {
            "plain TCP EVERYWHERE: whoever is on the way can read every message"
        } else {
            "plain TCP on loopback only"
        };
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
        if let Some(http) = &gateway.http {
            writeln!(
                f,
                "HTTP             {}, {tls}, bodies up to {} bytes, {} items, {} bytes of long ones at once",
                http.listen, http.max_body, http.max_items, http.max_buffered
            )?;
            writeln!(
                f,
                "tokens           for {} s, {} s with renewals, {} of an app",
                http.token_ttl_seconds, http.token_max_ttl_seconds, http.max_tokens_per_app
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
        writeln!(f, "frames           up to {} bytes", gateway.max_frame)?;
        writeln!(
            f,
            "keystore away    cached keys go on for {} s, then everything is refused",
            self.keystore.max_stale_seconds
        )?;
        if !gateway.managers.is_empty() {
            writeln!(f, "GENKEY           handed on to {}", gateway.managers.join(", "))?;
        }
        Ok(())
    }

    fn of_manager(&self, f: &mut fmt::Formatter<'_>, is_apart: bool) -> fmt::Result {
        let manager = &self.manager;
        writeln!(f, "manager socket   {}", self.manager_socket().display())?;
        if is_apart {
            writeln!(f, "orders for keys  {}, of gateways", manager.listen)?;
        }
        writeln!(
            f,
            "new keys         index {} to {}, {}",
            manager.first_index,
            manager.last_index,
            manager.suites.join(", ")
        )?;
        let age = manager.renew_after_seconds.map(|seconds| format!("after {seconds} s"));
        let messages = manager.renew_after_messages.map(|count| format!("after {count} messages"));
        let share = self.gateway.renew_at_share;
        let share = format!("at {share} of what a suite with a short nonce allows");
        let when: Vec<_> = age.into_iter().chain(messages).chain([share]).collect();
        writeln!(f, "renewed          {}", when.join(", or "))?;
        writeln!(
            f,
            "destroyed        {} s after it was said, at the earliest",
            manager.destroy_wait_seconds
        )
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
