//! Two persons for what cannot be undone, or opens doors: one asks, another approves, and both are on record.

mod support;

use sealwire_engine::document::OperatorRole::{AppAdmin, Auditor, KeyAdmin, RootOfficer};
use sealwire_engine::document::VersionState;
use sealwire_manager::{
    ChangeApp, ChangeKey, CreateApp, CreateKey, CreateToken, DestroyKey, ManagerClient,
    RotateSecret, SetPolicy, SetRoles,
};
use sealwire_protocol::ErrorCode;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use support::operators::{asked, change_first, make, make_first, number, operator, sign_in};
use support::{App, Server};

const PASSWORD: &str = "amber canal spruce orbit";

/// A site with two officers, alice and bob, who approve each other; and two admins, carol and dave.
struct Site {
    server: Server,
    alice: ManagerClient,
    bob: ManagerClient,
    carol: ManagerClient,
    dave: ManagerClient,
}

impl Site {
    async fn start() -> Self {
        let server = Server::start().await;
        make_first(&server, "alice", &[RootOfficer], PASSWORD).await;
        let alice = sign_in(&server, "alice", PASSWORD).await;
        // While there is one officer, nobody could approve.
        let admins = [KeyAdmin, AppAdmin];
        for (name, roles) in [("carol", &admins[..]), ("dave", &admins), ("bob", &[RootOfficer])] {
            make(&server, &alice, (name, roles, PASSWORD)).await;
        }
        let [bob, carol, dave] =
            ["bob", "carol", "dave"].map(|name| sign_in(&server, name, PASSWORD));
        let (bob, carol, dave) = (bob.await, carol.await, dave.await);
        Self { server, alice, bob, carol, dave }
    }

    async fn key(&self, name: &str) {
        let key = CreateKey { name: name.into(), ..CreateKey::default() };
        self.carol.create_key(&key).await.expect("made");
    }
}

