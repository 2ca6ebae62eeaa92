//! Health and metrics over HTTP, for load balancers and monitoring: no secret, no name of a key or app.

use std::io;
use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use sealwire_engine::remote::Pool;
use sealwire_engine::{GatewayRole, State};
use sealwire_gateway::{Condition, Directory};
use sealwire_keystore::Keystore;
use sealwire_keystore::audit::Auditor;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// When a certificate that is in use ends, Unix time in seconds: later when it was renewed.
pub(crate) type Expiry = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// What is watched.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) engine: GatewayRole,
    /// The engines, where they are processes of their own.
    pub(crate) pool: Option<Arc<Pool>>,
    /// Who writes audit records here.
    pub(crate) auditors: Vec<Arc<Auditor>>,
    /// A gateway's.
    pub(crate) directory: Option<Arc<Directory>>,
    pub(crate) keystore: Arc<dyn Keystore>,
    /// The certificates that this process proves itself with: to whom, and until when.
    pub(crate) certificates: Vec<(&'static str, Expiry)>,
}

/// The answer of `/health`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// `ok`; `degraded`: what is cached is served, nothing can be made or changed; `down`.
    pub(crate) status: &'static str,
    pub(crate) engine: &'static str,
    pub(crate) keystore: &'static str,
    /// Whether the keystore was away for so long that nothing is trusted any more.
    pub(crate) stale: bool,
    /// The revision of the keystore that is in force here.
    pub(crate) revision: u64,
}

/// Serves both until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    watched: Watched,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(health))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(watched);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn report(watched: &Watched) -> Report {
    let engine = match watched.engine.state() {
        State::Open { .. } => "open",
        State::Sealed => "sealed",
        State::Away => "away",
    };
    let (condition, stale, revision) = match &watched.directory {
        Some(directory) => {
            let health = directory.health();
            (health.condition, health.stale, health.revision)
        }
        // A manager reads what it needs when it needs it.
        None => match watched.keystore.revision().await {
            Ok(revision) => (Condition::Up, false, revision),
            Err(_) => (Condition::Away, false, 0),
        },
    };
    let (up, keystore) = match condition {
        Condition::Up => (true, "up"),
        Condition::Away => (false, "away"),
        Condition::RolledBack => (false, "rolled-back"),
    };
    let status = match (engine == "open" && !stale, up) {
        (true, true) => "ok",
        (true, false) => "degraded",
        (false, _) => "down",
    };
    Report { status, engine, keystore, stale, revision }
}

async fn health(Shared(watched): Shared<Watched>) -> (StatusCode, Json<Report>) {
    let report = report(&watched).await;
    let status =
        if report.status == "down" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(report))
}

async fn metrics(Shared(watched): Shared<Watched>) -> Response {
    let report = report(&watched).await;
    match metrics::render(&watched, &report) {
        Ok(text) => {
            ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
