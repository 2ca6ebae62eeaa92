//! Operators: who may call, and who may not any more.

mod support;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use sealwire_engine::document::OperatorRole::{AppAdmin, Auditor, KeyAdmin, RootOfficer};
use sealwire_manager::{ChangePassword, CreateKey, CreateToken, ManagerClient, SetRoles};
use sealwire_protocol::ErrorCode;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use support::database::Database;
use support::operators::{asked, make, make_first, number, operator, sign_in};
use support::{SEALWIRE, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const ALICE: &str = "amber canal spruce orbit";
const BOB: &str = "violet harbor tundra quilt";

fn refusal(code: ErrorCode) -> Option<u16> {
    Some(code.0)
}

/// A server whose first operator is alice, and a client of hers.
async fn site() -> (Server, ManagerClient) {
    let server = Server::start().await;
    make_first(&server, "alice", &[RootOfficer], ALICE).await;
    let alice = sign_in(&server, "alice", ALICE).await;
    (server, alice)
}

async fn database(server: &Server) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(server.data().join("keystore.db"));
    options.connect().await.expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_operator_closes_the_socket_to_everybody_else() {
    let server = Server::start().await;
    let open = server.manager();
    let key = CreateKey { name: "before".into(), ..CreateKey::default() };
    open.create_key(&key).await.expect("whoever may open the socket");
    let powerless = operator("alice", &[KeyAdmin, Auditor], ALICE);
    assert_eq!(number(open.create_operator(&powerless).await), refusal(ErrorCode::MALFORMED_BODY));
    open.create_key(&key).await.expect("that was none");
    open.create_operator(&operator("alice", &[RootOfficer], ALICE)).await.expect("the first");
    let needed = refusal(ErrorCode::SIGN_IN_NEEDED);
    assert_eq!(number(open.create_key(&key).await), needed);
    assert_eq!(number(open.list_keys().await), needed);
    assert_eq!(number(open.rotation().await), needed);
    let second = operator("mallory", &[RootOfficer], BOB);
    assert_eq!(number(open.create_operator(&second).await), needed);
    // Who removes the rows does not open it again, nor does a restart, nor a new manager.
    let mut database = database(&server).await;
    sqlx::query("DELETE FROM document WHERE kind = 'operator'")
        .execute(&mut database)
        .await
        .expect("removed");
    assert_eq!(number(open.create_operator(&second).await), needed);
    let mut server = server;
    server.restart();
    assert_eq!(number(server.manager().create_operator(&second).await), needed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_has_made_or_changed_is_nobody() {
    let (server, alice) = site().await;
    make(&server, &alice, ("bob", &[Auditor], BOB)).await;
    let bob = sign_in(&server, "bob", BOB).await;
    bob.list_operators().await.expect("an auditor");
    let mut database = database(&server).await;
    let change = "UPDATE document SET body = CAST(replace(CAST(body AS TEXT), '\"auditor\"', '\"key-admin\"') AS BLOB) \
                  WHERE kind = 'operator' AND name = 'bob'";
    let changed = sqlx::query(change).execute(&mut database).await.expect("changed");
    assert_eq!(changed.rows_affected(), 1);
    let key = CreateKey { name: "his".into(), ..CreateKey::default() };
    assert!(bob.create_key(&key).await.is_err());
    let tried = server.manager().sign_in("bob", BOB.to_owned().into()).await;
    assert_eq!(number(tried), refusal(ErrorCode::SIGN_IN_REFUSED));
    let listed = alice.list_operators().await.expect("listed");
    assert_eq!(listed.unverified, ["bob"], "and it is named");
    // Alice's document under another name is not signed either.
    let copy = "INSERT INTO document (kind, id, revision, name, body, mac) SELECT kind, 'op_0123456789abcdef01234567', \
                revision + 1000, 'carol', body, mac FROM document WHERE kind = 'operator' AND name = 'alice'";
    sqlx::query(copy).execute(&mut database).await.expect("inserted");
    assert!(server.manager().sign_in("carol", ALICE.to_owned().into()).await.is_err());
    sign_in(&server, "alice", ALICE).await.list_operators().await.expect("she is who she was");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_refused_alike_and_wait_longer_each_time() {
    let (server, alice) = site().await;
    make(&server, &alice, ("bob", &[KeyAdmin], BOB)).await;
    alice.enable_operator("bob", false).await.expect("disabled");
    let refused = refusal(ErrorCode::SIGN_IN_REFUSED);
    let try_in = async |name: &str, password: &str| {
        number(server.manager().sign_in(name, password.to_owned().into()).await)
    };
    assert_eq!(try_in("bob", BOB).await, refused, "disabled");
    assert_eq!(try_in("nobody", BOB).await, refused, "unknown");
    for _ in 0..5 {
        assert_eq!(try_in("alice", BOB).await, refused, "wrong");
    }
    assert_eq!(try_in("alice", ALICE).await, refusal(ErrorCode::SLOW_DOWN), "right, too soon");
    assert_eq!(try_in(&"x".repeat(50_000), BOB).await, refused, "nobody is called so");
    let begun = Instant::now();
    while try_in("alice", ALICE).await.is_some() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A session that is open goes on meanwhile.
    alice.list_operators().await.expect("still signed in");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_may_do_changes_at_once() {
    let (server, alice) = site().await;
    make(&server, &alice, ("bob", &[KeyAdmin, Auditor], BOB)).await;
    let bob = sign_in(&server, "bob", BOB).await;
    let key = |name: &str| CreateKey { name: name.into(), ..CreateKey::default() };
    bob.create_key(&key("one")).await.expect("a key-admin");
    let token =
        CreateToken { name: "nightly".into(), roles: vec![KeyAdmin], lifetime_seconds: 600 };
    let token = bob.create_token(&token).await.expect("a token");
    let nightly = server.manager().with_token(token.token.clone());
    nightly.create_key(&key("two")).await.expect("the token's role");
    let needed = refusal(ErrorCode::ROLE_NEEDED);
    assert_eq!(number(nightly.list_operators().await), needed, "no auditor, though bob is");
    let more = CreateToken { name: "more".into(), roles: vec![AppAdmin], lifetime_seconds: 600 };
    assert_eq!(number(bob.create_token(&more).await), refusal(ErrorCode::MALFORMED_BODY));
    alice.set_operator_roles("bob", &SetRoles { roles: vec![Auditor] }).await.expect("changed");
    assert_eq!(number(bob.create_key(&key("three")).await), needed);
    assert_eq!(number(nightly.create_key(&key("three")).await), needed);
    let keys = SetRoles { roles: vec![KeyAdmin] };
    alice.set_operator_roles("bob", &keys).await.expect("changed");
    nightly.create_key(&key("three")).await.expect("again");
    bob.revoke_token(None, &token.view.id).await.expect("revoked");
    let gone = refusal(ErrorCode::SIGN_IN_NEEDED);
    assert_eq!(number(nightly.create_key(&key("four")).await), gone);
    alice.enable_operator("bob", false).await.expect("disabled");
    assert_eq!(number(bob.list_keys().await), gone);
    alice.enable_operator("bob", true).await.expect("enabled");
    assert_eq!(number(bob.list_keys().await), gone, "the session has ended");
    sign_in(&server, "bob", BOB).await.list_keys().await.expect("in again");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_may_make_operators_is_always_left() {
    let (server, alice) = site().await;
    let illegal = refusal(ErrorCode::KEY_STATE);
    assert_eq!(number(alice.enable_operator("alice", false).await), illegal);
    let less = SetRoles { roles: vec![Auditor] };
    assert_eq!(number(alice.set_operator_roles("alice", &less).await), illegal);
    make(&server, &alice, ("bob", &[RootOfficer], BOB)).await;
    let asked = asked(alice.set_operator_roles("alice", &less).await).id;
    let bob = sign_in(&server, "bob", BOB).await;
    bob.decide_request(&asked, true).await.expect("there is bob");
    let needed = refusal(ErrorCode::ROLE_NEEDED);
    assert_eq!(number(alice.enable_operator("bob", false).await), needed);
    assert_eq!(number(bob.enable_operator("bob", false).await), illegal, "the last one now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_ends_the_other_sessions() {
    let (server, alice) = site().await;
    let other = sign_in(&server, "alice", ALICE).await;
    let change = |current: &str, new: &str| ChangePassword {
        current: current.to_owned().into(),
        new: new.to_owned().into(),
    };
    let wrong = alice.change_password(&change(BOB, BOB)).await;
    assert_eq!(number(wrong), refusal(ErrorCode::SIGN_IN_REFUSED));
    let weak = alice.change_password(&change(ALICE, "password1234")).await;
    assert_eq!(number(weak), refusal(ErrorCode::MALFORMED_BODY));
    let same = alice.change_password(&change(ALICE, ALICE)).await;
    assert_eq!(number(same), refusal(ErrorCode::MALFORMED_BODY));
    alice.change_password(&change(ALICE, BOB)).await.expect("changed");
    alice.list_operators().await.expect("this one stays");
    assert_eq!(number(other.list_operators().await), refusal(ErrorCode::SIGN_IN_NEEDED));
    assert!(server.manager().sign_in("alice", ALICE.to_owned().into()).await.is_err());
    sign_in(&server, "alice", BOB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_kept_opens_a_session() {
    let (server, alice) = site().await;
    let session = server.manager().sign_in("alice", ALICE.to_owned().into()).await.expect("in");
    let token = CreateToken { name: "t".into(), roles: vec![RootOfficer], lifetime_seconds: 600 };
    let token = alice.create_token(&token).await.expect("made");
    alice.list_operators().await.expect("listed");
    let mut kept = server.log().into_bytes();
    for file in std::fs::read_dir(server.data()).expect("a folder") {
        let file = file.expect("an entry");
        if file.file_type().expect("a type").is_file() {
            kept.extend(std::fs::read(file.path()).expect("read"));
        }
    }
    let holds = |secret: &str| kept.windows(secret.len()).any(|window| window == secret.as_bytes());
    assert!(holds("op_"), "the rows are among it");
    let secret = token.token.splitn(4, '_').nth(3).expect("its parts");
    for secret in [ALICE, &session.token, &token.token, secret] {
        assert!(!holds(secret), "a secret is kept");
    }
}

/// The command line, with the folder for its sessions.
fn sealwire(server: &Server, args: &[&str]) -> Output {
    let runtime = server.folder.path().join("runtime");
    std::fs::create_dir_all(&runtime).expect("made");
    Command::new(SEALWIRE)
        .args(args)
        .env("SEALWIRE_SOCKET", server.data().join("manager.sock"))
        .env("XDG_RUNTIME_DIR", runtime)
        .output()
        .expect("runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_signs_in_and_out() {
    let server = Server::start().await;
    let file = |name: &str, text: &str| -> PathBuf {
        let path = server.folder.path().join(name);
        std::fs::write(&path, format!("{text}\n")).expect("written");
        path
    };
    let (alice, wrong) = (file("alice", ALICE), file("wrong", BOB));
    let (alice, wrong) = (alice.display().to_string(), wrong.display().to_string());
    let ok = |args: &[&str]| {
        let output = sealwire(&server, args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).expect("text")
    };
    let refused = |args: &[&str]| {
        let output = sealwire(&server, args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    assert!(ok(&["who-am-i"]).starts_with("nobody yet"));
    let role = ["--role", "root-officer", "--role", "key-admin", "--password-file", &alice];
    ok(&[&["operator", "create", "alice"][..], &role].concat());
    assert!(refused(&["key", "create", "chat"]).contains("sealwire sign-in"));
    let said = refused(&["sign-in", "alice", "--password-file", &wrong]);
    assert!(said.contains("name or password is wrong"), "{said}");
    assert!(ok(&["sign-in", "alice", "--password-file", &alice]).contains("signed in as alice"));
    assert!(ok(&["who-am-i"]).starts_with("alice: key-admin, root-officer"));
    ok(&["key", "create", "chat"]);
    assert!(refused(&["app", "create", "im"]).contains("app-admin"));
    let made = ok(&["operator", "create-token", "nightly", "--role", "key-admin", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&made).expect("JSON");
    let shown = ok(&["operator", "show", "alice"]);
    assert!(shown.contains("nightly") && shown.contains("signed in from"), "{shown}");
    ok(&["operator", "revoke-token", made["id"].as_str().expect("an id")]);
    ok(&["sign-out"]);
    assert!(refused(&["key", "list"]).contains("sealwire sign-in"));
}

/// Who calls is asked when the whole request is there: one that was begun before the first operator was made, and
/// comes to its end after that, is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_begun_before_there_were_operators_is_refused() {
    let server = Server::start().await;
    let stream = UnixStream::connect(server.data().join("manager.sock")).await.expect("connects");
    let (mut from, mut to) = stream.into_split();
    let body = br#"{"name":"late"}"#;
    let head = format!(
        "POST /v1/keys HTTP/1.1\r\nhost: manager\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    to.write_all(head.as_bytes()).await.expect("sent");
    to.write_all(&body[..5]).await.expect("sent");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let alice = operator("alice", &[RootOfficer], ALICE);
    server.manager().create_operator(&alice).await.expect("the first");
    to.write_all(&body[5..]).await.expect("sent");
    let mut answer = String::new();
    from.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

/// A session is over with the password that it was opened with, and with its operator's being disabled, also at
/// another manager of the site.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_at_every_manager() {
    let (_database, server) = Database::mysql("").await;
    let twin = server.twin().await;
    make_first(&server, "alice", &[RootOfficer], ALICE).await;
    let alice = sign_in(&server, "alice", ALICE).await;
    make(&server, &alice, ("bob", &[Auditor], BOB)).await;
    let at_twin = sign_in(&twin, "alice", ALICE).await;
    let bob = sign_in(&twin, "bob", BOB).await;
    bob.list_operators().await.expect("signed in");
    alice.enable_operator("bob", false).await.expect("disabled");
    alice.enable_operator("bob", true).await.expect("enabled");
    let gone = refusal(ErrorCode::SIGN_IN_NEEDED);
    assert_eq!(number(bob.list_operators().await), gone);
    let (current, new) = (ALICE.to_owned().into(), BOB.to_owned().into());
    alice.change_password(&ChangePassword { current, new }).await.expect("changed");
    assert_eq!(number(at_twin.list_operators().await), gone);
    alice.list_operators().await.expect("this one goes on");
}
