//! Whoever writes into the database behind the server's back is found out: what they have changed is
//! refused, and the log names the row.

mod support;

use std::time::Duration;

use sealwire_client::{Client, ErrorCode};
use sealwire_manager::{CreateKey, DestroyKey, Versions};
use support::database::Database;
use support::load::round_trip;
use support::{App, SEALWIRE, Server};

/// Runs each test over both databases.
macro_rules! over_both {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let (database, server) = super::Database::sqlite("").await;
                super::$test(database, server).await;
            })+
        }
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let (database, server) = super::Database::mysql("").await;
                super::$test(database, server).await;
            })+
        }
    };
}

over_both!(
    wrapped_keys_that_were_swapped_do_not_open,
    a_row_of_another_form_hinders_no_other,
    a_document_that_was_edited_is_refused,
    while_the_newest_document_does_not_verify_nothing_is_read,
    an_app_of_one_s_own_may_not_log_in,
    an_older_row_that_was_put_back_is_refused,
    a_destroyed_key_that_was_put_back_stays_destroyed,
    a_database_that_was_put_back_is_refused_until_somebody_says_that_it_is_right,
);

/// Whether the log comes to hold all of these in one line.
fn log_names(server: &Server, words: &[&str]) {
    let named = || server.log().lines().any(|line| words.iter().all(|word| line.contains(word)));
    for _ in 0..100 {
        if named() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("no line of the log holds {words:?}: {}", server.log());
}

async fn code(client: &Client, key: u32) -> Option<ErrorCode> {
    client.enc(key, b"", b"m").await.err().map(|error| error.code().expect("an answer"))
}

async fn login(server: &Server, app: &App) -> Result<Client, sealwire_client::Error> {
    Client::connect(&server.url(), app.credentials()).await
}

async fn wrapped_keys_that_were_swapped_do_not_open(database: Database, mut server: Server) {
    let app = server.local_app(&["enc,dec:*"]).await;
    let (one, other) = (server.key("one").await, server.key("other").await);
    database
        .sql(
            "CREATE TABLE swapped AS SELECT a.uid, b.`blob` FROM wrapped_key a, wrapped_key b \
             WHERE a.uid <> b.uid; \
             UPDATE wrapped_key SET `blob` = \
             (SELECT `blob` FROM swapped WHERE swapped.uid = wrapped_key.uid); DROP TABLE swapped",
        )
        .await;
    server.restart();
    let client = server.client(&app).await;
    for key in [one.index, other.index] {
        assert_eq!(code(&client, key).await, Some(ErrorCode::INTERNAL));
    }
    for key in [&one, &other] {
        log_names(&server, &[&key.uid, "a wrapped key does not open"]);
    }
    let blob = "x'0102'";
    database
        .sql(&format!("UPDATE wrapped_key SET `blob` = {blob} WHERE uid = '{}'", one.uid))
        .await;
    server.restart();
    let client = server.client(&app).await;
    assert_eq!(code(&client, one.index).await, Some(ErrorCode::INTERNAL));
    log_names(&server, &[&one.uid]);
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_hides_no_change_that_another_server_has_made() {
    let (database, mut server) = Database::mysql("").await;
    let app = server.local_app(&["enc,dec:*"]).await;
    let chat = server.key("chat").await;
    // Rows of a later revision that do not verify, and rows that are none; and a revision that never was.
    database
        .sql(
            "CREATE TABLE junk AS SELECT * FROM document WHERE kind = 'key'; \
             UPDATE junk SET id = 'junk-1', name = 'junk-1', number = 901, revision = 900; \
             INSERT INTO document SELECT * FROM junk; \
             UPDATE junk SET id = 'junk-2', name = 'junk-2', number = 902, revision = 901, mac = x'00'; \
             INSERT INTO document SELECT * FROM junk; UPDATE site SET revision = 5000",
        )
        .await;
    server.restart();
    let mut twin = server.twin().await;
    database.sql("UPDATE site SET revision = 1").await;
    twin.restart();
    let client = twin.client(&app).await;
    round_trip(&client, chat.index).await.expect("usable");
    server.manager().change_key("chat", "disable", Versions::default()).await.expect("disabled");
    for _ in 0..100 {
        if code(&client, chat.index).await.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(code(&client, chat.index).await, Some(ErrorCode::KEY_VERSION_UNAVAILABLE));
    let listed = server.manager().list_keys().await.expect("a list");
    assert_eq!((listed.keys.len(), listed.unverified.len()), (1, 2));
}

async fn a_row_of_another_form_hinders_no_other(database: Database, mut server: Server) {
    let app = server.local_app(&["enc,dec:*"]).await;
    let (one, other) = (server.key("one").await, server.key("other").await);
    server.key("newest").await;
    for broken in ["mac = x'00'", "revision = -5", "number = 5000000000"] {
        database.sql(&format!("UPDATE document SET {broken} WHERE id = '{}'", one.uid)).await;
        server.restart();
        let client = server.client(&app).await;
        assert!(code(&client, one.index).await.is_some());
        log_names(&server, &[&one.uid, "a row of the keystore"]);
        round_trip(&client, other.index).await.expect("as it was");
        server.manager().rotate_key("other").await.expect("as it was");
        assert!(server.monitor("/health").contains(r#""status":"ok""#));
    }
}

async fn a_document_that_was_edited_is_refused(database: Database, mut server: Server) {
    let app = server.local_app(&["enc:chat"]).await;
    let foreign = server.app(&["10.9.8.0/24"], &["enc:chat"]).await;
    let chat = server.key("chat").await;
    server.manager().change_key("chat", "disable", Versions::default()).await.expect("disabled");
    server.key("newest").await;
    let edit = async |from: &str, to: &str| {
        let body = database.replaced("body", from, to);
        database.sql(&format!("UPDATE document SET body = {body}")).await;
    };
    // A grant, an allow-list, and a version's state.
    edit("enc:chat", "enc,dec:*").await;
    server.restart();
    assert!(login(&server, &app).await.expect_err("a wider grant").is_auth());
    log_names(&server, &[&app.key, "does not verify"]);
    edit("enc,dec:*", "enc:chat").await;
    server.restart();
    login(&server, &app).await.expect("as it was");

    edit("10.9.8.0/24", "127.0.0.0/8").await;
    server.restart();
    assert!(login(&server, &foreign).await.expect_err("a wider allow-list").is_auth());
    log_names(&server, &[&foreign.key, "does not verify"]);
    edit("127.0.0.0/8", "10.9.8.0/24").await;
    let body = database.replaced("body", "10.9.8.0/24", "127.0.0.0/8");
    database.sql(&format!("UPDATE document SET body = {body} WHERE id = '{}'", app.key)).await;

    edit("\"state\":\"disabled\"", "\"state\":\"active\"").await;
    server.restart();
    let client = login(&server, &app).await.expect("as it was");
    assert_eq!(code(&client, chat.index).await, Some(ErrorCode::INTERNAL));
    log_names(&server, &[&chat.uid, "does not verify"]);
    let listed = server.manager().list_keys().await.expect("a list");
    assert_eq!((listed.keys.len(), listed.unverified), (1, vec!["chat".to_owned()]));
    assert!(server.manager().rotate_key("chat").await.is_err(), "not built upon");
    let body = database.replaced("body", "\"state\":\"active\"", "\"state\":\"disabled\"");
    database.sql(&format!("UPDATE document SET body = {body} WHERE name = 'chat'")).await;

    // The columns that a row is found by: a key that answers to another's index.
    database.sql("UPDATE document SET number = 77 WHERE name = 'chat'").await;
    server.restart();
    let honest = server.local_app(&["enc:*"]).await;
    let client = login(&server, &honest).await.expect("logs in");
    assert_eq!(code(&client, 77).await, Some(ErrorCode::INTERNAL));
    log_names(&server, &[&chat.uid, "index"]);
}

async fn while_the_newest_document_does_not_verify_nothing_is_read(
    database: Database,
    mut server: Server,
) {
    let app = server.local_app(&["enc,dec:*"]).await;
    let chat = server.key("chat").await;
    let newest = server.key("newest").await;
    let body = database.replaced("body", "newest", "latest");
    database.sql(&format!("UPDATE document SET body = {body} WHERE name = 'newest'")).await;
    server.restart();
    let refused = login(&server, &app).await.expect_err("nothing shows how old the keystore is");
    assert_eq!(refused.code(), Some(ErrorCode::INTERNAL));
    log_names(&server, &["nothing is read from the keystore", &newest.uid]);
    // A change shows it again.
    let later = server.key("later").await;
    for _ in 0..50 {
        if login(&server, &app).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let client = login(&server, &app).await.expect("trusted again");
    for key in [&chat, &later] {
        round_trip(&client, key.index).await.expect("usable");
    }
    assert_eq!(code(&client, newest.index).await, Some(ErrorCode::INTERNAL));
}

async fn an_app_of_one_s_own_may_not_log_in(database: Database, mut server: Server) {
    let app = server.local_app(&["enc:chat"]).await;
    let body = database.replaced("body", &app.key, "ak_000000000000000000000001");
    database
        .sql(&format!(
            "INSERT INTO document (kind, id, revision, name, number, due, body, mac) \
             SELECT kind, 'ak_000000000000000000000001', revision + 1, 'mine', number, due, {body}, mac \
             FROM document WHERE id = '{}'",
            app.key
        ))
        .await;
    server.restart();
    let mine = App { key: "ak_000000000000000000000001".into(), secret: app.secret.clone() };
    assert!(login(&server, &mine).await.expect_err("inserted").is_auth());
    log_names(&server, &["ak_000000000000000000000001", "does not verify"]);
    login(&server, &app).await.expect("the app itself is as it was");
    // It keeps nobody from going on.
    server.key("chat").await;
    let list = server.manager().list_apps().await.expect("a list");
    assert_eq!(list.unverified, ["mine"]);
}

async fn an_older_row_that_was_put_back_is_refused(database: Database, mut server: Server) {
    let app = server.local_app(&["enc,dec:*"]).await;
    let other = server.app(&["127.0.0.1/32"], &["enc:*"]).await;
    let chat = server.key("chat").await;
    database.sql("CREATE TABLE older AS SELECT * FROM document").await;
    let manager = server.manager();
    manager.change_key("chat", "disable", Versions::default()).await.expect("disabled");
    manager.enable_app(&other.key, false).await.expect("disabled");
    // Later changes, so that what is put back is not the newest of all.
    server.key("later").await;
    round_trip(&server.client(&app).await, server.key("later").await.index).await.expect("usable");
    let back = |id: &str| {
        format!(
            "DELETE FROM document WHERE id = '{id}'; \
             INSERT INTO document SELECT * FROM older WHERE id = '{id}'"
        )
    };
    database.sql(&back(&chat.uid)).await;
    database.sql(&back(&other.key)).await;
    server.restart();
    let client = login(&server, &app).await.expect("as it was");
    assert_eq!(code(&client, chat.index).await, Some(ErrorCode::INTERNAL));
    log_names(&server, &[&chat.uid, "a newer one was seen before"]);
    assert!(login(&server, &other).await.expect_err("put back").is_auth());
    log_names(&server, &[&other.key, "a newer one was seen before"]);
    let refused = server.manager().rotate_key("chat").await.expect_err("not built upon");
    assert!(refused.to_string().contains("a newer one was seen before"), "{refused}");
    assert!(server.manager().show_app(&other.key).await.is_err());
    let listed = server.manager().list_keys().await.expect("a list");
    assert_eq!(listed.unverified, ["chat"]);
}

async fn a_destroyed_key_that_was_put_back_stays_destroyed(database: Database, mut server: Server) {
    server.reconfigure("[gateway]", "[manager]\ndestroy_wait_seconds = 1\n[gateway]");
    server.restart();
    let app = server.local_app(&["enc,dec:*"]).await;
    let chat = server.key("chat").await;
    let client = server.client(&app).await;
    let sealed = client.enc(chat.index, b"", b"m").await.expect("sealed");
    database.sql("CREATE TABLE older AS SELECT * FROM wrapped_key").await;
    let manager = server.manager();
    manager.change_key("chat", "disable", Versions::default()).await.expect("disabled");
    manager.destroy_key("chat", DestroyKey::default()).await.expect("scheduled");
    for _ in 0..100 {
        let view = manager.show_key("chat").await.expect("shown");
        if view.versions[0].wrapped.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    database.sql("INSERT INTO wrapped_key SELECT * FROM older").await;
    server.restart();
    let client = server.client(&app).await;
    let refused = client.dec(b"", &sealed).await.expect_err("destroyed");
    assert_eq!(refused.code(), Some(ErrorCode::KEY_VERSION_UNAVAILABLE));
}

async fn a_database_that_was_put_back_is_refused_until_somebody_says_that_it_is_right(
    database: Database,
    mut server: Server,
) {
    let app = server.local_app(&["enc,dec,genkey:*"]).await;
    let client = server.client(&app).await;
    let chat = server.key("chat").await;
    round_trip(&client, chat.index).await.expect("usable");
    let backup = server.folder.path().join("backup");
    database.back_up(&backup).await;
    server.key("made-afterwards").await;
    server.manager().change_key("chat", "disable", Versions::default()).await.expect("disabled");
    server.kill();
    database.put_back(&backup);
    server.restart();

    let refused = login(&server, &app).await.expect_err("an older database");
    assert_eq!(refused.code(), Some(ErrorCode::INTERNAL));
    log_names(&server, &["nothing is read from the keystore", "is not there any more"]);
    assert!(server.monitor("/health").contains(r#""keystore":"rolled-back""#));
    let wish = CreateKey { name: "new".into(), ..CreateKey::default() };
    let refused = server.manager().create_key(&wish).await;
    let refused = refused.expect_err("an older database").to_string();
    assert!(refused.contains("keystore restored"), "{refused}");

    let config = server.folder.path().join("sealwire.toml");
    let restored = || {
        let mut command = std::process::Command::new(SEALWIRE);
        let output = command.args(["keystore", "restored", "--config"]).arg(&config).output();
        output.expect("runs")
    };
    let running = restored();
    assert_eq!(running.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&running.stderr).contains("another server runs"));
    server.kill();
    let output = restored();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.restart();
    let client = server.client(&app).await;
    round_trip(&client, chat.index).await.expect("as it was at the backup");
    // Counted suites begin with a new version.
    let (binding, suite) =
        (sealwire_protocol::Binding::default(), sealwire_protocol::Suite::Sm4Gcm);
    let request = sealwire_client::EncRequest {
        key_index: chat.index,
        suite: Some(suite),
        binding,
        message: b"m",
    };
    let refused = client.enc_with(&request).await.expect_err("closed");
    assert_eq!((refused.code(), refused.is_retryable()), (Some(ErrorCode::KEY_EXHAUSTED), true));
    let mut sealed = client.enc_with(&request).await;
    for _ in 0..100 {
        if sealed.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        sealed = client.enc_with(&request).await;
    }
    let sealed = sealed.expect("a new version");
    let version = sealwire_protocol::Envelope::parse(&sealed).expect("sound").header.key_version;
    assert_eq!(version, 2);
}
