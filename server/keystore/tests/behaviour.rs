//! What every keystore does, run over SQLite.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use sealwire_engine::document::DocumentKind;
use sealwire_engine::{RootKeyId, SignedDocument};
use sealwire_keystore::{
    By, Change, DocumentRow, Keystore, KeystoreError, Rewrapped, RotationRow, SiteRow,
    SqliteKeystore, Taken, WrappedRow,
};

async fn open(path: &Path) -> SqliteKeystore {
    let keystore = SqliteKeystore::open(path).await.expect("opens");
    if keystore.site().await.expect("reads").is_none() {
        let decoy = signed(DocumentKind::App, "decoy", 0);
        keystore.init_site(&SiteRow { keys: b"keys".to_vec(), decoy }).await.expect("writes");
    }
    keystore
}

fn signed(kind: DocumentKind, id: &str, revision: u64) -> SignedDocument {
    let body = format!("{id} {revision}").into_bytes();
    SignedDocument { kind, id: id.into(), revision, body, mac: [7; 32] }
}

fn key(id: &str, name: &str, number: u32, upon: u64) -> Change {
    Change {
        upon,
        document: DocumentRow {
            signed: signed(DocumentKind::Key, id, upon + 1),
            name: name.into(),
            number: Some(number),
        },
        wrapped: Some(WrappedRow { uid: id.into(), version: 1, blob: vec![9; 77] }),
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[tokio::test]
async fn a_commit_is_on_disk_before_it_is_acknowledged() {
    let folder = folder();
    let keystore = open(&folder.path().join("k.db")).await;
    let (journal, synchronous) = keystore.durability().await.expect("reads");
    assert_eq!((journal.as_str(), synchronous), ("wal", 2), "2 is FULL");
    for file in ["k.db", "k.db-wal", "k.db-shm"] {
        let mode = std::fs::metadata(folder.path().join(file)).expect(file).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let folder = folder();
    let path = folder.path().join("k.db");
    let keystore = open(&path).await;
    let change = key("u1", "聊天", 7, 0);
    keystore.commit(&change).await.expect("commits");
    assert_eq!(keystore.committed().load(Ordering::Acquire), 1);
    keystore.close().await;
    let keystore = open(&path).await;
    assert_eq!(keystore.revision().await.expect("reads"), 1);
    assert_eq!(keystore.committed().load(Ordering::Acquire), 1);
    for by in [By::Id("u1"), By::Name("聊天"), By::Number(7)] {
        let found = keystore.document(DocumentKind::Key, by).await.expect("reads");
        assert_eq!(found.as_ref(), Some(&change.document), "{by:?}");
    }
    assert_eq!(keystore.document(DocumentKind::App, By::Name("聊天")).await.expect("reads"), None);
    assert_eq!(keystore.wrapped("u1").await.expect("reads"), [change.wrapped.expect("a blob")]);
}

#[tokio::test]
async fn a_change_upon_an_old_revision_is_refused_and_nothing_of_it_is_written() {
    let folder = folder();
    let keystore = open(&folder.path().join("k.db")).await;
    keystore.commit(&key("u1", "a", 1, 0)).await.expect("commits");
    let late = keystore.commit(&key("u2", "b", 2, 0)).await;
    assert!(matches!(late, Err(KeystoreError::Moved(1))), "{late:?}");
    assert!(keystore.wrapped("u2").await.expect("reads").is_empty());
    let skipping = Change { upon: 1, ..key("u2", "b", 2, 5) };
    assert!(keystore.commit(&skipping).await.is_err());
    assert_eq!(keystore.revision().await.expect("reads"), 1);
}

#[tokio::test]
async fn names_and_numbers_are_unique_and_a_refused_change_leaves_nothing() {
    let folder = folder();
    let keystore = open(&folder.path().join("k.db")).await;
    keystore.commit(&key("u1", "a", 1, 0)).await.expect("commits");
    let same_name = keystore.commit(&key("u2", "a", 2, 1)).await;
    assert!(matches!(same_name, Err(KeystoreError::Taken(Taken::Name))), "{same_name:?}");
    let same_number = keystore.commit(&key("u3", "c", 1, 1)).await;
    assert!(matches!(same_number, Err(KeystoreError::Taken(Taken::Number))), "{same_number:?}");
    let mut same_blob = key("u1", "a", 1, 1);
    same_blob.document.signed.body = b"changed".to_vec();
    let same_blob = keystore.commit(&same_blob).await;
    assert!(matches!(same_blob, Err(KeystoreError::Taken(Taken::Id))), "{same_blob:?}");
    assert_eq!(keystore.revision().await.expect("reads"), 1);
    let kept = keystore.document(DocumentKind::Key, By::Id("u1")).await.expect("reads");
    assert_eq!(kept.expect("there").signed.body, b"u1 1");
}

#[tokio::test]
async fn the_site_s_row_is_written_once() {
    let folder = folder();
    let keystore = open(&folder.path().join("k.db")).await;
    let row = keystore.site().await.expect("reads").expect("there");
    let again = keystore.init_site(&row).await;
    assert!(matches!(again, Err(KeystoreError::Taken(Taken::Id))), "{again:?}");
    assert_eq!(row.keys, b"keys");
}

#[tokio::test]
async fn changes_and_lists_come_in_order_and_in_pages() {
    let folder = folder();
    let keystore = open(&folder.path().join("k.db")).await;
    for (upon, name) in ["d", "b", "a", "c"].into_iter().enumerate() {
        let number = u32::try_from(upon).expect("small") + 10;
        let change = key(&format!("u{name}"), name, number, upon as u64);
        keystore.commit(&change).await.expect("commits");
    }
    let names = |rows: Vec<DocumentRow>| rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
    let changes = async |since, limit| names(keystore.changes(since, limit).await.expect("reads"));
    assert_eq!(changes(0, 10).await, ["d", "b", "a", "c"]);
    assert_eq!(changes(1, 2).await, ["b", "a"]);
    assert_eq!(changes(4, 2).await, Vec::<String>::new());
    let list = async |after: &'static str, limit| {
        names(keystore.list(DocumentKind::Key, after, limit).await.expect("reads"))
    };
    assert_eq!(list("", 2).await, ["a", "b"]);
    assert_eq!(list("b", 9).await, ["c", "d"]);
}

#[tokio::test]
async fn the_next_free_index_is_found_also_when_the_highest_is_taken() {
    let folder = folder();
    let keystore = open(&folder.path().join("k.db")).await;
    let free = async || keystore.free_index(5, 8).await.expect("reads");
    assert_eq!(free().await, Some(5));
    for (upon, number) in [2, 5, 6, 8].into_iter().enumerate() {
        let change = key(&format!("u{number}"), &format!("k{number}"), number, upon as u64);
        keystore.commit(&change).await.expect("commits");
    }
    assert_eq!(free().await, Some(7));
    keystore.commit(&key("u7", "k7", 7, 4)).await.expect("commits");
    assert_eq!(free().await, None);
    assert_eq!(keystore.free_index(1, 8).await.expect("reads"), Some(1));
}

#[tokio::test]
async fn a_schema_of_a_newer_program_is_refused() {
    let folder = folder();
    let path = folder.path().join("k.db");
    open(&path).await.close().await;
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

/// A blob under a root key.
fn blob(root: u8, rest: u8) -> Vec<u8> {
    [vec![1], vec![root; 16], vec![rest; 60]].concat()
}

#[tokio::test]
async fn wrapped_keys_are_moved_to_another_root_key_page_by_page() {
    let folder = folder();
    let keystore = open(&folder.path().join("k.db")).await;
    for number in 0..5_u8 {
        let id = format!("u{number}");
        let mut change = key(&id, &id, u32::from(number) + 1, u64::from(number));
        change.wrapped.as_mut().expect("a key").blob = blob(1, number);
        keystore.commit(&change).await.expect("commits");
    }
    let (old, new) = (RootKeyId::from_bytes([1; 16]), RootKeyId::from_bytes([2; 16]));
    assert_eq!(keystore.count_elsewhere(old).await.expect("counts"), 0);
    assert_eq!(keystore.count_elsewhere(new).await.expect("counts"), 5);
    let page = keystore.wrapped_elsewhere(new, None, 2).await.expect("reads");
    let ids: Vec<_> = page.iter().map(|row| (row.uid.as_str(), row.version)).collect();
    assert_eq!(ids, [("u0", 1), ("u1", 1)]);
    let page = keystore.wrapped_elsewhere(new, Some(("u1", 1)), 10).await.expect("reads");
    assert_eq!(page.len(), 3);
    let moved = |row: &WrappedRow, old: Vec<u8>| Rewrapped {
        uid: row.uid.clone(),
        version: row.version,
        old,
        new: blob(2, 9),
    };
    // One of them was changed in between, and is left alone.
    let moves = [moved(&page[0], page[0].blob.clone()), moved(&page[1], blob(1, 77))];
    assert_eq!(keystore.rewrap(&moves).await.expect("moves"), 1);
    assert_eq!(keystore.count_elsewhere(new).await.expect("counts"), 4);
    assert_eq!(keystore.wrapped("u2").await.expect("reads")[0].blob, blob(2, 9));
    assert_eq!(keystore.wrapped("u3").await.expect("reads")[0].blob, blob(1, 3));
}

#[tokio::test]
async fn one_rotation_at_a_time_is_noted_and_survives_a_restart() {
    let folder = folder();
    let path = folder.path().join("k.db");
    let keystore = open(&path).await;
    assert_eq!(keystore.rotation().await.expect("reads"), None);
    let (old, new) = (RootKeyId::from_bytes([1; 16]), RootKeyId::from_bytes([2; 16]));
    let note = RotationRow { old, new, wrapped: blob(2, 1), done: false };
    keystore.begin_rotation(&note).await.expect("noted");
    let again = keystore.begin_rotation(&note).await;
    assert!(matches!(again, Err(KeystoreError::Taken(_))), "{again:?}");
    keystore.close().await;
    let keystore = open(&path).await;
    assert_eq!(keystore.rotation().await.expect("reads"), Some(note));
    let other = RootKeyId::from_bytes([9; 16]);
    keystore.end_rotation(other).await.expect("not this one");
    assert!(!keystore.rotation().await.expect("reads").expect("noted").done);
    keystore.end_rotation(new).await.expect("ended");
    let over = RotationRow { old, new, wrapped: Vec::new(), done: true };
    assert_eq!(keystore.rotation().await.expect("reads"), Some(over));
    let next = RotationRow { old: new, new: other, wrapped: blob(9, 1), done: false };
    keystore.begin_rotation(&next).await.expect("noted");
    assert_eq!(keystore.rotation().await.expect("reads"), Some(next));
    let same = RotationRow { old, new: old, wrapped: blob(1, 1), done: false };
    assert!(keystore.begin_rotation(&same).await.is_err());
}

#[tokio::test]
async fn the_site_s_row_is_replaced_only_if_it_is_the_one_that_was_read() {
    let folder = folder();
    let keystore = open(&folder.path().join("k.db")).await;
    let new = SiteRow { keys: b"new".to_vec(), decoy: signed(DocumentKind::App, "decoy", 0) };
    assert!(!keystore.replace_site(b"other", &new).await.expect("asked"));
    assert!(keystore.replace_site(b"keys", &new).await.expect("asked"));
    assert_eq!(keystore.site().await.expect("reads"), Some(new));
}
