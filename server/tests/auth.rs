//! AUTH, in raw bytes against the real server: what is refused, how it looks, and that nothing behind
//! it runs.

mod support;

use sealwire_protocol::message::{AuthRequest, EncRequest, GenkeyRequest};
use sealwire_protocol::{Binding, ErrorCode, Opcode, credential};
use support::{App, Arrived, Raw, Server, auth_frame, request_frame};

/// A GENKEY that leaves a trace when it runs.
fn genkey(name: &str) -> Vec<u8> {
    let mut body = Vec::new();
    GenkeyRequest { index: 0, suites: Vec::new(), name }.encode(&mut body).expect("encodes");
    request_frame(Opcode::GENKEY, 99, &body)
}

/// Sends a proof with a request right behind it, and gives the only answer.
fn prove(raw: &mut Raw, proof: [u8; 32]) -> Arrived {
    let mut bytes = auth_frame(2, &AuthRequest::Proof { proof });
    bytes.extend_from_slice(&genkey("stowaway"));
    raw.send(&bytes);
    let answer = raw.next().expect("an answer");
    assert_eq!(raw.next(), None, "the connection ends");
    answer
}

fn good_proof(raw: &mut Raw, app: &App) -> [u8; 32] {
    let transcript = raw.hello(&app.key);
    let secret = credential::decode_app_secret(&app.secret).expect("in its form");
    transcript.client_proof(secret.as_slice())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_looks_alike_and_nothing_pipelined_behind_it_runs() {
    let server = Server::start().await;
    let app = server.local_app(&["genkey:*"]).await;
    let far = server.app(&["10.0.0.0/8", "2001:db8::/32"], &["genkey:*"]).await;
    let deaf = server.app(&[], &["genkey:*"]).await;
    let mut answers = Vec::new();

    let mut raw = Raw::connect(server.address);
    raw.hello(&app.key);
    answers.push(("wrong proof", prove(&mut raw, [0; 32])));

    let mut raw = Raw::connect(server.address);
    raw.hello("ak_nobody");
    answers.push(("unknown AppKey", prove(&mut raw, [0; 32])));

    let mut recorded = Raw::connect(server.address);
    let proof = good_proof(&mut recorded, &app);
    let mut raw = Raw::connect(server.address);
    raw.hello(&app.key);
    answers.push(("a proof of another connection", prove(&mut raw, proof)));

    for (reason, app) in [("outside the allow-list", far), ("an empty allow-list", deaf)] {
        let mut raw = Raw::connect(server.address);
        let proof = good_proof(&mut raw, &app);
        answers.push((reason, prove(&mut raw, proof)));
    }

    let (_, first) = answers[0].clone();
    assert_eq!(first.error(), Some(ErrorCode::AUTH_FAILED));
    for (reason, answer) in &answers {
        assert_eq!(answer, &first, "{reason}");
    }
    assert!(server.manager().list_keys().await.expect("a list").keys.is_empty(), "a stowaway ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_is_the_same_for_unknown_app_keys() {
    let server = Server::start().await;
    let app = server.local_app(&["enc:*"]).await;
    let known = Raw::connect(server.address).hello(&app.key).limits;
    let unknown = Raw::connect(server.address).hello("ak_nobody").limits;
    assert_eq!(known, unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_before_auth_are_refused_and_not_run() {
    let server = Server::start().await;
    let app = server.local_app(&["genkey,enc:*"]).await;
    server.key("chat").await;
    let mut body = Vec::new();
    let (key_index, suite, binding) = (1, None, Binding::default());
    EncRequest { key_index, suite, binding, message: b"m" }.encode(&mut body).expect("encodes");
    for first in
        [request_frame(Opcode::ENC, 5, &body), genkey("early"), request_frame(Opcode(0x7F), 5, b"")]
    {
        let mut raw = Raw::connect(server.address);
        let mut bytes = first;
        bytes.extend_from_slice(&genkey("stowaway"));
        raw.send(&bytes);
        assert_eq!(raw.next().expect("an answer").error(), Some(ErrorCode::AUTH_REQUIRED));
        assert_eq!(raw.next(), None);
    }
    let mut raw = Raw::connect(server.address);
    raw.hello(&app.key);
    raw.send(&genkey("between"));
    assert_eq!(raw.next().expect("an answer").error(), Some(ErrorCode::AUTH_REQUIRED));
    assert_eq!(raw.next(), None);
    assert_eq!(server.manager().list_keys().await.expect("a list").keys.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_out_of_order_end_the_connection() {
    let server = Server::start().await;
    let app = server.local_app(&["enc:*"]).await;
    let mut raw = Raw::connect(server.address);
    raw.send(&auth_frame(1, &AuthRequest::Proof { proof: [0; 32] }));
    assert_eq!(raw.next().expect("an answer").error(), Some(ErrorCode::AUTH_STATE));
    assert_eq!(raw.next(), None);

    let hello = AuthRequest::Hello { client_nonce: [1; 32], app_key: app.key.as_bytes() };
    let mut raw = Raw::connect(server.address);
    raw.hello(&app.key);
    raw.send(&auth_frame(2, &hello));
    assert_eq!(raw.next().expect("an answer").error(), Some(ErrorCode::AUTH_STATE));

    let mut raw = Raw::login(server.address, &app);
    raw.send(&auth_frame(3, &hello));
    assert_eq!(raw.next().expect("an answer").error(), Some(ErrorCode::AUTH_STATE));
    assert_eq!(raw.next(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_silent_or_slow_is_sent_away() {
    let server = Server::start_with(
        "auth_timeout_seconds = 1\nframe_timeout_seconds = 1\nidle_timeout_seconds = 3",
    )
    .await;
    let app = server.local_app(&["enc:*"]).await;

    let mut silent = Raw::connect(server.address);
    let mut slow = Raw::connect(server.address);
    slow.hello(&app.key);
    let mut begun = Raw::login(server.address, &app);
    begun.send(&request_frame(Opcode::PING, 1, b"x")[..10]);
    let mut idle = Raw::login(server.address, &app);

    assert_eq!(silent.next(), None, "no byte came: no byte is answered");
    for raw in [&mut slow, &mut begun] {
        assert_eq!(raw.next().expect("an answer").error(), Some(ErrorCode::TIMEOUT));
        assert_eq!(raw.next(), None);
    }
    assert_eq!(idle.next().expect("an answer").error(), Some(ErrorCode::IDLE));
    assert_eq!(idle.next(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_capped_in_all_for_a_source_and_before_auth() {
    for cap in [
        "max_connections = 3",
        "max_connections_per_source = 3",
        "max_unauthenticated = 3",
        "max_unauthenticated_per_source = 3",
    ] {
        let server = Server::start_with(cap).await;
        let app = server.local_app(&["enc:*"]).await;
        let open: Vec<Raw> = (0..3)
            .map(|_| {
                let mut raw = Raw::connect(server.address);
                raw.hello(&app.key);
                raw
            })
            .collect();
        let mut turned_away = Raw::connect(server.address);
        let answer = turned_away.next().expect("an answer");
        assert_eq!(answer.error(), Some(ErrorCode::TOO_MANY_CONNECTIONS), "{cap}");
        assert_eq!(turned_away.next(), None);
        drop(open);
        let mut tries = 0;
        while Raw::connect(server.address).next_is_refused() {
            tries += 1;
            assert!(tries < 100, "{cap}: places are given back");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

trait NextIsRefused {
    fn next_is_refused(self) -> bool;
}

impl NextIsRefused for Raw {
    /// Whether the server turns this connection away, rather than wait for its hello.
    fn next_is_refused(mut self) -> bool {
        let hello = AuthRequest::Hello { client_nonce: [1; 32], app_key: b"ak_x" };
        self.send(&auth_frame(1, &hello));
        self.next().expect("an answer").error() == Some(ErrorCode::TOO_MANY_CONNECTIONS)
    }
}
