//! What apps want destroyed, over HTTP: refused at once, destroyed by nobody but an operator, brought back by one.

mod support;

use sealwire_engine::document::OperatorRole;
use sealwire_engine::document::VersionState;
use sealwire_manager::{ChangeApp, CreateKey, ManagerClient, Versions};
use sealwire_protocol::ErrorCode;
use serde_json::json;
use support::Server;
use support::face::{Face, HttpApp};
use support::operators::{make, make_first, number, sign_in};

const PASSWORD: &str = "amber canal spruce orbit";

/// A server with a key admin, and an app that may manage keys.
async fn site() -> (Server, ManagerClient, Face) {
    let server = Server::with_face("").await;
    make_first(&server, "alice", &OperatorRole::ALL, PASSWORD).await;
    let alice = sign_in(&server, "alice", PASSWORD).await;
    make(&server, &alice, ("carol", &[OperatorRole::KeyAdmin], PASSWORD)).await;
    let carol = sign_in(&server, "carol", PASSWORD).await;
    // DEC on a key that is not there yet would take two persons.
    let key = CreateKey { name: "im-1".into(), ..CreateKey::default() };
    alice.create_key(&key).await.expect("a key");
    let app = HttpApp::make(&alice, "im", &["enc,manage:im-*", "dec:im-1"]).await;
    let face = server.stranger().logged_in(&app).await;
    (server, carol, face)
}

/// The states of a key's versions.
async fn states(manager: &ManagerClient, key: &str) -> Vec<VersionState> {
    let key = manager.show_key(key).await.expect("a key");
    key.versions.iter().map(|version| version.state).collect()
}

async fn only_request(manager: &ManagerClient) -> String {
    let requests = manager.list_requests().await.expect("a list").requests;
    let mut pending = requests.into_iter().filter(|request| request.state == "pending");
    let one = pending.next().expect("a request");
    assert!(pending.next().is_none(), "one is enough");
    one.id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_approves_the_destruction_of_what_was_trimmed_while_the_key_goes_on() {
    use VersionState::{Active, DecryptOnly, DestroyScheduled, Disabled};
    let (_server, carol, face) = site().await;
    face.encrypt("im-1", "YQ==").await;
    for _ in 0..2 {
        face.post("/v1/transit/keys/im-1/rotate", &json!({})).await.data();
    }
    let config = json!({ "min_decryption_version": 2 });
    face.post("/v1/transit/keys/im-1/config", &config).await.data();
    let trim = json!({ "min_available_version": 2 });
    face.post("/v1/transit/keys/im-1/trim", &trim).await.data();
    assert_eq!(states(&carol, "im-1").await, [Disabled, DecryptOnly, Active]);
    // Asked for again, and with a key that has changed: it is the same request.
    face.post("/v1/transit/keys/im-1/rotate", &json!({})).await.data();
    face.post("/v1/transit/keys/im-1/trim", &trim).await.data();
    let request = only_request(&carol).await;
    carol.decide_request(&request, true).await.expect("approved");
    assert_eq!(states(&carol, "im-1").await, [DestroyScheduled, DecryptOnly, DecryptOnly, Active]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_comes_back_by_an_operator_alone_and_is_not_destroyed_then() {
    use VersionState::{Active, DestroyScheduled, Disabled};
    let (_server, carol, face) = site().await;
    let sealed = face.encrypt("im-1", "YQ==").await;
    let path = "/v1/transit/keys/im-1";
    face.post(&format!("{path}/config"), &json!({ "deletion_allowed": true })).await.data();
    assert_eq!(face.delete(path).await.status, 204);
    assert_eq!(states(&carol, "im-1").await, [Disabled]);
    for (call, body) in
        [("", json!({})), ("/rotate", json!({})), ("/config", json!({ "deletion_allowed": false }))]
    {
        let refused = face.post(&format!("{path}{call}"), &body).await.error(400);
        assert!(refused.contains("an operator enables it"), "{call}: {refused}");
    }
    let request = only_request(&carol).await;
    let every = || Versions { version: None };
    carol.change_key("im-1", "enable", every()).await.expect("enabled");
    let opened = face.post("/v1/transit/decrypt/im-1", &json!({ "ciphertext": sealed })).await;
    assert_eq!(opened.data()["plaintext"], "YQ==");
    // What was asked for before is refused by that, and stays so when the key is disabled one day.
    assert_eq!(carol.show_request(&request).await.expect("a request").state, "refused");
    carol.change_key("im-1", "disable", every()).await.expect("disabled");
    let refused = number(carol.decide_request(&request, true).await);
    assert_eq!(refused, Some(ErrorCode::KEY_STATE.0), "it was refused");
    carol.change_key("im-1", "enable", every()).await.expect("enabled");
    assert_eq!(states(&carol, "im-1").await, [Active]);
    // Deleted again, and approved.
    assert_eq!(face.delete(path).await.status, 204);
    carol.decide_request(&only_request(&carol).await, true).await.expect("approved");
    assert_eq!(states(&carol, "im-1").await, [DestroyScheduled]);
    assert_eq!(face.delete(path).await.status, 204, "said again, it changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_app_has_asked_for_ends_with_its_grant() {
    let (server, carol, face) = site().await;
    face.encrypt("im-1", "YQ==").await;
    let path = "/v1/transit/keys/im-1";
    face.post(&format!("{path}/config"), &json!({ "deletion_allowed": true })).await.data();
    assert_eq!(face.delete(path).await.status, 204);
    let alice = sign_in(&server, "alice", PASSWORD).await;
    let grants = Some(vec!["enc:im-1".parse().expect("a grant")]);
    alice.set_app("im", &ChangeApp { grants, ..ChangeApp::default() }).await.expect("set");
    let request = only_request(&carol).await;
    let refused = number(carol.decide_request(&request, true).await);
    assert_eq!(refused, Some(ErrorCode::KEY_STATE.0), "it has no grant any more");
    // Whether it may, the manager looks for itself: the face's word is not enough.
    assert_eq!(face.post(&format!("{path}/rotate"), &json!({})).await.status, 403);
}
