//! The section `[manager]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sealwire_engine::document::Renewal;
use sealwire_manager::{SessionLimits, Settings};
use sealwire_protocol::Suite;
use serde::{Deserialize, Serialize};

use super::CENTURY;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ManagerConfig {
    /// `DATA_DIR/manager.sock` unless set.
    pub(crate) socket: Option<PathBuf>,
    /// Where a manager that is a process of its own takes orders for keys from gateways.
    pub(crate) listen: SocketAddr,
    /// The API over a network; the socket alone unless set.
    pub(crate) http: Option<HttpConfig>,
    /// The indexes that keys get, first and last.
    pub(crate) first_index: u32,
    pub(crate) last_index: u32,
    /// Suites of a key that names none, the first being its default.
    pub(crate) suites: Vec<String>,
    /// Age in seconds at which the active version of a new key is followed by another; never unless set.
    pub(crate) renew_after_seconds: Option<u64>,
    /// Messages under one suite after which it is; only the suite's own limit unless set.
    pub(crate) renew_after_messages: Option<u64>,
    /// Least age in seconds at which a version is followed by another by itself.
    pub(crate) renew_pause_seconds: u64,
    /// Least seconds between the word that a version is to be destroyed, and its destruction.
    pub(crate) destroy_wait_seconds: u64,
    /// Seconds without a call after which an operator is signed out, and in all.
    pub(crate) session_idle_seconds: u64,
    pub(crate) session_seconds: u64,
}

/// Where the API is served over a network.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HttpConfig {
    pub(crate) listen: SocketAddr,
    /// TLS: a PEM file with the certificate and its chain, and one with the key. Needed beyond loopback.
    pub(crate) tls_certificate: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 7702));
        Self { listen, tls_certificate: None, tls_key: None }
    }
}

impl HttpConfig {
    /// The files of the certificate.
    pub(crate) fn tls(&self) -> Option<(PathBuf, PathBuf)> {
        self.tls_certificate.clone().zip(self.tls_key.clone())
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.tls_certificate.is_some() == self.tls_key.is_some(),
            "manager.http: tls_certificate and tls_key belong together"
        );
        ensure!(
            self.listen.ip().is_loopback() || self.tls_certificate.is_some(),
            "manager.http: beyond loopback ({}) the API is served over TLS alone: set tls_certificate and tls_key",
            self.listen
        );
        Ok(())
    }
}

impl Default for ManagerConfig {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            socket: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 7705)),
            http: None,
            first_index: *settings.indexes.start(),
            last_index: *settings.indexes.end(),
            suites: settings.suites.iter().map(|suite| suite.name().to_owned()).collect(),
            renew_after_seconds: settings.renewal.after_seconds,
            renew_after_messages: settings.renewal.after_messages,
            renew_pause_seconds: settings.renew_pause.as_secs(),
            destroy_wait_seconds: settings.destroy_wait.as_secs(),
            session_idle_seconds: settings.sessions.idle.as_secs(),
            session_seconds: settings.sessions.absolute.as_secs(),
        }
    }
}

impl ManagerConfig {
    /// How the manager works.
    pub(crate) fn settings(&self) -> Result<Settings> {
        let manager = self;
        if let Some(http) = &self.http {
            http.check()?;
        }
        ensure!(
            0 < manager.first_index && manager.first_index <= manager.last_index,
            "manager: first_index must be from 1 to last_index"
        );
        let mut suites: Vec<Suite> = Vec::new();
        for name in &manager.suites {
            let suite = name.parse().context("manager: suites")?;
            ensure!(!suites.contains(&suite), "manager: suites: {suite} is listed twice");
            suites.push(suite);
        }
        ensure!(!suites.is_empty(), "manager: suites must name at least one");
        ensure!(
            manager.renew_after_messages != Some(0),
            "manager: renew_after_messages must not be 0"
        );
        ensure!(
            manager.renew_after_seconds.is_none_or(|age| (1..=CENTURY).contains(&age)),
            "manager: renew_after_seconds must be from 1 to a century"
        );
        ensure!(
            manager.destroy_wait_seconds <= CENTURY && manager.renew_pause_seconds <= CENTURY,
            "manager: destroy_wait_seconds and renew_pause_seconds must be at most a century"
        );
        ensure!(
            (60..=86_400).contains(&manager.session_idle_seconds)
                && (manager.session_idle_seconds..=7 * 86_400).contains(&manager.session_seconds),
            "manager: session_idle_seconds must be from a minute to a day, session_seconds not less than that and \
             at most a week"
        );
        Ok(Settings {
            indexes: manager.first_index..=manager.last_index,
            suites,
            renewal: Renewal {
                after_seconds: manager.renew_after_seconds,
                after_messages: manager.renew_after_messages,
            },
            renew_pause: Duration::from_secs(manager.renew_pause_seconds),
            destroy_wait: Duration::from_secs(manager.destroy_wait_seconds),
            sessions: SessionLimits {
                idle: Duration::from_secs(manager.session_idle_seconds),
                absolute: Duration::from_secs(manager.session_seconds),
            },
        })
    }
}
