//! The section `[gateway]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::IpNet;
use sealwire_engine::MAX_LIFETIME;
use sealwire_gateway::http::HttpLimits;
use sealwire_gateway::proxy::Upstreams;
use sealwire_gateway::{DirectoryConfig, Limits};
use sealwire_protocol::limits;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GatewayConfig {
    pub(crate) listen: SocketAddr,
    /// HOST:PORT of each manager, for a gateway that is a process of its own: GENKEY is handed on to one.
    pub(crate) managers: Vec<String>,
    /// A second listener, for load balancers.
    pub(crate) proxy: Option<ProxyConfig>,
    /// The HTTP face, where it is served.
    pub(crate) http: Option<FaceConfig>,
    /// TLS: a PEM file with the certificate and its chain, and one with the key.
    pub(crate) tls_certificate: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    /// Plain TCP is served on loopback; `true` serves it everywhere, where anybody on the way can read
    /// every message.
    pub(crate) plain_tcp_beyond_loopback: bool,
    /// Share of the messages that a suite with a short nonce allows, from which a key gets a new version.
    pub(crate) renew_at_share: f64,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_source: usize,
    pub(crate) max_unauthenticated: usize,
    pub(crate) max_unauthenticated_per_source: usize,
    pub(crate) max_frame: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) auth_timeout_seconds: u64,
    pub(crate) frame_timeout_seconds: u64,
    pub(crate) write_timeout_seconds: u64,
    pub(crate) idle_timeout_seconds: u64,
    pub(crate) session_lifetime_seconds: u64,
    pub(crate) drain_timeout_seconds: u64,
}

/// A listener that demands a header of the PROXY protocol, version 2.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProxyConfig {
    pub(crate) listen: SocketAddr,
    /// The load balancers: only they may connect, and their word is taken on where a client connects from.
    pub(crate) from: Vec<IpNet>,
    /// Seconds for the header.
    #[serde(default = "default_header_timeout")]
    pub(crate) header_timeout_seconds: u64,
}

fn default_header_timeout() -> u64 {
    3
}

impl ProxyConfig {
    pub(crate) fn upstreams(&self) -> Upstreams {
        Upstreams {
            from: self.from.clone(),
            header_timeout: Duration::from_secs(self.header_timeout_seconds),
        }
    }

    fn check(&self) -> Result<()> {
        ensure!(
            !self.from.is_empty(),
            "gateway.proxy: from must name the load balancers, as addresses with a prefix: 192.0.2.10/32"
        );
        ensure!(
            self.from.iter().all(|network| network.prefix_len() > 0),
            "gateway.proxy: from = everybody would let every client choose its address"
        );
        ensure!(
            (1..=60).contains(&self.header_timeout_seconds),
            "gateway.proxy: header_timeout_seconds must be from 1 to 60"
        );
        Ok(())
    }
}

/// The HTTP face: beside TCP, with the same certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FaceConfig {
    pub(crate) listen: SocketAddr,
    /// Longest body of a request, in bytes.
    pub(crate) max_body: usize,
    /// Most items of a batch.
    pub(crate) max_items: usize,
    /// Seconds for a body to arrive.
    pub(crate) body_timeout_seconds: u64,
    /// Seconds for a request in all, once its body is there.
    pub(crate) request_timeout_seconds: u64,
    /// Seconds for which a token is good, unless it is renewed, and after its login at most.
    pub(crate) token_ttl_seconds: u64,
    pub(crate) token_max_ttl_seconds: u64,
    /// Tokens that an app may have at once.
    pub(crate) max_tokens_per_app: u32,
    /// Memory for long bodies that are read or worked on, in bytes.
    pub(crate) max_buffered: usize,
}

impl Default for FaceConfig {
    fn default() -> Self {
        let limits = HttpLimits::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7701)),
            max_body: limits.max_body,
            max_items: limits.max_items,
            body_timeout_seconds: limits.body_timeout.as_secs(),
            request_timeout_seconds: limits.request_timeout.as_secs(),
            token_ttl_seconds: limits.token_ttl.as_secs(),
            token_max_ttl_seconds: limits.token_max_ttl.as_secs(),
            max_tokens_per_app: limits.max_tokens_per_app,
            max_buffered: limits.max_buffered,
        }
    }
}

impl FaceConfig {
    fn check(&self) -> Result<()> {
        ensure!(
            (64 * 1024..=1024 * 1024 * 1024).contains(&self.max_body),
            "gateway.http: max_body must be from 64 KiB to 1 GiB, in bytes"
        );
        ensure!(
            (1..=1_000_000).contains(&self.max_items),
            "gateway.http: max_items must be from 1 to 1,000,000"
        );
        ensure!(
            self.max_buffered >= 5 * self.max_body + 1024 * self.max_items,
            "gateway.http: max_buffered must be 5 x max_body + 1024 x max_items at least: a body, its items and the answer"
        );
        ensure!(
            (1..=3600).contains(&self.body_timeout_seconds),
            "gateway.http: body_timeout_seconds must be from 1 to 3600"
        );
        ensure!(
            (1..=3600).contains(&self.request_timeout_seconds),
            "gateway.http: request_timeout_seconds must be from 1 to 3600"
        );
        ensure!(
            self.token_ttl_seconds > 0
                && self.token_ttl_seconds <= self.token_max_ttl_seconds
                && self.token_max_ttl_seconds <= MAX_LIFETIME,
            "gateway.http: token_ttl_seconds is from 1 to token_max_ttl_seconds, and that a week at most"
        );
        ensure!(self.max_tokens_per_app > 0, "gateway.http: max_tokens_per_app must not be 0");
        Ok(())
    }

