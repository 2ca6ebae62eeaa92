//! What hostile peers send over HTTP is refused with the right code, costs little memory, and hurts nobody else.

mod support;

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use support::Server;
use support::face::Face;

const MIB: usize = 1024 * 1024;

async fn with_chat(more: &str) -> (Server, Face) {
    let server = Server::with_face(more).await;
    server.key("chat").await;
    let app = server.http_app("im", &["enc,dec:*"]).await;
    let face = server.face(&app).await;
    (server, face)
}

/// Sends bytes over a connection of their own, and gives what comes back until the server closes it, or says nothing
/// more for a while.
fn raw(host: &str, parts: &[&[u8]]) -> String {
    raw_for(Duration::from_secs(3), host, parts)
}

/// As [`raw`], with how long it waits for the server to say something.
fn raw_for(patience: Duration, host: &str, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(host).expect("connects");
    stream.set_read_timeout(Some(patience)).expect("set");
    for part in parts {
        // The server may have refused it by now.
        if stream.write_all(part).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status codes of the answers in what came back.
fn codes(answer: &str) -> Vec<u16> {
    let parts = answer.split("HTTP/1.1 ").skip(1);
    parts.map(|part| part[..3].parse().expect("a status")).collect()
}

fn head(face: &Face, more: &str) -> String {
    format!(
        "POST /v1/transit/encrypt/chat HTTP/1.1\r\nHost: here\r\nX-Vault-Token: {}\r\n{more}\r\n",
        face.token
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_can_be_read_in_two_ways_are_refused_and_nothing_follows_them() {
    let (_server, face) = with_chat("").await;
    let hidden = "GET /v1/auth/token/lookup-self HTTP/1.1\r\nHost: here\r\n\r\n";
    let good = "{\"plaintext\":\"YQ==\"}";
    let chunked = format!("{:x}\r\n{good}\r\n0\r\n\r\n{hidden}", good.len());
    // Of two lengths the chunks count (RFC 9112, section 6.3), and what follows is no request.
    for both in [
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let answer = raw(&face.host, &[(head(&face, both) + &chunked).as_bytes()]);
        assert_eq!(codes(&answer), [200], "{both}: {answer}");
    }
    let whole = format!("Content-Length: {}\r\n", good.len());
    let folded = format!("X-A: b\r\n c: d\r\n{whole}");
    let hosts = format!("Host: there\r\n{whole}");
    let good_and_more = format!("{good}{hidden}");
    for (what, more, body) in [
        ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n", hidden),
        ("a list of lengths", "Content-Length: 5, 6\r\n", hidden),
        ("a signed length", "Content-Length: +5\r\n", hidden),
        ("a huge length", "Content-Length: 99999999999999999999\r\n", hidden),
        ("another coding", "Transfer-Encoding: xchunked\r\n", chunked.as_str()),
        ("a coding behind", "Transfer-Encoding: chunked, identity\r\n", &chunked),
        ("a name with a space", "Content-Length : 5\r\n", hidden),
        ("two hosts", &hosts, &good_and_more),
        ("a folded line", &folded, &good_and_more),
    ] {
        let answer = raw(&face.host, &[(head(&face, more) + body).as_bytes()]);
        assert_eq!(codes(&answer), [400], "{what}: {answer}");
    }
    for (what, request) in [
        ("no host", "POST /v1/transit/encrypt/chat HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
        ("an old version", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("no HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\r\n\r\n"),
        ("a control letter", "GET /v1/sys/health\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        let answer = raw(&face.host, &[request.as_bytes()]);
        assert!(
            answer.starts_with("HTTP/1.1 400")
                || answer.starts_with("HTTP/1.0 400")
                || answer.is_empty(),
            "{what}: {answer}"
        );
    }
    // A chunk whose length is wrong ends its request; what follows is no request.
    for body in ["zz\r\n\r\n", "5\r\nabcdefgh\r\n0\r\n\r\n", "ffffffffffffffffff\r\n"] {
        let head = head(&face, "Transfer-Encoding: chunked\r\n");
        let answer = raw(&face.host, &[(head + body + hidden).as_bytes()]);
        assert_eq!(codes(&answer), [400], "{body}: {answer}");
    }
    face.encrypt("chat", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_or_no_text_is_the_client_s_fault() {
    let (_server, face) = with_chat("").await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let deep_items =
        format!("{{\"batch_input\":[{}{}]}}", "{\"a\":".repeat(5000), "}".repeat(5000));
    let path = ("POST", "/v1/transit/encrypt/chat");
    for body in [
        &b"{"[..],
        b"[]",
        b"null",
        b"plaintext=YQ==",
        b"{\"plaintext\":\"\xff\xfe\"}",
        b"{\"plaintext\":\"\\ud800\"}",
        b"{\"plaintext\":1}",
        b"{\"plaintext\":\"\",\"plaintext\":\"\"}",
        b"{\"plaintext\":\"\"}x",
        b"{\"batch_input\":{}}",
        b"{\"batch_input\":[1]}",
        b"{\"key_version\":1e999,\"plaintext\":\"\"}",
        deep.as_bytes(),
        deep_items.as_bytes(),
    ] {
        let answer = face.send(path, &[], Bytes::copy_from_slice(body)).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!(answer.status, 400, "{shown}: {}", answer.body);
        assert!(!answer.body["errors"][0].as_str().expect("a text").is_empty(), "{shown}");
    }
    let long = "x".repeat(8000);
    for body in [
        json!({ "plaintext": "", "context": long }),
        json!({ "plaintext": "", "associated_data": long + "xxxx" }),
    ] {
        assert_eq!(face.post(path.1, &body).await.status, 400);
    }
    let million = format!("{{\"batch_input\":[{}{{}}]}}", "{},".repeat(999_999));
    assert_eq!(face.send(path, &[], million).await.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_too_long_or_too_slow_are_refused_before_they_are_stored() {
    let (_server, face) = with_chat("max_body = 1048576\nbody_timeout_seconds = 1").await;
    let length = format!("Content-Length: {}\r\n", 2 * MIB);
    let answer = raw(&face.host, &[head(&face, &length).as_bytes()]);
    assert_eq!(codes(&answer), [413], "{answer}");
    // One that does not say how long it is.
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let chunked = head(&face, "Transfer-Encoding: chunked\r\n");
    let mut parts = vec![chunked.as_bytes()];
    parts.extend(std::iter::repeat_n(chunk.as_bytes(), 20));
    let answer = raw(&face.host, &parts);
    assert_eq!(codes(&answer), [413], "{answer}");
    // Strangers send no long bodies at all.
    let stranger = Face { token: "swt1_none".into(), ..face.clone() };
    let answer = raw(&face.host, &[head(&stranger, &length).as_bytes()]);
    assert_eq!(codes(&answer), [403], "{answer}");
    let login =
        "POST /v1/auth/approle/login HTTP/1.1\r\nHost: here\r\nContent-Length: 5000\r\n\r\n";
    assert_eq!(codes(&raw(&face.host, &[login.as_bytes()])), [413]);
    // A slow one.
    let begun = Instant::now();
    let slow = head(&face, "Content-Length: 100\r\n");
    let answer = raw(&face.host, &[slow.as_bytes(), b"{"]);
    assert_eq!(codes(&answer), [408], "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(3));
    // A head that is too long.
    let long = head(&face, &format!("X-A: {}\r\n", "a".repeat(40_000)));
    let answer = raw(&face.host, &[long.as_bytes()]);
    assert!(answer.is_empty() || codes(&answer) == [431], "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_has_no_place_for_long() {
    let server = Server::start_with(&format!(
        "auth_timeout_seconds = 1\nidle_timeout_seconds = 2\n{}",
        support::face::HTTP
    ))
    .await;
    server.key("chat").await;
    let app = server.http_app("im", &["enc:*"]).await;
    let face = server.face(&app).await;
    for sent in
        ["", "POST /v1/auth/approle/login HTTP/1.1\r\nHo", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(&face.host).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        stream.write_all(sent.as_bytes()).expect("sent");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(begun.elapsed() < Duration::from_secs(3), "{sent:?}: {:?}", begun.elapsed());
    }
    // An app that has shown who it is may be silent for longer, but not for ever.
    let begun = Instant::now();
    let mut stream = TcpStream::connect(&face.host).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let request = head(&face, "Content-Length: 16\r\n") + "{\"plaintext\":\"\"}";
    stream.write_all(request.as_bytes()).expect("sent");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(codes(&String::from_utf8_lossy(&rest)), [200]);
    assert!((2..15).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

/// What the server's memory has grown to, in bytes, since it was last told to forget that.
fn peak(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("read");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse::<usize>().expect("a number") * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn many_long_bodies_at_once_find_no_more_memory_than_there_is_for_them() {
    let more =
        "max_body = 4194304\nmax_items = 1000\nmax_buffered = 25165824\nbody_timeout_seconds = 4";
    let (server, face) = with_chat(more).await;
    let before = peak(&server);
    // 48 bodies of 4 MiB that are never finished: one of them has room at a time.
    let senders: Vec<_> = (0..48)
        .map(|number| {
            let (host, more) = (
                face.host.clone(),
                match number % 2 {
                    0 => format!("Content-Length: {}\r\n", 4 * MIB),
                    _ => "Transfer-Encoding: chunked\r\n".to_owned(),
                },
            );
            let head = head(&face, &more);
            std::thread::spawn(move || {
                let piece = match number % 2 {
                    0 => "x".repeat(0x10000),
                    _ => format!("10000\r\n{}\r\n", "x".repeat(0x10000)),
                };
                let mut parts = vec![head.as_bytes()];
                parts.extend(std::iter::repeat_n(piece.as_bytes(), 60));
                codes(&raw_for(Duration::from_secs(60), &host, &parts))
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Others are served meanwhile.
    for _ in 0..20 {
        face.encrypt("chat", "YQ==").await;
    }
    let answers: Vec<_> =
        senders.into_iter().flat_map(|sender| sender.join().expect("ends")).collect();
    assert_eq!(answers.len(), 48, "{answers:?}");
    assert!(answers.iter().all(|code| [408, 503].contains(code)), "{answers:?}");
    assert!(answers.contains(&408) && answers.contains(&503), "{answers:?}");
    let grown = peak(&server).saturating_sub(before);
    assert!(grown < 96 * MIB, "grown by {} MiB", grown / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_works_and_its_streams_do_not_wait_for_each_other() {
    let (_server, face) = with_chat("body_timeout_seconds = 8").await;
    let stream = tokio::net::TcpStream::connect(&face.host).await.expect("connects");
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = handshake.expect("HTTP/2");
    tokio::spawn(connection);
    let send = |body: BoxBody<Bytes, Infallible>| {
        let mut sender = sender.clone();
        let (host, token) = (face.host.clone(), face.token.clone());
        async move {
            let request = hyper::Request::post(format!("http://{host}/v1/transit/encrypt/chat"))
                .header("x-vault-token", token)
                .body(body);
            sender.ready().await.expect("ready");
            let answer = sender.send_request(request.expect("a request")).await.expect("answered");
            answer.status().as_u16()
        }
    };
    // Streams whose bodies have begun and do not go on.
    let mut stalled = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let begun = futures_util::stream::once(async { Ok(Frame::data(Bytes::from("{"))) })
            .chain(futures_util::stream::pending());
        stalled.spawn(send(BodyExt::boxed(StreamBody::new(begun))));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let body = json!({ "plaintext": "YQ==" }).to_string();
        waiting.spawn(send(Full::new(Bytes::from(body)).boxed()));
    }
    while let Some(status) = waiting.join_next().await {
        assert_eq!(status.expect("ends"), 200);
    }
    assert!(stalled.try_join_next().is_none(), "those still wait for their bodies");
    while let Some(status) = stalled.join_next().await {
        assert_eq!(status.expect("ends"), 408);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_take_an_answer_has_no_place_for_long() {
    let server =
        Server::start_with(&format!("write_timeout_seconds = 1\n{}", support::face::HTTP)).await;
    server.key("chat").await;
    let app = server.http_app("im", &["enc:*"]).await;
    let face = server.face(&app).await;
    let stream = tokio::net::TcpStream::connect(&face.host).await.expect("connects");
    // A stream's answer may be of one byte until it is taken.
    let mut http = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let handshake = http.initial_stream_window_size(1).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let body = json!({ "plaintext": "YWJj".repeat(10_000) }).to_string();
    let request = hyper::Request::post(format!("http://{}/v1/transit/encrypt/chat", face.host))
        .header("x-vault-token", &face.token)
        .body(Full::new(Bytes::from(body)));
    sender.ready().await.expect("ready");
    let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
    let ended = tokio::time::timeout(Duration::from_secs(15), connection).await;
    assert!(ended.is_ok(), "the connection is still there");
    assert!(answer.into_body().collect().await.is_err(), "cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_in_the_middle_of_a_change_leaves_nothing_half_done() {
    let server = Server::with_face("").await;
    let app = server.http_app("im", &["enc,dec,manage:*"]).await;
    let face = server.face(&app).await;
    // Sends a request, and hangs up after so many milliseconds.
    let leave = |(method, path): (&str, &str), body: &str, after: u64| {
        let (token, length) = (&face.token, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: here\r\nX-Vault-Token: {token}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(&face.host).expect("connects");
        stream.write_all(request.as_bytes()).expect("sent");
        std::thread::sleep(Duration::from_millis(after));
    };
    for number in 0..40 {
        leave(("POST", &format!("/v1/transit/keys/key-{number}")), "", number % 8);
    }
    for number in 0..40 {
        let name = format!("key-{number}");
        face.post(&format!("/v1/transit/keys/{name}"), &json!({})).await.data();
        face.encrypt(&name, "YQ==").await;
    }
    // Rotated once or twice, each of them is whole: what it sealed opens, and it seals with its newest version.
    for number in 0..20 {
        let key = format!("/v1/transit/keys/key-{number}");
        let before = face.encrypt(&format!("key-{number}"), "YQ==").await;
        leave(("POST", &format!("{key}/rotate")), "", number % 8);
        let rotated = face.post(&format!("{key}/rotate"), &json!({})).await;
        assert!(rotated.status < 300, "{}", rotated.body);
        let latest = face.get(&key).await.data()["latest_version"].as_u64().expect("a number");
        assert!((2..=3).contains(&latest), "{latest}");
        let sealed = face.encrypt(&format!("key-{number}"), "YQ==").await;
        // What was asked for by the one that hung up may have come to pass between the two.
        let sealed_by = |version: u64| sealed.starts_with(&format!("vault:v{version}:"));
        assert!((latest..=3).any(sealed_by), "{latest} {sealed}");
        for ciphertext in [before, sealed] {
            let opened = json!({ "ciphertext": ciphertext });
            let path = format!("/v1/transit/decrypt/key-{number}");
            assert_eq!(face.post(&path, &opened).await.data()["plaintext"], "YQ==");
        }
        // Trimmed, or not: whoever asks again gets it done.
        let config = json!({ "min_decryption_version": 2, "deletion_allowed": true });
        let set = face.post(&format!("{key}/config"), &config).await;
        assert!(set.status < 300, "{}", set.body);
        let trim = "{\"min_available_version\":2}";
        leave(("POST", &format!("{key}/trim")), trim, number % 8);
        let trimmed =
            face.post(&format!("{key}/trim"), &json!({ "min_available_version": 2 })).await;
        assert!(trimmed.status < 300, "{}", trimmed.body);
        assert_eq!(face.get(&key).await.data()["min_available_version"], 2);
        // Deleted, or not, and then it is.
        leave(("DELETE", &key), "", number % 8);
        let deleted = face.delete(&key).await;
        assert!([204, 404].contains(&deleted.status), "{} {}", deleted.status, deleted.body);
        let path = format!("/v1/transit/encrypt/key-{number}");
        assert!(face.post(&path, &json!({ "plaintext": "YQ==" })).await.status >= 400);
    }
    let log = server.log();
    assert!(!log.contains("panicked") && !log.contains(" ERROR "), "{log}");
}
