//! What is MySQL's alone: schema, accounts, TLS, nodes, time limits.

#[path = "support/mariadb.rs"]
mod mariadb;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mariadb::Mariadb;
use sealwire_engine::document::DocumentKind;
use sealwire_engine::{RootKeyId, SignedDocument};
use sealwire_keystore::{
    AuditLog as _, AuditRow, Change, DocumentRow, Keystore, KeystoreError, MysqlKeystore,
    MysqlOptions, Reservation, RotationRow, SiteRow, WrappedRow,
};
use zeroize::Zeroizing;

fn options(url: &str) -> MysqlOptions {
    let (url, patience) = (url.to_owned(), Duration::from_secs(10));
    MysqlOptions { url, password: None, tls_ca: None, connections: 2, patience }
}

async fn refused(options: MysqlOptions) -> KeystoreError {
    MysqlKeystore::open(options).await.err().expect("refused")
}

#[tokio::test]
async fn the_schema_is_made_by_migrate_alone_once_and_a_newer_one_is_refused() {
    let server = Mariadb::start();
    let options = options(&server.database("ks"));
    assert!(matches!(refused(options.clone()).await, KeystoreError::Outdated));
    let several = (0..4).map(|_| {
        let options = options.clone();
        tokio::spawn(async move { MysqlKeystore::migrate(&options).await.expect("migrates") })
    });
    let mut steps = 0;
    for one in several.collect::<Vec<_>>() {
        steps += one.await.expect("ended");
    }
    assert_eq!(steps, 7, "each step was made once");
    MysqlKeystore::open(options.clone()).await.expect("opens").close().await;

    // Cut off in its midst: noted as begun, and the table is not there.
    server.sql(
        "USE ks; UPDATE _sqlx_migrations SET success = 0 WHERE version = 5; DROP TABLE key_usage",
    );
    assert!(matches!(refused(options.clone()).await, KeystoreError::Outdated));
    assert_eq!(MysqlKeystore::migrate(&options).await.expect("migrates"), 1);
    // Cut off a moment later: the table is there.
    server.sql("USE ks; UPDATE _sqlx_migrations SET success = 0 WHERE version = 5");
    assert_eq!(MysqlKeystore::migrate(&options).await.expect("migrates"), 1);
    MysqlKeystore::open(options.clone()).await.expect("opens").close().await;

    server.sql("USE ks; UPDATE _sqlx_migrations SET checksum = 'x' WHERE version = 2");
    assert!(matches!(refused(options.clone()).await, KeystoreError::Schema(_)));
    server.sql(
        "USE ks; INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'newer, and cut off', 0, 'x', 0)",
    );
    assert!(MysqlKeystore::open(options.clone()).await.is_err());
    assert!(matches!(MysqlKeystore::migrate(&options).await, Err(KeystoreError::Schema(_))));
    server.sql("USE ks; UPDATE _sqlx_migrations SET success = 1 WHERE version = 9999");
    assert!(matches!(refused(options.clone()).await, KeystoreError::Schema(_)));
    assert!(matches!(MysqlKeystore::migrate(&options).await, Err(KeystoreError::Schema(_))));
}

/// A block of docs/keystore.md that is said to be run by a test.
fn block(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/keystore.md");
    let text = std::fs::read_to_string(path).expect("docs/keystore.md");
    let after = text.split(&format!("<!-- run by a test: {name} -->\n```")).nth(1).expect(name);
    let (_, body) = after.split_once('\n').expect("a block");
    body.split("\n```").next().expect("ends").to_owned()
}

fn signed(kind: DocumentKind, id: &str, revision: u64) -> SignedDocument {
    SignedDocument { kind, id: id.into(), revision, body: b"body".to_vec(), mac: [7; 32] }
}

fn change(upon: u64) -> Change {
    let signed = signed(DocumentKind::Key, "u1", upon + 1);
    Change {
        upon,
        document: DocumentRow { signed, name: "a".into(), number: Some(1), due: None },
        wrapped: None,
        erased: Vec::new(),
        audit: AuditRow {
            writer: "manager-0707070707070707".into(),
            sequence: i64::try_from(upon + 1).expect("small"),
            at: 0,
            event: "changed".into(),
            body: Vec::new(),
            mac: [0; 32],
        },
    }
}

