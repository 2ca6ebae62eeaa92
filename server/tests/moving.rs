//! Moving house: from SQLite to MariaDB and back; backup and restore as docs/keystore.md says.

mod support;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use sealwire_client::{EncRequest, ErrorCode};
use sealwire_protocol::{Binding, Envelope, Suite};
use support::load::round_trip;
use support::mariadb::Mariadb;
use support::{SEALWIRE, Server};

fn keystore(args: &[&str], config: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(SEALWIRE);
    command.arg("keystore").args(args).arg("--config").arg(config).args(more);
    command.output().expect("runs")
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_sqlite_to_mariadb_and_back() {
    let database = Mariadb::start();
    let url = database.database("ks");
    let mut server = Server::start_with("\n[keystore]\nurl = 'sqlite:FOLDER/first.db'").await;
    let config = server.folder.path().join("sealwire.toml");
    let file = |name: &str| server.folder.path().join(name).display().to_string();
    let (first, second, third) = (file("first.jsonl"), file("second.jsonl"), file("third.db"));
    let app = server.local_app(&["enc,dec:*"]).await;
    let mut sealed = Vec::new();
    for number in 1..=30 {
        let key = server.key(&format!("聊天-{number}")).await;
        if number % 3 == 0 {
            server.manager().rotate_key(&key.name).await.expect("rotated");
        }
        let client = server.client(&app).await;
        for suite in [Suite::Xaes256Gcm, Suite::Aes256Gcm] {
            let (binding, suite) = (Binding::default(), Some(suite));
            let request = EncRequest { key_index: key.index, suite, binding, message: b"message" };
            sealed.push(client.enc_with(&request).await.expect("sealed"));
        }
    }
    // While the server runs.
    let said = ok(&keystore(&["export"], &config, &[&first]));
    assert!(said.contains("31 documents, 40 wrapped keys, 30 counters"), "{said}");
    let said = refused(&keystore(&["export"], &config, &[&first]));
    assert!(said.contains("File exists"), "{said}");
    let text = std::fs::read_to_string(&first).expect("readable");
    assert!(!text.contains(&app.secret) && text.contains(&app.key));

    let move_to = async |server: &mut Server, from: &str, to: &str, file: &str| {
        let said = refused(&keystore(&["import"], &config, &[file]));
        assert!(said.contains("another server runs"), "{said}");
        server.kill();
        let said = refused(&keystore(&["import"], &config, &[file]));
        assert!(said.contains("holds a site already"), "{said}");
        server.reconfigure(from, to);
        server.migrate();
        ok(&keystore(&["import"], &config, &[file]));
        server.restart();
        server.wait_for_site().await;
        let client = server.client(&app).await;
        for envelope in &sealed {
            assert_eq!(client.dec(b"", envelope).await.expect("opens").as_ref(), b"message");
        }
        for key in 1..=30 {
            round_trip(&client, key).await.expect("usable");
        }
        // What is counted was closed, and goes on with a new version.
        let (binding, suite) = (Binding::default(), Some(Suite::Aes256Gcm));
        let request = EncRequest { key_index: 1, suite, binding, message: b"message" };
        let closed = client.enc_with(&request).await.expect_err("closed");
        assert_eq!(closed.code(), Some(ErrorCode::KEY_EXHAUSTED));
        for _ in 0..100 {
            if let Ok(sealed) = client.enc_with(&request).await {
                return Envelope::parse(&sealed).expect("an envelope").header.key_version;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no new version: {}", server.log());
    };
    let sqlite = format!("sqlite:{}", file("first.db"));
    assert_eq!(move_to(&mut server, &sqlite, &url, &first).await, 2);
    ok(&keystore(&["export"], &config, &[&second]));
    let version = move_to(&mut server, &url, &format!("sqlite:{third}"), &second).await;
    assert_eq!(version, 3);

    let broken = server.folder.path().join("broken.jsonl");
    std::fs::write(&broken, text.replacen("\"version\":1", "\"version\":9", 1)).expect("written");
    server.kill();
    let fresh = std::fs::read_to_string(&config).expect("read").replace("third.db", "fourth.db");
    std::fs::write(&config, fresh).expect("written");
    let said = refused(&keystore(&["import"], &config, &[broken.to_str().expect("text")]));
    assert!(said.contains("checksum"), "{said}");
    ok(&keystore(&["import"], &config, &[&first]));
}

/// A block of docs/keystore.md that is said to be run by a test.
fn block(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/keystore.md");
    let text = std::fs::read_to_string(path).expect("docs/keystore.md");
    let after = text.split(&format!("<!-- run by a test: {name} -->\n```")).nth(1).expect(name);
    let (_, body) = after.split_once('\n').expect("a block");
    body.split("\n```").next().expect("ends").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_and_restore_as_the_documentation_says() {
    let database = Mariadb::start();
    let mut server = Server::on(&database.database("sealwire"), "").await;
    let app = server.local_app(&["enc,dec:*"]).await;
    let client = server.client(&app).await;
    let key = server.key("chat").await.index;
    let sealed = client.enc(key, b"", b"message").await.expect("sealed");
    // The documentation's commands find the server as they do on a machine of their own.
    let home = server.folder.path().join("home");
    std::fs::create_dir(&home).expect("made");
    let options = format!("[client]\nuser = root\nsocket = {}\n", database.socket().display());
    std::fs::write(home.join(".my.cnf"), options).expect("written");
    let run = |name: &str| {
        let script = block(name);
        let done = Command::new("sh")
            .args(["-ec", &script])
            .env("HOME", &home)
            .current_dir(&home)
            .output();
        let done = done.expect("runs");
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    };
    run("backup");
    let late = server.key("after-the-backup").await;
    server.kill();
    run("restore");
    let config = server.folder.path().join("sealwire.toml");
    let said = ok(&keystore(&["restored"], &config, &[]));
    assert!(
        said.contains("at revision 2") && said.contains("--marks-only on every other machine"),
        "{said}"
    );
    server.restart();
    server.wait_for_site().await;
    let client = server.client(&app).await;
    assert_eq!(client.dec(b"", &sealed).await.expect("opens").as_ref(), b"message");
    round_trip(&client, key).await.expect("usable");
    let gone = client.enc(late.index, b"", b"m").await.expect_err("made after the backup");
    assert_eq!(gone.code(), Some(ErrorCode::KEY_NOT_FOUND));
    server.key("goes-on").await;
}
