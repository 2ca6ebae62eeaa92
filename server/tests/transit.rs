//! The HTTP face, call by call, against the real server.

mod support;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealwire_client::{Binding, DecRequest, EncRequest, transit};
use sealwire_manager::{ChangeKey, CreateKey, Versions};
use serde_json::json;
use support::Server;
use support::face::Face;

const ALL: &[&str] = &["enc,dec,reenc,datakey,manage:*"];

fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// A server with the key `chat`, and an app that may do everything.
async fn with_chat() -> (Server, Face) {
    let server = Server::with_face("").await;
    server.key("chat").await;
    let app = server.http_app("im", ALL).await;
    let face = server.face(&app).await;
    (server, face)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_every_field_of_the_envelope_and_errors_their_form() {
    let (_server, face) = with_chat().await;
    let body = json!({ "plaintext": base64("你好 👋") });
    for method in ["POST", "PUT"] {
        let answer = face.send((method, "/v1/transit/encrypt/chat"), &[], body.to_string()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["cache-control"], "no-store");
        let fields = answer.body.as_object().expect("an object");
        let names: Vec<_> = fields.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "auth",
                "data",
                "lease_duration",
                "lease_id",
                "renewable",
                "request_id",
                "warnings",
                "wrap_info"
            ]
        );
        assert_eq!(answer.body["request_id"].as_str().expect("text").len(), 36);
        assert_eq!(answer.body["data"]["key_version"], 1);
        let opened = json!({ "ciphertext": answer.body["data"]["ciphertext"] });
        let data = face.post("/v1/transit/decrypt/chat", &opened).await.data();
        assert_eq!(data, json!({ "plaintext": base64("你好 👋") }));
    }
    let other = Face { token: String::new(), ..face.clone() };
    let bearer = format!("Bearer {}", face.token);
    let answer = other
        .send(("POST", "/v1/transit/encrypt/chat"), &[("authorization", &bearer)], body.to_string())
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    for (path, status) in [
        ("/v1/transit/keys/none", 404),
        ("/v1/transit/nothing/chat", 404),
        ("/v1/secret/data/x", 404),
        ("/v1/transit/encrypt/chat", 405),
        ("/v1/transit/export/encryption-key/chat", 400),
    ] {
        let answer = face.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/json", "{path}");
        assert!(answer.body["errors"].is_array(), "{path}: {}", answer.body);
        // Strangers learn nothing of what there is.
        assert_eq!(other.get(path).await.error(403), "permission denied", "{path}");
    }
    for (header, value) in [("x-vault-wrap-ttl", "5m"), ("x-vault-namespace", "team-a")] {
        let answer = face
            .send(("POST", "/v1/transit/encrypt/chat"), &[(header, value)], body.to_string())
            .await;
        assert!(answer.error(400).contains("leave"), "{header}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_over_tcp_opens_over_http_and_the_other_way_round() {
    let server = Server::with_face("").await;
    let key = server.key("聊天").await;
    let app = server.http_app("im", &["enc,dec:聊天"]).await;
    let face = server.face(&app).await;
    let client = server.client(&app.app).await;
    let path = |call| format!("/v1/transit/{call}/%E8%81%8A%E5%A4%A9");
    for (context, aad) in [("", ""), ("tenant-1/42", ""), ("", "aad"), ("会话 7", "消息 42")] {
        let binding = Binding { context: context.as_bytes(), aad: aad.as_bytes() };
        let bound = json!({
            "context": transit::bytes(binding.context),
            "associated_data": transit::bytes(binding.aad),
        });
        let message = format!("{context} {aad}").into_bytes();
        let request = EncRequest { key_index: key.index, suite: None, binding, message: &message };
        let envelope = client.enc_with(&request).await.expect("sealed");
        let mut body = bound.clone();
        body["ciphertext"] = transit::ciphertext(&envelope).expect("an envelope").into();
        let opened = face.post(&path("decrypt"), &body).await.data();
        assert_eq!(opened["plaintext"], base64(&message));
        let mut body = bound.clone();
        body["plaintext"] = base64(&message).into();
        let sealed = face.post(&path("encrypt"), &body).await.data();
        let text = sealed["ciphertext"].as_str().expect("text");
        let envelope = transit::envelope(text).expect("a ciphertext");
        assert_eq!(
            client.dec_with(&DecRequest { binding, envelope: &envelope }).await.expect("opens"),
            message
        );
        // Bound to something else, it does not open.
        for (field, other) in [("context", "x"), ("associated_data", "y")] {
            let mut body = bound.clone();
            body["ciphertext"] = text.into();
            body[field] = base64(other).into();
            assert!(face.post(&path("decrypt"), &body).await.error(400).contains("OPEN_FAILED"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_a_result_for_each_item() {
    let (_server, face) = with_chat().await;
    let good = base64("a");
    let items = json!([
        { "plaintext": good, "reference": "one \"quoted\"" },
        { "plaintext": "not base64!" },
        { "plaintext": "", "associated_data": base64("x") },
        { "plaintext": good, "key_version": "1", "context": null },
        {},
        { "plaintext": good, "nonce": base64("123456789012") },
    ]);
    let answer = face.post("/v1/transit/encrypt/chat", &json!({ "batch_input": items })).await;
    assert_eq!(answer.status, 400, "an item is wrong");
    assert!(answer.body.get("errors").is_none());
    let results = answer.body["data"]["batch_results"].as_array().expect("a list").clone();
    let failed: Vec<_> = results.iter().map(|result| result.get("error").is_some()).collect();
    assert_eq!(failed, [false, true, false, false, true, true]);
    assert_eq!(results[0]["reference"], "one \"quoted\"");
    assert_eq!(results[1]["reference"], "");
    assert!(results[4]["error"].as_str().expect("text").contains("missing plaintext"));
    let asked = json!({ "batch_input": items, "partial_failure_response_code": "207" });
    assert_eq!(face.post("/v1/transit/encrypt/chat", &asked).await.status, 207);
    let asked = json!({ "batch_input": items, "partial_failure_response_code": 999 });
    let answer = face.post("/v1/transit/encrypt/chat", &asked).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body["warnings"][0].as_str().expect("a warning").ends_with("400"));
    let all_wrong = json!({ "batch_input": [{}], "partial_failure_response_code": 200 });
    assert_eq!(face.post("/v1/transit/encrypt/chat", &all_wrong).await.status, 400);

    let items: Vec<_> = [0, 2, 3]
        .map(|at: usize| {
            let aad = if at == 2 { base64("x") } else { String::new() };
            json!({ "ciphertext": results[at]["ciphertext"], "associated_data": aad })
        })
        .into();
    let opened =
        face.post("/v1/transit/decrypt/chat", &json!({ "batch_input": items })).await.data();
    assert_eq!(
        opened["batch_results"],
        json!([
            { "plaintext": good, "reference": "" },
            { "plaintext": "", "reference": "" },
            { "plaintext": good, "reference": "" },
        ])
    );
    let mut items = items;
    items[0]["associated_data"] = base64("wrong").into();
    let answer = face.post("/v1/transit/decrypt/chat", &json!({ "batch_input": items })).await;
    assert_eq!(answer.status, 400);
    let result = &answer.body["data"]["batch_results"][0];
    assert_eq!(result["plaintext"], "");
    assert!(result["error"].as_str().expect("text").contains("OPEN_FAILED"));
    // A rewrap says so in the item alone, as elsewhere.
    let answer = face.post("/v1/transit/rewrap/chat", &json!({ "batch_input": items })).await;
    assert_eq!(answer.status, 200);
    let results = &answer.body["data"]["batch_results"];
    assert!(results[0]["error"].is_string() && results[1]["ciphertext"].is_string());
    let empty = json!({ "batch_input": [] });
    assert!(face.post("/v1/transit/encrypt/chat", &empty).await.error(400).contains("batch"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_items_go_through_at_once_and_one_more_than_the_limit_does_not() {
    let server = Server::with_face("max_items = 10000").await;
    server.key("chat").await;
    let app = server.http_app("im", ALL).await;
    let face = server.face(&app).await;
    let items: Vec<_> =
        (0..10_000).map(|n| json!({ "plaintext": base64(format!("message {n}")) })).collect();
    let sealed =
        face.post("/v1/transit/encrypt/chat", &json!({ "batch_input": items })).await.data();
    let results = sealed["batch_results"].as_array().expect("a list");
    assert_eq!(results.len(), 10_000);
    let opened =
        face.post("/v1/transit/decrypt/chat", &json!({ "batch_input": results })).await.data();
    for (n, result) in opened["batch_results"].as_array().expect("a list").iter().enumerate() {
        assert_eq!(result["plaintext"], base64(format!("message {n}")));
    }
    let many: Vec<_> = (0..10_001).map(|_| json!({ "plaintext": "" })).collect();
    let refused = face.post("/v1/transit/encrypt/chat", &json!({ "batch_input": many })).await;
    assert!(refused.error(413).contains("10000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_ciphertexts_are_refused_by_name_and_as_the_client_s_fault() {
    let (server, face) = with_chat().await;
    server.key("other").await;
    let good = face.encrypt("chat", &base64("a")).await;
    let foreign = face.encrypt("other", &base64("a")).await;
    let (_, base) = good.rsplit_once(':').expect("parts");
    let mut changed = STANDARD.decode(base).expect("base64");
    *changed.last_mut().expect("bytes") ^= 1;
    for (ciphertext, said) in [
        (String::new(), "missing ciphertext"),
        ("hello".into(), "no prefix"),
        ("vault:v1".into(), "wrong number of fields"),
        ("vault:vx:AAAA".into(), "version number"),
        (format!("vault:v2:{base}"), "not that of its envelope"),
        ("vault:v1:!!".into(), "base64"),
        (format!("vault:v1:{}", base64("plain text")), "BAD_ENVELOPE"),
        (format!("vault:v1:{}", base64([0xF5, 2])), "BAD_ENVELOPE"),
        (format!("vault:v1:{}", base64(&changed)), "OPEN_FAILED"),
        (foreign, "another key"),
    ] {
        for call in ["decrypt", "rewrap"] {
            let path = format!("/v1/transit/{call}/chat");
            let refused = face.post(&path, &json!({ "ciphertext": ciphertext })).await;
            assert!(refused.error(400).contains(said), "{call} {ciphertext}: {}", refused.body);
        }
    }
    let wrong = json!({ "plaintext": base64("a"), "context": "!" });
    assert!(face.post("/v1/transit/encrypt/chat", &wrong).await.error(400).contains("context"));
    for (field, value) in [
        ("nonce", json!("MTIzNDU2Nzg5MDEy")),
        ("convergent_encryption", json!("true")),
        ("key_version", json!(9)),
    ] {
        let mut body = json!({ "plaintext": base64("a") });
        body[field] = value;
        face.post("/v1/transit/encrypt/chat", &body).await.error(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_a_key_looks_like_none() {
    let server = Server::with_face("").await;
    for name in ["chat", "secret-1"] {
        server.key(name).await;
    }
    let app = server.http_app("im", &["enc:chat", "enc,dec,manage:im-*"]).await;
    let face = server.face(&app).await;
    let sealed = face.encrypt("chat", &base64("a")).await;
    for key in ["secret-1", "none"] {
        for call in ["encrypt", "decrypt", "rewrap", "datakey/plaintext"] {
            let path = format!("/v1/transit/{call}/{key}");
            let body = json!({ "plaintext": base64("a"), "ciphertext": sealed });
            assert_eq!(face.post(&path, &body).await.error(403), "permission denied", "{path}");
        }
        for path in ["", "/config", "/rotate", "/trim"] {
            let path = format!("/v1/transit/keys/{key}{path}");
            assert_eq!(face.post(&path, &json!({})).await.error(403), "permission denied");
        }
        assert_eq!(face.get(&format!("/v1/transit/keys/{key}")).await.status, 403);
        assert_eq!(face.delete(&format!("/v1/transit/keys/{key}")).await.status, 403);
    }
    // Sealing alone is granted.
    let body = json!({ "ciphertext": sealed });
    assert_eq!(face.post("/v1/transit/decrypt/chat", &body).await.status, 403);
    assert_eq!(face.post("/v1/transit/keys/chat/rotate", &json!({})).await.status, 403);
    // The list has what a grant speaks of, and is there.
    let listed = face.send(("LIST", "/v1/transit/keys"), &[], "").await.data();
    assert_eq!(listed, json!({ "keys": ["chat"] }));
    let body = json!({ "plaintext": base64("a") });
    assert_eq!(face.post("/v1/transit/encrypt/im-new", &body).await.status, 200, "made on the way");
    let listed = face.get("/v1/transit/keys?list=true").await.data();
    assert_eq!(listed, json!({ "keys": ["chat", "im-new"] }));
    let listed = face.get("/v1/transit/keys?list=true&after=chat&limit=5").await.data();
    assert_eq!(listed, json!({ "keys": ["im-new"] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_set_rotated_trimmed_and_deleted() {
    let (server, face) = with_chat().await;
    let made = face.post("/v1/transit/keys/mine", &json!({ "type": "aes256-gcm96" })).await.data();
    assert_eq!(made["latest_version"], 1);
    assert_eq!(made["keys"]["1"].as_u64().map(|time| time > 1_700_000_000), Some(true));
    let again = face.post("/v1/transit/keys/mine", &json!({ "type": "sm4-gcm" })).await;
    assert_eq!(again.body["warnings"], json!(["key mine already existed"]));
    assert_eq!(again.body["data"]["suites"], made["suites"]);
    let first = face.encrypt("mine", &base64("a")).await;
    let rotated = face.post("/v1/transit/keys/mine/rotate", &json!({})).await.data();
    assert_eq!(rotated["latest_version"], 2);
    let second = face.encrypt("mine", &base64("a")).await;
    assert!(second.starts_with("vault:v2:"), "{second}");
    let again = json!({ "ciphertext": first });
    let rewrapped = face.post("/v1/transit/rewrap/mine", &again).await.data();
    assert!(rewrapped["ciphertext"].as_str().expect("text").starts_with("vault:v2:"));

    let config = json!({ "min_decryption_version": 2, "auto_rotate_period": "24h" });
    let set = face.post("/v1/transit/keys/mine/config", &config).await.data();
    assert_eq!(
        (&set["min_decryption_version"], &set["auto_rotate_period"]),
        (&json!(2), &json!(86_400))
    );
    assert_eq!(set["keys"].as_object().map(|keys| keys.len()), Some(1), "older ones are not shown");
    face.post("/v1/transit/decrypt/mine", &again).await.error(400);
    for wrong in [
        json!({ "exportable": true }),
        json!({ "allow_plaintext_backup": "true" }),
        json!({ "auto_rotate_period": "30m" }),
        json!({ "min_decryption_version": 9 }),
        json!({ "min_decryption_version": 2, "min_encryption_version": 1 }),
    ] {
        face.post("/v1/transit/keys/mine/config", &wrong).await.error(400);
    }
    for wrong in
        [json!({}), json!({ "min_available_version": 0 }), json!({ "min_available_version": 3 })]
    {
        face.post("/v1/transit/keys/mine/trim", &wrong).await.error(400);
    }
    let trim = json!({ "min_available_version": 2 });
    let trimmed = face.post("/v1/transit/keys/mine/trim", &trim).await.data();
    assert_eq!(trimmed["min_available_version"], 2);
    let lower = json!({ "min_decryption_version": 1 });
    face.post("/v1/transit/keys/mine/config", &lower).await.data();
    face.post("/v1/transit/decrypt/mine", &again).await.error(400);
    let asked = server.manager().list_requests().await.expect("a list").requests;
    assert_eq!(asked.len(), 1);
    assert!(asked[0].what.contains("below 2 of key `mine`"), "{}", asked[0].what);
    assert_eq!(asked[0].asked.name, "im");

    let refused = face.delete("/v1/transit/keys/mine").await.error(400);
    assert_eq!(refused, "error deleting policy mine: deletion is not allowed for this key");
    face.post("/v1/transit/keys/mine/config", &json!({ "deletion_allowed": true })).await.data();
    assert_eq!(face.delete("/v1/transit/keys/mine").await.status, 204);
    assert_eq!(face.get("/v1/transit/keys/mine").await.status, 404);
    let body = json!({ "plaintext": base64("a"), "ciphertext": second });
    for call in ["encrypt", "decrypt", "rewrap"] {
        face.post(&format!("/v1/transit/{call}/mine"), &body).await.error(400);
    }
    // An operator brings it back.
    let every = Versions { version: None };
    server.manager().change_key("mine", "enable", every).await.expect("enabled");
    let opened = face.post("/v1/transit/decrypt/mine", &json!({ "ciphertext": second })).await;
    assert_eq!(opened.data()["plaintext"], base64("a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_derived_key_demands_a_context_over_tcp_too() {
    let (server, face) = with_chat().await;
    face.post("/v1/transit/keys/bound", &json!({ "derived": "true" })).await.data();
    let bare = json!({ "plaintext": base64("a") });
    assert!(
        face.post("/v1/transit/encrypt/bound", &bare).await.error(400).contains("CONTEXT_REQUIRED")
    );
    let bound = json!({ "plaintext": base64("a"), "context": base64("c") });
    let sealed = face.post("/v1/transit/encrypt/bound", &bound).await.data();
    let body = json!({ "ciphertext": sealed["ciphertext"], "context": base64("c") });
    face.post("/v1/transit/rewrap/bound", &body).await.data();
    assert!(server.manager().show_key("bound").await.expect("a key").context_required);
    let app = server.local_app(&["enc:*"]).await;
    let client = server.client(&app).await;
    let key = client.key("bound").await.expect("a key").index;
    let refused = client.enc(key, b"aad", b"a").await.expect_err("no context");
    assert_eq!(refused.code(), Some(sealwire_client::ErrorCode::CONTEXT_REQUIRED));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_key_comes_out_once_in_clear_and_opens_again_from_its_ciphertext() {
    let (server, face) = with_chat().await;
    for (bits, length) in
        [(json!(null), 32), (json!(128), 16), (json!("256"), 32), (json!(512), 64)]
    {
        let body = json!({ "bits": bits, "context": base64("attachment 7") });
        let made = face.post("/v1/transit/datakey/plaintext/chat", &body).await.data();
        let clear = made["plaintext"].as_str().expect("a key");
        assert_eq!(STANDARD.decode(clear).expect("base64").len(), length);
        let body = json!({ "ciphertext": made["ciphertext"], "context": base64("attachment 7") });
        let opened = face.post("/v1/transit/decrypt/chat", &body).await.data();
        assert_eq!(opened["plaintext"], clear);
    }
    let wrapped = face.post("/v1/transit/datakey/wrapped/chat", &json!({})).await.data();
    assert!(wrapped.get("plaintext").is_none() && wrapped["ciphertext"].is_string());
    face.post("/v1/transit/datakey/plaintext/chat", &json!({ "bits": 7 })).await.error(400);
    face.post("/v1/transit/datakey/both/chat", &json!({})).await.error(400);

    // Over TCP, under its own grant.
    let app = server.local_app(&["enc,dec:chat"]).await;
    let client = server.client(&app).await;
    let key = client.key("chat").await.expect("a key").index;
    assert!(client.datakey(key, b"").await.is_err_and(|error| error.is_denied()));
    let app = server.local_app(&["datakey,dec:chat"]).await;
    let client = server.client(&app).await;
    let made = client.datakey(key, b"attachment 7").await.expect("made");
    assert_eq!(made.key.len(), 32);
    assert_eq!(client.dec(b"attachment 7", &made.envelope).await.expect("opens"), made.key[..]);
    assert!(client.enc(key, b"", b"a").await.is_err_and(|error| error.is_denied()));
    let other = client.datakey(key, b"attachment 7").await.expect("made");
    assert_ne!(made.key[..], other.key[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_tells_of_itself_sealed_or_open() {
    let (server, face) = with_chat().await;
    let stranger = server.stranger();
    let health = stranger.get("/v1/sys/health").await;
    assert_eq!(health.status, 200);
    assert_eq!(
        (&health.body["initialized"], &health.body["sealed"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(stranger.get("/v1/sys/health?activecode=299").await.status, 299);
    assert_eq!(stranger.get("/v1/sys/health?activecode=x").await.status, 400);
    let bare = stranger.get("/v1/sys/health?activecode=204").await;
    assert_eq!((bare.status, bare.body), (204, json!(null)));
    assert_eq!(stranger.send(("HEAD", "/v1/sys/health"), &[], "").await.status, 200);
    assert_eq!(stranger.get("/v1/sys/seal-status").await.body["sealed"], json!(false));
    assert_eq!(stranger.get("/v1/sys/init").await.body, json!({ "initialized": true }));
    assert_eq!(stranger.get("/v1/sys/leader").await.body["ha_enabled"], json!(false));
    let mounts = face.get("/v1/sys/mounts").await;
    assert_eq!(mounts.body["transit/"]["type"], "transit");
    assert_eq!(mounts.data()["transit/"]["type"], "transit");
    server.ceremony().seal().await.expect("sealed");
    assert_eq!(stranger.get("/v1/sys/health").await.status, 503);
    assert_eq!(stranger.get("/v1/sys/health?sealedcode=200").await.status, 200);
    assert_eq!(stranger.get("/v1/sys/seal-status").await.body["sealed"], json!(true));
    let body = json!({ "plaintext": base64("a") });
    assert!(face.post("/v1/transit/encrypt/chat", &body).await.error(503).contains("SEALED"));
    let batch = json!({ "batch_input": [body] });
    assert_eq!(face.post("/v1/transit/encrypt/chat", &batch).await.status, 503);
    server.unseal().await;
    face.post("/v1/transit/encrypt/chat", &body).await.data();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_root_key_says_so() {
    let server = Server::sealed(support::face::HTTP);
    server.await_log("gateway, HTTP on http://");
    let stranger = server.stranger();
    let health = stranger.get("/v1/sys/health").await;
    assert_eq!((health.status, &health.body["initialized"]), (501, &json!(false)));
    assert_eq!(stranger.get("/v1/sys/health?uninitcode=299").await.status, 299);
    assert_eq!(stranger.get("/v1/sys/init").await.body, json!({ "initialized": false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_operators_disable_or_rotate_are_followed_at_once() {
    let (server, face) = with_chat().await;
    let manager = server.manager();
    let sealed = face.encrypt("chat", &base64("a")).await;
    manager.rotate_key("chat").await.expect("rotated");
    assert!(face.encrypt("chat", &base64("a")).await.starts_with("vault:v2:"));
    manager.change_key("chat", "disable", Versions { version: Some(1) }).await.expect("disabled");
    face.post("/v1/transit/decrypt/chat", &json!({ "ciphertext": sealed })).await.error(400);
    let key = CreateKey { name: "late".into(), ..CreateKey::default() };
    manager.create_key(&key).await.expect("made");
    face.encrypt("late", &base64("a")).await;
    let wish = ChangeKey { min_enc: Some(2), ..ChangeKey::default() };
    manager.set_key("chat", &wish).await.expect("set");
    face.encrypt("chat", &base64("a")).await;
}