#[tokio::test]
async fn each_account_of_the_documentation_may_do_its_work_and_no_more() {
    let server = Mariadb::start();
    server.sql(&block("owner"));
    let account = |user: &str, password: &str| MysqlOptions {
        password: Some(Zeroizing::new(format!("CHANGE-ME-{password}"))),
        ..options(&format!("mysql://{user}@127.0.0.1:{}/sealwire", server.port))
    };
    let owner = account("sealwire_owner", "owner");
    MysqlKeystore::migrate(&owner).await.expect("the owner migrates");
    server.sql(&block("accounts"));
    let wrong = refused(account("sealwire_gateway", "nonsense")).await;
    assert!(matches!(wrong, KeystoreError::Database(_)), "{wrong:?}");

    let old = RootKeyId::from_bytes([1; 16]);
    let new = RootKeyId::from_bytes([2; 16]);
    let site = SiteRow { keys: b"k".to_vec(), decoy: signed(DocumentKind::App, "decoy", 0) };
    let note = RotationRow { old, new, wrapped: vec![1], done: false };
    let reservation = Reservation {
        uid: "u1".into(),
        version: 1,
        suite: 1,
        count: 5,
        limit: Some(100),
        worn_at: 1,
    };
    let serve = account("sealwire", "serve");
    for (upon, managing) in
        [account("sealwire_manager", "manager"), serve.clone()].into_iter().enumerate()
    {
        // Everything that a manager does.
        let upon = upon as u64 * 2;
        let manager = MysqlKeystore::open(managing).await.expect("opens");
        if upon == 0 {
            manager.init_site(&site).await.expect("a site");
        }
        assert!(manager.replace_site(b"k", &site).await.expect("replaced"));
        let wrapped = WrappedRow { uid: "u1".into(), version: 1, blob: vec![9; 77] };
        manager.commit(&Change { wrapped: Some(wrapped), ..change(upon) }).await.expect("made");
        manager.close_counted().await.expect("closed");
        manager.rested("u1", 1).await.expect("rested");
        manager.begin_rotation(&note).await.expect("begun");
        manager.rewrap(&[]).await.expect("moved");
        manager.end_rotation(new).await.expect("ended");
        manager.commit(&Change { erased: vec![1], ..change(upon + 1) }).await.expect("erased");
        manager.due(1, "", 1).await.expect("read");
        manager.worn("", 1).await.expect("read");
        manager.snapshot().await.expect("a snapshot");
        manager.begin_import().await.expect_err("occupied");
        manager.close().await;
    }

    let gateway = MysqlKeystore::open(account("sealwire_gateway", "gateway")).await.expect("opens");
    gateway.site().await.expect("reads").expect("a site");
    gateway.changes(0, 9).await.expect("reads");
    gateway.keys(&[1]).await.expect("reads");
    gateway.wrapped(&["u1"]).await.expect("reads");
    gateway.rotation().await.expect("reads");
    server.sql("INSERT INTO sealwire.wrapped_key (uid, version, `blob`) VALUES ('u1', 1, 'x')");
    for _ in 0..2 {
        assert_eq!(gateway.reserve(&reservation).await.expect("counts"), 5);
    }
    let denied = |what: &str, result: Result<(), KeystoreError>| {
        let said = match result.expect_err(what) {
            KeystoreError::Database(error) => error.to_string(),
            error => panic!("{what}: {error:?}"),
        };
        assert!(said.contains("denied"), "{what}: {said}");
    };
    let record = AuditRow { writer: "gateway-0606060606060606".into(), ..change(0).audit };
    gateway.append(std::slice::from_ref(&record)).await.expect("records");
    denied("commit", gateway.commit(&change(4)).await);
    denied("init_site", gateway.init_site(&site).await);
    denied("replace_site", gateway.replace_site(b"k", &site).await.map(drop));
    denied("close_counted", gateway.close_counted().await);
    denied("begin_rotation", gateway.begin_rotation(&note).await);
    denied("end_rotation", gateway.end_rotation(new).await);
    denied(
        "migrate",
        MysqlKeystore::migrate(&account("sealwire_gateway", "gateway")).await.map(drop),
    );
    denied("migrate", MysqlKeystore::migrate(&serve).await.map(drop));
    let serve = MysqlKeystore::open(serve).await.expect("opens");
    serve.reserve(&reservation).await.expect("counts");
    let manager = MysqlKeystore::open(account("sealwire_manager", "manager")).await.expect("opens");
    let other = Reservation { suite: 2, ..reservation };
    denied("reserve", manager.reserve(&other).await.map(drop));
    // What no word of a keystore does.
    for (user, password, statement) in [
        ("sealwire_manager", "manager", "DELETE FROM document"),
        ("sealwire_manager", "manager", "UPDATE key_usage SET reserved = 0"),
        ("sealwire", "serve", "DELETE FROM site"),
        ("sealwire", "serve", "DROP TABLE key_usage"),
        ("sealwire_manager", "manager", "DELETE FROM audit"),
        ("sealwire_gateway", "gateway", "UPDATE audit SET at = 0"),
        ("sealwire", "serve", "DELETE FROM audit"),
        ("sealwire_gateway", "gateway", "DELETE FROM key_usage"),
        ("sealwire_gateway", "gateway", "UPDATE wrapped_key SET closed = 0"),
    ] {
        let said = server.refused(user, &format!("CHANGE-ME-{password}"), statement);
        assert!(said.contains("denied"), "{user}: {statement}: {said}");
    }
}

