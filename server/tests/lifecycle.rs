//! Starts and stops: SIGTERM, lifetimes, restarts.

mod support;

use std::time::Duration;

use sealwire_client::ErrorCode;
use sealwire_protocol::message::{Goaway, GoawayReason};
use sealwire_protocol::{Opcode, Suite};
use sqlx::{Connection, SqliteConnection};
use support::{Raw, SEALWIRE, Server, request_frame};

/// Waits a little; for conditions that come true soon.
fn pause() -> bool {
    std::thread::sleep(Duration::from_millis(20));
    true
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
