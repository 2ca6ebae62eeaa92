//! Who did what is on record, and whoever tampers with the records in the database is found out, with the first bad
//! one named.

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sealwire_client::Client;
use sealwire_engine::audit::AuditEvent;
use sealwire_engine::document::OperatorRole::{Auditor, KeyAdmin, RootOfficer};
use sealwire_keystore::audit::SignedHead;
use sealwire_manager::audit::verify::{self, Report};
use sealwire_manager::audit::{AuditQuery, AuditRecordView};
use sealwire_manager::{ChangeKey, CreateKey, CreateToken, DestroyKey, ManagerClient};
use sealwire_protocol::ErrorCode;
use support::database::Database;
use support::operators::{asked, make, make_first, number, sign_in};
use support::{App, Raw, SEALWIRE, Server};

const PASSWORD: &str = "amber canal spruce orbit";

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
    a_change_whose_record_was_removed_before_anybody_knew_is_missed,
    what_is_done_is_on_record,
    tampering_is_found_and_the_first_bad_record_named,
    without_its_table_nothing_is_managed_and_messages_go_on,
);

/// Waits until there is a record of this event that speaks of this.
async fn found(manager: &ManagerClient, event: &str, about: &str) -> AuditRecordView {
    let query = AuditQuery {
        event: Some(event.into()),
        about: Some(about.into()),
        ..AuditQuery::default()
    };
    for _ in 0..200 {
        let page = manager.list_audit(&query).await.expect("a page");
        if let Some(record) = page.records.into_iter().next() {
            return record;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no record of {event} speaks of {about}");
}

async fn verified(manager: &ManagerClient, heads: &[SignedHead]) -> Report {
    verify::everything(manager, heads, &|_, _| {}).await.expect("checked")
}

/// Whether an app may log in with this secret.
async fn log_in(server: &Server, app: &App) -> Result<Client, sealwire_client::Error> {
    Client::connect(&server.url(), app.credentials()).await
}

async fn what_is_done_is_on_record(_database: Database, mut server: Server) {
    make_first(&server, "alice", &[RootOfficer, KeyAdmin, Auditor], PASSWORD).await;
    let alice = sign_in(&server, "alice", PASSWORD).await;
    let wrong = server.manager().sign_in("alice", "wrong password".to_owned().into()).await;
    assert_eq!(number(wrong), Some(ErrorCode::SIGN_IN_REFUSED.0));
    let key = CreateKey { name: "聊天".into(), sensitive: true, ..CreateKey::default() };
    let key = alice.create_key(&key).await.expect("made");

    // What the officers have done comes from the engine's own journal.
    found(&alice, "ceremony", "installed").await;
    let made = found(&alice, "changed", "operator.create").await;
    assert!(made.text.contains("whoever may open the manager's socket"), "{}", made.text);
    let made = found(&alice, "changed", "key.create").await;
    let Some(AuditEvent::Changed { by, on, .. }) = made.record.map(|record| record.event) else {
        panic!("of another kind")
    };
    assert_eq!((on.name.as_str(), on.id.as_str()), ("聊天", key.uid.as_str()));
    assert!(format!("{by:?}").contains("alice"), "{by:?}");
    found(&alice, "logged-in", "alice").await;
    found(&alice, "login-refused", "alice").await;
    found(&alice, "done", "site.create").await;
    // By which token.
    let token = CreateToken { name: "t".into(), roles: vec![KeyAdmin], lifetime_seconds: 600 };
    let token = alice.create_token(&token).await.expect("a token");
    let program = server.manager().with_token(token.token);
    program.rotate_key("聊天").await.expect("rotated");
    let by = found(&alice, "changed", "key.rotate").await.text;
    assert!(by.contains(&format!("alice, by token {}", token.view.id)), "{by}");
    // What takes two persons: by both of them.
    make(&server, &alice, ("bob", &[RootOfficer, KeyAdmin], PASSWORD)).await;
    let bob = sign_in(&server, "bob", PASSWORD).await;
    let request = asked(
        alice.destroy_key("聊天", DestroyKey { version: Some(1), after_seconds: None }).await,
    );
    let own = alice.decide_request(&request.id, true).await;
    assert_eq!(number(own), Some(ErrorCode::SECOND_PERSON.0));
    bob.decide_request(&request.id, true).await.expect("approved");
    for (act, who) in [
        ("request.ask", "alice"),
        ("request.approve", "bob"),
        ("key.schedule-destroy", "bob"),
        ("request.done", "bob"),
    ] {
        let text = found(&alice, "changed", act).await.text;
        assert!(text.starts_with(&format!("{who}, from")), "{act}: {text}");
    }
    // What was refused to somebody who has signed in.
    let call = "POST /v1/requests/{request}/approve: 403";
    let refused = found(&alice, "login-refused", call).await.text;
    assert!(refused.contains("a login as alice"), "{refused}");
    // A password that was typed in the name's place stands nowhere.
    let mixed_up = server.manager().sign_in("brass orchard 17", "alice".to_owned().into()).await;
    assert_eq!(number(mixed_up), Some(ErrorCode::SIGN_IN_REFUSED.0));
    found(&alice, "login-refused", "(no operator's name)").await;
    let query = AuditQuery { about: Some("brass orchard".into()), ..AuditQuery::default() };
    assert_eq!(alice.list_audit(&query).await.expect("a page").records, []);

    server.terminate();
    server.restart();
    server.wait_for_site_as(&alice_again(&server).await).await;
    let alice = alice_again(&server).await;
    assert_eq!(verified(&alice, &[]).await.bad, []);
}

async fn alice_again(server: &Server) -> ManagerClient {
    sign_in(server, "alice", PASSWORD).await
}

async fn tampering_is_found_and_the_first_bad_record_named(database: Database, mut server: Server) {
    let manager = server.manager();
    for number in 0..12 {
        server.key(&format!("key-{number}")).await;
    }
    // Written once, soon after the start; from then on nothing comes by itself for minutes.
    found(&manager, "heads", "").await;
    found(&manager, "ceremony", "installed").await;
    let good = verified(&manager, &[]).await;
    assert_eq!(good.bad, []);
    let (chain, records) =
        good.chains.iter().find(|(name, _)| name.starts_with("manager")).expect("one");
    let records = i64::try_from(*records).expect("few");
    assert!(records > 14, "{records}");
    database.sql("CREATE TABLE saved AS SELECT * FROM audit").await;
    let at = format!("WHERE writer = '{chain}' AND sequence");
    let moved = records + 1000;
    for (what, sql, first_bad, why) in [
        (
            "changed",
            format!("UPDATE audit SET body = {} {at} = 5", database.replaced("body", "1", "2")),
            5,
            "signed",
        ),
        ("its MAC too", format!("UPDATE audit SET mac = x'00' {at} = 6"), 6, "signed"),
        ("its time", format!("UPDATE audit SET at = at + 1 {at} = 7"), 7, "columns"),
        ("deleted", format!("DELETE FROM audit {at} = 8"), 8, "missing"),
        (
            "reordered",
            format!(
                "UPDATE audit SET sequence = {moved} {at} = 9; UPDATE audit SET sequence = 9 {at} = 10; \
                 UPDATE audit SET sequence = 10 {at} = {moved}"
            ),
            9,
            "columns",
        ),
        (
            "inserted",
            format!(
                "INSERT INTO audit (writer, sequence, at, event, body, mac) \
                 SELECT writer, {}, at, event, body, mac FROM saved {at} = 3",
                records + 1
            ),
            records + 1,
            "columns",
        ),
        (
            "added before the first",
            format!("INSERT INTO audit SELECT writer, 0, at, event, body, mac FROM saved {at} = 3"),
            0,
            "no record belongs there",
        ),
        (
            "below nothing",
            format!("UPDATE audit SET sequence = -7 {at} = 8"),
            -7,
            "no record belongs there",
        ),
        ("a time that is none", format!("UPDATE audit SET at = -1 {at} = 5"), 5, "columns"),
        ("what it tells of", format!("UPDATE audit SET event = 'x' {at} = 5"), 5, "columns"),
        ("cut off", format!("DELETE FROM audit {at} > {}", records - 10), records, "cut off"),
        ("gone", format!("DELETE FROM audit {at} > 0"), records, "whole chain"),
    ] {
        database.sql(&sql).await;
        let bad = verified(&manager, &[]).await.bad;
        let named = bad
            .iter()
            .any(|bad| bad.writer == *chain && bad.sequence == first_bad && bad.why.contains(why));
        assert!(named, "{what}: {bad:?}");
        database
            .sql(&format!(
                "DELETE FROM audit WHERE writer = '{chain}'; \
                 INSERT INTO audit SELECT * FROM saved WHERE writer = '{chain}'"
            ))
            .await;
        assert_eq!(verified(&manager, &[]).await.bad, [], "{what}: put right again");
    }
    // What is behind a bad record is looked at, too.
    database.sql(&format!("DELETE FROM audit {at} IN (4, 5, 9)")).await;
    let report = verified(&manager, &[]).await;
    let named: Vec<_> = report.bad.iter().filter(|bad| bad.writer == *chain).collect();
    assert_eq!(named.iter().map(|bad| bad.sequence).collect::<Vec<_>>(), [4, 9], "{named:?}");
    assert!(named[0].why.contains("all up to record 5"), "{named:?}");
    // The changes that they told of are missed where the changes are.
    assert!(report.bad.iter().any(|bad| bad.why.contains("in no record")), "{:?}", report.bad);
    database.sql(&format!("INSERT INTO audit SELECT * FROM saved {at} IN (4, 5, 9)")).await;
    // Chains that nobody writes.
    for writer in ["", "a/b", "manager-x", "\u{1b}[2J"] {
        database
            .sql(&format!(
                "INSERT INTO audit SELECT '{writer}', 1, at, event, body, mac FROM saved {at} = 3"
            ))
            .await;
        let bad = verified(&manager, &[]).await.bad;
        assert_eq!(bad.iter().map(|bad| bad.writer.as_str()).collect::<Vec<_>>(), [writer]);
        let query = AuditQuery { limit: Some(1000), ..AuditQuery::default() };
        let listed = manager.list_audit(&query);
        assert!(listed.await.expect("a page").records.iter().any(|record| !record.genuine));
        database.sql(&format!("DELETE FROM audit WHERE writer = '{writer}'")).await;
    }
    // Many rows before the first place, and one that is longer than a record may be.
    database
        .sql(&format!(
            "CREATE TABLE many AS WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i FROM n; \
             INSERT INTO audit SELECT writer, -many.i - 1, at, event, body, mac FROM saved, many {at} = 3; \
             INSERT INTO audit SELECT writer, -many.i - 2000, at, event, body, mac FROM saved, many {at} = 3; \
             INSERT INTO audit SELECT writer, -many.i - 4000, at, event, body, mac FROM saved, many {at} = 3"
        ))
        .await;
    let report = verified(&manager, &[]).await;
    assert!(report.bad.iter().any(|bad| bad.sequence < 1), "{:?}", report.bad);
    assert_eq!(
        report.chains.get(chain),
        Some(&u64::try_from(records).expect("few")),
        "the others are good"
    );
    database.sql(&format!("DELETE FROM audit {at} < 1; DROP TABLE many")).await;
    let long = format!(
        "INSERT INTO audit SELECT writer, {moved}, at, event, {}, mac FROM saved {at} = 3",
        match &database {
            Database::Sqlite(_) => "zeroblob(1000000)",
            Database::Mysql(_) => "REPEAT('x', 1000000)",
        }
    );
    database.sql(&long).await;
    let bad = verified(&manager, &[]).await.bad;
    assert!(bad.iter().any(|bad| bad.sequence == moved), "{bad:?}");
    let page = manager.list_audit(&AuditQuery { limit: Some(1000), ..AuditQuery::default() }).await;
    assert!(page.expect("a page").records.iter().any(|record| record.sequence == moved));
    database.sql(&format!("DELETE FROM audit {at} = {moved}")).await;
    assert_eq!(verified(&manager, &[]).await.bad, []);
    // A forged record is shown as one.
    let forged = format!(
        "INSERT INTO audit (writer, sequence, at, event, body, mac) \
         SELECT writer, {}, at + 99999999, event, {}, mac FROM saved {at} = 3",
        records + 1,
        database.replaced("body", "1", "2")
    );
    database.sql(&forged).await;
    let page = manager.list_audit(&AuditQuery { limit: Some(1), ..AuditQuery::default() }).await;
    assert!(!page.expect("a page").records[0].genuine);
    database.sql(&format!("DELETE FROM audit {at} > {records}")).await;
    assert_eq!(verified(&manager, &[]).await.bad, []);

    // A manager that remembers nothing: only the heads, kept elsewhere, tell that the newest are missing.
    server.terminate();
    let elsewhere = server.folder.path().join("heads");
    std::fs::copy(server.data().join("audit.heads"), &elsewhere).expect("copied");
    let ended = records - 10;
    database.sql(&format!("DELETE FROM audit {at} > {ended}")).await;
    for file in ["audit-manager.db", "audit-gateway.db"] {
        std::fs::remove_file(server.data().join(file)).expect(file);
    }
    server.restart();
    server.wait_for_site().await;
    let manager = server.manager();
    // Nobody remembers the chain; only changes of documents are missed, where the documents are.
    let bad = verified(&manager, &[]).await.bad;
    assert!(bad.iter().all(|bad| bad.writer == "documents") && bad.len() == 1, "{bad:?}");
    let bad = verified(&manager, &heads(&elsewhere)).await.bad;
    let cut = bad.iter().find(|bad| bad.writer == *chain).expect("found");
    assert!(cut.why.contains("cut off"), "{cut:?}");
    assert!(
        cut.why.contains(&format!("records {} to", ended + 1)),
        "the first one is named: {cut:?}"
    );
    // The command says the same, and fails.
    let output = verify_by_command(&server, &elsewhere);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(&format!("records {} to", ended + 1)), "{said}");
    // A head that somebody has made up is none.
    let text = std::fs::read_to_string(&elsewhere).expect("heads");
    let (start, _) = text.lines().last().expect("a head").split_once("\"mac\":").expect("a MAC");
    let forged = format!("{start}\"mac\":\"{}\"}}\n", "ab".repeat(32));
    std::fs::write(&elsewhere, forged).expect("written");
    let bad = verified(&manager, &heads(&elsewhere)).await.bad;
    assert!(bad.iter().any(|bad| bad.why.contains("this head was not signed")), "{bad:?}");
}

fn heads(file: &Path) -> Vec<SignedHead> {
    let text = std::fs::read_to_string(file).expect("heads");
    // Each process begins on a line of its own.
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).expect("a head")).collect()
}

