//! Root rotation: everything that is wrapped moves under a new root key, while requests go on.
//!
//! `scripts/rotate-root` is the full form: 10,000 keys.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealwire_client::Client;
use sealwire_manager::RotationStage;
use sealwire_protocol::message::ReencRequest;
use sealwire_protocol::{Binding, Opcode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row};
use support::officer::{Kept, Officers, Tokens};
use support::{App, Raw, Server, request_frame};

/// Keys of the site.
fn keys() -> u32 {
    std::env::var("SEALWIRE_TEST_KEYS").map_or(300, |text| text.parse().expect("a number"))
}

/// A site with many keys, and few ciphers kept, so that keys are unwrapped again and again.
struct Site {
    server: Server,
    officers: Officers,
    cards: Vec<Kept>,
    app: App,
    /// An envelope of each key, sealed before the rotation.
    envelopes: Vec<Vec<u8>>,
}

impl Site {
    async fn with(keys: u32) -> Self {
        let engine = "chip = 'software'\nchip_key_file = 'FOLDER/chip.key'\ncached_ciphers = 16";
        let server = Server::with(engine, "", Vec::new());
        let officers = Officers::of(&server, Tokens::new(&[]));
        let cards = officers.init("2", &["f1", "f2", "f3"]);
        server.wait_for_site().await;
        let app = server.local_app(&["enc,dec,reenc,genkey:*", "reenc:*>*"]).await;
        let client = server.client(&app).await;
        let mut envelopes = Vec::new();
        for number in 1..=keys {
            let key = client.genkey(&format!("key-{number}"), 0, &[]).await.expect("a key");
            assert_eq!(key.index, number);
            let sealed = client.enc(number, b"before", message(number).as_bytes()).await;
            envelopes.push(sealed.expect("sealed").to_vec());
        }
        // Two versions of the first key.
        server.manager().rotate_key("key-1").await.expect("rotated");
        Self { server, officers, cards, app, envelopes }
    }

    /// Arguments of `root rotate` to new cards.
    fn rotate(&self, new: &[String]) -> Vec<String> {
        let current = self.officers.show(&self.cards[..2]);
        let new = new.iter().flat_map(|uri| ["--new-card", uri.as_str()]);
        ["rotate"].into_iter().chain(current).chain(new).map(str::to_owned).collect()
    }

    async fn assert_all_open(&self) {
        let client = self.server.client(&self.app).await;
        for (number, envelope) in (1..).zip(&self.envelopes) {
            let opened = client.dec(b"before", envelope).await.expect("opens");
            assert_eq!(opened, message(number).as_bytes(), "key {number}");
        }
    }

