//! Frames and bodies in raw bytes, against the real server: every bad vector meets the error it names.

mod support;

use sealwire_protocol::message::GenkeyRequest;
use sealwire_protocol::{ErrorCode, Flags, Opcode, frame};
use serde_json::Value;
use support::{Raw, Server, request_frame};

fn vectors(layer: &str) -> Vec<(String, Value, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/tests/vectors");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder of vectors") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let vector: Value = serde_json::from_str(&text).expect("JSON");
        if vector["layer"] == layer && vector["outcome"] != "good" {
            let input = hex::decode(vector["input"].as_str().expect("hex")).expect("hex");
            found.push((path.display().to_string(), vector, input));
        }
    }
    assert!(!found.is_empty());
    found
}

fn outcome(vector: &Value) -> &str {
    vector["outcome"].as_str().expect("an outcome")
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_frames_get_one_error_and_the_connection_ends() {
    let server = Server::start().await;
    let app = server.local_app(&["enc:*"]).await;
    for (name, vector, input) in vectors("frame") {
        let mut raw = Raw::login(server.address, &app);
        let mut bytes = input.clone();
        bytes.extend_from_slice(&request_frame(Opcode::PING, 9, b"stowaway"));
        raw.send(&bytes);
        if outcome(&vector) == "UNSUPPORTED_VERSION" {
            assert_eq!(raw.read_to_end(), frame::version_answer(), "{name}");
            continue;
        }
        let answer = raw.next().expect(&name);
        assert_eq!(answer.error().expect(&name).name(), outcome(&vector), "{name}");
        assert_eq!(answer.header.request_id, 0, "{name}");
        assert_eq!(raw.next(), None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_headers_and_bodies_are_answered_by_their_id_and_the_connection_goes_on() {
    let server = Server::start().await;
    let app = server.local_app(&["enc,dec,reenc,genkey:*"]).await;
    for (name, vector, input) in vectors("header").into_iter().chain(vectors("body")) {
        let auth = vector["kind"] == "auth-request";
        let mut raw =
            if auth { Raw::connect(server.address) } else { Raw::login(server.address, &app) };
        raw.send(&input);
        let answer = raw.next().expect(&name);
        let code = answer.error().expect(&name);
        assert_eq!(code.name(), outcome(&vector), "{name}");
        let opcode = if code == ErrorCode::MALFORMED_FRAME { 0 } else { input[5] };
        assert_eq!(answer.header.opcode.0, opcode, "{name}");
        if auth || code.is_fatal() {
            assert_eq!(raw.next(), None, "{name}");
        } else {
            raw.send(&request_frame(Opcode::PING, 9, b"still here"));
            let pong = raw.next().expect(&name);
            assert_eq!((pong.header.request_id, pong.body.as_slice()), (9, &b"still here"[..]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_auth_a_frame_of_more_than_512_bytes_is_refused_unread() {
    let server = Server::start().await;
    let mut raw = Raw::connect(server.address);
    raw.send(&509_u32.to_be_bytes());
    assert_eq!(raw.next().expect("an answer").error(), Some(ErrorCode::FRAME_TOO_LARGE));
    assert_eq!(raw.next(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_may_arrive_in_any_cuts_and_in_one_piece() {
    let server = Server::start().await;
    let app = server.local_app(&["enc:*"]).await;
    let mut raw = Raw::login(server.address, &app);
    let mut bytes = Vec::new();
    for id in 1..=5000_u64 {
        bytes.extend_from_slice(&request_frame(Opcode::PING, id, &id.to_be_bytes()));
    }
    let (one_by_one, rest) = bytes.split_at(100);
    for byte in one_by_one {
        raw.send(&[*byte]);
    }
    let mut writer = raw.stream.try_clone().expect("a second handle");
    let rest = rest.to_vec();
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &rest));
    for id in 1..=5000_u64 {
        let pong = raw.next().expect("a pong");
        assert_eq!((pong.header.request_id, pong.header.flags), (id, Flags::RESPONSE));
        assert_eq!(pong.body, id.to_be_bytes());
    }
    sender.join().expect("sent").expect("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_place_when_the_client_closes_its_side_is_answered_too() {
    let server = Server::start_with("max_in_flight = 1").await;
    let app = server.local_app(&["genkey:*"]).await;
    let mut raw = Raw::login(server.address, &app);
    for id in 1..=8 {
        let name = format!("key-{id}");
        let mut body = Vec::new();
        GenkeyRequest { index: 0, suites: Vec::new(), name: &name }
            .encode(&mut body)
            .expect("encodes");
        raw.send(&request_frame(Opcode::GENKEY, id, &body));
    }
    raw.stream.shutdown(std::net::Shutdown::Write).expect("shut down");
    let mut answered: Vec<u64> = (0..8)
        .map(|_| raw.next().expect("an answer"))
        .inspect(|answer| assert_eq!(answer.error(), None))
        .map(|answer| answer.header.request_id)
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(raw.next(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_before_the_client_closed_its_side_is_answered() {
    let server = Server::start().await;
    let app = server.local_app(&["enc:*"]).await;
    let mut raw = Raw::login(server.address, &app);
    for id in 1..=10 {
        raw.send(&request_frame(Opcode::PING, id, b""));
    }
    raw.stream.shutdown(std::net::Shutdown::Write).expect("shut down");
    for id in 1..=10 {
        assert_eq!(raw.next().expect("a pong").header.request_id, id);
    }
    assert_eq!(raw.next(), None);
}
