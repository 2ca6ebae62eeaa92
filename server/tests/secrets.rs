//! No secret lies anywhere in clear: not in a file of the server's, not in its log, not in an answer but the one that
//! shows it, not in a row of the database.

mod support;

use std::path::Path;

use aho_corasick::AhoCorasick;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use sealwire_client::Client;
use sealwire_engine::document::OperatorRole;
use sealwire_manager::api::calls::CALLS;
use sealwire_manager::{CreateApp, CreateKey, CreateToken, ManagerClient, RotateSecret};
use sealwire_protocol::credential;
use support::face::{HTTP, HttpApp};
use support::operators::{make_first, operator, sign_in};
use support::web::{PAGES, Visitor};
use support::{App, Server};
use tokio::net::UnixStream;

const PASSWORD: &str = "amber canal spruce orbit";
const OTHER: &str = "copper meadow falcon ridge";
const MESSAGE: &str = "meet me at the harbour at nine";

/// What must be nowhere: a name for it, and its bytes.
#[derive(Default)]
struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    /// A secret as text, and in the forms that it may be written in.
    fn add(&mut self, name: &str, bytes: &[u8]) {
        self.0.push((name.to_owned(), bytes.to_vec()));
        self.0.push((format!("{name}, in hex"), hex::encode(bytes).into_bytes()));
        // Wherever it begins in what was encoded. Its end depends on what follows it.
        for skipped in 0..3 {
            let encoded = STANDARD.encode(&bytes[skipped..]);
            let encoded = encoded[..encoded.len() / 4 * 4 - 4].to_owned();
            self.0.push((format!("{name}, in base64"), encoded.into_bytes()));
        }
    }

    fn found_in(&self, bytes: &[u8]) -> Vec<&str> {
        let search = AhoCorasick::new(self.0.iter().map(|(_, secret)| secret)).expect("a search");
        search
            .find_overlapping_iter(bytes)
            .map(|hit| &*self.0[hit.pattern().as_usize()].0)
            .collect()
    }
}

/// Every file below a folder, and what it holds.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push((path.display().to_string(), std::fs::read(&path).expect("read")));
        }
    }
    found
}

/// The answers to every call that shows something, as an officer sees them.
async fn answers(server: &Server, token: &str, names: [&str; 4]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for call in CALLS.iter().filter(|call| call.method == "GET") {
        let [key, app, operator, writer] = names;
        let path = call.path.replace("{key}", key).replace("{app}", app);
        let path = path.replace("{operator}", operator).replace("{writer}", writer);
        let stream =
            UnixStream::connect(server.data().join("manager.sock")).await.expect("connects");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::GET)
            .uri(&path)
            .header("host", "manager")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(Bytes::new()))
            .expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        found.push((path, body.to_vec()));
    }
    found
}

/// Every page, and what comes back of forms with passwords in them.
async fn pages(server: &Server, wrong: &str, secrets: &mut Secrets) -> Vec<(String, Vec<u8>)> {
    let mut visitor = Visitor::new(server);
    let mut found = vec![("a refused sign-in", visitor.sign_in("alice", wrong).await)];
    visitor.sign_in("alice", PASSWORD).await;
    let session = visitor.cookies["sealwire-session"].clone();
    secrets.0.push(("a browser's session".into(), session.into_bytes()));
    let change = [("current", wrong), ("new", OTHER), ("again", OTHER)];
    found.push(("a refused change", visitor.post("/account", &change).await));
    let operator = [("name", "alice"), ("roles", "auditor"), ("password", OTHER)];
    found.push(("a refused operator", visitor.post("/new/operator", &operator).await));
    let operator = [("name", "alice"), ("roles", "none"), ("password", OTHER)];
    found.push(("an operator that is none", visitor.post("/new/operator", &operator).await));
    for path in PAGES {
        found.push((path, visitor.get(path).await));
    }
    found.into_iter().map(|(name, answer)| (name.to_owned(), answer.body.into_bytes())).collect()
}