fn verify_by_command(server: &Server, heads: &PathBuf) -> std::process::Output {
    let mut command = std::process::Command::new(SEALWIRE);
    command.args(["audit", "verify", "--head"]).arg(heads);
    command.env("SEALWIRE_SOCKET", server.data().join("manager.sock")).output().expect("runs")
}

async fn without_its_table_nothing_is_managed_and_messages_go_on(
    database: Database,
    server: Server,
) {
    let manager = server.manager();
    let key = server.key("chat").await;
    let app = server.local_app(&["enc,dec:chat"]).await;
    let mark = ChangeKey { sensitive: Some(true), ..ChangeKey::default() };
    manager.set_key("chat", &mark).await.expect("marked");
    let client = server.client(&app).await;
    let envelope = client.enc(key.index, b"", b"m").await.expect("sealed");
    database.sql("ALTER TABLE audit RENAME TO away").await;

    // A change that cannot be recorded is not made.
    let refused = manager.rotate_key("chat").await;
    assert_eq!(number(refused), Some(ErrorCode::UNAVAILABLE.0));
    assert_eq!(manager.show_key("chat").await.expect("shown").versions.len(), 1);
    // Messages go on, and logins.
    for _ in 0..10 {
        client.dec(b"", &envelope).await.expect("opened");
    }
    log_in(&server, &app).await.expect("logs in");
    let wrong = App { secret: other_secret(&app), ..app.clone() };
    assert!(log_in(&server, &wrong).await.is_err());
    server.await_log("audit: nothing can be recorded; notes are kept");

    database.sql("ALTER TABLE away RENAME TO audit").await;
    server.await_log("audit: records are written again");
    // Everything that happened meanwhile is there, each once, with the message that was opened.
    let message = hex::encode(&envelope[10..22]);
    found(&manager, "opened", &message).await;
    found(&manager, "login-refused", &app.key).await;
    let query = AuditQuery { event: Some("opened".into()), ..AuditQuery::default() };
    let opened = manager.list_audit(&query).await.expect("a page").records;
    assert_eq!(opened.len(), 10);
    assert!(opened.iter().all(|record| record.text.contains(&message) && record.genuine));
    manager.rotate_key("chat").await.expect("managed again");
    assert_eq!(verified(&manager, &[]).await.bad, []);
}

