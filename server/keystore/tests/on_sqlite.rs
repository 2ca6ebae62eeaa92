//! What is SQLite's alone.

use std::os::unix::fs::PermissionsExt;

use sealwire_engine::SignedDocument;
use sealwire_engine::document::DocumentKind;
use sealwire_keystore::{
    AuditRow, Change, DocumentRow, Keystore, KeystoreError, SiteRow, SqliteKeystore,
};

#[tokio::test]
async fn a_commit_is_on_disk_before_it_is_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let keystore = SqliteKeystore::open(&folder.path().join("k.db")).await.expect("opens");
    let (journal, synchronous) = keystore.durability().await.expect("reads");
    assert_eq!((journal.as_str(), synchronous), ("wal", 2), "2 is FULL");
    for file in ["k.db", "k.db-wal", "k.db-shm"] {
        let mode = std::fs::metadata(folder.path().join(file)).expect(file).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_schema_of_a_newer_program_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("k.db");
    SqliteKeystore::open(&path).await.expect("opens").close().await;
    let pool =
        sqlx::SqlitePool::connect(&format!("sqlite:{}", path.display())).await.expect("opens");
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'newer', 1, x'00', 0)",
    )
    .execute(&pool)
    .await
    .expect("writes");
    pool.close().await;
    let refused = SqliteKeystore::open(&path).await.err().expect("refused");
    assert!(matches!(refused, KeystoreError::Schema(_)), "{refused}");
}

/// As it is when the disk is full: SQLite ends the transaction by itself.
#[tokio::test]
async fn a_transaction_that_sqlite_has_ended_spoils_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("k.db");
    let keystore = SqliteKeystore::open(&path).await.expect("opens");
    let signed = |revision| {
        let (kind, id, body) = (DocumentKind::App, format!("app-{revision}"), b"body".to_vec());
        SignedDocument { kind, id, revision, body, mac: [7; 32] }
    };
    let site = SiteRow { keys: b"keys".to_vec(), decoy: signed(0) };
    keystore.init_site(&site).await.expect("a site");
    let change = |upon| {
        let signed = signed(upon + 1);
        let document = DocumentRow { name: signed.id.clone(), signed, number: None, due: None };
        let audit = AuditRow {
            writer: "manager-0707070707070707".into(),
            sequence: i64::try_from(upon + 1).expect("small"),
            at: 0,
            event: "changed".into(),
            body: Vec::new(),
            mac: [0; 32],
        };
        Change { upon, document, wrapped: None, erased: Vec::new(), audit }
    };
    keystore.commit(&change(0)).await.expect("commits");
    let other =
        sqlx::SqlitePool::connect(&format!("sqlite:{}", path.display())).await.expect("opens");
    let full = "CREATE TRIGGER full_disk BEFORE INSERT ON document \
                BEGIN SELECT RAISE(ROLLBACK, 'disk full'); END";
    sqlx::query(full).execute(&other).await.expect("set up");
    for _ in 0..3 {
        let refused = keystore.commit(&change(1)).await.expect_err("full");
        assert!(format!("{refused:?}").contains("disk full"), "{refused:?}");
    }
    sqlx::query("DROP TRIGGER full_disk").execute(&other).await.expect("room again");
    keystore.commit(&change(1)).await.expect("commits again");
    assert_eq!(keystore.revision().await.expect("reads"), 2);
}
