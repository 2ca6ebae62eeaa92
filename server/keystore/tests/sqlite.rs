//! What is SQLite's alone.

use std::os::unix::fs::PermissionsExt;

use sealwire_keystore::{Keystore, KeystoreError, SqliteKeystore};

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
