//! The metrics, in Prometheus' text format: what the gateway and the manager of this process count, and
//! what state everything is in at the time of asking. No name of a key or an app is among them.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use sealwire_engine::State;
use sealwire_engine::remote::{EngineReport, Pool};
use sealwire_gateway::Directory;
use sealwire_keystore::audit::{AuditHealth, Auditor};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::health::{Expiry, Report, Watched};

/// What is asked for anew each time, so that nothing lasts longer than what it tells of.
struct Snapshot(Registry);

impl Snapshot {
    fn add(&self, metric: impl Collector + 'static) {
        // A name that is taken, or not sound, is a mistake of ours that the tests find.
        self.0.register(Box::new(metric)).expect("each name once");
    }

    fn gauge(&self, name: &str, help: &str, value: u64) {
        let gauge = IntGauge::new(name, help).expect("a sound name");
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        self.add(gauge);
    }

    fn flag(&self, name: &str, help: &str, value: bool) {
        self.gauge(name, help, value.into());
    }

    /// A gauge for each of several things, as far as it is known.
    #[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
    fn gauges<'a>(
        &self,
        (name, help): (&str, &str),
        labels: &[&str],
        values: impl Iterator<Item = (Vec<&'a str>, u64)>,
    ) {
        let gauges = GaugeVec::new(Opts::new(name, help), labels).expect("a sound name");
        for (labels, value) in values {
            gauges.with_label_values(&labels).set(value as f64);
        }
        self.add(gauges);
    }
}

/// The text of `/metrics`.
pub(crate) fn render(watched: &Watched, report: &Report) -> prometheus::Result<String> {
    let snapshot = Snapshot(Registry::new());
    of_process(&snapshot, report, &watched.certificates);
    of_audit(&snapshot, &watched.auditors);
    if let Some(directory) = &watched.directory {
        of_directory(&snapshot, directory);
    }
    if let Some(pool) = &watched.pool {
        of_engines(&snapshot, pool);
    }
    let mut families = prometheus::gather();
    families.extend(snapshot.0.gather());
    TextEncoder::new().encode_to_string(&families)
}

fn of_process(snapshot: &Snapshot, report: &Report, certificates: &[(&'static str, Expiry)]) {
    let version = vec![env!("CARGO_PKG_VERSION")];
    snapshot.gauges(
        ("sealwire_build_info", "1, with the version of this process"),
        &["version"],
        std::iter::once((version, 1)),
    );
    let sealed = report.engine != "open";
    snapshot.flag("sealwire_sealed", "1 while no engine is open and reachable", sealed);
    let up = report.keystore == "up";
    snapshot.flag(
        "sealwire_keystore_up",
        "1 while the keystore answers and is not older than it was",
        up,
    );
    snapshot.flag(
        "sealwire_keystore_stale",
        "1 when it was away for too long: everything is refused",
        report.stale,
    );
    snapshot.gauge(
        "sealwire_keystore_revision",
        "the revision of the keystore that is in force here",
        report.revision,
    );
    let ends = certificates.iter().filter_map(|(of, ends)| Some((vec![*of], ends()?)));
    snapshot.gauges(
        (
            "sealwire_certificate_expiry_seconds",
            "Unix time at which a certificate in use by this process ends: `gateway` for its clients, `internal` \
             between the parts",
        ),
        &["file"],
        ends,
    );
}

/// What of the audit waits, and what is lost.
fn of_audit(snapshot: &Snapshot, auditors: &[Arc<Auditor>]) {
    let sum = |value: fn(AuditHealth) -> u64| -> u64 {
        auditors.iter().map(|auditor| value(auditor.health())).sum()
    };
    snapshot.gauge(
        "sealwire_audit_waiting_bytes",
        "bytes of notes that are not audit records yet, since the keystore or the engine does not take them",
        sum(|health| health.waiting_bytes),
    );
    snapshot.gauge(
        "sealwire_audit_lost",
        "events since the start that there was no room for: they are in no record",
        sum(|health| health.lost),
    );
    snapshot.gauge(
        "sealwire_audit_heads_behind",
        "records that no head outside the database tells of, because none can be written",
        sum(|health| health.behind),
    );
}

fn of_directory(snapshot: &Snapshot, directory: &Directory) {
    snapshot.gauge("sealwire_keys_cached", "keys that are kept", directory.cached_keys() as u64);
}

/// The figures of engines of other processes, which have no HTTP themselves.
fn of_engines(snapshot: &Snapshot, pool: &Pool) {
    let engines = pool.report();
    let each = |name: &str, help: &str, value: fn(&EngineReport) -> Option<u64>| {
        let values = engines
            .iter()
            .filter_map(|engine| Some((vec![engine.address.as_str()], value(engine)?)));
        snapshot.gauges((name, help), &["engine"], values);
    };
    each("sealwire_engine_up", "1 while the engine can be reached", |engine| {
        Some(engine.status.is_some().into())
    });
    each("sealwire_engine_unsealed", "1 while the engine is open", |engine| {
        Some(engine.status.as_ref().is_some_and(|s| matches!(s.state, State::Open { .. })).into())
    });
    each(
        "sealwire_engine_foreign",
        "1 while the engine is open with another root key than the site's: it gets no work",
        |engine| Some(engine.is_foreign.into()),
    );
    each("sealwire_engine_links", "connections to the engine that take work", |engine| {
        Some(engine.links_up as u64)
    });
    each("sealwire_engine_connections", "the engine's connections, all callers", |engine| {
        Some(engine.status.as_ref()?.figures.connections)
    });
    each("sealwire_engine_ciphers", "expanded ciphers that the engine keeps", |engine| {
        Some(engine.status.as_ref()?.figures.ciphers)
    });
    each(
        "sealwire_engine_certificate_expiry_seconds",
        "Unix time at which the engine's certificate ends",
        |engine| expiry(engine.certificate.as_ref()?),
    );
    let versions = engines.iter().filter_map(|engine| {
        Some((vec![engine.address.as_str(), engine.status.as_ref()?.version.as_str()], 1))
    });
    snapshot.gauges(
        ("sealwire_engine_info", "1, with the engine's version"),
        &["engine", "version"],
        versions,
    );
    snapshot.gauge(
        "sealwire_engine_requests_waiting",
        "requests that wait for engines",
        pool.waiting() as u64,
    );
    snapshot.add(done_by(&engines));
}

/// What each engine has done since its start, for all gateways and managers together.
fn done_by(engines: &[EngineReport]) -> IntCounterVec {
    let done = Opts::new(
        "sealwire_engine_requests_total",
        "what the engine has done for all callers since its start",
    );
    let done = IntCounterVec::new(done, &["engine", "op"]).expect("a sound name");
    for engine in engines {
        let Some(status) = &engine.status else { continue };
        let figures = &status.figures;
        for (op, count) in [
            ("enc", figures.enc),
            ("dec", figures.dec),
            ("reenc", figures.reenc),
            ("auth", figures.auth),
            ("refused", figures.refused),
        ] {
            done.with_label_values(&[engine.address.as_str(), op]).inc_by(count);
        }
    }
    done
}

/// When a certificate ends, Unix time in seconds.
pub(crate) fn expiry(der: &[u8]) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}
