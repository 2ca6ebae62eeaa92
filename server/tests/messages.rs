//! Messages there and back through the client, and what is refused.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use sealwire_client::{
    Binding, Client, DecRequest, EncRequest, ErrorCode, MessageAad, ReencRequest,
};
use sealwire_protocol::{Envelope, Suite, is_envelope, limits};
use support::Server;

const ALL: &[&str] = &["enc,dec,reenc,genkey:*", "reenc:*>*"];

fn messages() -> Vec<Vec<u8>> {
    let long = "长消息👋🏽 with emoji 🧵 and 中文。".repeat(200);
    let mut messages: Vec<Vec<u8>> = ["", "a", "你好, Sealwire 👋", "line\nbreak\r\n", &long]
        .iter()
        .map(|m| m.as_bytes().to_vec())
        .collect();
    messages.push((0..=255).collect());
    messages.push(vec![0xF5; 100]);
    messages.push(vec![7; 47_000]);
    messages.push(vec![8; 60_000]);
    messages.push(vec![9; 1_048_576]);
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_survives_every_suite_at_every_size() {
    let server = Server::start().await;
    let client = server.client(&server.local_app(ALL).await).await;
    let key = server.key("chat").await.index;
    let aad = MessageAad::new("t", "c", "1").to_bytes().expect("short");
    let mut nonces = HashSet::new();
    for suite in Suite::ALL {
        for message in messages() {
            let binding = Binding { context: b"ctx", aad: &aad };
            let request =
                EncRequest { key_index: key, suite: Some(suite), binding, message: &message };
            let envelope = client.enc_with(&request).await.expect("seals");
            assert!(is_envelope(&envelope));
            let parsed = Envelope::parse(&envelope).expect("an envelope");
            assert_eq!(parsed.header.suite, suite);
            assert_eq!(parsed.ciphertext.len(), message.len());
            assert!(nonces.insert(parsed.nonce.to_vec()), "a nonce repeats");
            let opened = client.dec_with(&DecRequest { binding, envelope: &envelope }).await;
            assert!(opened.expect("opens") == message, "{suite}, {} bytes", message.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_flipped_byte_and_any_other_binding_is_refused() {
    let server = Server::start().await;
    let client = server.client(&server.local_app(ALL).await).await;
    let key = server.key("chat").await.index;
    for suite in Suite::ALL {
        let binding = Binding { context: b"ab", aad: b"c" };
        let message = b"message";
        let request = EncRequest { key_index: key, suite: Some(suite), binding, message };
        let envelope = client.enc_with(&request).await.expect("seals");
        for position in 0..envelope.len() {
            let mut changed = envelope.to_vec();
            changed[position] ^= 0x10;
            let refused = client.dec_with(&DecRequest { binding, envelope: &changed }).await;
            let code = refused.expect_err("refused").code();
            let expected: &[ErrorCode] = match position {
                0 => &[ErrorCode::BAD_ENVELOPE],
                1 => &[ErrorCode::BAD_ENVELOPE, ErrorCode::OPEN_FAILED],
                2..6 => &[ErrorCode::KEY_NOT_FOUND],
                6..10 => &[ErrorCode::KEY_VERSION_UNAVAILABLE],
                _ => &[ErrorCode::OPEN_FAILED],
            };
            assert!(
                expected.contains(&code.expect("a code")),
                "{suite}, byte {position}: {code:?}"
            );
        }
        for (context, aad) in [(&b"a"[..], &b"bc"[..]), (b"", b"c"), (b"ab", b""), (b"c", b"ab")] {
            let binding = Binding { context, aad };
            let refused = client.dec_with(&DecRequest { binding, envelope: &envelope }).await;
            assert!(refused.expect_err("refused").is_open_failed());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_a_key_looks_like_no_key() {
    let server = Server::start().await;
    let key = server.key("chat").await.index;
    let all = server.client(&server.local_app(ALL).await).await;
    let envelope = all.enc(key, b"", b"message").await.expect("seals");
    let reader = server.client(&server.local_app(&["dec:chat"]).await).await;
    assert_eq!(reader.dec(b"", &envelope).await.expect("opens"), b"message"[..]);
    let writer = server.client(&server.local_app(&["enc:chat"]).await).await;
    let stranger = server.client(&server.local_app(&["enc,dec,reenc:other"]).await).await;
    for (what, refused) in [
        ("enc by a reader", reader.enc(key, b"", b"m").await),
        ("dec by a writer", writer.dec(b"", &envelope).await),
        ("reenc by a writer", writer.reenc(b"", &envelope).await),
        ("enc by a stranger", stranger.enc(key, b"", b"m").await),
        ("dec by a stranger", stranger.dec(b"", &envelope).await),
        ("enc under no key", all.enc(4711, b"", b"m").await),
    ] {
        let error = refused.expect_err(what);
        assert_eq!(error.to_string(), ErrorCode::KEY_NOT_FOUND.to_string(), "{what}");
        assert!(error.is_denied() && !error.is_retryable());
    }
    assert_eq!(
        stranger.key("chat").await.expect_err("hidden").code(),
        Some(ErrorCode::KEY_NOT_FOUND)
    );
    assert_eq!(writer.key("chat").await.expect("shown").index, key);
    let denied = writer.genkey("new", 0, &[]).await.expect_err("denied");
    assert_eq!(denied.code(), Some(ErrorCode::DENIED));
    let mut other_version = envelope.to_vec();
    other_version[9] = 9;
    let hidden = stranger.dec(b"", &other_version).await.expect_err("hidden");
    assert_eq!(hidden.code(), Some(ErrorCode::KEY_NOT_FOUND));
}

#[tokio::test(flavor = "multi_thread")]
async fn genkey_is_idempotent_and_conflicts_are_named() {
    let server = Server::start().await;
    let client = server.client(&server.local_app(ALL).await).await;
    let made = client.genkey("聊天", 7, &[Suite::Sm4Gcm, Suite::Aes256Gcm]).await.expect("made");
    assert_eq!((made.index, made.version, made.suite, made.created), (7, 1, Suite::Sm4Gcm, true));
    let again = client.genkey("聊天", 7, &[]).await.expect("found");
    assert_eq!((again.index, again.suite, again.created), (7, Suite::Sm4Gcm, false));
    let again = client.genkey("聊天", 0, &[]).await.expect("found");
    assert!(!again.created);
    for (name, index) in [("聊天", 8), ("other", 7)] {
        let conflict = client.genkey(name, index, &[]).await.expect_err("a conflict");
        assert_eq!(conflict.code(), Some(ErrorCode::KEY_CONFLICT), "{name} {index}");
    }
    let outside = client.genkey("far", u32::MAX, &[]).await.expect_err("outside");
    assert_eq!(outside.code(), Some(ErrorCode::INDEX_NOT_ALLOWED));
    let envelope = client.enc(7, b"", b"m").await.expect("usable at once");
    assert_eq!(Envelope::parse(&envelope).expect("sound").header.suite, Suite::Sm4Gcm);
    let binding = Binding::default();
    let suite = Some(Suite::Xaes256Gcm);
    let request = EncRequest { key_index: 7, suite, binding, message: b"m" };
    let refused = client.enc_with(&request).await.expect_err("not one of its suites");
    assert_eq!(refused.code(), Some(ErrorCode::SUITE_NOT_ALLOWED));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_ask_for_the_same_new_key_and_get_one() {
    let server = Server::start().await;
    let app = server.local_app(ALL).await;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let client = server.client(&app).await;
        for _ in 0..8 {
            let client = client.clone();
            asked.spawn(async move { client.genkey("same", 0, &[]).await.expect("made or found") });
        }
    }
    let answers = asked.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.created).count(), 1);
    assert_eq!(answers.iter().map(|answer| answer.index).collect::<HashSet<_>>().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_in_force_at_once_and_history_moves_by_reenc() {
    let server = Server::start().await;
    let client = server.client(&server.local_app(ALL).await).await;
    let key = server.key("chat").await.index;
    let version = |envelope: &[u8]| Envelope::parse(envelope).expect("sound").header.key_version;
    let old = client.enc(key, b"a", b"message").await.expect("seals");
    for expected in 2..6 {
        server.manager().rotate_key("chat").await.expect("rotated");
        let new = client.enc(key, b"a", b"message").await.expect("seals");
        assert_eq!(version(&new), expected);
        let moved = client.reenc(b"a", &old).await.expect("sealed again");
        assert_eq!(version(&moved), expected);
        assert_eq!(client.dec(b"a", &moved).await.expect("opens"), b"message"[..]);
    }
    assert_eq!(client.dec(b"a", &old).await.expect("still opens"), b"message"[..]);
    let other = server.key("archive").await.index;
    let request = ReencRequest {
        target_index: other,
        suite: Some(Suite::ChaCha20Poly1305),
        binding: Binding::aad(b"a"),
        new_binding: Some(Binding::aad(b"b")),
        envelope: &old,
    };
    let moved = client.reenc_with(&request).await.expect("moved");
    assert_eq!(Envelope::parse(&moved).expect("sound").header.key_index, other);
    assert_eq!(client.dec(b"b", &moved).await.expect("opens"), b"message"[..]);
    assert!(client.dec(b"a", &moved).await.expect_err("rebound").is_open_failed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_allow_list_knows_ipv6_too() {
    let server = Server::start_with("listen = '[::1]:0'").await;
    let key = server.key("chat").await.index;
    let here = server.client(&server.app(&["::1/128"], &["enc:*"]).await).await;
    assert!(here.enc(key, b"", b"m").await.is_ok());
    for far in ["2001:db8::/32", "127.0.0.0/8", "::2/128"] {
        let app = server.app(&[far], &["enc:*"]).await;
        let refused = Client::connect(&server.url(), app.credentials()).await;
        assert!(refused.expect_err("outside").is_auth(), "{far}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_tcp_is_not_spoken_beyond_loopback() {
    let server = Server::start().await;
    let app = server.local_app(ALL).await;
    let refused = Client::connect("sealwire+tcp://192.0.2.1:7700", app.credentials()).await;
    let error = refused.expect_err("in clear");
    assert!(error.to_string().contains("in clear") && !error.is_retryable(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_answered_in_time_fails_at_its_deadline() {
    let server = Server::start().await;
    let app = server.local_app(ALL).await;
    let key = server.key("chat").await.index;
    let client = Client::builder(&server.url(), app.credentials())
        .deadline(Duration::from_millis(300))
        .connect()
        .await
        .expect("connects");
    server.pause();
    let error = client.enc(key, b"", b"m").await.expect_err("no answer");
    assert!(error.is_timeout() && error.is_retryable(), "{error}");
    server.resume();
    assert!(client.enc(key, b"", b"m").await.is_ok(), "the connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_the_connection_goes_on() {
    let server = Server::start_with("max_frame = 65536").await;
    let client = server.client(&server.local_app(ALL).await).await;
    let key = server.key("chat").await.index;
    let largest = 65_536 - limits::MESSAGE_ROOM;
    let (context, aad) = (vec![1; limits::MAX_CONTEXT], vec![2; limits::MAX_AAD]);
    let binding = Binding { context: &context, aad: &aad };
    let message = vec![1; largest];
    let request = EncRequest { key_index: key, suite: None, binding, message: &message };
    let envelope = client.enc_with(&request).await.expect("the longest message");
    let new_binding = Some(Binding { context: &aad, aad: &context });
    let request =
        ReencRequest { target_index: 0, suite: None, binding, new_binding, envelope: &envelope };
    let moved = client.reenc_with(&request).await.expect("fits the largest REENC");
    let binding = Binding { context: &aad, aad: &context };
    let opened = client.dec_with(&DecRequest { binding, envelope: &moved }).await;
    assert!(opened.expect("fits a DEC") == message);
    for size in [largest + 1, 65_536, 200_000] {
        let refused = client.enc(key, b"", &vec![1; size]).await.expect_err("too large");
        assert_eq!(refused.code(), Some(ErrorCode::MESSAGE_TOO_LARGE), "{size}");
    }
    let aad = vec![0; limits::MAX_AAD];
    let envelope = client.enc(key, &aad, b"m").await.expect("an AAD at its limit");
    assert_eq!(client.dec(&aad, &envelope).await.expect("opens"), b"m"[..]);
    assert!(client.enc(key, &vec![0; limits::MAX_AAD + 1], b"m").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_pipelined_requests_is_answered_each_with_its_own() {
    let server = Server::start_with("max_in_flight = 8").await;
    let app = server.local_app(ALL).await;
    let key = server.key("chat").await.index;
    let client = server.client(&app).await;
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..3000_u32 {
        let client: Client = client.clone();
        asked.spawn(async move {
            let message = vec![1; if number % 100 == 0 { 100_000 } else { 40 }];
            let aad = number.to_be_bytes();
            let envelope = client.enc(key, &aad, &message).await.expect("seals");
            assert_eq!(client.dec(&aad, &envelope).await.expect("opens"), message);
        });
    }
    asked.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_engine_says_so_and_goes_on_when_it_is_opened() {
    let server = Server::start().await;
    let client = server.client(&server.local_app(ALL).await).await;
    let key = server.key("chat").await.index;
    let envelope = client.enc(key, b"", b"m").await.expect("seals");
    server.ceremony().seal().await.expect("sealed");
    for refused in [client.enc(key, b"", b"m").await, client.dec(b"", &envelope).await] {
        let error = refused.expect_err("sealed");
        assert_eq!(error.code(), Some(ErrorCode::SEALED));
        assert!(error.is_retryable() && !error.is_denied());
    }
    assert!(server.manager().rotate_key("chat").await.is_err());
    server.unseal().await;
    assert_eq!(client.dec(b"", &envelope).await.expect("opens"), b"m"[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_comes_back_by_itself_after_the_server_was_killed() {
    let mut server = Server::start_with("").await;
    let app = server.local_app(ALL).await;
    let key = server.key("chat").await.index;
    let port = server.address.port();
    let client = Client::builder(&server.url(), app.credentials())
        .deadline(Duration::from_secs(20))
        .connect()
        .await
        .expect("connects");
    let envelope = client.enc(key, b"", b"m").await.expect("seals");
    server.kill();
    server.listen_on(port);
    server.restart();
    let mut tries = 0;
    loop {
        match client.dec(b"", &envelope).await {
            Ok(opened) => break assert_eq!(opened, b"m"[..]),
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        tries += 1;
        assert!(tries < 50);
    }
}