    async fn database(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.server.data().join("keystore.db"));
        options.connect().await.expect("opens")
    }

    /// The root key ids of everything that is wrapped in the database.
    async fn roots_in_database(&self) -> Vec<String> {
        let mut connection = self.database().await;
        let mut roots = Vec::new();
        let mut note = |blob: &[u8]| roots.push(hex::encode(&blob[1..17]));
        for row in sqlx::query("SELECT blob FROM wrapped_key")
            .fetch_all(&mut connection)
            .await
            .expect("rows")
        {
            note(row.get::<&[u8], _>(0));
        }
        let site = sqlx::query("SELECT site_keys, decoy_body FROM site");
        let site = site.fetch_one(&mut connection).await.expect("a site");
        let mut documents = vec![site.get::<Vec<u8>, _>(0), site.get(1)];
        let apps = sqlx::query("SELECT body FROM document WHERE kind = 'app'");
        for row in apps.fetch_all(&mut connection).await.expect("rows") {
            documents.push(row.get(0));
        }
        for document in documents {
            let document: serde_json::Value = serde_json::from_slice(&document).expect("JSON");
            let mut wrapped = Vec::new();
            collect(&document, &mut wrapped);
            assert!(!wrapped.is_empty(), "{document}");
            wrapped.iter().for_each(|text| note(&STANDARD.decode(text).expect("base64")));
        }
        roots
    }

    async fn assert_moved_to(&self, root: &str) {
        let roots = self.roots_in_database().await;
        assert!(roots.len() >= self.envelopes.len() + 5);
        assert!(roots.iter().all(|found| found == root), "something is left behind");
        let mut connection = self.database().await;
        let note = sqlx::query("SELECT new_root, done, length(wrapped) FROM root_rotation");
        let note = note.fetch_one(&mut connection).await.expect("a note");
        let (new, done, length): (String, i64, i64) = (note.get(0), note.get(1), note.get(2));
        assert_eq!((new.as_str(), done, length), (root, 1, 0));
        connection.close().await.expect("closed");
        let sealed = std::fs::read(self.server.data().join("root.sealed")).expect("sealed");
        assert_eq!(hex::encode(&sealed[9..25]), root);
        let pin = std::fs::read_to_string(self.server.data().join("root.pin")).expect("a pin");
        assert!(
            pin.contains(root) && !pin.contains("previous") && pin.contains("forgotten"),
            "{pin}"
        );
        let pin = std::fs::read_to_string(self.server.data().join("manager.pin")).expect("a pin");
        assert_eq!(pin.trim(), root);
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.officers.ok(&["status", "--json"])).expect("JSON")
    }

    /// The old cards open nothing any more, the new ones do.
    async fn assert_only_open_with(&mut self, new: &[Kept]) {
        self.officers.ok(&["seal"]);
        let old = [&["unseal"], self.officers.show(&self.cards).as_slice()].concat();
        let said = self.officers.refused(&old);
        assert!(said.contains("this engine is pinned to root key"), "{said}");
        self.officers.unseal(new);
        self.assert_all_open().await;
        self.server.restart();
        assert!(self.officers.is_open(), "the chip opens it");
        self.assert_all_open().await;
    }
}

/// Cards in folders, each with its passphrase beside it.
fn kept(uris: &[String]) -> Vec<Kept> {
    uris.iter()
        .map(|uri| Kept { uri: uri.clone(), pin: format!("{}pin", &uri[5..]).into() })
        .collect()
}

fn message(number: u32) -> String {
    format!("消息 {number}")
}

