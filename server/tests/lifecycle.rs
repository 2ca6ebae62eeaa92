//! Starts, stops and deaths: SIGTERM, kill -9, restarts, tampering with the database.

mod support;

use std::time::Duration;

use sealwire_client::ErrorCode;
use sealwire_manager::CreateKey;
use sealwire_protocol::message::{Goaway, GoawayReason};
use sealwire_protocol::{Opcode, Suite};
use sqlx::{Connection, SqliteConnection};
use support::{Raw, SEALWIRE, Server, request_frame};

/// Waits a little; for conditions that come true soon.
fn pause() -> bool {
    std::thread::sleep(Duration::from_millis(20));
    true
}

/// Kills in the short form; `scripts/kill-loop` sets more.
fn kills() -> usize {
    std::env::var("SEALWIRE_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_says_goaway_answers_what_comes_and_exits_0() {
    let mut server = Server::start_with("drain_timeout_seconds = 1").await;
    let app = server.local_app(&["enc,dec:*"]).await;
    let mut raw = Raw::login(server.address, &app);
    let mut leaver = Raw::login(server.address, &app);
    let address = server.address;
    let stopping = std::thread::spawn(move || {
        let code = server.terminate();
        (server, code)
    });
    let goaway = raw.next().expect("a word");
    assert_eq!((goaway.header.opcode, goaway.header.request_id), (Opcode::GOAWAY, 0));
    let goaway = Goaway::parse(&goaway.body).expect("GOAWAY");
    assert_eq!((goaway.reason, goaway.grace_ms), (GoawayReason::SHUTDOWN, 1000));
    raw.send(&request_frame(Opcode::PING, 1, b"in time"));
    assert_eq!(raw.next().expect("still answered").body, b"in time");
    let closed = || std::net::TcpStream::connect(address).is_err();
    assert!((0..50).any(|_| closed() || !pause()), "no new connections");
    assert_eq!(leaver.next().expect("GOAWAY").header.opcode, Opcode::GOAWAY);
    leaver.stream.shutdown(std::net::Shutdown::Write).expect("leaves");
    assert_eq!(leaver.next(), None);
    assert_eq!(raw.next().expect("the end").error(), Some(ErrorCode::SHUTTING_DOWN));
    assert_eq!(raw.next(), None);
    let (server, code) = stopping.join().expect("stopped");
    assert_eq!(code, Some(0));
    assert!(!server.data().join("engine.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_reaches_its_lifetime_is_asked_to_go() {
    let server =
        Server::start_with("session_lifetime_seconds = 1\ndrain_timeout_seconds = 1").await;
    let app = server.local_app(&["enc:*"]).await;
    let mut raw = Raw::login(server.address, &app);
    let goaway = Goaway::parse(&raw.next().expect("a word").body).expect("GOAWAY");
    assert_eq!(goaway.reason, GoawayReason::SESSION_LIFETIME);
    assert_eq!(raw.next().expect("the end").error(), Some(ErrorCode::SESSION_ENDED));

    let key = server.key("chat").await.index;
    let client = server.client(&app).await;
    for _ in 0..25 {
        client.enc(key, b"", b"m").await.expect("the client moves on by itself");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_key_is_lost_when_the_server_is_killed() {
    let mut server = Server::start().await;
    let app = server.local_app(&["enc,dec:*"]).await;
    let (mut acknowledged, mut next) = (Vec::new(), 0);
    for round in 0..kills() {
        let manager = server.manager();
        let making = tokio::spawn(async move {
            let mut made = Vec::new();
            loop {
                let name = format!("key-{next}");
                next += 1;
                let request = CreateKey { name: name.clone(), ..CreateKey::default() };
                match manager.create_key(&request).await {
                    Ok(key) => made.push((name, key.index)),
                    Err(_) => return (made, next),
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(20 + 13 * (round as u64 % 20))).await;
        server.kill();
        let (made, upto) = making.await.expect("ended");
        acknowledged.extend(made);
        next = upto;
        server.restart();
    }
    let listed = server.manager().list_keys().await.expect("a list").keys;
    assert!(acknowledged.len() >= kills(), "only {} keys were made", acknowledged.len());
    for (name, index) in &acknowledged {
        let key = listed.iter().find(|key| key.name == *name).expect(name);
        assert_eq!(key.index, *index);
    }
    let client = server.client(&app).await;
    for key in &listed {
        let shown = server.manager().show_key(&key.name).await.expect("shown");
        assert!(
            shown.versions.iter().all(|version| version.wrapped.is_some()),
            "half made: {}",
            key.name
        );
        let envelope = client.enc(key.index, b"", b"m").await.expect("usable");
        assert_eq!(client.dec(b"", &envelope).await.expect("usable"), b"m"[..]);
    }
    eprintln!(
        "{} kills, {} keys acknowledged, {} listed",
        kills(),
        acknowledged.len(),
        listed.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_does_not_take_the_sockets_of_a_running_one() {
    let server = Server::start().await;
    let config = server.folder.path().join("sealwire.toml");
    let output = std::process::Command::new(SEALWIRE)
        .args(["serve", "--config"])
        .arg(&config)
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("another server runs on"), "{said}");
    assert!(server.manager().list_keys().await.is_ok());
}

async fn sql(server: &Server, statement: &'static str) {
    let url = format!("sqlite:{}", server.data().join("keystore.db").display());
    let mut database = SqliteConnection::connect(&url).await.expect("opens");
    sqlx::raw_sql(statement).execute(&mut database).await.expect("runs");
    database.close().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_changed_by_sql_are_refused_and_the_log_names_them() {
    let mut server = Server::start().await;
    let app = server.local_app(&["enc:chat"]).await;
    let key = server.key("chat").await;
    let other = server.key("other").await;
    sql(
        &server,
        "UPDATE document SET body = CAST(replace(CAST(body AS TEXT), 'enc:chat', 'enc,dec:*') AS BLOB) \
         WHERE kind = 'app'",
    )
    .await;
    sql(
        &server,
        "CREATE TEMP TABLE swapped AS SELECT a.uid, b.blob FROM wrapped_key a, wrapped_key b \
         WHERE a.uid <> b.uid; \
         UPDATE wrapped_key SET blob = \
         (SELECT blob FROM swapped WHERE swapped.uid = wrapped_key.uid)",
    )
    .await;
    server.restart();
    let refused = sealwire_client::Client::connect(&server.url(), app.credentials()).await;
    assert!(refused.expect_err("a widened grant").is_auth());
    let honest = server.app(&["127.0.0.1/32"], &["enc:*"]).await;
    let client = server.client(&honest).await;
    for index in [key.index, other.index] {
        let refused = client.enc(index, b"", b"m").await.expect_err("a swapped key");
        assert_eq!(refused.code(), Some(ErrorCode::INTERNAL));
    }
    let log = || std::fs::read_to_string(server.folder.path().join("server.log")).expect("a log");
    let named = || log().contains(&app.key) && log().contains("does not verify");
    assert!((0..100).any(|_| named() || !pause()), "{}", log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_within_a_second_when_its_app_is_changed() {
    let server = Server::start().await;
    let app = server.local_app(&["enc:*"]).await;
    let mut raw = Raw::login(server.address, &app);
    let changed = std::time::Instant::now();
    sql(
        &server,
        "UPDATE site SET revision = revision + 1; \
         UPDATE document SET revision = (SELECT revision FROM site) WHERE kind = 'app'",
    )
    .await;
    assert_eq!(raw.next().expect("the end").error(), Some(ErrorCode::SESSION_ENDED));
    let elapsed = changed.elapsed();
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    eprintln!("the session ended {elapsed:?} after the change");
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_files_nor_the_log_hold_a_secret_or_a_message() {
    let server = Server::start().await;
    let app = server.local_app(&["enc,dec:*"]).await;
    let key = server.key("chat").await.index;
    let client = server.client(&app).await;
    let message = "a message that must not be found 你好";
    for suite in Suite::ALL {
        let binding = sealwire_client::Binding::default();
        let message = message.as_bytes();
        let request =
            sealwire_client::EncRequest { key_index: key, suite: Some(suite), binding, message };
        let envelope = client.enc_with(&request).await.expect("seals");
        assert_eq!(client.dec(b"", &envelope).await.expect("opens"), message);
    }
    let secret = sealwire_protocol::credential::decode_app_secret(&app.secret).expect("its form");
    let mut haystack = std::fs::read(server.folder.path().join("server.log")).expect("a log");
    for entry in std::fs::read_dir(server.data()).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_file() {
            haystack.extend(std::fs::read(entry.path()).expect("readable"));
        }
    }
    let found = |needle: &[u8]| haystack.windows(needle.len()).any(|window| window == needle);
    assert!(found(app.key.as_bytes()), "the search finds what is there");
    assert!(!found(message.as_bytes()));
    assert!(!found(app.secret.as_bytes()));
    assert!(!found(secret.as_slice()));
}
