//! Where the HTTP face is stricter than others, or other: what is left out, what makes no key, what is told of keys.

mod support;

use serde_json::{Value, json};
use support::Server;
use support::face::Face;

async fn with_chat(more: &str) -> (Server, Face) {
    let server = Server::with_face(more).await;
    server.key("chat").await;
    let app = server.http_app("im", &["enc,dec,reenc,datakey,manage:*"]).await;
    let face = server.face(&app).await;
    (server, face)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_out_is_refused_with_400() {
    let (_server, face) = with_chat("").await;
    for path in [
        "sign/chat",
        "sign/chat/sha2-256",
        "verify/chat",
        "hmac/chat",
        "hash/sha2-256",
        "random/32",
        "export/encryption-key/chat",
        "byok-export/chat/other",
        "backup/chat",
        "restore/chat",
        "wrapping_key",
        "keys/chat/import",
        "keys/chat/import_version",
    ] {
        let refused = face.post(&format!("/v1/transit/{path}"), &json!({ "input": "YQ==" })).await;
        assert!(!refused.error(400).is_empty(), "{path}");
    }
    for kind in ["rsa-2048", "rsa-4096", "ed25519", "ecdsa-p256", "hmac", "aes128-cmac", "none"] {
        let wish = json!({ "type": kind, "plaintext": "YQ==" });
        for path in ["keys/new", "keys/chat", "encrypt/new", "encrypt/chat"] {
            let refused = face.post(&format!("/v1/transit/{path}"), &wish).await;
            assert!(refused.error(400).contains(kind), "{path} {}", refused.body);
        }
    }
    for wish in [
        json!({ "convergent_encryption": true, "derived": true }),
        json!({ "exportable": true }),
        json!({ "allow_plaintext_backup": "true" }),
    ] {
        assert!(!face.post("/v1/transit/keys/new", &wish).await.error(400).is_empty(), "{wish}");
    }
    assert_eq!(face.get("/v1/transit/keys?list=true").await.data()["keys"], json!(["chat"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_made_for_what_cannot_be_sealed() {
    let (_server, face) = with_chat("max_items = 3").await;
    let good = json!({ "plaintext": "YQ==" });
    let four = vec![good.clone(); 4];
    for (status, body) in [
        (400, json!({})),
        (400, json!({ "plaintext": "!" })),
        (400, json!({ "plaintext": "YQ==", "context": "!" })),
        (400, json!({ "plaintext": "YQ==", "context": "YWFh".repeat(2000) })),
        (400, json!({ "plaintext": "YQ==", "key_version": 9 })),
        (400, json!({ "batch_input": [] })),
        (400, json!({ "batch_input": [{}, { "plaintext": "YQ==", "nonce": "YQ==" }] })),
        (413, json!({ "batch_input": four })),
    ] {
        let refused = face.post("/v1/transit/encrypt/new", &body).await;
        assert!(!refused.error(status).is_empty(), "{body}");
    }
    // Some clients could not name it.
    face.post("/v1/transit/encrypt/a%2Fb", &good).await.error(400);
    face.post("/v1/transit/keys/a%2Fb", &json!({})).await.error(400);
    face.post("/v1/transit/keys/2024", &json!({})).await.error(400);
    face.post("/v1/transit/decrypt/new", &json!({ "ciphertext": "vault:v1:YQ==" }))
        .await
        .error(400);
    assert_eq!(face.delete("/v1/transit/keys/new").await.status, 400, "there is none");
    assert_eq!(face.get("/v1/transit/keys?list=true").await.data()["keys"], json!(["chat"]));
    let mixed = json!({ "batch_input": [{}, good], "partial_failure_response_code": 207 });
    assert_eq!(face.post("/v1/transit/encrypt/new", &mixed).await.status, 207);
    assert_eq!(face.get("/v1/transit/keys?list=true").await.data()["keys"], json!(["chat", "new"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_with_a_type_that_clients_know_and_its_suite() {
    let (_server, face) = with_chat("").await;
    for (wish, suite, shown) in [
        ("aes256-gcm96", "xaes-256-gcm", "aes256-gcm96"),
        ("aes-256-gcm", "aes-256-gcm", "aes256-gcm96"),
        ("aes-256-gcm-siv", "aes-256-gcm-siv", "aes256-gcm96"),
        ("chacha20-poly1305", "chacha20-poly1305", "chacha20-poly1305"),
        ("xchacha20-poly1305", "xchacha20-poly1305", "chacha20-poly1305"),
        ("sm4-gcm", "sm4-gcm", "aes128-gcm96"),
    ] {
        let path = format!("/v1/transit/keys/of-{wish}");
        let made = face.post(&path, &json!({ "type": wish })).await.data();
        assert_eq!((&made["type"], &made["suites"]), (&json!(shown), &json!([suite])), "{wish}");
        face.encrypt(&format!("of-{wish}"), "YQ==").await;
    }
    // 0 takes the lowest version that seals away.
    face.post("/v1/transit/keys/chat/rotate", &json!({})).await.data();
    let wish = json!({ "min_encryption_version": 2 });
    let set = face.post("/v1/transit/keys/chat/config", &wish).await.data();
    assert_eq!(set["min_encryption_version"], 2);
    let wish = json!({ "min_encryption_version": "0", "auto_rotate_period": "720h0m0s" });
    let set = face.post("/v1/transit/keys/chat/config", &wish).await.data();
    assert_eq!(set["min_encryption_version"], 0);
    assert_eq!(set["auto_rotate_period"], 720 * 3600);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_three_ways_of_a_batch_have_references_and_a_status_for_what_failed_in_part() {
    let (_server, face) = with_chat("").await;
    let sealed = face.encrypt("chat", "YQ==").await;
    for (call, good) in [
        ("encrypt", json!({ "plaintext": "YQ==", "reference": "一" })),
        ("decrypt", json!({ "ciphertext": sealed, "reference": "一" })),
        ("rewrap", json!({ "ciphertext": sealed, "reference": "一" })),
    ] {
        let path = format!("/v1/transit/{call}/chat");
        let bad = json!({ "ciphertext": "vault:v1:YQ==", "plaintext": "!", "reference": "二" });
        let mut body = json!({ "batch_input": [good, bad], "partial_failure_response_code": 207 });
        let answer = face.post(&path, &body).await;
        assert_eq!(answer.status, 207, "{call}: {}", answer.body);
        let results = answer.body["data"]["batch_results"].as_array().expect("a list");
        let references: Vec<_> = results.iter().map(|result| &result["reference"]).collect();
        assert_eq!(references, [&json!("一"), &json!("二")], "{call}");
        assert!(results[0].get("error").is_none() && results[1]["error"].is_string(), "{call}");
        body["partial_failure_response_code"] = Value::Null;
        let usual = if call == "rewrap" { 200 } else { 400 };
        assert_eq!(face.post(&path, &body).await.status, usual, "{call}");
    }
}