/// Every value of a field `wrapped`, in any depth.
fn collect(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().filter(|_| name == "wrapped") {
                    Some(text) => found.push(text.to_owned()),
                    None => collect(value, found),
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

/// ENC, DEC and REENC over all keys, logins and new keys: not one may fail.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn start(site: &Site) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let count = u32::try_from(site.envelopes.len()).expect("few");
        let mut tasks = Vec::new();
        for worker in 0..4_u32 {
            let client = site.server.client(&site.app).await;
            let (stop, done) = (stop.clone(), done.clone());
            tasks.push(tokio::spawn(async move {
                let mut turn = worker;
                while !stop.load(Ordering::Relaxed) {
                    turn = turn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let (key, other) = (1 + (turn >> 8) % count, 1 + (turn >> 4) % count);
                    round_trip(&client, key, other).await;
                    done.fetch_add(4, Ordering::Relaxed);
                }
            }));
        }
        let (url, app, stop_too) = (site.server.url(), site.app.clone(), stop.clone());
        tasks.push(tokio::spawn(async move {
            for turn in 0.. {
                if stop_too.load(Ordering::Relaxed) {
                    return;
                }
                let client = Client::connect(&url, app.credentials()).await.expect("logs in");
                let made = client.genkey(&format!("during-{turn}"), 0, &[]).await.expect("a key");
                round_trip(&client, made.index, 1).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
        Self { stop, done, tasks }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no request has failed");
        }
        self.done.load(Ordering::Relaxed)
    }
}

async fn round_trip(client: &Client, key: u32, other: u32) {
    let text = message(key);
    let envelope = client.enc(key, b"", text.as_bytes()).await.expect("ENC");
    assert_eq!(client.dec(b"", &envelope).await.expect("DEC"), text.as_bytes());
    let (binding, suite, new_binding) = (Binding::aad(b""), None, None);
    let request =
        ReencRequest { target_index: other, suite, binding, new_binding, envelope: &envelope };
    let moved = client.reenc_with(&request).await.expect("REENC");
    assert_eq!(client.dec(b"", &moved).await.expect("DEC"), text.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_moves_under_load_and_the_old_cards_open_nothing() {
    let mut site = Site::with(keys()).await;
    let old = site.status()["root"].as_str().expect("an id").to_owned();
    let load = Load::start(&site).await;
    let mut session = Raw::login(site.server.address, &site.app);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let record = site.officers.pockets.path().join("rotate.txt");
    let new = ["n1", "n2", "n3"].map(|name| site.officers.place(name));
    let mut args = site.rotate(&new);
    args.extend(
        ["--threshold", "2", "--transcript", record.to_str().expect("text")].map(str::to_owned),
    );
    let begun = std::time::Instant::now();
    let said = site.officers.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let took = begun.elapsed();
    // What is cached from before must go on opening once the old root key is forgotten.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let requests = load.end().await;
    // An app's secrets have moved too, which ends none of its sessions.
    session.send(&request_frame(Opcode::PING, 77, b"still here"));
    assert_eq!(session.next().expect("the session is open").body, b"still here");
    println!("{} keys moved in {took:?}, {requests} requests meanwhile, none failed", keys());
    assert!(said.contains("the old root key is forgotten"), "{said}");
    assert!(said.contains("rotate those too"), "{said}");
    let root = site.status()["root"].as_str().expect("an id").to_owned();
    assert_ne!(root, old);
    assert_eq!(site.status()["previous"], serde_json::Value::Null);
    site.assert_moved_to(&root).await;
    // Not in any byte of the database's files: not even in what SQLite has freed.
    let id = hex::decode(&old).expect("hexadecimal");
    for file in ["keystore.db", "keystore.db-wal"] {
        let bytes = std::fs::read(site.server.data().join(file)).unwrap_or_default();
        assert!(
            !bytes.windows(16).any(|window| window == id),
            "{file} holds blobs of the old root key"
        );
    }
    let text = std::fs::read_to_string(record).expect("a transcript");
    assert!(text.contains(&root) && text.contains("wrapped keys moved"), "{text}");
    let kept = kept(&new);
    site.officers.keep_passphrases(&said, &kept);
    site.assert_only_open_with(&kept[1..]).await;
    // And once more: the new cards are current ones now.
    site.cards = kept;
    let again = ["m1", "m2"].map(|name| site.officers.place(name));
    let args = site.rotate(&again);
    site.officers.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    site.assert_all_open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_killed_again_and_again_ends_and_loses_no_key() {
    let mut site = Site::with(keys()).await;
    let old = site.status()["root"].as_str().expect("an id").to_owned();
    let new = ["n1", "n2"].map(|name| site.officers.place(name));
    let args = site.rotate(&new);
    let mut rotate = site.officers.command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let child = rotate.stdout(std::process::Stdio::piped()).spawn().expect("starts");
    // The new root key is in force when the engine says that it leaves another one behind.
    for _ in 0..5000 {
        if site.status()["previous"] != serde_json::Value::Null {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    site.server.kill();
    let output = child.wait_with_output().expect("ends");
    assert!(!output.status.success(), "the server was gone");
    let said = String::from_utf8(output.stdout).expect("text");
    let (mut midway, mut partly) = (0, 0);
    for kill in 0..5 {
        let roots = site.roots_in_database().await;
        let left = roots.iter().filter(|root| **root == old).count();
        println!("kill {}: {left} of {} still under the old root key", kill + 1, roots.len());
        midway += usize::from(left > 0);
        partly += usize::from(left > 0 && left < roots.len());
        site.server.restart();
        if kill == 0 {
            // The officer's command was cut off, perhaps before it had said so.
            site.server.manager().begin_rotation().await.expect("begun");
        }
        if kill < 4 {
            let more = u64::from(keys() / 1000).max(1);
            tokio::time::sleep(Duration::from_millis((5 + 10 * kill) * more)).await;
            site.server.kill();
        }
    }
    assert!(midway > 0, "never killed on the way");
    assert!(
        keys() < 5000 || (midway == 5 && partly > 1),
        "{midway} of 5 on the way, {partly} partly"
    );
    site.officers.ok(&["rotate", "--resume"]);
    let root = site.status()["root"].as_str().expect("an id").to_owned();
    assert_ne!(root, old);
    site.assert_moved_to(&root).await;
    site.assert_all_open().await;
    let kept = kept(&new);
    site.officers.keep_passphrases(&said, &kept);
    site.assert_only_open_with(&kept).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_cards_alone_resume_on_a_machine_without_the_engine_s_folder() {
    let mut site = Site::with(40).await;
    let new = ["n1", "n2"].map(|name| site.officers.place(name));
    // A row that cannot be moved keeps the rotation from ending.
    let mut connection = site.database().await;
    let broken = "UPDATE wrapped_key SET blob = CAST(substr(blob, 1, 76) || x'00' AS BLOB) WHERE uid = \
                  (SELECT uid FROM wrapped_key ORDER BY uid LIMIT 1)";
    sqlx::query(broken).execute(&mut connection).await.expect("written");
    let args = site.rotate(&new);
    let output = site.officers.root(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("cannot be moved") && error.contains("does not open"), "{error}");
    let kept = kept(&new);
    site.officers.keep_passphrases(&String::from_utf8_lossy(&output.stdout), &kept);
    assert!(site.status()["previous"].is_string());

    // The engine's folder is lost: what is left is the database and the new cards.
    site.server.kill();
    for file in ["root.pin", "root.sealed"] {
        std::fs::remove_file(site.server.data().join(file)).expect("removed");
    }
    site.server.restart();
    let adopt = [&["adopt"], site.officers.show(&kept).as_slice()].concat();
    site.officers.ok(&adopt);
    for _ in 0..100 {
        if site.status()["previous"].is_string() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = site.officers.refused(&["rotate", "--resume"]);
    assert!(said.contains("cannot be moved"), "{said}");
    let more = ["n3", "n4"].map(|name| site.officers.place(name));
    let begin_another = site.officers.refused(
        &[
            &["rotate"],
            site.officers.show(&kept).as_slice(),
            &["--new-card", &more[0], "--new-card", &more[1]],
        ]
        .concat(),
    );
    assert!(begin_another.contains("a root rotation is under way"), "{begin_another}");
    // Sealed and opened on the way: both root keys are there again.
    site.officers.ok(&["seal"]);
    assert!(site.status()["previous"].is_string());
    site.officers.unseal(&kept);
    let record = site.officers.pockets.path().join("left-behind.txt");
    let transcript = ["--transcript", record.to_str().expect("text")];
    for _ in 0..100 {
        // The manager looks again by itself, and finds the same row.
        if site.server.manager().rotation().await.expect("asked").stage == RotationStage::Stuck {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    site.officers.ok(&[&["rotate", "--resume", "--leave-behind"], transcript.as_slice()].concat());
    assert!(std::fs::read_to_string(record).expect("a transcript").contains("left behind: key "));
    assert_eq!(site.status()["previous"], serde_json::Value::Null);
    let client = site.server.client(&site.app).await;
    let mut lost = 0;
    for envelope in &site.envelopes {
        lost += usize::from(client.dec(b"before", envelope).await.is_err());
    }
    assert!(lost <= 1, "only the row that was broken");
}