/// A secret of the right form that is not the app's.
fn other_secret(app: &App) -> String {
    let last = app.secret.chars().last().expect("a secret");
    let other = if last == 'A' { 'E' } else { 'A' };
    app.secret[..app.secret.len() - 1].to_owned() + &other.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_apps_have_done_is_counted_by_key_and_a_killed_server_loses_no_note() {
    let mut server = Server::start().await;
    let (one, other) = (server.key("one").await, server.key("other").await);
    let app = server.local_app(&["enc,dec,reenc:*"]).await;
    let client = server.client(&app).await;
    for _ in 0..100 {
        let envelope = client.enc(one.index, b"", b"m").await.expect("sealed");
        client.dec(b"", &envelope).await.expect("opened");
    }
    for _ in 0..7 {
        client.enc(other.index, b"", b"m").await.expect("sealed");
    }
    drop(client);
    // The counts of a minute that is not over are recorded when the server stops.
    assert_eq!(server.terminate(), Some(0));
    server.restart();
    server.wait_for_site().await;
    let query = AuditQuery { event: Some("used".into()), ..AuditQuery::default() };
    let (mut sealed, mut opened) = ([0, 0], [0, 0]);
    for record in server.manager().list_audit(&query).await.expect("a page").records {
        let Some(AuditEvent::Used { counts, .. }) = record.record.map(|record| record.event) else {
            panic!("of another kind")
        };
        for used in counts {
            assert_eq!(used.who, app.key);
            let at = usize::from(used.key == other.index);
            sealed[at] += used.enc;
            opened[at] += used.dec;
        }
    }
    assert_eq!((sealed, opened), ([100, 7], [100, 0]));

    // Logins that could not be recorded yet when the server was killed.
    let before = logins(&server).await;
    let database = Database::Sqlite(server.data().join("keystore.db"));
    database.sql("ALTER TABLE audit RENAME TO away").await;
    for _ in 0..5 {
        drop(Raw::login(server.address, &app));
    }
    server.await_log("audit: nothing can be recorded");
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.kill();
    database.sql("ALTER TABLE away RENAME TO audit").await;
    server.restart();
    server.wait_for_site().await;
    for _ in 0..100 {
        if logins(&server).await > before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(logins(&server).await, before + 5, "those whose notes were kept, each once");
    assert_eq!(verified(&server.manager(), &[]).await.bad, []);
}

/// How many logins are recorded.
async fn logins(server: &Server) -> usize {
    let query = AuditQuery { event: Some("logged-in".into()), ..AuditQuery::default() };
    server.manager().list_audit(&query).await.expect("a page").records.len()
}

/// Who can hold back the answer to a commit removes its record before the next one is written: the chain is whole, and
/// yet the change is found.
async fn a_change_whose_record_was_removed_before_anybody_knew_is_missed(
    database: Database,
    mut server: Server,
) {
    let manager = server.manager();
    server.key("before").await;
    found(&manager, "heads", "").await;
    found(&manager, "ceremony", "installed").await;
    // As the manager remembers it before the change.
    let memory = server.data().join("audit-manager.db");
    let copies = ["", "-wal", "-shm"].map(|suffix| {
        let path = PathBuf::from(format!("{}{suffix}", memory.display()));
        (path.clone(), std::fs::read(path).expect("read"))
    });
    let known = newest_of_manager(&manager).await;
    server.key("quietly").await;
    let made = newest_of_manager(&manager).await;
    assert_eq!(made.1, known.1 + 1);
    server.kill();
    for (path, bytes) in copies {
        std::fs::write(path, bytes).expect("written");
    }
    let (writer, sequence) = made;
    database
        .sql(&format!("DELETE FROM audit WHERE writer = '{writer}' AND sequence = {sequence}"))
        .await;
    server.restart();
    server.wait_for_site().await;
    server.key("afterwards").await;
    let report = verified(&manager, &[]).await;
    assert_eq!(report.bad.len(), 1, "{:?}", report.bad);
    assert_eq!(report.bad[0].writer, "documents");
    assert!(report.bad[0].why.contains("is in no record"), "{:?}", report.bad);
}

/// The newest record of the manager's chain.
async fn newest_of_manager(manager: &ManagerClient) -> (String, i64) {
    let chains = manager.audit_chains().await.expect("chains").chains;
    let own = chains.into_iter().find(|chain| chain.remembered.is_some()).expect("its own");
    (own.writer, own.newest)
}
