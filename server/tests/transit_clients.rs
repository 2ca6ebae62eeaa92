//! The HTTP face as those see it who have a client already: hvac, node-vault and vaultrs, unmodified, as their
//! registries have them. `./scripts/test` installs the first two. What Spring Vault sends is sent without it.

mod support;

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use support::Server;
use support::face::HttpApp;

/// What each client does, in this order.
const STEPS: [&str; 13] = [
    "login",
    "create",
    "encrypt unicode",
    "decrypt",
    "wrong context",
    "associated data",
    "batch with one bad item",
    "rotate",
    "rewrap",
    "minimum version",
    "datakey",
    "refused delete",
    "logout",
];

fn clients() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// What `./scripts/test` has installed.
fn installed(variable: &str, beside: &str) -> PathBuf {
    let target = PathBuf::from(support::SEALWIRE);
    let target = target.ancestors().nth(2).expect("the target folder").join(beside);
    let place = std::env::var_os(variable).map_or(target, PathBuf::from);
    assert!(place.exists(), "{} is not there: run ./scripts/test", place.display());
    place
}

/// Runs a client against a server, as an app that may do everything.
async fn run(mut command: Command) {
    let server = Server::with_face("").await;
    let app: HttpApp = server.http_app("im", &["enc,dec,reenc,datakey,manage:*"]).await;
    let ran = command
        .env("VAULT_ADDR", server.face_url())
        .env("VAULT_ROLE_ID", &app.app.key)
        .env("VAULT_SECRET_ID", &app.http_secret)
        .env_remove("VAULT_TOKEN")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&ran.stdout);
    let trouble = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}\n{trouble}\n{}", server.log());
    let steps: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("ok: ")).collect();
    assert_eq!(steps, STEPS);
}

#[tokio::test(flavor = "multi_thread")]
async fn hvac_works_unchanged() {
    let mut python = Command::new(installed("SEALWIRE_TEST_PYTHON", "test-python/bin/python"));
    python.arg(clients().join("hvac/run.py"));
    run(python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_vault_works_unchanged() {
    let modules = installed("SEALWIRE_TEST_NODE", "test-node");
    let mut node = Command::new("node");
    node.arg(clients().join("node-vault/run.js")).env("SEALWIRE_TEST_NODE", modules);
    run(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vaultrs_works_unchanged() {
    let target = PathBuf::from(support::SEALWIRE);
    let target = target.ancestors().nth(2).expect("the target folder").join("test-vaultrs");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut program = Command::new(cargo);
    program
        .args(["run", "--locked", "--quiet", "--manifest-path"])
        .arg(clients().join("vaultrs/Cargo.toml"))
        .arg("--target-dir")
        .arg(target);
    run(program).await;
}

/// The requests of `VaultTransitTemplate` and `LifecycleAwareSessionManager` of Spring Vault 2.2, as their source writes
/// them: Maven's registry is out of reach for these tests, so that nothing of Spring runs here.
#[tokio::test(flavor = "multi_thread")]
async fn what_spring_vault_sends_is_taken() {
    let server = Server::with_face("").await;
    let app = server.http_app("im", &["enc,dec,reenc,datakey,manage:*"]).await;
    let face = server.face(&app).await;
    // createKey(name), createKey(name, request).
    face.send(("POST", "/v1/transit/keys/first"), &[], "").await.data();
    let request = json!({
        "derived": false,
        "type": "aes256-gcm96",
        "convergent_encryption": false,
        "exportable": false,
    });
    face.post("/v1/transit/keys/second", &request).await.data();
    assert_eq!(
        face.get("/v1/transit/keys?list=true").await.data()["keys"],
        json!(["first", "second"])
    );
    // encrypt(name, plaintext, context), rotate(name), rewrap(name, ciphertext, context).
    let context = json!({ "plaintext": "5L2g5aW9", "context": "5Lya6K+d" });
    let sealed = face.post("/v1/transit/encrypt/first", &context).await.data();
    face.send(("POST", "/v1/transit/keys/first/rotate"), &[], "").await;
    let old = json!({ "ciphertext": sealed["ciphertext"], "context": "5Lya6K+d" });
    let rewrapped = face.post("/v1/transit/rewrap/first", &old).await.data();
    // Lists, and what has failed in one.
    let batch = json!({ "batch_input": [
        { "ciphertext": rewrapped["ciphertext"], "context": "5Lya6K+d" },
        { "ciphertext": rewrapped["ciphertext"] },
    ] });
    let answer = face.post("/v1/transit/decrypt/first", &batch).await;
    let results = &answer.body["data"]["batch_results"];
    assert_eq!(results[0]["plaintext"], "5L2g5aW9", "{results}");
    assert!(results[0].get("error").is_none() && results[1]["error"].is_string(), "{results}");
    // configureKey has every field, also those that are not set.
    let config = json!({
        "deletion_allowed": null,
        "min_decryption_version": 2,
        "min_encryption_version": null,
    });
    face.post("/v1/transit/keys/first/config", &config).await.data();
    let key = face.get("/v1/transit/keys/first").await.data();
    assert_eq!(
        (&key["min_decryption_version"], &key["deletion_allowed"]),
        (&json!(2), &json!(false))
    );
    // The life of its token: it is looked up, renewed without a body, and revoked.
    let about = face.get("/v1/auth/token/lookup-self").await.data();
    assert!(about["renewable"].as_bool().is_some() && about["ttl"].as_u64().is_some(), "{about}");
    let renewed = face.send(("POST", "/v1/auth/token/renew-self"), &[], "").await;
    assert_eq!(renewed.body["auth"]["client_token"], json!(face.token));
    assert_eq!(face.send(("POST", "/v1/auth/token/revoke-self"), &[], "").await.status, 204);
    assert_eq!(face.get("/v1/auth/token/lookup-self").await.status, 403);
}
