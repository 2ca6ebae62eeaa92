//! A key for each conversation: ENC over many keys on MariaDB, cache hit and miss apart; a page of the
//! list; the memory of the process.
//!
//! `scripts/bench-keys` is the full form: a million keys, release build.

mod support;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealwire_engine::custody::{Chip, Custodian};
use sealwire_engine::document::{DocumentKind, KeyDocument, KeyVersion, Renewal, VersionState};
use sealwire_engine::{Engine, EngineConfig, ManagerRole, Site, Uid};
use sealwire_protocol::Suite;
use serde_json::json;
use sha2::{Digest, Sha256};
use support::load::round_trip;
use support::mariadb::Mariadb;
use support::{App, SEALWIRE, Server};

/// Keys, and how many of them the gateway keeps.
fn keys() -> (u32, u32) {
    let keys = std::env::var("SEALWIRE_TEST_MANY_KEYS")
        .map_or(4000, |text| text.parse().expect("a number"));
    (keys, keys / 10)
}

/// Puts keys that the site's own engine has made and signed into an export of its keystore, and imports that
/// into another database.
async fn fill(server: &mut Server, from: &str, to: &str, count: u32) {
    let engine = Engine::new(&EngineConfig::default(), || 0).expect("memory");
    let chip = Chip::Software { key_file: server.folder.path().join("chip.key") };
    let custodian = Custodian::new(engine.clone(), server.data(), chip, Duration::from_secs(60));
    assert!(custodian.start().expect("opens"), "the chip opens it");
    let manager = ManagerRole::new(engine);
    let keystore = |command: &str, file: &Path| {
        let mut sealwire = Command::new(SEALWIRE);
        sealwire
            .args(["keystore", command, "--config"])
            .arg(server.folder.path().join("sealwire.toml"));
        let done = sealwire.arg(file).output().expect("runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let (little, large) = (server.folder.path().join("little"), server.folder.path().join("large"));
    keystore("export", &little);
    let little = std::fs::read_to_string(little).expect("readable");
    let mut out = Lines::new(&large);
    let mut lines: Vec<serde_json::Value> =
        little.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut end = lines.pop().expect("an end");
    let site = lines.iter().find_map(|line| line["site"]["keys"].as_str()).expect("a site");
    let site = Site::from_bytes(&STANDARD.decode(site).expect("base64")).expect("sound");
    let before = lines[0]["export"]["revision"].as_u64().expect("a revision");
    lines.iter().for_each(|line| out.write(line));
    for number in 1..=count {
        let document = KeyDocument {
            kind: DocumentKind::Key,
            uid: Uid::generate().expect("random"),
            revision: before + u64::from(number),
            name: format!("会话-{number:08}"),
            index: number,
            suites: vec![Suite::Xaes256Gcm],
            min_enc: 1,
            min_dec: 1,
            renewal: Renewal::default(),
            sensitive: false,
            context_required: false,
            deletion_allowed: false,
            versions: vec![KeyVersion {
                version: 1,
                state: VersionState::Active,
                created: 0,
                destroy_at: None,
            }],
        };
        let blob = manager.genkey(document.binding(1)).await.expect("a key").blob().to_vec();
        let signed = manager.sign(&site, &document).await.expect("signed");
        out.write(&json!({"document": {
            "kind": "key", "id": signed.id, "revision": signed.revision, "name": document.name,
            "number": number, "due": null, "body": STANDARD.encode(&signed.body),
            "mac": STANDARD.encode(signed.mac),
        }}));
        out.write(
            &json!({"wrapped": {"uid": signed.id, "version": 1, "blob": STANDARD.encode(blob)}}),
        );
    }
    for counted in ["documents", "wrapped"] {
        let held = end["end"]["moved"][counted].as_u64().expect("a number");
        end["end"]["moved"][counted] = (held + u64::from(count)).into();
    }
    end["end"]["sha256"] = hex::encode(out.hash.clone().finalize()).into();
    out.write(&end);
    out.file.flush().expect("written");
    server.kill();
    server.reconfigure(from, to);
    let begun = Instant::now();
    server.migrate();
    let mut sealwire = Command::new(SEALWIRE);
    sealwire
        .args(["keystore", "import", "--config"])
        .arg(server.folder.path().join("sealwire.toml"));
    let done = sealwire.arg(&large).output().expect("runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    println!("{count} keys imported in {:?}", begun.elapsed());
    std::fs::remove_file(large).expect("removed");
}

/// Lines of JSON, and the hash over them.
struct Lines {
    file: BufWriter<File>,
    hash: Sha256,
}

impl Lines {
    fn new(path: &Path) -> Self {
        Self { file: BufWriter::new(File::create(path).expect("made")), hash: Sha256::new() }
    }

    fn write(&mut self, line: &serde_json::Value) {
        let line = format!("{line}\n");
        self.hash.update(line.as_bytes());
        self.file.write_all(line.as_bytes()).expect("written");
    }
}

fn bench(server: &Server, app: &App, first: u32, keys: u32) -> serde_json::Value {
    let (first, keys) = (first.to_string(), keys.to_string());
    let args = ["bench", "--key", &first, "--keys", &keys, "--seconds", "5", "--json"];
    let output = server.command(app, &args).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn memory_mib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn enc_over_many_keys_hit_and_miss_apart() {
    let (count, cached) = keys();
    let database =
        Mariadb::with(support::mariadb::free_port(), &["--innodb-buffer-pool-size=2G".to_owned()]);
    let (first, url) = (database.database("first"), database.database("ks"));
    let mut server = Server::on(&format!("{first}'\ncached_keys = {cached} #"), "").await;
    fill(&mut server, &first, &url, count).await;
    server.restart();
    server.wait_for_site().await;
    let app = server.local_app(&["enc,dec,genkey:*"]).await;
    let empty = memory_mib(&server);
    let client = server.client(&app).await;
    round_trip(&client, count).await.expect("the last key");
    assert_eq!(client.key("会话-00000007").await.expect("by name").index, 7);

    let begun = Instant::now();
    let page = server.manager().list_page("", 1000).await.expect("a page");
    let first_page = begun.elapsed();
    assert_eq!((page.keys.len(), page.unverified.len()), (1000, 0));
    let middle = format!("会话-{:08}", count / 2);
    let begun = Instant::now();
    let page = server.manager().list_page(&middle, 1000).await.expect("a page");
    println!(
        "a page of 1000 keys: the first in {first_page:?}, one in the midst in {:?}",
        begun.elapsed()
    );
    assert_eq!(page.keys[0].index, count / 2 + 1);
    let begun = Instant::now();
    client.genkey("one-more", 0, &[]).await.expect("made");
    println!("one more key made in {:?}", begun.elapsed());

    // Half of what is cached: after a moment nothing is loaded any more.
    let hit = bench(&server, &app, 1, cached / 2);
    // Every key once before any comes again: nearly nothing is in the cache.
    let miss = bench(&server, &app, 1, count);
    for (name, figures) in [("hit", &hit), ("miss", &miss)] {
        let rate = figures["ops_per_second"].as_f64().expect("a number");
        println!(
            "{name}: {rate:.0} ENC/s, p50 {} us, p99 {} us",
            figures["p50_us"], figures["p99_us"]
        );
        assert!(rate > 0.0);
    }
    let metrics = server.monitor("/metrics");
    let kept = metrics.lines().find_map(|line| line.strip_prefix("sealwire_keys_cached "));
    let kept: f64 = kept.expect("a metric").parse().expect("a number");
    println!("memory: {empty} MiB at start, {} MiB with {kept} keys cached", memory_mib(&server));
    assert!(kept > 0.0 && kept <= f64::from(cached) * 1.01, "{kept} of {cached}");
}