/// What apps show over HTTP, and what they get for it; messages in requests that are refused, too.
async fn over_http(server: &Server, secrets: &mut Secrets) {
    let app = HttpApp::make(
        &sign_in(server, "alice", PASSWORD).await,
        "over-http",
        &["enc,datakey,manage:over-http-*"],
    )
    .await;
    secrets.0.push(("an HTTP secret".into(), app.http_secret.as_bytes().to_vec()));
    let raw = credential::decode_http_secret(&app.http_secret).expect("in its form");
    secrets.add("an HTTP secret's bytes", raw.as_slice());
    let face = server.face(&app).await;
    secrets.0.push(("a token over HTTP".into(), face.token.as_bytes().to_vec()));
    face.login(&app.http_secret, &app.app.key).await.error(400);
    face.login(&app.app.key, MESSAGE).await.error(400);
    let plaintext = STANDARD.encode(MESSAGE);
    face.encrypt("over-http-1", &plaintext).await;
    for body in [
        serde_json::json!({ "plaintext": MESSAGE }),
        serde_json::json!({ "plaintext": plaintext, "key_version": MESSAGE }),
        serde_json::json!({ "plaintext": plaintext, "nonce": plaintext }),
    ] {
        face.post("/v1/transit/encrypt/over-http-1", &body).await.error(400);
    }
    let nothing = serde_json::json!({});
    let made = face.post("/v1/transit/datakey/plaintext/over-http-1", &nothing).await.data();
    let data_key = STANDARD.decode(made["plaintext"].as_str().expect("text")).expect("base64");
    secrets.add("a data key", &data_key);
    assert_eq!(face.post("/v1/auth/token/renew-self", &serde_json::json!({})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_lies_anywhere_in_clear() {
    let mut server =
        Server::start_with(&format!("[manager.http]\nlisten = '127.0.0.1:0'\n{HTTP}")).await;
    let mut secrets = Secrets::default();
    make_first(&server, "alice", &OperatorRole::ALL, PASSWORD).await;
    secrets.add("a password", PASSWORD.as_bytes());
    let alice = sign_in(&server, "alice", PASSWORD).await;
    alice.create_operator(&operator("bob", &[OperatorRole::Auditor], OTHER)).await.expect("made");
    secrets.add("a first password", OTHER.as_bytes());
    let wrong = "violet harness pepper candle";
    server.manager().sign_in("alice", wrong.to_owned().into()).await.map(drop).expect_err("wrong");
    secrets.add("a wrong password", wrong.as_bytes());

    let key = CreateKey { name: "chat".into(), sensitive: true, ..CreateKey::default() };
    let key = alice.create_key(&key).await.expect("a key");
    let plain = CreateKey { name: "plain".into(), ..CreateKey::default() };
    alice.create_key(&plain).await.expect("a key");
    let request = CreateApp {
        name: "im".into(),
        allow: vec!["127.0.0.0/8".parse().expect("a network")],
        grants: vec!["enc:*".parse().expect("a grant"), "dec:plain".parse().expect("a grant")],
        http: false,
    };
    let made = alice.create_app(&request).await.expect("an app");
    let wish = RotateSecret { overlap_seconds: 600, drop_older: false, http: false };
    let again = alice.rotate_app_secret("im", wish).await.expect("a secret");
    for secret in
        [made.app_secret.as_ref().expect("made"), again.app_secret.as_ref().expect("made")]
    {
        secrets.0.push(("an AppSecret".into(), secret.as_bytes().to_vec()));
        let raw = credential::decode_app_secret(secret).expect("in its form");
        secrets.add("an AppSecret's bytes", raw.as_slice());
    }
    over_http(&server, &mut secrets).await;
    let token =
        CreateToken { name: "t".into(), roles: vec![OperatorRole::Auditor], lifetime_seconds: 600 };
    let token = alice.create_token(&token).await.expect("a token").token;
    let secret = token.rsplit('_').next().expect("three parts").to_owned();
    secrets.0.push(("a token".into(), secret.into_bytes()));
    let session = server.manager().sign_in("alice", PASSWORD.to_owned().into()).await;
    let session = session.expect("signs in").token;
    secrets.0.push(("a session".into(), session.as_bytes().to_vec()));

    let app = App {
        key: made.app.app_key.clone(),
        secret: again.app_secret.as_ref().expect("made").to_string(),
    };
    let client = server.client(&app).await;
    let envelope = client.enc(key.index, MESSAGE.as_bytes(), MESSAGE.as_bytes()).await;
    secrets.add("a message", MESSAGE.as_bytes());
    let envelope = envelope.expect("sealed");
    // Refused, with everything in the request.
    client.dec(MESSAGE.as_bytes(), &envelope).await.expect_err("no grant");
    client.dec(b"other", &envelope).await.expect_err("no grant");
    let stranger = made.app_secret.as_ref().expect("made").to_string();
    let stranger = App { key: "ak_000000000000000000000000".into(), secret: stranger };
    Client::connect(&server.url(), stranger.credentials()).await.map(drop).expect_err("unknown");
    drop(client);

    // The cards' shares and passphrases.
    for card in &server.cards {
        secrets.add("a card's passphrase", card.passphrase.as_bytes());
        secrets.add("a card", &card.bytes().expect("a card"));
    }
    let pages = pages(&server, wrong, &mut secrets).await;
    let chains = alice.audit_chains().await.expect("chains").chains;
    let shown = answers(&server, &session, ["chat", "im", "alice", &chains[0].writer]).await;
    assert!(shown.len() > 12, "{}", shown.len());
    assert_eq!(server.terminate(), Some(0));
    let mut places = shown;
    places.extend(pages);
    places.extend(files(&server.data()));
    places.push(("the log".into(), server.log().into_bytes()));
    assert!(places.len() > 25, "{}", places.len());
    for (place, bytes) in &places {
        let found = secrets.found_in(bytes);
        assert!(found.is_empty(), "{place} holds {found:?}");
    }
    // The same search finds what is there.
    let planted = [b"{\"password\":\"", PASSWORD.as_bytes(), b"\"}"].concat();
    assert_eq!(secrets.found_in(&planted), ["a password"]);
    for before in ["", "x", "xy"] {
        let planted = STANDARD.encode([before.as_bytes(), PASSWORD.as_bytes()].concat());
        assert_eq!(secrets.found_in(planted.as_bytes()), ["a password, in base64"], "{before}");
    }
    let _: ManagerClient = alice;
}
