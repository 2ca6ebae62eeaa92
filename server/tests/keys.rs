//! The life of a key: commands, and what gateways make of them.

mod support;

use std::time::Duration;

use sealwire_client::{Client, EncRequest, ErrorCode};
use sealwire_engine::document::VersionState;
use sealwire_manager::{ChangeKey, DestroyKey, KeyView, Versions};
use sealwire_protocol::{Binding, Envelope, Suite};
use support::{App, Server};

/// A server and an app that may use every key.
struct World {
    server: Server,
    app: App,
    client: Client,
}

impl World {
    async fn new(manager: &str) -> Self {
        let server = Server::start_with(&format!("\n[manager]\n{manager}")).await;
        let app = server.local_app(&["enc,dec,reenc:*"]).await;
        let client = server.client(&app).await;
        Self { server, app, client }
    }

    /// A command that succeeds, and what it says.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.server.command(&self.app, args).output().expect("runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// A command that is refused, and what it says.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.server.command(&self.app, args).output().expect("runs");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    async fn enc(&self, key: u32) -> Result<Vec<u8>, Option<ErrorCode>> {
        let sealed = self.client.enc(key, b"", b"message").await;
        sealed.map(|envelope| envelope.to_vec()).map_err(|error| error.code())
    }

    async fn dec(&self, envelope: &[u8]) -> Result<(), Option<ErrorCode>> {
        let opened = self.client.dec(b"", envelope).await;
        opened.map(|message| assert_eq!(message.as_ref(), b"message")).map_err(|error| error.code())
    }

    async fn states(&self, key: &str) -> Vec<VersionState> {
        let view = self.server.manager().show_key(key).await.expect("shown");
        view.versions.iter().map(|version| version.state).collect()
    }

    /// Waits until a key is as it should be: for what happens by itself.
    async fn until(&self, key: &str, as_it_should: impl Fn(&KeyView) -> bool) -> KeyView {
        for _ in 0..300 {
            let view = self.server.manager().show_key(key).await.expect("shown");
            if as_it_should(&view) {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{:?}: {}", self.server.manager().show_key(key).await, self.server.log());
    }
}

/// Time within which a change holds in this process: at once, but for what is under way.
const GONE: Result<(), Option<ErrorCode>> = Err(Some(ErrorCode::KEY_VERSION_UNAVAILABLE));

#[tokio::test(flavor = "multi_thread")]
async fn a_version_goes_through_its_whole_life() {
    use VersionState::{Active, DecryptOnly, DestroyScheduled, Destroyed, Disabled};
    let world = World::new("destroy_wait_seconds = 2").await;
    let key = world.server.key("chat").await.index;
    let first = world.enc(key).await.expect("sealed");
    world.ok(&["key", "rotate", "chat"]);
    assert_eq!(world.states("chat").await, [DecryptOnly, Active]);
    let second = world.enc(key).await.expect("sealed");
    assert_eq!(Envelope::parse(&second).expect("an envelope").header.key_version, 2);
    world.dec(&first).await.expect("the old version still opens");

    world.ok(&["key", "disable", "chat", "--version", "1"]);
    assert_eq!(world.dec(&first).await, GONE);
    world.dec(&second).await.expect("another version");
    world.ok(&["key", "enable", "chat", "--version", "1"]);
    assert_eq!(world.states("chat").await, [DecryptOnly, Active]);
    world.dec(&first).await.expect("enabled");

    world.ok(&["key", "close", "chat"]);
    assert_eq!(world.enc(key).await.err(), GONE.err());
    world.dec(&second).await.expect("what is sealed still opens");
    world.ok(&["key", "enable", "chat"]);
    world.enc(key).await.expect("seals again");

    let said = world.refused(&["key", "destroy", "chat", "--version", "2"]);
    assert!(said.contains("it seals messages") && said.contains("KEY_STATE 39"), "{said}");
    let said = world.refused(&["key", "destroy", "chat", "--version", "1", "--after", "1s"]);
    assert!(said.contains("2 s after it was said"), "{said}");
    let said = world.ok(&["key", "destroy", "chat", "--version", "1", "--after", "1h"]);
    for holder in ["cancel-destroy", "backups", "binary logs", "memory of a gateway"] {
        assert!(said.contains(holder), "{said}");
    }
    assert_eq!(world.states("chat").await, [DestroyScheduled, Active]);
    assert_eq!(world.dec(&first).await, GONE);
    let said = world.refused(&["key", "enable", "chat", "--version", "1"]);
    assert!(said.contains("version 1 of key `chat` is destroy-scheduled"), "{said}");
    world.ok(&["key", "cancel-destroy", "chat"]);
    assert_eq!(world.states("chat").await, [Disabled, Active]);
    world.ok(&["key", "enable", "chat"]);
    world.dec(&first).await.expect("nothing was lost");

    world.ok(&["key", "destroy", "chat", "--version", "1"]);
    let view = world.until("chat", |key| key.versions[0].state == Destroyed).await;
    assert_eq!((view.versions[0].wrapped.as_ref(), view.versions[0].destroy_at), (None, None));
    assert!(view.versions[1].wrapped.is_some());
    assert_eq!(world.dec(&first).await, GONE);
    world.dec(&second).await.expect("another version");
    let said = world.refused(&["key", "enable", "chat", "--version", "1"]);
    assert!(said.contains("erased, for good"), "{said}");
    assert!(world.ok(&["key", "show", "chat"]).contains("version 1: destroyed, wrapped erased"));
    let said = world.refused(&["key", "disable", "chat", "--version", "9"]);
    assert!(said.contains("no version 9"), "{said}");

    world.ok(&["key", "disable", "chat"]);
    assert_eq!(world.enc(key).await.err(), GONE.err());
    world.ok(&["key", "rotate", "chat"]);
    assert_eq!(world.states("chat").await, [Destroyed, Disabled, Active]);
    world.enc(key).await.expect("a new version");
}

#[tokio::test(flavor = "multi_thread")]
async fn lowest_versions_and_suites_are_kept_to() {
    let world = World::new("").await;
    let key = world.server.key("chat").await.index;
    let first = world.enc(key).await.expect("sealed");
    world.ok(&["key", "rotate", "chat"]);
    world.ok(&["key", "set", "chat", "--min-dec", "2"]);
    assert_eq!(world.dec(&first).await, GONE);
    world.enc(key).await.expect("sealed");
    let said = world.refused(&["key", "set", "chat", "--min-enc", "1"]);
    assert!(said.contains("not below"), "{said}");
    world.ok(&["key", "set", "chat", "--min-dec", "1", "--min-enc", "1"]);
    world.dec(&first).await.expect("opens again");

    world.ok(&["key", "set", "chat", "--suite", "xchacha20-poly1305", "--suite", "sm4-gcm"]);
    let sealed = world.enc(key).await.expect("sealed");
    let suite = Envelope::parse(&sealed).expect("an envelope").header.suite;
    assert_eq!(suite, Suite::XChaCha20Poly1305, "the first is the default");
    world.dec(&first).await.expect("a suite of before still opens");
    let (binding, suite) = (Binding::default(), Some(Suite::Aes256Gcm));
    let request = EncRequest { key_index: key, suite, binding, message: b"m" };
    let refused = world.client.enc_with(&request).await.expect_err("not one of them");
    assert_eq!(refused.code(), Some(ErrorCode::SUITE_NOT_ALLOWED));
    let twice = ChangeKey {
        suites: Some(vec!["sm4-gcm".into(), "sm4-gcm".into()]),
        ..ChangeKey::default()
    };
    assert!(world.server.manager().set_key("chat", &twice).await.is_err());
    for wrong in ["0", "-1", "soon"] {
        let wrong = format!("--renew-after-messages={wrong}");
        let output = world.server.command(&world.app, &["key", "set", "chat", &wrong]).output();
        assert_eq!(output.expect("runs").status.code(), Some(2), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_renewed_by_age_and_by_number_of_messages() {
    let world = World::new("renew_after_seconds = 2\nrenew_pause_seconds = 1").await;
    let old = world.server.key("by-age").await;
    assert_eq!(old.renew_after_seconds, Some(2));
    world.until("by-age", |key| key.versions.len() >= 2).await;
    world.until("by-age", |key| key.versions.len() >= 3).await;
    world.ok(&["key", "set", "by-age", "--renew-after", "never"]);
    let versions = world.states("by-age").await.len();

    let busy = world.server.key("by-messages").await.index;
    let set =
        ["key", "set", "by-messages", "--renew-after", "never", "--renew-after-messages", "200"];
    world.ok(&set);
    for _ in 0..300 {
        world.enc(busy).await.expect("never refused for a wish");
    }
    let view = world.until("by-messages", |key| key.versions.len() >= 2).await;
    let reserved = view.versions[0].reserved["xaes-256-gcm"];
    assert!((200..=350).contains(&reserved), "{reserved}");
    assert_eq!(world.states("by-age").await.len(), versions, "never means never");
}

/// SQL on the database behind a server's back.
async fn sql(server: &Server, statement: String) {
    use sqlx::Connection;
    let url = format!("sqlite:{}", server.data().join("keystore.db").display());
    let mut database = sqlx::SqliteConnection::connect(&url).await.expect("opens");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut database).await.expect("runs");
    database.close().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_nonce_is_counted_renewed_in_time_and_refused_past_its_limit() {
    let world = World::new("").await;
    let key = world.server.key("chat").await;
    let with = async |suite| {
        let (binding, suite) = (Binding::default(), Some(suite));
        let request = EncRequest { key_index: key.index, suite, binding, message: b"message" };
        let sealed = world.client.enc_with(&request).await;
        sealed
            .map(|sealed| Envelope::parse(&sealed).expect("an envelope").header.key_version)
            .map_err(|error| (error.code(), error.is_retryable()))
    };
    for suite in Suite::ALL {
        assert_eq!(with(suite).await, Ok(1));
    }
    let shown = world.server.manager().show_key("chat").await.expect("shown");
    let reserved = &shown.versions[0].reserved;
    let counted: Vec<&str> = reserved.keys().map(String::as_str).collect();
    assert_eq!(counted, ["aes-256-gcm", "aes-256-gcm-siv", "chacha20-poly1305", "sm4-gcm"]);
    assert!(world.ok(&["key", "show", "chat"]).contains("messages reserved under sm4-gcm"));

    // As if the other gateways had sealed nearly all that is left. A server that starts anew has
    // nothing reserved; the manager is kept from seeing what happens.
    let all_but = |left: u64| {
        let reserved = (1_u64 << 32) - left;
        format!(
            "CREATE TRIGGER IF NOT EXISTS unseen AFTER UPDATE ON key_usage WHEN NEW.worn = 1 \
             BEGIN UPDATE key_usage SET worn = 0 WHERE worn = 1; END; \
             UPDATE key_usage SET reserved = {reserved} WHERE suite = 6"
        )
    };
    let mut world = world;
    sql(&world.server, all_but(3)).await;
    world.server.restart();
    // Each connection has messages of its own at hand.
    let one = Client::builder(&world.server.url(), world.app.credentials()).connections(1);
    world.client = one.connect().await.expect("connects");
    let with = async |suite| {
        let (binding, suite) = (Binding::default(), Some(suite));
        let request = EncRequest { key_index: key.index, suite, binding, message: b"message" };
        let sealed = world.client.enc_with(&request).await;
        sealed
            .map(|sealed| Envelope::parse(&sealed).expect("an envelope").header.key_version)
            .map_err(|error| error.code())
    };
    let mut sealed = 0;
    let refused = loop {
        match with(Suite::Sm4Gcm).await {
            Ok(1) => sealed += 1,
            other => break other,
        }
    };
    assert_eq!((sealed, refused), (3, Err(Some(ErrorCode::KEY_EXHAUSTED))));
    for suite in Suite::ALL.into_iter().filter(|suite| *suite != Suite::Sm4Gcm) {
        assert_eq!(with(suite).await, Ok(1), "each suite counts for itself");
    }
    // The manager sees it, and the key goes on.
    let seen = "DROP TRIGGER unseen; UPDATE key_usage SET worn = 1 WHERE suite = 6";
    sql(&world.server, seen.into()).await;
    world.until("chat", |key| key.versions.len() == 2).await;
    assert_eq!(with(Suite::Sm4Gcm).await, Ok(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_limit_renews_a_key_before_anything_is_refused() {
    let world = World::new("").await;
    let key = world.server.key("chat").await.index;
    let seal = async || {
        let (binding, suite) = (Binding::default(), Some(Suite::Aes256Gcm));
        let request = EncRequest { key_index: key, suite, binding, message: b"message" };
        world.client.enc_with(&request).await.expect("never refused")
    };
    seal().await;
    sql(&world.server, format!("UPDATE key_usage SET reserved = {}", 1_u64 << 31)).await;
    for _ in 0..5000 {
        seal().await;
    }
    world.until("chat", |key| key.versions.len() == 2).await;
    let sealed = seal().await;
    assert_eq!(Envelope::parse(&sealed).expect("an envelope").header.key_version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_without_a_grant_reserves_nothing() {
    let world = World::new("").await;
    let key = world.server.key("chat").await.index;
    let poor = world.server.local_app(&["dec:chat"]).await;
    let client = world.server.client(&poor).await;
    for _ in 0..20 {
        let (binding, suite) = (Binding::default(), Some(Suite::Aes256Gcm));
        let request = EncRequest { key_index: key, suite, binding, message: b"m" };
        let refused = client.enc_with(&request).await.expect_err("no grant");
        assert_eq!(refused.code(), Some(ErrorCode::KEY_NOT_FOUND));
    }
    let shown = world.server.manager().show_key("chat").await.expect("shown");
    assert!(shown.versions[0].reserved.is_empty(), "{:?}", shown.versions[0].reserved);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_disabled_enabled_and_given_a_new_secret() {
    let world = World::new("").await;
    let app = world.server.local_app(&["enc:*"]).await;
    let login = async |app: &App| Client::connect(&world.server.url(), app.credentials()).await;
    let mut session = support::Raw::login(world.server.address, &app);
    assert!(world.ok(&["app", "show", &app.key]).contains("active"));
    let said = world.ok(&["app", "disable", &app.key]);
    assert!(said.contains("may not log in"), "{said}");
    assert_eq!(session.next().expect("the end").error(), Some(ErrorCode::SESSION_ENDED));
    assert!(login(&app).await.expect_err("disabled").is_auth());
    world.ok(&["app", "disable", &app.key]);
    world.ok(&["app", "enable", &app.key]);
    login(&app).await.expect("enabled");

    let rotate = |more: &[&str]| {
        let args = [&["app", "rotate-secret", &app.key, "--json", "--overlap"], more].concat();
        let made: serde_json::Value = serde_json::from_str(&world.ok(&args)).expect("JSON");
        App { key: app.key.clone(), secret: made["app_secret"].as_str().expect("text").into() }
    };
    let second = rotate(&["1h"]);
    login(&app).await.expect("the old secret, for an hour");
    login(&second).await.expect("the new one");
    let said = world.refused(&["app", "rotate-secret", &app.key]);
    assert!(said.contains("--drop-older"), "{said}");
    let third = rotate(&["2s", "--drop-older"]);
    assert!(login(&app).await.expect_err("two before").is_auth());
    login(&second).await.expect("the one before, for two seconds");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(login(&second).await.expect_err("its time is over").is_auth());
    login(&third).await.expect("the newest");
    let said = world.refused(&["app", "disable", "nobody"]);
    assert!(said.contains("no app has the name"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_refuses_what_is_not_a_change() {
    let world = World::new("").await;
    world.server.key("chat").await;
    let manager = world.server.manager();
    let nothing = manager.change_key("chat", "explode", Versions::default()).await;
    assert!(nothing.expect_err("no such call").to_string().contains("no such call"));
    let missing = manager.change_key("none", "disable", Versions::default()).await;
    assert!(missing.expect_err("no such key").to_string().contains("`none`"));
    let soon = DestroyKey { version: Some(1), after_seconds: Some(1) };
    let refused = manager.destroy_key("chat", soon).await.expect_err("too soon").to_string();
    assert!(refused.contains("604800 s"), "{refused}");
    assert_eq!(world.states("chat").await, [VersionState::Active]);
}