    pub(crate) fn limits(&self) -> HttpLimits {
        HttpLimits {
            max_body: self.max_body,
            max_items: self.max_items,
            body_timeout: Duration::from_secs(self.body_timeout_seconds),
            request_timeout: Duration::from_secs(self.request_timeout_seconds),
            token_ttl: Duration::from_secs(self.token_ttl_seconds),
            token_max_ttl: Duration::from_secs(self.token_max_ttl_seconds),
            max_tokens_per_app: self.max_tokens_per_app,
            max_buffered: self.max_buffered,
        }
    }
}

impl Default for GatewayConfig {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7700)),
            managers: Vec::new(),
            proxy: None,
            http: None,
            tls_certificate: None,
            tls_key: None,
            plain_tcp_beyond_loopback: false,
            renew_at_share: DirectoryConfig::default().renew_at_share,
            max_connections: limits.max_connections,
            max_connections_per_source: limits.max_connections_per_source,
            max_unauthenticated: limits.max_unauthenticated,
            max_unauthenticated_per_source: limits.max_unauthenticated_per_source,
            max_frame: limits.max_frame,
            max_in_flight: limits.max_in_flight,
            auth_timeout_seconds: limits.auth_timeout.as_secs(),
            frame_timeout_seconds: limits.frame_timeout.as_secs(),
            write_timeout_seconds: limits.write_timeout.as_secs(),
            idle_timeout_seconds: limits.idle_timeout.as_secs(),
            session_lifetime_seconds: limits.session_lifetime.as_secs(),
            drain_timeout_seconds: limits.drain_timeout.as_secs(),
        }
    }
}

impl GatewayConfig {
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            (0.001..=0.9).contains(&self.renew_at_share),
            "gateway: renew_at_share must be from 0.001 to 0.9"
        );
        ensure!(
            self.tls_certificate.is_some() == self.tls_key.is_some(),
            "gateway: tls_certificate and tls_key belong together"
        );
        ensure!(
            (limits::MIN_MAX_FRAME..=limits::MAX_FRAME).contains(&self.max_frame),
            "gateway: max_frame is {} bytes; it must be from {} to {}",
            self.max_frame,
            limits::MIN_MAX_FRAME,
            limits::MAX_FRAME
        );
        for (name, value) in [
            ("max_connections", self.max_connections),
            ("max_connections_per_source", self.max_connections_per_source),
            ("max_unauthenticated", self.max_unauthenticated),
            ("max_unauthenticated_per_source", self.max_unauthenticated_per_source),
            ("max_in_flight", self.max_in_flight),
        ] {
            ensure!(value > 0, "gateway: {name} must not be 0");
        }
        for (name, value) in [
            ("auth_timeout_seconds", self.auth_timeout_seconds),
            ("frame_timeout_seconds", self.frame_timeout_seconds),
            ("write_timeout_seconds", self.write_timeout_seconds),
            ("idle_timeout_seconds", self.idle_timeout_seconds),
            ("session_lifetime_seconds", self.session_lifetime_seconds),
        ] {
            ensure!(value > 0, "gateway: {name} must not be 0");
        }
        ensure!(
            self.drain_timeout_seconds <= 3600,
            "gateway: drain_timeout_seconds must be at most 3600"
        );
        ensure!(
            self.session_lifetime_seconds < MAX_LIFETIME - self.drain_timeout_seconds - 60,
            "gateway: session_lifetime_seconds must be less than a week"
        );
        let encrypted = self.tls_certificate.is_some() || self.plain_tcp_beyond_loopback;
        if let Some(proxy) = &self.proxy {
            proxy.check()?;
        }
        if let Some(http) = &self.http {
            http.check()?;
        }
        let proxy = self.proxy.as_ref().map(|proxy| proxy.listen);
        let http = self.http.as_ref().map(|http| http.listen);
        for listen in std::iter::once(self.listen).chain(proxy).chain(http) {
            ensure!(
                listen.ip().is_loopback() || encrypted,
                "gateway: {listen} is not loopback, and there is no TLS: name tls_certificate and tls_key"
            );
        }
        Ok(())
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_connections: self.max_connections,
            max_connections_per_source: self.max_connections_per_source,
            max_unauthenticated: self.max_unauthenticated,
            max_unauthenticated_per_source: self.max_unauthenticated_per_source,
            auth_timeout: Duration::from_secs(self.auth_timeout_seconds),
            frame_timeout: Duration::from_secs(self.frame_timeout_seconds),
            write_timeout: Duration::from_secs(self.write_timeout_seconds),
            idle_timeout: Duration::from_secs(self.idle_timeout_seconds),
            session_lifetime: Duration::from_secs(self.session_lifetime_seconds),
            drain_timeout: Duration::from_secs(self.drain_timeout_seconds),
            max_frame: self.max_frame,
            max_in_flight: self.max_in_flight,
            ..Limits::default()
        }
    }
}
