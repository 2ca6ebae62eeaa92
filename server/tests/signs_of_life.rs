//! What operators see: metrics, health, and a log that says much and gives nothing away.

mod support;

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sealwire_client::Client;
use support::Server;
use support::cluster::Cluster;

/// A figure of the metrics; `None` when it is not there.
fn figure(metrics: &str, name: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

/// Waits until a figure is what it should be: connections tell what they have counted twice a second.
async fn await_figure(server: &Server, name: &str, value: f64) {
    let begun = Instant::now();
    loop {
        let metrics = server.monitor("/metrics");
        let found = figure(&metrics, name);
        if found.is_some_and(|found| (found - value).abs() < 0.5) {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{name} {found:?}, not {value}: {metrics}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_counted_with_its_suite_and_its_outcome() {
    let server = Server::start().await;
    let app = server.local_app(&["enc,dec,reenc:*"]).await;
    let key = server.key("chat").await.index;
    let builder = Client::builder(&server.url(), app.credentials()).connections(1);
    let client = builder.connect().await.expect("connects");
    for _ in 0..20 {
        let sealed = client.enc(key, b"a", b"m").await.expect("sealed");
        client.dec(b"a", &sealed).await.expect("opened");
        client.reenc(b"a", &sealed).await.expect("sealed again");
        client.dec(b"b", &sealed).await.expect_err("another AAD");
    }
    // A long one runs beside its connection.
    let long = client.enc(key, b"", &vec![7; 200_000]).await.expect("sealed");
    client.dec(b"b", &long).await.expect_err("another AAD");
    client.enc(key + 1000, b"", b"m").await.expect_err("no such key");
    let of = |op: &str, suite: &str, outcome: &str| {
        format!("sealwire_requests_total{{op=\"{op}\",outcome=\"{outcome}\",suite=\"{suite}\"}}")
    };
    for (name, value) in [
        (of("enc", "xaes-256-gcm", "ok"), 21.0),
        (of("dec", "xaes-256-gcm", "ok"), 20.0),
        (of("reenc", "xaes-256-gcm", "ok"), 20.0),
        (of("dec", "xaes-256-gcm", "OPEN_FAILED"), 21.0),
        (of("enc", "none", "KEY_NOT_FOUND"), 1.0),
        (of("auth", "none", "ok"), 1.0),
        ("sealwire_request_seconds_count{op=\"enc\"}".into(), 21.0),
        ("sealwire_request_seconds_bucket{op=\"dec\",le=\"+Inf\"}".into(), 20.0),
        ("sealwire_connections".into(), 1.0),
        ("sealwire_connections_unauthenticated".into(), 0.0),
        ("sealwire_requests_in_flight".into(), 0.0),
        ("sealwire_sealed".into(), 0.0),
        ("sealwire_keystore_up".into(), 1.0),
        ("sealwire_key_versions_near_limit".into(), 0.0),
    ] {
        await_figure(&server, &name, value).await;
    }
    let metrics = server.monitor("/metrics");
    for (name, least) in [
        ("sealwire_received_bytes_total", 200_000.0),
        ("sealwire_sent_bytes_total", 200_000.0),
        // 80 small requests and two long ones, but for those that missed.
        ("sealwire_key_lookups_total{result=\"hit\"}", 60.0),
        ("sealwire_key_lookups_total{result=\"miss\"}", 2.0),
    ] {
        assert!(figure(&metrics, name).is_some_and(|found| found >= least), "{name}: {metrics}");
    }
    assert!(!metrics.contains("chat") && !metrics.contains(&app.key), "no names: {metrics}");
    drop(client);
    await_figure(&server, "sealwire_connections", 0.0).await;
    let elsewhere = server.app(&["192.0.2.1/32"], &["enc:*"]).await;
    Client::connect(&server.url(), elsewhere.credentials()).await.expect_err("refused");
    await_figure(&server, &of("auth", "none", "AUTH_FAILED"), 1.0).await;
    server.ceremony().seal().await.expect("sealed");
    await_figure(&server, "sealwire_sealed", 1.0).await;
}

/// Requests that an engine keeps waiting are in flight, and then no more.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_an_engine_is_in_flight() {
    let site = Cluster::start(1, 1).await;
    let app = site.app(&["enc:*"]).await;
    let key = site.key("chat").await.index;
    let client = site.client(&app).connections(1).connect().await.expect("connects");
    client.enc(key, b"", b"m").await.expect("sealed");
    site.engines[0].pause();
    let waiting = (0..7).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.enc(key, b"", b"m").await })
    });
    let waiting: Vec<_> = waiting.collect();
    let gateway = &site.gateways[0];
    let in_flight = |count| gateway.await_figure("sealwire_requests_in_flight", count);
    in_flight(7.0).await;
    site.engines[0].resume();
    for waiting in waiting {
        waiting.await.expect("no panic").expect("sealed");
    }
    in_flight(0.0).await;
    let done = "sealwire_requests_total{op=\"enc\",outcome=\"ok\",suite=\"xaes-256-gcm\"}";
    gateway.await_figure(done, 8.0).await;
}

