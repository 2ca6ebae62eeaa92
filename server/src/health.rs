//! Health and metrics over HTTP, for load balancers and monitoring: no secret, no name of a key or app.

use std::io;
use std::sync::{Arc, OnceLock};

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sealwire_engine::{Engine, State};
use sealwire_gateway::{Condition, Directory};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A process has one recorder, however often its parts are started.
static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

#[derive(Clone)]
struct Watched {
    engine: Arc<Engine>,
    directory: Arc<Directory>,
}

/// The answer of `/health`.
#[derive(Debug, Serialize)]
struct Report {
    /// `ok`; `degraded`: what is cached is served, nothing can be made or changed; `down`.
    status: &'static str,
    engine: &'static str,
    keystore: &'static str,
    /// Whether the keystore was away for so long that nothing is trusted any more.
    stale: bool,
    /// The revision of the keystore that is in force here.
    revision: u64,
}

/// Has metrics recorded from now on.
pub(crate) fn record() {
    METRICS.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Whoever was first stays; there is no other in this program.
        let _ = metrics::set_global_recorder(recorder);
        describe();
        handle
    });
}

fn describe() {
    use metrics::{describe_counter, describe_gauge};
    describe_gauge!("sealwire_engine_open", "1 while the engine is open, 0 while it is sealed");
    describe_gauge!(
        "sealwire_keystore_up",
        "1 while the keystore answers and is not older than it was"
    );
    describe_gauge!(
        "sealwire_keystore_stale",
        "1 when it was away for too long: everything is refused"
    );
    describe_gauge!(
        "sealwire_keystore_revision",
        "the revision of the keystore that is in force here"
    );
    describe_gauge!("sealwire_keys_cached", "keys that are kept");
    describe_counter!("sealwire_key_loads_total", "keys that were read from the keystore");
    describe_counter!("sealwire_key_load_batches_total", "queries that read them");
    describe_counter!(
        "sealwire_message_blocks_total",
        "blocks of counted messages that were reserved"
    );
}

/// Serves both until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    engine: Arc<Engine>,
    directory: Arc<Directory>,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(Watched { engine, directory });
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn report(watched: &Watched) -> Report {
    let open = watched.engine.state() != State::Sealed;
    let health = watched.directory.health();
    let (up, keystore) = match health.condition {
        Condition::Up => (true, "up"),
        Condition::Away => (false, "away"),
        Condition::RolledBack => (false, "rolled-back"),
    };
    let status = match (open && !health.stale, up) {
        (true, true) => "ok",
        (true, false) => "degraded",
        (false, _) => "down",
    };
    let engine = if open { "open" } else { "sealed" };
    Report { status, engine, keystore, stale: health.stale, revision: health.revision }
}

async fn health(Shared(watched): Shared<Watched>) -> (StatusCode, Json<Report>) {
    let report = report(&watched);
    let status =
        if report.status == "down" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(report))
}

async fn metrics(Shared(watched): Shared<Watched>) -> String {
    let report = report(&watched);
    let number = |condition: bool| f64::from(u8::from(condition));
    metrics::gauge!("sealwire_engine_open").set(number(report.engine == "open"));
    metrics::gauge!("sealwire_keystore_up").set(number(report.keystore == "up"));
    metrics::gauge!("sealwire_keystore_stale").set(number(report.stale));
    #[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
    metrics::gauge!("sealwire_keystore_revision").set(report.revision as f64);
    #[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
    metrics::gauge!("sealwire_keys_cached").set(watched.directory.cached_keys() as f64);
    METRICS.get().map(PrometheusHandle::render).unwrap_or_default()
}
