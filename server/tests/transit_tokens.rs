//! Login over HTTP, and what becomes of tokens: at one gateway and at several, when the app changes, when somebody
//! writes into the database.

mod support;

use std::time::{Duration, Instant};

use sealwire_manager::{ChangeApp, RotateSecret};
use serde_json::json;
use support::Server;
use support::cluster::Cluster;
use support::database::Database;
use support::face::{Face, HTTP};

/// What a token still opens: the status of a look at itself.
async fn status(face: &Face) -> u16 {
    face.get("/v1/auth/token/lookup-self").await.status
}

/// Waits until a token is not taken any more, and says how long that took.
async fn until_refused(face: &Face) -> Duration {
    let begun = Instant::now();
    while status(face).await != 403 {
        assert!(begun.elapsed() < Duration::from_secs(5), "it is still taken");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

/// Starts a new process, and waits until it serves.
async fn restart(server: &mut Server) {
    let before = server.stranger().host;
    server.restart();
    let begun = Instant::now();
    loop {
        let said = server.stranger();
        if said.host != before && said.get("/v1/sys/health").await.status == 200 {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", server.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_shows_something_wrong_learns_nothing_of_what() {
    let server = Server::with_face("").await;
    server.key("chat").await;
    let app = server.http_app("im", &["enc:chat"]).await;
    let other = server.http_app("other", &["enc:chat"]).await;
    let over_tcp_alone = server.local_app(&["enc:chat"]).await;
    let stranger = server.stranger();
    let mut cut = app.http_secret.clone();
    cut.pop();
    for (role, secret) in [
        (app.app.key.as_str(), "wrong"),
        (&app.app.key, cut.as_str()),
        (&app.app.key, &app.app.secret),
        (&app.app.key, &other.http_secret),
        (&over_tcp_alone.key, &over_tcp_alone.secret),
        (&over_tcp_alone.key, &app.http_secret),
        ("ak_000000000000000000000000", &app.http_secret),
        ("nobody!", &app.http_secret),
        (&app.http_secret, &app.app.key),
    ] {
        let refused = stranger.login(role, secret).await;
        assert_eq!(refused.error(400), "invalid role or secret ID");
    }
    assert_eq!(stranger.login("", &app.http_secret).await.error(400), "missing role_id");
    assert_eq!(stranger.login(&app.app.key, "").await.error(400), "missing secret_id");
    let log = server.log();
    for secret in [&app.http_secret, &app.app.secret, &other.http_secret] {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
    }
    assert!(log.contains("HTTP login refused"));
    // The address counts, as over TCP.
    let elsewhere = ChangeApp {
        allow: Some(vec!["10.0.0.0/8".parse().expect("a network")]),
        ..ChangeApp::default()
    };
    let face = stranger.logged_in(&app).await;
    server.manager().set_app("im", &elsewhere).await.expect("set");
    until_refused(&face).await;
    let refused = stranger.login(&app.app.key, &app.http_secret).await;
    assert_eq!(refused.error(400), "invalid role or secret ID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_tells_of_itself_is_renewed_and_revoked_and_ends() {
    let server = Server::with_face("token_ttl_seconds = 4\ntoken_max_ttl_seconds = 6").await;
    server.key("chat").await;
    let app = server.http_app("im", &["enc:chat"]).await;
    let face = server.face(&app).await;
    let data = face.get("/v1/auth/token/lookup-self").await.data();
    assert_eq!(data["id"], json!(face.token));
    assert_eq!(data["meta"]["app_key"], json!(app.app.key));
    let ttl = data["ttl"].as_u64().expect("a number");
    assert!((3..=4).contains(&ttl), "{ttl}");
    // Renewed, but never for longer than its longest time.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let renewed = face.post("/v1/auth/token/renew-self", &json!({ "increment": "1h" })).await;
    assert_eq!(renewed.body["auth"]["client_token"], json!(face.token));
    assert_eq!(renewed.body["data"], json!(null));
    let lease = renewed.body["auth"]["lease_duration"].as_u64().expect("a number");
    assert!((2..=4).contains(&lease), "{lease}");
    tokio::time::sleep(Duration::from_millis(1800)).await;
    assert_eq!(status(&face).await, 200, "past its first end");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(status(&face).await, 403, "past its longest time");
    let face = server.face(&app).await;
    assert_eq!(face.post("/v1/auth/token/revoke-self", &json!({})).await.status, 204);
    assert_eq!(status(&face).await, 403);
    face.post("/v1/auth/token/renew-self", &json!({})).await.error(403);
    // A restart forgets none.
    let mut server = server;
    let face = server.face(&app).await;
    restart(&mut server).await;
    let face = Face { host: server.stranger().host, ..face };
    assert_eq!(status(&face).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_has_so_many_tokens_and_wrong_ones_wait_their_turn() {
    let server = Server::with_face("max_tokens_per_app = 3").await;
    let app = server.http_app("im", &["enc:chat"]).await;
    let first = server.face(&app).await;
    for _ in 0..2 {
        server.face(&app).await;
    }
    let refused = server.stranger().login(&app.app.key, &app.http_secret).await;
    assert!(refused.error(429).contains("3 tokens"));
    assert_eq!(first.post("/v1/auth/token/revoke-self", &json!({})).await.status, 204);
    server.face(&app).await;
    let wrong = Face { token: "swt1_wrong".into(), ..server.stranger() };
    for _ in 0..80 {
        assert_eq!(status(&wrong).await, 403);
    }
    server.await_log("HTTP refused");
    // Many at once are sent away, rather than kept waiting.
    let begun = Instant::now();
    loop {
        let codes = wrong_logins_at_once(&wrong.host, 100);
        assert!(codes.iter().all(|code| [400, 429].contains(code)), "{codes:?}");
        if codes.contains(&429) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody is sent away");
    }
}

/// The status codes of logins that are all on their way before an answer is read.
fn wrong_logins_at_once(host: &str, count: usize) -> Vec<u16> {
    let body = "{\"role_id\":\"ak_000000000000000000000000\",\"secret_id\":\"wrong\"}";
    let request = format!(
        "POST /v1/auth/approle/login HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let connect = |_| std::net::TcpStream::connect(host).expect("connects");
    let mut streams: Vec<_> = (0..count).map(connect).collect();
    for stream in &mut streams {
        std::io::Write::write_all(stream, request.as_bytes()).expect("sent");
    }
    let mut codes = Vec::new();
    for mut stream in streams {
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).expect("an answer");
        codes.push(answer["HTTP/1.1 ".len()..][..3].parse().expect("a status"));
    }
    codes
}

/// Where a connection comes from is what its socket says.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_says_nothing_of_the_address_and_a_connection_serves_many_requests() {
    let server = Server::with_face("").await;
    server.key("chat").await;
    let app = server.http_app("im", &["enc:chat"]).await;
    let face = server.face(&app).await;
    let elsewhere = ChangeApp {
        allow: Some(vec!["10.0.0.0/8".parse().expect("a network")]),
        ..ChangeApp::default()
    };
    let path = ("GET", "/v1/auth/token/lookup-self");
    for name in ["x-forwarded-for", "forwarded", "x-real-ip"] {
        let value = if name == "forwarded" { "for=192.0.2.1" } else { "192.0.2.1" };
        assert_eq!(face.send(path, &[(name, value)], "").await.status, 200, "{name}");
    }
    let mut stream = std::net::TcpStream::connect(&face.host).expect("connects");
    for number in 0..50 {
        let request = format!(
            "POST /v1/transit/encrypt/chat HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {}\r\nX-Vault-Token:\r\nContent-Length: 16\r\n\r\n{{\"plaintext\":\"\"}}",
            face.token
        );
        std::io::Write::write_all(&mut stream, request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"}\n") {
            let mut buffer = [0; 4096];
            let read = std::io::Read::read(&mut stream, &mut buffer).expect("read");
            assert!(read > 0, "closed at {number}");
            answer.extend_from_slice(&buffer[..read]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    server.manager().set_app("im", &elsewhere).await.expect("set");
    until_refused(&face).await;
    let forged = [("x-forwarded-for", "10.0.0.1")];
    assert_eq!(face.send(path, &forged, "").await.status, 403);
}

/// What was begun before the app was disabled is not ended behind that.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_held_back_does_not_outlive_its_token() {
    let server = Server::with_face("").await;
    server.key("chat").await;
    let app = server.http_app("im", &["enc,dec:chat"]).await;
    let face = server.face(&app).await;
    let ciphertext = face.encrypt("chat", "c2VjcmV0").await;
    let body = json!({ "ciphertext": ciphertext }).to_string();
    let head = format!(
        "POST /v1/transit/decrypt/chat HTTP/1.1\r\nHost: here\r\nX-Vault-Token: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        face.token,
        body.len()
    );
    let held = |disable: bool| {
        let (server, head, body, host) = (&server, &head, &body, &face.host);
        async move {
            let mut stream = std::net::TcpStream::connect(host).expect("connects");
            let begun = format!("{head}{}", &body[..body.len() - 1]);
            std::io::Write::write_all(&mut stream, begun.as_bytes()).expect("sent");
            tokio::time::sleep(Duration::from_millis(1500)).await;
            if disable {
                server.manager().enable_app("im", false).await.expect("disabled");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            std::io::Write::write_all(&mut stream, &body.as_bytes()[body.len() - 1..])
                .expect("sent");
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut stream, &mut answer).expect("an answer");
            answer
        }
    };
    let answer = held(false).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("c2VjcmV0"), "{answer}");
    let answer = held(true).await;
    assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains("c2VjcmV0"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_app_may_do_changes_under_its_tokens() {
    let server = Server::with_face("").await;
    for key in ["chat", "archive"] {
        server.key(key).await;
    }
    let manager = server.manager();
    let app = server.http_app("im", &["enc:chat"]).await;
    let face = server.face(&app).await;
    let body = json!({ "plaintext": "" });
    assert_eq!(face.post("/v1/transit/encrypt/archive", &body).await.status, 403);
    let grants = Some(vec!["enc:archive".parse().expect("a grant")]);
    manager.set_app("im", &ChangeApp { grants, ..ChangeApp::default() }).await.expect("set");
    assert_eq!(face.post("/v1/transit/encrypt/archive", &body).await.status, 200);
    assert_eq!(face.post("/v1/transit/encrypt/chat", &body).await.status, 403);
    // The AppSecret is nothing to it; the HTTP secret of before is, until its time is over.
    let wish = RotateSecret { overlap_seconds: 0, drop_older: true, http: false };
    manager.rotate_app_secret("im", wish).await.expect("rotated");
    assert_eq!(status(&face).await, 200);
    let wish = RotateSecret { overlap_seconds: 2, drop_older: false, http: true };
    let made = manager.rotate_app_secret("im", wish).await.expect("rotated");
    assert!(made.app_secret.is_none());
    let new = made.http_secret.expect("made").to_string();
    assert_eq!(status(&face).await, 200);
    assert_eq!(server.stranger().login(&app.app.key, &app.http_secret).await.status, 200);
    tokio::time::sleep(Duration::from_millis(3100)).await;
    assert_eq!(status(&face).await, 403, "it was got with a secret that is no more");
    assert_eq!(server.stranger().login(&app.app.key, &app.http_secret).await.status, 400);
    let answer = server.stranger().login(&app.app.key, &new).await;
    let token = answer.body["auth"]["client_token"].as_str().expect("a token").to_owned();
    let face = Face { token, ..face };
    manager.enable_app("im", false).await.expect("disabled");
    assert!(until_refused(&face).await < Duration::from_secs(1));
    // What was ended stays so: a new login is needed.
    manager.enable_app("im", true).await.expect("enabled");
    assert_eq!(status(&face).await, 403);
    let answer = server.stranger().login(&app.app.key, &new).await;
    let token = answer.body["auth"]["client_token"].as_str().expect("a token").to_owned();
    let face = Face { token, ..face };
    assert_eq!(status(&face).await, 200);
    manager
        .set_app("im", &ChangeApp { http: Some(false), ..ChangeApp::default() })
        .await
        .expect("set");
    until_refused(&face).await;
    assert_eq!(server.stranger().login(&app.app.key, &new).await.status, 400);
    assert!(!manager.show_app("im").await.expect("an app").http);
}

/// Whoever has the database adds no token, gives none to another app, makes none live longer.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_into_the_database_makes_no_token() {
    let (database, server) = Database::sqlite(HTTP).await;
    server.key("chat").await;
    let app = server.http_app("im", &["enc:chat"]).await;
    let other = server.http_app("other", &["enc:chat"]).await;
    let face = server.face(&app).await;
    let own = "swt1_my-own-token";
    let hash = |token: &str| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(token));
    database
        .sql(&format!(
            "INSERT INTO token (hash, app, record, expires) SELECT x'{}', app, record, expires FROM token",
            hash(own)
        ))
        .await;
    assert_eq!(status(&Face { token: own.into(), ..face.clone() }).await, 403);
    // A token that is not known here yet, moved to another app, or with a later end.
    let moved = server.face(&app).await;
    let mut server = server;
    database.sql("UPDATE token SET expires = expires + 100000").await;
    database.sql(&format!("UPDATE token SET app = x'{}'", hex::encode(&other.app.key))).await;
    restart(&mut server).await;
    let moved = Face { host: server.stranger().host, ..moved };
    assert_eq!(status(&moved).await, 403);
    // One that is removed is not taken for longer than a second.
    let face = server.face(&app).await;
    assert_eq!(status(&face).await, 200);
    database.sql("DELETE FROM token").await;
    assert!(until_refused(&face).await < Duration::from_millis(1500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_at_every_gateway_and_revoked_at_all() {
    let site = Cluster::start(2, 2).await;
    site.key("chat").await;
    let app = site.http_app("im", &["enc,dec,reenc,datakey,manage:*"]).await;
    let here = site.face(0).logged_in(&app).await;
    let there = Face { token: here.token.clone(), ..site.face(1) };
    let sealed = here.encrypt("chat", "YQ==").await;
    let body = json!({ "ciphertext": sealed });
    let opened = there.post("/v1/transit/decrypt/chat", &body).await.data();
    assert_eq!(opened["plaintext"], "YQ==");
    // Batches, data keys and managed keys over engines and a manager of other processes.
    let items: Vec<_> = (0..1000).map(|_| json!({ "plaintext": "YQ==" })).collect();
    let batch = json!({ "batch_input": items });
    let results = there.post("/v1/transit/encrypt/chat", &batch).await.data();
    let results = results["batch_results"].as_array().expect("a list").clone();
    assert!(results.len() == 1000 && results.iter().all(|result| result["ciphertext"].is_string()));
    let opened =
        here.post("/v1/transit/decrypt/chat", &json!({ "batch_input": results })).await.data();
    assert!(
        opened["batch_results"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|r| r["plaintext"] == "YQ==")
    );
    here.post("/v1/transit/datakey/plaintext/chat", &json!({})).await.data();
    here.post("/v1/transit/keys/mine", &json!({})).await.data();
    there.post("/v1/transit/keys/mine/rotate", &json!({})).await.data();
    assert!(there.encrypt("mine", "YQ==").await.starts_with("vault:v2:"));
    let config = json!({ "deletion_allowed": true });
    here.post("/v1/transit/keys/mine/config", &config).await.data();
    assert_eq!(there.delete("/v1/transit/keys/mine").await.status, 204);
    // Revoked at one, it is refused at the other within a second; renewed at one, it is at the other.
    let renewed = there.post("/v1/auth/token/renew-self", &json!({ "increment": 7200 })).await;
    assert_eq!(renewed.body["auth"]["lease_duration"].as_u64().map(|time| time > 7100), Some(true));
    assert_eq!((status(&here).await, status(&there).await), (200, 200));
    assert_eq!(here.post("/v1/auth/token/revoke-self", &json!({})).await.status, 204);
    let took = until_refused(&there).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    // So it is when the app is disabled.
    let here = site.face(0).logged_in(&app).await;
    let there = Face { token: here.token.clone(), ..site.face(1) };
    assert_eq!((status(&here).await, status(&there).await), (200, 200));
    site.managing().enable_app("im", false).await.expect("disabled");
    let took = tokio::join!(until_refused(&here), until_refused(&there));
    assert!(took.0.max(took.1) < Duration::from_secs(1), "{took:?}");
}