/// systemd is told when the server serves, and when it stops (sd_notify(3)).
#[test]
fn systemd_is_told_when_it_serves_and_when_it_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let heard = || {
        let mut told = [0; 512];
        let length = socket.recv(&mut told).expect("told");
        String::from_utf8_lossy(&told[..length]).trim().to_owned()
    };
    let mut server = Server::with("chip = 'none'", "", vec![("NOTIFY_SOCKET", path)]);
    assert_eq!(heard(), "READY=1");
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(heard(), "STOPPING=1");
}

const ACCOUNTS: [&str; 3] = ["sealwire_gateway", "sealwire_manager", "sealwire_owner"];

/// Dashboard and alarms ask for what there is.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_dashboard_and_the_alarms_ask_for_is_there() {
    let site = Cluster::start(1, 1).await;
    let app = site.app(&["enc,genkey:*"]).await;
    let client = site.client(&app).connect().await.expect("connects");
    let key = client.genkey("chat", 0, &[]).await.expect("made").index;
    client.enc(key, b"", b"m").await.expect("sealed");
    let mut shown = site.gateways[0].monitor("/metrics");
    shown.push_str(&site.manager.monitor("/metrics"));
    let shown = names(&shown);
    let deploy = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy"));
    for file in ["grafana/sealwire.json", "prometheus/alerts.yaml", "../docs/operations.md"] {
        let text = std::fs::read_to_string(deploy.join(file)).expect(file);
        let mut asked = names(&text);
        // Accounts of the database are called alike.
        asked.retain(|name| !ACCOUNTS.contains(&name.as_str()));
        let unknown: Vec<_> = asked.difference(&shown).collect();
        assert!(asked.len() > 10 && unknown.is_empty(), "{file}: {unknown:?}");
    }
}

/// The names of metrics in a text; a histogram's parts count as itself.
fn names(text: &str) -> BTreeSet<String> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '-');
    let words = text.split(word).filter(|word| {
        word.strip_prefix("sealwire_").is_some_and(|rest| {
            !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        })
    });
    let whole = |name: &str| {
        let name = name.strip_suffix("_bucket").unwrap_or(name);
        let name = name.strip_suffix("_count").unwrap_or(name);
        name.strip_suffix("_sum").unwrap_or(name).to_owned()
    };
    words.map(whole).collect()
}

/// With everything logged that can be, a line names its connection and its request, and nothing names a secret,
/// a message or what it is bound to.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_ties_lines_to_requests_and_gives_nothing_away() {
    let message = "MESSAGE-THAT-NOBODY-SHALL-READ";
    let env = vec![
        ("SEALWIRE_LOG", PathBuf::from("trace")),
        ("SEALWIRE_LOG_FORMAT", PathBuf::from("json")),
    ];
    let chip = "chip = 'software'\nchip_key_file = 'FOLDER/chip.key'";
    let mut server = Server::with(chip, "", env);
    server.init(2, 3).await;
    let app = server.local_app(&["enc,dec,reenc,genkey:*"]).await;
    let client = server.client(&app).await;
    let key = client.genkey("chat", 0, &[]).await.expect("made").index;
    let (aad, context) = (b"BOUND-TO-THIS-ALONE", b"IN-THIS-CONTEXT");
    let binding = sealwire_client::Binding { context, aad };
    let sealed = client.enc(key, aad, message.as_bytes()).await.expect("sealed");
    client.dec(aad, &sealed).await.expect("opened");
    client.dec(b"wrong", &sealed).await.expect_err("another AAD");
    let bound = sealwire_client::EncRequest {
        key_index: key,
        suite: None,
        binding,
        message: message.as_bytes(),
    };
    client.enc_with(&bound).await.expect("sealed");
    client.genkey("a key with a / name", 0, &[]).await.expect_err("not a name");
    server.await_log("\"id\":");
    server.await_log("refused");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let log = server.log();
    let object = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no object: {line}"));
    let lines: Vec<serde_json::Value> = log.lines().map(object).collect();
    let refused = lines.iter().find(|line| {
        line["message"] == "refused" && line["refusal"].as_str().is_some_and(|r| r.contains("OPEN"))
    });
    let refused = refused.unwrap_or_else(|| panic!("no line of the refusal: {log}"));
    assert!(refused["request"].as_u64().is_some(), "{refused}");
    assert!(refused["spans"][0]["number"].as_u64().is_some(), "{refused}");
    let secret = sealwire_protocol::credential::decode_app_secret(&app.secret).expect("its form");
    let mut hidden = vec![app.secret.clone().into_bytes(), secret.to_vec()];
    hidden.extend([message.as_bytes().to_vec(), aad.to_vec(), context.to_vec()]);
    hidden.extend(server.cards.iter().map(|card| card.passphrase.as_bytes().to_vec()));
    for hidden in hidden {
        let forms = [
            String::from_utf8_lossy(&hidden).into_owned(),
            hex::encode(&hidden),
            STANDARD.encode(&hidden).trim_end_matches('=').to_owned(),
            URL_SAFE_NO_PAD.encode(&hidden),
            format!("{hidden:?}"),
        ];
        for form in forms {
            assert!(!log.contains(&form), "the log gives {form} away");
        }
    }
}
