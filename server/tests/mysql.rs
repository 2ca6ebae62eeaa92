//! Servers over a real MariaDB: several of them, and a database that dies, hangs and comes back.
//!
//! `scripts/database-away` is the full form of the outage: a minute.

mod support;

use std::time::{Duration, Instant};

use sealwire_client::{Client, EncRequest, ErrorCode};
use sealwire_engine::document::VersionState;
use sealwire_manager::Versions;
use sealwire_protocol::{Binding, Suite};
use support::load::{Load, round_trip};
use support::mariadb::Mariadb;
use support::{Raw, Server};

/// Seconds for which the database is away.
fn outage() -> u64 {
    std::env::var("SEALWIRE_TEST_OUTAGE").map_or(5, |text| text.parse().expect("seconds"))
}

/// Keys of some names.
async fn keys(server: &Server, count: u32) -> Vec<u32> {
    let mut keys = Vec::new();
    for number in 1..=count {
        keys.push(server.key(&format!("key-{number}")).await.index);
    }
    keys
}

async fn code(client: &Client, key: u32) -> Option<ErrorCode> {
    client.enc(key, b"", b"m").await.err().map(|error| error.code().expect("an answer"))
}

/// Time until an ENC is refused.
async fn until_refused(client: Client, key: u32, since: Instant) -> (Duration, ErrorCode) {
    loop {
        match client.enc(key, b"", b"m").await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            Err(error) => return (since.elapsed(), error.code().expect("an answer")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_database_are_one_site() {
    let database = Mariadb::start();
    let one = Server::on(&database.database("ks"), "").await;
    let two = one.twin().await;
    let app = one.local_app(&["enc,dec,genkey:*"]).await;
    let (here, there) = (one.client(&app).await, two.client(&app).await);
    // Also what has changed before the other has asked for changes for the first time.
    let key = here.genkey("first", 0, &[]).await.expect("made").index;
    round_trip(&there, key).await.expect("usable at once");
    one.manager().rotate_key("first").await.expect("rotated");
    let sealed = here.enc(key, b"", b"m").await.expect("sealed");
    there.dec(b"", &sealed).await.expect("opens at once");
    // What one acknowledges is usable at once through the other.
    for turn in 0..40 {
        let (maker, user) = if turn % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let made = maker.genkey(&format!("key-{turn}"), 0, &[]).await.expect("made");
        round_trip(user, made.index).await.expect("usable at once");
    }
    // Also a version: its envelope opens where the version was not known.
    let key = here.key("key-0").await.expect("found").index;
    for _ in 0..10 {
        one.manager().rotate_key("key-0").await.expect("rotated");
        let sealed = here.enc(key, b"", b"m").await.expect("sealed");
        there.dec(b"", &sealed).await.expect("opens at once");
    }
    // Both managers change documents at the same time.
    let racing = |server: &Server| {
        let manager = server.manager();
        tokio::spawn(async move {
            for _ in 0..15 {
                manager.rotate_key("key-1").await.expect("rotated");
            }
        })
    };
    let (first, second) = (racing(&one), racing(&two));
    first.await.expect("rotated");
    second.await.expect("rotated");
    let versions = one.manager().show_key("key-1").await.expect("shown").versions;
    assert_eq!(versions.len(), 31, "no change was lost");
    assert_eq!(versions.iter().filter(|version| version.state == VersionState::Active).count(), 1);

    // A key that is disabled through one.
    let key = here.key("key-2").await.expect("found").index;
    round_trip(&here, key).await.expect("usable");
    round_trip(&there, key).await.expect("usable");
    one.manager().change_key("key-2", "disable", Versions::default()).await.expect("disabled");
    let since = Instant::now();
    let (at_one, at_two) =
        tokio::join!(until_refused(here, key, since), until_refused(there, key, since));
    assert_eq!(at_one.1, ErrorCode::KEY_VERSION_UNAVAILABLE);
    assert_eq!(at_two.1, ErrorCode::KEY_VERSION_UNAVAILABLE);
    println!("key disabled: refused after {:?} here, {:?} there", at_one.0, at_two.0);
    assert!(at_one.0.max(at_two.0) < Duration::from_secs(5));

    // An app, with open sessions at both.
    let mut sessions = [&one, &two].map(|server| Raw::login(server.address, &app));
    let since = Instant::now();
    one.manager().enable_app(&app.key, false).await.expect("disabled");
    for session in &mut sessions {
        assert_eq!(session.next().expect("the end").error(), Some(ErrorCode::SESSION_ENDED));
        println!("app disabled: session ended after {:?}", since.elapsed());
    }
    assert!(since.elapsed() < Duration::from_secs(5));
    for server in [&one, &two] {
        let refused = Client::connect(&server.url(), app.credentials()).await;
        assert!(refused.expect_err("disabled").is_auth());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_dies_under_load_and_what_is_cached_goes_on() {
    let mut database = Mariadb::start();
    let server = Server::on(&database.database("ks"), "").await;
    let app = server.local_app(&["enc,dec,genkey:*"]).await;
    let client = server.client(&app).await;
    let keys = keys(&server, 50).await;
    for key in &keys {
        round_trip(&client, *key).await.expect("warm");
    }
    let cold = server.key("cold").await.index;
    let load = Load::start(&client, &keys);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        server.monitor("/health").contains(r#""status":"ok""#),
        "{}",
        server.monitor("/health")
    );

    database.kill();
    let killed = Instant::now();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let health = server.monitor("/health");
    assert!(
        health.starts_with("HTTP/1.1 200") && health.contains(r#""status":"degraded""#),
        "{health}"
    );
    assert!(health.contains(r#""keystore":"away""#), "{health}");
    assert!(server.monitor("/metrics").contains("sealwire_keystore_up 0"));
    let refused = client.genkey("while-away", 0, &[]).await.expect_err("no database");
    assert_eq!(refused.code(), Some(ErrorCode::UNAVAILABLE));
    assert!(refused.is_retryable());
    assert_eq!(code(&client, cold).await, Some(ErrorCode::UNAVAILABLE), "not in the cache");
    let managing = server.manager().rotate_key("key-1").await.expect_err("no database").to_string();
    assert!(managing.contains("UNAVAILABLE 81"), "{managing}");
    // The app may log in: its document is kept.
    Client::connect(&server.url(), app.credentials()).await.expect("logs in");
    let left = Duration::from_secs(outage()).saturating_sub(killed.elapsed());
    tokio::time::sleep(left).await;

    database.run();
    let back = Instant::now();
    while client.genkey("afterwards", 0, &[]).await.is_err() {
        assert!(back.elapsed() < Duration::from_secs(30), "{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let recovered = back.elapsed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(server.monitor("/health").contains(r#""status":"ok""#));
    round_trip(&client, cold).await.expect("loaded");
    let tally = load.end().await;
    let made = tally.made.lock().expect("no panic").clone();
    let unmade = tally.unmade.lock().expect("no panic").clone();
    for made in &made {
        let found = client.genkey(&made.name, 0, &[]).await.expect("found");
        assert_eq!((found.index, found.created), (made.index, false), "acknowledged, and lost");
        round_trip(&client, made.index).await.expect("usable");
    }
    assert!(
        unmade.iter().all(|failure| *failure == (Some(ErrorCode::UNAVAILABLE), true)),
        "{unmade:?}"
    );
    println!(
        "away for {:?}: {} ENC and DEC, 0 failed; GENKEY: {} made, {} refused, again after {recovered:?}",
        back - killed,
        tally.done.load(std::sync::atomic::Ordering::Relaxed),
        made.len(),
        unmade.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_hangs_nothing_piles_up() {
    let database = Mariadb::start();
    let server = Server::on(&database.database("ks"), "").await;
    let app = server.local_app(&["enc,dec,genkey:*"]).await;
    let client = server.client(&app).await;
    let warm = server.key("warm").await.index;
    round_trip(&client, warm).await.expect("warm");
    database.pause(true);
    let begun = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    for turn in 0..300_u32 {
        let (client, cold) = (client.clone(), 1000 + turn);
        waiting.spawn(async move { code(&client, cold).await });
    }
    for turn in 0..30_u32 {
        let client = client.clone();
        waiting.spawn(async move {
            let made = client.genkey(&format!("hanging-{turn}"), 0, &[]).await;
            made.err().and_then(|error| error.code())
        });
    }
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer.expect("no panic"), Some(ErrorCode::UNAVAILABLE));
        round_trip(&client, warm).await.expect("what is cached goes on");
    }
    println!("330 requests refused within {:?}", begun.elapsed());
    // Known to be away by now: refused at once.
    let begun = Instant::now();
    for turn in 0..200 {
        assert_eq!(code(&client, 5000 + turn).await, Some(ErrorCode::UNAVAILABLE));
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    database.pause(false);
    let back = Instant::now();
    while client.genkey("afterwards", 0, &[]).await.is_err() {
        assert!(back.elapsed() < Duration::from_secs(30), "{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unknown_keys_costs_few_queries() {
    const FLOOD: u32 = 20_000;
    let database = Mariadb::start();
    let server = Server::on(&database.database("ks"), "").await;
    let app = server.local_app(&["enc:*"]).await;
    let client = server.client(&app).await;
    let questions = || -> u64 {
        let text = database.sql("SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'");
        text.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    };
    let (before, begun) = (questions(), Instant::now());
    let mut flood = tokio::task::JoinSet::new();
    for worker in 0..200_u32 {
        let client = client.clone();
        flood.spawn(async move {
            for turn in 0..FLOOD / 200 {
                let unknown = 1_000_000 + worker * 1000 + turn;
                assert_eq!(code(&client, unknown).await, Some(ErrorCode::KEY_NOT_FOUND));
            }
        });
    }
    while let Some(done) = flood.join_next().await {
        done.expect("refused");
    }
    let (asked, took) = (questions() - before, begun.elapsed());
    println!("{FLOOD} requests for unknown keys: {asked} queries, {took:?}");
    assert!(asked < u64::from(FLOOD / 5), "{asked} queries");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counted_suite_alone_stops_when_its_block_is_used_up_while_the_database_is_away() {
    let mut database = Mariadb::start();
    let server = Server::on(&database.database("ks"), "").await;
    let app = server.local_app(&["enc,dec:*"]).await;
    // Each connection has messages of its own at hand.
    let one = Client::builder(&server.url(), app.credentials()).connections(1);
    let client = one.connect().await.expect("connects");
    let key = server.key("chat").await.index;
    let seal = async |suite| {
        let (binding, suite) = (Binding::default(), Some(suite));
        let request = EncRequest { key_index: key, suite, binding, message: b"message" };
        client.enc_with(&request).await.map_err(|error| error.code().expect("an answer"))
    };
    let last = seal(Suite::Aes256Gcm).await.expect("sealed");
    database.kill();
    let mut sealed = 1;
    let refused = loop {
        match seal(Suite::Aes256Gcm).await {
            Ok(_) => sealed += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((sealed, refused), (4096, ErrorCode::UNAVAILABLE), "the block, and no more");
    for suite in [Suite::Xaes256Gcm, Suite::XChaCha20Poly1305] {
        seal(suite).await.expect("not counted");
    }
    client.dec(b"", &last).await.expect("opening is not counted");
    database.run();
    let back = Instant::now();
    while seal(Suite::Aes256Gcm).await.is_err() {
        assert!(back.elapsed() < Duration::from_secs(30), "{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_max_stale_everything_is_refused_until_the_database_is_back() {
    let mut database = Mariadb::start();
    let url = format!("{}'\nmax_stale_seconds = 3 #", database.database("ks"));
    let server = Server::on(&url, "").await;
    let app = server.local_app(&["enc,dec:*"]).await;
    let client = server.client(&app).await;
    let key = server.key("chat").await.index;
    let sealed = client.enc(key, b"", b"m").await.expect("sealed");
    let killed = Instant::now();
    database.kill();
    let mut served = 0;
    while client.dec(b"", &sealed).await.is_ok() {
        served += 1;
        assert!(killed.elapsed() < Duration::from_secs(20), "served for ever");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("refused after {:?}, served {served} times", killed.elapsed());
    // From its last word, which was up to a poll before its end.
    assert!(killed.elapsed() >= Duration::from_millis(2700) && served > 0);
    assert_eq!(code(&client, key).await, Some(ErrorCode::UNAVAILABLE));
    let login: Result<Client, _> = Client::connect(&server.url(), app.credentials()).await;
    assert_eq!(login.err().and_then(|error| error.code()), Some(ErrorCode::UNAVAILABLE));
    let health = server.monitor("/health");
    assert!(health.starts_with("HTTP/1.1 503") && health.contains(r#""stale":true"#), "{health}");
    database.run();
    let back = Instant::now();
    while code(&client, key).await.is_some() {
        assert!(back.elapsed() < Duration::from_secs(30), "{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