#[tokio::test]
async fn tls_is_spoken_with_the_named_authority_and_the_right_name_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let authority = || {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().expect("a key"))
            .expect("an authority")
    };
    let (ours, other) = (authority(), authority());
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
    let certificate = params.signed_by(&key, &*ours).expect("signed");
    let (ca, other_ca) = (write("ca.pem", &ours.pem()), write("other.pem", &other.pem()));
    let (cert, key) =
        (write("cert.pem", &certificate.pem()), write("key.pem", &key.serialize_pem()));
    // The server runs as another user.
    for path in [folder.path(), &ca, &cert, &key] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).expect("set");
    }
    let server = Mariadb::with(
        mariadb::free_port(),
        &[
            format!("--ssl-ca={}", ca.display()),
            format!("--ssl-cert={}", cert.display()),
            format!("--ssl-key={}", key.display()),
        ],
    );
    let plain = options(&server.database("ks"));
    server.sql("ALTER USER 'ks'@'%' REQUIRE SSL");
    assert!(MysqlKeystore::migrate(&plain).await.is_err(), "the account wants TLS");
    let by_name = plain.url.replace("127.0.0.1", "localhost");
    let with = |url: &str, ca: &PathBuf| MysqlOptions { tls_ca: Some(ca.clone()), ..options(url) };
    MysqlKeystore::migrate(&with(&by_name, &ca)).await.expect("TLS");
    let keystore = MysqlKeystore::open(with(&by_name, &ca)).await.expect("TLS");
    assert_eq!(keystore.site().await.expect("reads"), None);
    assert!(MysqlKeystore::migrate(&with(&by_name, &other_ca)).await.is_err(), "another authority");
    assert!(MysqlKeystore::migrate(&with(&plain.url, &ca)).await.is_err(), "another name");
    let version = server.sql("SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'SSL_ACCEPTS'");
    assert_ne!(version.trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_in_time_and_another_node_is_used_when_one_is_gone() {
    let (mut one, two) = (Mariadb::start(), Mariadb::start());
    for server in [&one, &two] {
        MysqlKeystore::migrate(&options(&server.database("ks"))).await.expect("migrates");
    }
    // Two servers that are no cluster, so that one sees which of them has answered.
    let site = |keys: &str| SiteRow {
        keys: keys.as_bytes().to_vec(),
        decoy: signed(DocumentKind::App, "decoy", 0),
    };
    for (server, name) in [(&one, "one"), (&two, "two")] {
        let url = format!("mysql://ks@127.0.0.1:{}/ks", server.port);
        let keystore = MysqlKeystore::open(options(&url)).await.expect("opens");
        keystore.init_site(&site(name)).await.expect("a site");
        keystore.close().await;
    }
    let url = format!("mysql://ks@127.0.0.1:{},127.0.0.1:{}/ks", one.port, two.port);
    let patience = Duration::from_secs(2);
    let alone =
        MysqlOptions { patience, ..options(&format!("mysql://ks@127.0.0.1:{}/ks", one.port)) };
    let alone = MysqlKeystore::open(alone).await.expect("opens");
    let both =
        MysqlKeystore::open(MysqlOptions { patience, ..options(&url) }).await.expect("opens");
    let answers = async |keystore: &MysqlKeystore| {
        let site = keystore.site().await?.expect("a site");
        Ok::<_, KeystoreError>(String::from_utf8(site.keys).expect("text"))
    };
    assert_eq!(answers(&both).await.expect("reads"), "one");

    one.pause(true);
    let begun = Instant::now();
    let hung = answers(&alone).await.expect_err("it hangs");
    assert!(hung.is_away(), "{hung:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(answers(&both).await.is_err(), "noticed");
    assert_eq!(answers(&both).await.expect("the other node"), "two");
    one.pause(false);
    let again = async || {
        for _ in 0..100 {
            match answers(&alone).await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        panic!("it does not come back");
    };
    assert_eq!(again().await, "one");

    let both =
        MysqlKeystore::open(MysqlOptions { patience, ..options(&url) }).await.expect("opens");
    assert_eq!(answers(&both).await.expect("reads"), "one");
    one.kill();
    assert!(answers(&alone).await.expect_err("gone").is_away());
    let _ = answers(&both).await;
    assert_eq!(answers(&both).await.expect("the other node"), "two");
    let late = MysqlKeystore::open(MysqlOptions { patience, ..options(&url) }).await;
    assert_eq!(answers(&late.expect("opens with one node")).await.expect("reads"), "two");
    one.run();
    assert_eq!(again().await, "one");
}