fn app(name: &str, grants: &[&str]) -> CreateApp {
    CreateApp {
        name: name.into(),
        allow: vec!["127.0.0.0/8".parse().expect("a network")],
        grants: grants.iter().map(|text| text.parse().expect(text)).collect(),
        http: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destruction_takes_two_and_is_bound_to_the_key_as_it_was() {
    let site = Site::start().await;
    site.key("chat").await;
    site.carol.rotate_key("chat").await.expect("rotated");
    let wish = DestroyKey { version: Some(1), after_seconds: None };
    let request = asked(site.carol.destroy_key("chat", wish).await);
    assert!(request.what.contains("version 1 of key `chat`"), "{}", request.what);
    let shown = site.carol.show_key("chat").await.expect("shown");
    assert_eq!(shown.versions[0].state, VersionState::DecryptOnly, "not yet");
    let again = asked(site.carol.destroy_key("chat", wish).await);
    assert_eq!(again.id, request.id, "the same thing is asked for once");
    let own = site.carol.decide_request(&request.id, true).await;
    assert_eq!(number(own), Some(ErrorCode::SECOND_PERSON.0));
    // Neither a token of somebody else's nor an auditor is a second person.
    let token = CreateToken { name: "t".into(), roles: vec![KeyAdmin], lifetime_seconds: 600 };
    let token = site.dave.create_token(&token).await.expect("a token").token;
    let program = site.server.manager().with_token(token);
    let refused = Some(ErrorCode::ROLE_NEEDED.0);
    assert_eq!(number(program.decide_request(&request.id, true).await), refused);
    // The key changes meanwhile: what was asked for is for nothing.
    site.carol.rotate_key("chat").await.expect("rotated");
    let moved = site.dave.decide_request(&request.id, true).await;
    assert_eq!(number(moved), Some(ErrorCode::KEY_STATE.0));
    let request = asked(site.carol.destroy_key("chat", wish).await);
    let done = site.dave.decide_request(&request.id, true).await.expect("approved");
    assert_eq!((done.state.as_str(), done.asked.name.as_str()), ("done", "carol"));
    assert_eq!(done.decided.expect("decided").name, "dave");
    let shown = site.carol.show_key("chat").await.expect("shown");
    assert_eq!(shown.versions[0].state, VersionState::DestroyScheduled);
    let again = site.dave.decide_request(&request.id, true).await;
    assert_eq!(number(again), Some(ErrorCode::KEY_STATE.0));
    // To call it off takes nobody else.
    let version = sealwire_manager::Versions { version: Some(1) };
    site.carol.change_key("chat", "cancel-destroy", version).await.expect("called off");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_opens_doors_takes_two() {
    let site = Site::start().await;
    site.key("chat").await;
    site.key("vault").await;
    let mark = |sensitive| ChangeKey { sensitive: Some(sensitive), ..ChangeKey::default() };
    assert!(site.carol.set_key("vault", &mark(true)).await.expect("marked").sensitive);
    site.carol.create_app(&app("plain", &["enc,dec:chat", "enc:vault"])).await.expect("made");
    for (name, grants) in [
        ("one", ["dec:vault"]),
        ("all", ["dec:*"]),
        ("va", ["enc,dec:va*"]),
        ("x", ["reenc:chat>vault"]),
    ] {
        let request = asked(site.carol.create_app(&app(name, &grants)).await);
        assert!(request.what.contains(grants[0]), "{}", request.what);
        assert!(site.carol.show_app(name).await.is_err(), "{name} is not made yet");
    }
    let one = app("one", &["dec:vault"]);
    let request = asked(site.carol.create_app(&one).await);
    let done = site.alice.decide_request(&request.id, true).await.expect("approved");
    assert_eq!(done.state, "approved", "by an officer, who approves everything");
    // Who has asked does it, and sees the secret; nobody else does, and nothing else.
    asked(site.dave.create_app(&one).await);
    asked(site.carol.create_app(&app("one", &["dec:vault", "enc:vault"])).await);
    let made = site.carol.create_app(&one).await.expect("made");
    let client = |secret: &str| {
        let key = made.app.app_key.clone();
        App { key, secret: secret.to_owned() }
    };
    site.server.client(&client(made.app_secret.as_ref().expect("made"))).await;
    assert_eq!(site.carol.show_request(&request.id).await.expect("shown").state, "done");
    // Whoever sees a new secret of it may do what it may: that takes two, and once.
    let wish = RotateSecret { overlap_seconds: 0, drop_older: true, http: false };
    let request = asked(site.carol.rotate_app_secret("one", wish).await);
    site.dave.decide_request(&request.id, true).await.expect("approved");
    let again = site.carol.rotate_app_secret("one", wish).await.expect("a secret");
    site.server.client(&client(again.app_secret.as_ref().expect("made"))).await;
    // An approval can be called off while nothing has come of it.
    let request = asked(site.carol.rotate_app_secret("one", wish).await);
    site.dave.decide_request(&request.id, true).await.expect("approved");
    site.dave.decide_request(&request.id, false).await.expect("called off");
    asked(site.carol.rotate_app_secret("one", wish).await);
    site.carol.rotate_app_secret("plain", wish).await.expect("opens no door");
    // The mark goes only with two.
    let request = asked(site.carol.set_key("vault", &mark(false)).await);
    assert!(site.carol.show_key("vault").await.expect("shown").sensitive);
    site.dave.decide_request(&request.id, true).await.expect("approved");
    assert!(!site.carol.show_key("vault").await.expect("shown").sensitive);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_app_may_do_is_widened_by_two_and_narrowed_by_one() {
    let site = Site::start().await;
    site.key("chat").await;
    site.key("vault").await;
    let mark = ChangeKey { sensitive: Some(true), ..ChangeKey::default() };
    site.carol.set_key("vault", &mark).await.expect("marked");
    let made = site.carol.create_app(&app("im", &["enc,dec:chat"])).await.expect("made");
    let credentials = App {
        key: made.app.app_key.clone(),
        secret: made.app_secret.as_ref().expect("made").to_string(),
    };
    let client = site.server.client(&credentials).await;
    let set = |allow: Option<&[&str]>, grants: Option<&[&str]>| ChangeApp {
        http: None,
        allow: allow.map(|all| all.iter().map(|one| one.parse().expect("a network")).collect()),
        grants: grants.map(|all| all.iter().map(|one| one.parse().expect("a grant")).collect()),
    };
    let key = site.carol.show_key("chat").await.expect("a key").index;
    let envelope = client.enc(key, b"", b"m").await.expect("sealed");
    // What opens no door takes one, and is in force at once: also for who is connected.
    let changed = site.carol.set_app("im", &set(None, Some(&["enc:chat"]))).await.expect("set");
    assert_eq!(changed.allow, made.app.allow, "what is not given stays");
    let begun = std::time::Instant::now();
    loop {
        let opened = client.dec(b"", &envelope).await;
        if opened.is_err_and(|error| error.code() == Some(ErrorCode::KEY_NOT_FOUND)) {
            break;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "DEC is granted still");
    }
    client.enc(key, b"", b"m").await.expect("sealed");
    // What opens one takes two.
    let wider = set(None, Some(&["enc:chat", "dec:vault"]));
    let request = asked(site.carol.set_app("im", &wider).await);
    assert!(request.what.contains("dec:vault"), "{}", request.what);
    assert_eq!(site.carol.show_app("im").await.expect("shown").grants, changed.grants);
    let own = site.carol.decide_request(&request.id, true).await;
    assert_eq!(number(own), Some(ErrorCode::SECOND_PERSON.0));
    site.dave.decide_request(&request.id, true).await.expect("approved");
    let app = site.carol.show_app("im").await.expect("shown");
    assert_eq!(Some(app.grants), wider.grants);
    // From elsewhere, too, once it may: and from less, or less, by one again.
    let request = asked(site.carol.set_app("im", &set(Some(&["0.0.0.0/0"]), None)).await);
    site.carol.set_app("im", &set(Some(&["127.0.0.1/32"]), None)).await.expect("narrower");
    let moved = site.dave.decide_request(&request.id, true).await;
    assert_eq!(number(moved), Some(ErrorCode::KEY_STATE.0), "it has changed meanwhile");
    asked(site.carol.set_app("im", &set(Some(&["127.0.0.0/8"]), None)).await);
    site.carol.set_app("im", &set(Some(&[]), Some(&["dec:vault"]))).await.expect("narrower");
    // Nowhere is nowhere.
    let url = site.server.url();
    let refused = sealwire_client::Client::connect(&url, credentials.credentials());
    refused.await.map(drop).expect_err("from nowhere");
    let mapped = set(Some(&["::ffff:10.0.0.0/104"]), None);
    assert_eq!(number(site.carol.set_app("im", &mapped).await), Some(ErrorCode::MALFORMED_BODY.0));
    assert_eq!(number(site.carol.set_app("none", &wider).await), Some(ErrorCode::KEY_NOT_FOUND.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_made_and_changed_by_two_officers() {
    let site = Site::start().await;
    let request =
        asked(site.alice.create_operator(&operator("eve", &[RootOfficer], PASSWORD)).await);
    let not_hers = site.carol.decide_request(&request.id, true).await;
    assert_eq!(number(not_hers), Some(ErrorCode::ROLE_NEEDED.0));
    assert!(site.server.manager().sign_in("eve", PASSWORD.to_owned().into()).await.is_err());
    site.bob.decide_request(&request.id, true).await.expect("approved");
    let eve = sign_in(&site.server, "eve", PASSWORD).await;
    // Alice knows that password: it is good for nothing but being changed.
    let refused = Some(ErrorCode::ROLE_NEEDED.0);
    assert_eq!(number(eve.list_operators().await), refused);
    let token = CreateToken { name: "t".into(), roles: vec![RootOfficer], lifetime_seconds: 600 };
    assert_eq!(number(eve.create_token(&token).await), refused);
    assert!(eve.who_am_i().await.expect("herself").must_change_password);
    let new = "timber lagoon saffron drum";
    change_first(&site.server, "eve", PASSWORD, new).await;
    sign_in(&site.server, "eve", new).await.list_operators().await.expect("hers now");
    let roles = SetRoles { roles: vec![Auditor, KeyAdmin] };
    let request = asked(site.alice.set_operator_roles("dave", &roles).await);
    site.bob.decide_request(&request.id, false).await.expect("refused");
    let decided = site.bob.decide_request(&request.id, true).await;
    assert_eq!(number(decided), Some(ErrorCode::KEY_STATE.0), "refused is refused");
    let request = asked(site.alice.set_operator_roles("dave", &roles).await);
    site.bob.decide_request(&request.id, true).await.expect("approved");
    assert_eq!(site.alice.show_operator("dave").await.expect("shown").roles, [KeyAdmin, Auditor]);
    let new = "violet harbor tundra quilt";
    let request = asked(site.alice.reset_operator_password("dave", new.to_owned().into()).await);
    site.bob.decide_request(&request.id, true).await.expect("approved");
    site.server.manager().sign_in("dave", new.to_owned().into()).await.expect("the new one");
    assert!(site.dave.list_keys().await.is_err(), "the sessions have ended");
    // To let one back in takes two, too.
    site.alice.enable_operator("carol", false).await.expect("disabled");
    let request = asked(site.alice.enable_operator("carol", true).await);
    site.bob.decide_request(&request.id, true).await.expect("approved");
    sign_in(&site.server, "carol", PASSWORD).await;
    // An officer who shuts the others out has nobody who approves, and does not get around it.
    site.alice.enable_operator("bob", false).await.expect("disabled");
    site.alice.enable_operator("eve", false).await.expect("disabled");
    let request =
        asked(site.alice.create_operator(&operator("mallory", &[RootOfficer], PASSWORD)).await);
    let own = site.alice.decide_request(&request.id, true).await;
    assert_eq!(number(own), Some(ErrorCode::SECOND_PERSON.0));
    let mut database = SqliteConnectOptions::new()
        .filename(site.server.data().join("keystore.db"))
        .connect()
        .await
        .expect("opens");
    // Nor does one with the database in his hands, who makes an approved request of his own.
    let forged = "UPDATE document SET body = CAST(replace(CAST(body AS TEXT), '\"pending\"', '\"approved\"') AS BLOB) \
                  WHERE kind = 'request'";
    sqlx::query(forged).execute(&mut database).await.expect("changed");
    assert!(site.alice.decide_request(&request.id, true).await.is_err());
    assert!(!site.alice.list_requests().await.expect("listed").unverified.is_empty());
    // Nor one who removes the others' rows, or the policy's.
    let removed = "DELETE FROM document WHERE kind = 'operator' AND name IN ('bob', 'eve')";
    sqlx::query(removed).execute(&mut database).await.expect("removed");
    asked(site.alice.create_operator(&operator("oscar", &[RootOfficer], PASSWORD)).await);
    let off = SetPolicy { two_persons: Some(false), destroy_wait_seconds: None };
    asked(site.alice.set_policy(&off).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn to_ask_for_less_care_takes_two() {
    let site = Site::start().await;
    let policy = site.alice.policy().await.expect("shown");
    assert!(policy.two_persons);
    let wait = |seconds| SetPolicy { two_persons: None, destroy_wait_seconds: Some(seconds) };
    let week = policy.destroy_wait_seconds;
    let set = site.alice.set_policy(&wait(10 * week)).await.expect("longer is free");
    assert_eq!(set.destroy_wait_seconds, 10 * week);
    site.key("chat").await;
    let soon = DestroyKey { version: None, after_seconds: Some(week) };
    assert_eq!(number(site.carol.destroy_key("chat", soon).await), Some(ErrorCode::KEY_STATE.0));
    let request = asked(site.alice.set_policy(&wait(week)).await);
    site.bob.decide_request(&request.id, true).await.expect("approved");
    assert_eq!(site.alice.policy().await.expect("shown").destroy_wait_seconds, week);
    let off = SetPolicy { two_persons: Some(false), destroy_wait_seconds: None };
    let request = asked(site.alice.set_policy(&off).await);
    assert!(site.alice.policy().await.expect("shown").two_persons);
    site.bob.decide_request(&request.id, true).await.expect("approved");
    site.carol
        .change_key("chat", "disable", sealwire_manager::Versions::default())
        .await
        .expect("d");
    let wish = DestroyKey::default();
    site.carol.destroy_key("chat", wish).await.expect("one person is enough now");
    let on = SetPolicy { two_persons: Some(true), destroy_wait_seconds: None };
    site.bob.set_policy(&on).await.expect("more care is free");
    let mut database = SqliteConnectOptions::new()
        .filename(site.server.data().join("keystore.db"))
        .connect()
        .await
        .expect("opens");
    // One's own request can be taken back; what nobody has decided is listed.
    let request = asked(site.carol.create_app(&app("x", &["reenc:a>b"])).await);
    let listed = site.alice.list_requests().await.expect("listed");
    assert!(listed.requests.iter().any(|one| one.id == request.id && one.state == "pending"));
    site.carol.decide_request(&request.id, false).await.expect("taken back");
    let wrong = site.dave.decide_request(&request.id, true).await;
    assert_eq!(number(wrong), Some(ErrorCode::KEY_STATE.0));
    let removed = "DELETE FROM document WHERE kind = 'policy'";
    sqlx::query(removed).execute(&mut database).await.expect("removed");
    assert!(site.alice.policy().await.is_err());
}
