//! Health and metrics over HTTP, for load balancers and monitoring: no secret, no name of a key or app.

use std::io;
use std::sync::{Arc, OnceLock};

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sealwire_engine::remote::Pool;
use sealwire_engine::{GatewayRole, State};
use sealwire_gateway::{Condition, Directory};
use sealwire_keystore::Keystore;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A process has one recorder, however often its parts are started.
static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// What is watched.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) engine: GatewayRole,
    /// The engines, where they are processes of their own.
    pub(crate) pool: Option<Arc<Pool>>,
    /// A gateway's.
    pub(crate) directory: Option<Arc<Directory>>,
    pub(crate) keystore: Arc<dyn Keystore>,
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
    describe_gauge!("sealwire_engine_open", "1 while the engine, or one of several, is open");
    describe_gauge!("sealwire_engine_up", "1 while the engine can be reached");
    describe_gauge!("sealwire_engine_unsealed", "1 while the engine is open, 0 while it is sealed");
    describe_gauge!("sealwire_engine_links", "connections to the engine that take work");
    describe_gauge!("sealwire_engine_connections", "the engine's connections, all callers");
    describe_gauge!("sealwire_engine_ciphers", "expanded ciphers that the engine keeps");
    describe_gauge!("sealwire_engine_requests_waiting", "requests that wait for engines");
    describe_counter!(
        "sealwire_engine_requests_total",
        "what the engine has done for all callers since its start"
    );
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

#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
async fn metrics(Shared(watched): Shared<Watched>) -> String {
    use metrics::gauge;
    let report = report(&watched).await;
    let number = |condition: bool| f64::from(u8::from(condition));
    gauge!("sealwire_engine_open").set(number(report.engine == "open"));
    gauge!("sealwire_keystore_up").set(number(report.keystore == "up"));
    gauge!("sealwire_keystore_stale").set(number(report.stale));
    gauge!("sealwire_keystore_revision").set(report.revision as f64);
    if let Some(directory) = &watched.directory {
        gauge!("sealwire_keys_cached").set(directory.cached_keys() as f64);
    }
    if let Some(pool) = &watched.pool {
        of_engines(pool);
    }
    METRICS.get().map(PrometheusHandle::render).unwrap_or_default()
}

/// The figures of engines of other processes, which have no HTTP themselves.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
fn of_engines(pool: &Pool) {
    use metrics::{counter, gauge};
    gauge!("sealwire_engine_requests_waiting").set(pool.waiting() as f64);
    for engine in pool.report() {
        let label = [("engine", engine.address)];
        let open = engine.status.as_ref().is_some_and(|s| matches!(s.state, State::Open { .. }));
        gauge!("sealwire_engine_up", &label).set(f64::from(u8::from(engine.status.is_some())));
        gauge!("sealwire_engine_unsealed", &label).set(f64::from(u8::from(open)));
        gauge!("sealwire_engine_links", &label).set(engine.links_up as f64);
        let Some(status) = engine.status else { continue };
        let figures = status.figures;
        gauge!("sealwire_engine_connections", &label).set(figures.connections as f64);
        gauge!("sealwire_engine_ciphers", &label).set(figures.ciphers as f64);
        for (op, count) in [
            ("enc", figures.enc),
            ("dec", figures.dec),
            ("reenc", figures.reenc),
            ("auth", figures.auth),
            ("refused", figures.refused),
        ] {
            let labels = [label[0].clone(), ("op", op.to_owned())];
            counter!("sealwire_engine_requests_total", &labels).absolute(count);
        }
    }
}
