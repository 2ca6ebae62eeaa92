//! What every keystore does, run over SQLite and over MariaDB.

#[path = "support/mariadb.rs"]
mod mariadb;
#[path = "support/place.rs"]
mod place;

use std::io::{BufReader, Cursor};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use place::{Place, over_both, signed, site};
use sealwire_engine::RootKeyId;
use sealwire_engine::document::DocumentKind;
use sealwire_keystore::transfer::{self, TransferError};
use sealwire_keystore::{
    AuditChain, AuditFilter, AuditPlace, AuditRow, By, Change, DocumentRow, Keystore,
    KeystoreError, Reservation, Rewrapped, RotationRow, SiteRow, Taken, WrappedRow,
};

over_both!(
    what_was_committed_is_there_after_a_restart,
    a_change_upon_an_old_revision_is_refused_and_nothing_of_it_is_written,
    names_and_numbers_are_unique_and_a_refused_change_leaves_nothing,
    names_are_bytes_and_an_old_name_is_free_again,
    of_many_writers_each_commit_is_upon_the_one_before,
    the_site_s_row_is_written_once,
    changes_and_lists_come_in_order_and_in_pages,
    many_keys_are_read_at_once,
    the_next_free_index_is_found_also_when_the_highest_is_taken,
    wrapped_keys_are_moved_to_another_root_key_page_by_page,
    one_rotation_at_a_time_is_noted_and_survives_a_restart,
    the_site_s_row_is_replaced_only_if_it_is_the_one_that_was_read,
    what_is_due_comes_in_order,
    a_version_is_erased_with_the_change_that_says_so,
    blocks_of_messages_are_never_counted_too_low,
    a_closed_version_has_no_messages_left,
    an_export_is_imported_once_and_closed,
    a_changed_or_cut_off_export_is_not_imported,
    a_change_and_its_record_are_written_together_or_not_at_all,
    records_are_found_by_chain_and_by_time,
    rows_of_another_form_hide_nothing,
);

fn key(id: &str, name: &str, number: u32, upon: u64) -> Change {
    Change {
        upon,
        document: DocumentRow {
            signed: signed(DocumentKind::Key, id, upon + 1),
            name: name.into(),
            number: Some(number),
            due: None,
        },
        wrapped: Some(WrappedRow { uid: id.into(), version: 1, blob: vec![9; 77] }),
        erased: Vec::new(),
        audit: record(SEQUENCE.fetch_add(1, Ordering::Relaxed), 0),
    }
}

/// The place of the next record that comes with a change.
static SEQUENCE: AtomicI64 = AtomicI64::new(1);

fn record(sequence: i64, at: i64) -> AuditRow {
    AuditRow {
        writer: "manager-0707070707070707".into(),
        sequence,
        at,
        event: "changed".into(),
        body: format!("record {sequence}").into_bytes(),
        mac: [8; 32],
    }
}

async fn what_was_committed_is_there_after_a_restart(place: Place) {
    let keystore = place.open().await;
    let change = key("u1", "聊天", 7, 0);
    keystore.commit(&change).await.expect("commits");
    assert_eq!(keystore.committed().newest(), 1);
    keystore.close().await;
    let keystore = place.open().await;
    assert_eq!(keystore.revision().await.expect("reads"), 1);
    assert_eq!(keystore.committed().newest(), 1);
    for by in [By::Id("u1"), By::Name("聊天"), By::Number(7)] {
        let found = keystore.document(DocumentKind::Key, by).await.expect("reads");
        assert_eq!(found.as_ref(), Some(&change.document), "{by:?}");
    }
    assert_eq!(keystore.document(DocumentKind::App, By::Name("聊天")).await.expect("reads"), None);
    assert_eq!(keystore.wrapped(&["u1"]).await.expect("reads"), [change.wrapped.expect("a blob")]);
}

async fn a_change_upon_an_old_revision_is_refused_and_nothing_of_it_is_written(place: Place) {
    let keystore = place.open().await;
    keystore.commit(&key("u1", "a", 1, 0)).await.expect("commits");
    let late = keystore.commit(&key("u2", "b", 2, 0)).await;
    assert!(matches!(late, Err(KeystoreError::Moved(1))), "{late:?}");
    assert!(keystore.wrapped(&["u2"]).await.expect("reads").is_empty());
    let skipping = Change { upon: 1, ..key("u2", "b", 2, 5) };
    assert!(keystore.commit(&skipping).await.is_err());
    assert_eq!(keystore.revision().await.expect("reads"), 1);
}

async fn names_and_numbers_are_unique_and_a_refused_change_leaves_nothing(place: Place) {
    let keystore = place.open().await;
    // Names that look like what a database says of a key.
    keystore.commit(&key("u1", "document_number", 1, 0)).await.expect("commits");
    let same_name = keystore.commit(&key("u2", "document_number", 2, 1)).await;
    assert!(matches!(same_name, Err(KeystoreError::Taken(Taken::Name))), "{same_name:?}");
    let same_number = keystore.commit(&key("u3", "for key 'document_name'", 1, 1)).await;
    assert!(matches!(same_number, Err(KeystoreError::Taken(Taken::Number))), "{same_number:?}");
    let mut same_blob = key("u1", "a", 1, 1);
    same_blob.document.signed.body = b"changed".to_vec();
    let same_blob = keystore.commit(&same_blob).await;
    assert!(matches!(same_blob, Err(KeystoreError::Taken(Taken::Id))), "{same_blob:?}");
    assert_eq!(keystore.revision().await.expect("reads"), 1);
    let kept = keystore.document(DocumentKind::Key, By::Id("u1")).await.expect("reads");
    assert_eq!(kept.expect("there").signed.body, b"u1 1");
}

async fn names_are_bytes_and_an_old_name_is_free_again(place: Place) {
    let keystore = place.open().await;
    for (upon, name) in ["a", "A", "ä", "a ", "聊天", "聊天 "].into_iter().enumerate() {
        let number = u32::try_from(upon).expect("small") + 1;
        keystore.commit(&key(&format!("u{number}"), name, number, upon as u64)).await.expect(name);
    }
    let renamed = Change { wrapped: None, ..key("u1", "b", 1, 6) };
    keystore.commit(&renamed).await.expect("renamed");
    let found = keystore.document(DocumentKind::Key, By::Name("A")).await.expect("reads");
    assert_eq!(found.expect("there").signed.id, "u2");
    keystore.commit(&key("u7", "a", 7, 7)).await.expect("the name is free");
}

async fn of_many_writers_each_commit_is_upon_the_one_before(place: Place) {
    let mut writers = tokio::task::JoinSet::new();
    drop(place.open().await);
    for writer in 0..3_u32 {
        let keystore = place.open().await;
        writers.spawn(async move {
            for turn in 0..20_u32 {
                let number = 1 + writer * 100 + turn;
                loop {
                    let upon = keystore.revision().await.expect("reads");
                    let name = format!("k{number}");
                    match keystore.commit(&key(&name, &name, number, upon)).await {
                        Ok(()) => break,
                        Err(KeystoreError::Moved(_)) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.expect("wrote");
    }
    let keystore = place.open().await;
    let revisions: Vec<u64> = keystore
        .changes(1, 1000)
        .await
        .expect("reads")
        .rows
        .iter()
        .map(|row| row.signed.revision)
        .collect();
    assert_eq!(revisions, (1..=60).collect::<Vec<u64>>());
}

async fn the_site_s_row_is_written_once(place: Place) {
    let keystore = place.open().await;
    let row = keystore.site().await.expect("reads").expect("there");
    let again = keystore.init_site(&row).await;
    assert!(matches!(again, Err(KeystoreError::Taken(Taken::Id))), "{again:?}");
    assert_eq!(row.keys, b"keys");
}

async fn changes_and_lists_come_in_order_and_in_pages(place: Place) {
    let keystore = place.open().await;
    for (upon, name) in ["d", "b", "a", "c"].into_iter().enumerate() {
        let number = u32::try_from(upon).expect("small") + 10;
        let change = key(&format!("u{name}"), name, number, upon as u64);
        keystore.commit(&change).await.expect("commits");
    }
    let names = |rows: Vec<DocumentRow>| rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
    let changes =
        async |since, limit| names(keystore.changes(since, limit).await.expect("reads").rows);
    assert_eq!(changes(0, 10).await, ["d", "b", "a", "c"]);
    assert_eq!(changes(2, 2).await, ["b", "a"]);
    assert_eq!(changes(4, 2).await, ["c"]);
    assert_eq!(changes(5, 2).await, Vec::<String>::new());
    let page = keystore.changes(2, 2).await.expect("reads");
    assert_eq!(page.next, Some(4), "there may be more");
    assert_eq!(names(keystore.newest(2).await.expect("reads").rows), ["c", "a"]);
    let list = async |after: &'static str, limit| {
        names(keystore.list(DocumentKind::Key, after, limit).await.expect("reads").rows)
    };
    assert_eq!(list("", 2).await, ["a", "b"]);
    assert_eq!(list("b", 9).await, ["c", "d"]);
}

async fn many_keys_are_read_at_once(place: Place) {
    let keystore = place.open().await;
    for number in 1..=5_u32 {
        let id = format!("u{number}");
        keystore.commit(&key(&id, &id, number, u64::from(number) - 1)).await.expect("commits");
    }
    let mut found = keystore.keys(&[5, 3, 9, 1, 3]).await.expect("reads");
    found.sort_by_key(|row| row.number);
    let numbers: Vec<_> = found.iter().filter_map(|row| row.number).collect();
    assert_eq!(numbers, [1, 3, 5]);
    assert_eq!(keystore.keys(&[]).await.expect("reads"), []);
    assert_eq!(keystore.keys(&[77]).await.expect("reads"), []);
    let blobs = keystore.wrapped(&["u4", "none", "u2"]).await.expect("reads");
    let uids: Vec<_> = blobs.iter().map(|row| row.uid.as_str()).collect();
    assert_eq!(uids, ["u2", "u4"]);
}

async fn the_next_free_index_is_found_also_when_the_highest_is_taken(place: Place) {
    let keystore = place.open().await;
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

/// A blob under a root key.
fn blob(root: u8, rest: u8) -> Vec<u8> {
    [vec![1], vec![root; 16], vec![rest; 60]].concat()
}

async fn wrapped_keys_are_moved_to_another_root_key_page_by_page(place: Place) {
    let keystore = place.open().await;
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
    let blobs = keystore.wrapped(&["u2", "u3"]).await.expect("reads");
    assert_eq!((&blobs[0].blob, &blobs[1].blob), (&blob(2, 9), &blob(1, 3)));
}

async fn one_rotation_at_a_time_is_noted_and_survives_a_restart(place: Place) {
    let keystore = place.open().await;
    assert_eq!(keystore.rotation().await.expect("reads"), None);
    let (old, new) = (RootKeyId::from_bytes([1; 16]), RootKeyId::from_bytes([2; 16]));
    let note = RotationRow { old, new, wrapped: blob(2, 1), done: false };
    keystore.begin_rotation(&note).await.expect("noted");
    let again = keystore.begin_rotation(&note).await;
    assert!(matches!(again, Err(KeystoreError::Taken(_))), "{again:?}");
    keystore.close().await;
    let keystore = place.open().await;
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

async fn the_site_s_row_is_replaced_only_if_it_is_the_one_that_was_read(place: Place) {
    let keystore = place.open().await;
    let new = SiteRow { keys: b"new".to_vec(), ..site() };
    assert!(!keystore.replace_site(b"other", &new).await.expect("asked"));
    assert!(keystore.replace_site(b"keys", &new).await.expect("asked"));
    assert_eq!(keystore.site().await.expect("reads"), Some(new));
}

async fn what_is_due_comes_in_order(place: Place) {
    let keystore = place.open().await;
    for (upon, due) in [Some(50), None, Some(10), Some(99)].into_iter().enumerate() {
        let id = format!("u{upon}");
        let mut change = key(&id, &id, u32::try_from(upon).expect("small") + 1, upon as u64);
        change.document.due = due;
        keystore.commit(&change).await.expect("commits");
    }
    let due = async |now, limit| -> Vec<String> {
        let rows = keystore.due(now, "", limit).await.expect("reads").rows;
        rows.into_iter().map(|row| row.name).collect()
    };
    assert_eq!(due(9, 9).await, Vec::<String>::new());
    assert_eq!(due(98, 9).await, ["u0", "u2"]);
    assert_eq!(due(99, 1).await, ["u0"]);
    let behind = keystore.due(99, "u0", 1).await.expect("reads");
    assert_eq!((behind.rows[0].name.as_str(), behind.next.as_deref()), ("u2", Some("u2")));
    let mut done = Change { wrapped: None, ..key("u2", "u2", 3, 4) };
    done.document.due = None;
    keystore.commit(&done).await.expect("commits");
    assert_eq!(due(100, 9).await, ["u0", "u3"]);
}

async fn a_version_is_erased_with_the_change_that_says_so(place: Place) {
    let keystore = place.open().await;
    let mut first = key("u1", "a", 1, 0);
    first.wrapped.as_mut().expect("a key").blob = blob(1, 0xd1);
    keystore.commit(&first).await.expect("commits");
    let mut second = key("u1", "a", 1, 1);
    second.wrapped = Some(WrappedRow { uid: "u1".into(), version: 2, blob: blob(1, 0xd2) });
    keystore.commit(&second).await.expect("commits");
    keystore.reserve(&block("u1", 1, 5)).await.expect("reserves");
    let erasing = Change { wrapped: None, erased: vec![1], ..key("u1", "a", 1, 2) };
    let late = Change { upon: 1, ..erasing.clone() };
    assert!(keystore.commit(&late).await.is_err());
    assert_eq!(keystore.wrapped(&["u1"]).await.expect("reads").len(), 2, "nothing was erased");
    keystore.commit(&erasing).await.expect("commits");
    let left = keystore.wrapped(&["u1"]).await.expect("reads");
    assert_eq!(left.iter().map(|row| row.version).collect::<Vec<_>>(), [2]);
    assert_eq!(keystore.usage("u1").await.expect("reads"), []);
    if let Place::Sqlite(folder) = &place {
        let held = |file: &str| {
            let bytes = std::fs::read(folder.path().join(file)).unwrap_or_default();
            bytes.windows(60).any(|window| window == [0xd1; 60])
        };
        for _ in 0..100 {
            if !held("k.db") && !held("k.db-wal") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("a file holds what was erased");
    }
}

fn block(uid: &str, version: u32, count: u64) -> Reservation {
    Reservation { uid: uid.into(), version, suite: 1, count, limit: Some(1000), worn_at: 500 }
}

async fn blocks_of_messages_are_never_counted_too_low(place: Place) {
    let keystore = place.open().await;
    keystore.commit(&key("u1", "a", 1, 0)).await.expect("commits");
    let mut gateways = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let keystore = place.open().await;
        gateways.spawn(async move {
            let mut granted = 0;
            loop {
                match keystore.reserve(&block("u1", 1, 7)).await.expect("reserves") {
                    0 => return granted,
                    more => granted += more,
                }
            }
        });
    }
    let mut granted = 0;
    while let Some(done) = gateways.join_next().await {
        granted += done.expect("reserved");
    }
    assert_eq!(granted, 1000, "the limit, and not one more");
    let usage = keystore.usage("u1").await.expect("reads");
    assert_eq!((usage.len(), usage[0].reserved, usage[0].worn), (1, 1000, true));
    assert_eq!(keystore.worn("", 9).await.expect("reads").rows, usage);
    keystore.rested("u1", 1).await.expect("noted");
    assert_eq!(keystore.worn("", 9).await.expect("reads").rows, []);
    let other = Reservation { suite: 6, ..block("u1", 1, 9) };
    assert_eq!(
        keystore.reserve(&other).await.expect("reserves"),
        9,
        "each suite counts for itself"
    );
    assert_eq!(keystore.worn("", 9).await.expect("reads").rows, [], "not at its threshold");
    let missing = keystore.reserve(&block("u9", 1, 1)).await.expect("asked");
    assert_eq!(missing, 0, "a version without a row has nothing");
}

async fn a_closed_version_has_no_messages_left(place: Place) {
    let keystore = place.open().await;
    keystore.commit(&key("u1", "a", 1, 0)).await.expect("commits");
    assert_eq!(keystore.reserve(&block("u1", 1, 5)).await.expect("reserves"), 5);
    keystore.close_counted().await.expect("closes");
    assert_eq!(keystore.reserve(&block("u1", 1, 5)).await.expect("asked"), 0);
    assert!(keystore.worn("", 9).await.expect("reads").rows[0].worn, "the manager is told");
    let wish = Reservation { suite: 2, limit: None, ..block("u1", 1, 5000) };
    assert_eq!(keystore.reserve(&wish).await.expect("counts"), 5000, "for a renewal alone");
    let mut newer = key("u1", "a", 1, 1);
    newer.wrapped.as_mut().expect("a key").version = 2;
    keystore.commit(&newer).await.expect("commits");
    assert_eq!(keystore.reserve(&block("u1", 2, 5)).await.expect("reserves"), 5);
}

/// A keystore with something of everything.
async fn filled(place: &Place) -> Arc<dyn Keystore> {
    let keystore = place.open().await;
    for number in 1..=1200_u32 {
        let id = format!("u{number:04}");
        let mut change = key(&id, &format!("聊天 {number}"), number, u64::from(number) - 1);
        change.document.due = (number % 2 == 0).then_some(u64::from(number));
        keystore.commit(&change).await.expect("commits");
    }
    let mut app = key("ak_1", "an app", 1, 1200);
    (app.wrapped, app.document.number) = (None, None);
    app.document.signed.kind = DocumentKind::App;
    keystore.commit(&app).await.expect("commits");
    keystore.reserve(&block("u0007", 1, 600)).await.expect("reserves");
    let (old, new) = (RootKeyId::from_bytes([1; 16]), RootKeyId::from_bytes([2; 16]));
    let note = RotationRow { old, new, wrapped: blob(2, 1), done: false };
    keystore.begin_rotation(&note).await.expect("noted");
    keystore
}

async fn exported(keystore: &dyn Keystore) -> Vec<u8> {
    let mut out = Vec::new();
    let moved = transfer::export(keystore, &mut out, &|_| ()).await.expect("exports");
    assert_eq!((moved.documents, moved.wrapped, moved.usage), (1201, 1200, 1));
    out
}

async fn imported(keystore: &dyn Keystore, bytes: &[u8]) -> Result<(), TransferError> {
    let mut input = BufReader::new(Cursor::new(bytes.to_vec()));
    transfer::import(keystore, &mut input, &|_| ()).await.map(drop)
}

async fn an_export_is_imported_once_and_closed(place: Place) {
    let from = Box::pin(filled(&place)).await;
    let bytes = exported(&*from).await;
    // Into the other kind of database, and back into this one.
    let (other, back) = match place {
        Place::Sqlite(_) => (Place::mysql(), Place::sqlite()),
        Place::Mysql(_) => (Place::sqlite(), Place::mysql()),
    };
    let (middle, to) = (other.open_bare().await, back.open_bare().await);
    imported(&*middle, &bytes).await.expect("imports");
    let again = exported(&*middle).await;
    assert_eq!(again, bytes, "the same, byte by byte");
    imported(&*to, &again).await.expect("imports");
    for keystore in [&middle, &to] {
        assert_eq!(keystore.revision().await.expect("reads"), 1201);
        assert_eq!(
            keystore.changes(0, 2000).await.expect("reads"),
            from.changes(0, 2000).await.expect("reads")
        );
        assert_eq!(
            keystore.rotation().await.expect("reads"),
            from.rotation().await.expect("reads")
        );
        assert_eq!(keystore.reserve(&block("u0001", 1, 1)).await.expect("asked"), 0, "closed");
        let occupied = imported(&**keystore, &bytes).await;
        assert!(matches!(occupied, Err(TransferError::Occupied)), "{occupied:?}");
    }
}

async fn a_changed_or_cut_off_export_is_not_imported(place: Place) {
    let bytes = exported(&*Box::pin(filled(&place)).await).await;
    let target = match place {
        Place::Sqlite(_) => Place::sqlite(),
        Place::Mysql(_) => Place::mysql(),
    };
    let keystore = target.open_bare().await;
    let end = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("lines") + 1;
    let mut changed = bytes.clone();
    let place = changed.windows(5).position(|found| found == b"u0900").expect("a uid");
    changed[place + 4] = b'x';
    let without_one = {
        let line = bytes[..place].iter().rposition(|byte| *byte == b'\n').expect("lines") + 1;
        let next = line + bytes[line..].iter().position(|byte| *byte == b'\n').expect("ends") + 1;
        [&bytes[..line], &bytes[next..]].concat()
    };
    for (wrong, what) in [
        (&bytes[..end], "cut off"),
        (&bytes[..end - 9], "cut off"),
        (&changed, "checksum"),
        (&without_one, "checksum"),
        (&bytes[end..], "not an export"),
        (b"nonsense\n", "expected"),
        (&[bytes.as_slice(), b"more"].concat(), "follows the end"),
    ] {
        let refused = imported(&*keystore, wrong).await.expect_err(what);
        assert!(refused.to_string().contains(what), "{refused}");
        assert!(keystore.site().await.expect("reads").is_none());
    }
    imported(&*keystore, &changed).await.expect_err("changed");
    let early = keystore.init_site(&site()).await;
    assert!(matches!(early, Err(KeystoreError::Unfinished)), "{early:?}");
    imported(&*keystore, &bytes).await.expect("what was left of the others is gone");
    assert_eq!(keystore.changes(0, 2000).await.expect("reads").rows.len(), 1201);
}

async fn a_change_and_its_record_are_written_together_or_not_at_all(place: Place) {
    let keystore = place.open().await;
    let first = Change { audit: record(1, 5), ..key("u1", "one", 1, 0) };
    keystore.commit(&first).await.expect("commits");
    // A record whose place is taken: nothing of the change is written.
    let second = Change { audit: record(1, 6), ..key("u2", "two", 2, 1) };
    let refused = keystore.commit(&second).await;
    assert!(matches!(refused, Err(KeystoreError::Taken(Taken::Record))), "{refused:?}");
    assert_eq!(keystore.revision().await.expect("reads"), 1);
    assert_eq!(keystore.document(DocumentKind::Key, By::Id("u2")).await.expect("reads"), None);
    // A change that is refused: nothing of its record is written.
    let third = Change { audit: record(2, 7), ..key("u3", "one", 3, 1) };
    let refused = keystore.commit(&third).await;
    assert!(matches!(refused, Err(KeystoreError::Taken(Taken::Name))), "{refused:?}");
    let chains = keystore.chains().await.expect("reads");
    let only = AuditChain { writer: record(1, 0).writer, newest: 1, count: 1 };
    assert_eq!(chains, std::slice::from_ref(&only));
    assert_eq!(keystore.writers().await.expect("reads"), [only.writer]);
    // Of several records, all or none.
    let refused = keystore.append(&[record(2, 8), record(1, 9)]).await;
    assert!(matches!(refused, Err(KeystoreError::Taken(Taken::Record))), "{refused:?}");
    assert_eq!(keystore.record(&record(1, 0).writer, 2).await.expect("reads"), None);
    keystore.append(&[record(2, 8), record(3, 9)]).await.expect("appends");
    let newest = keystore.newest_records(&record(1, 0).writer, 2).await.expect("reads");
    assert_eq!(newest, [record(3, 9), record(2, 8)]);
}

async fn records_are_found_by_chain_and_by_time(place: Place) {
    let keystore = place.open().await;
    let of_gateway = |sequence, at| AuditRow {
        writer: "gateway-0606060606060606".into(),
        event: "used".into(),
        ..record(sequence, at)
    };
    let own: Vec<_> = (1..=5).map(|sequence| record(sequence, sequence * 10)).collect();
    let others: Vec<_> = (1..=5).map(|sequence| of_gateway(sequence, sequence * 10)).collect();
    keystore.append(&own).await.expect("appends");
    keystore.append(&others).await.expect("appends");
    let chain = keystore.chain(&own[0].writer, 2, 2).await.expect("reads");
    assert_eq!(chain, own[2..4]);
    // Page by page, the newest first: each record once.
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let filter = AuditFilter { from: 20, until: 49, ..AuditFilter::default() };
        let page = keystore.newest_first(&filter, before.as_ref(), 4).await.expect("reads");
        let Some(last) = page.last() else { break };
        let AuditRow { writer, sequence, at, .. } = last;
        before = Some(AuditPlace { at: *at, writer: writer.clone(), sequence: *sequence });
        found.extend(page);
    }
    let expected = (2..=4).rev().flat_map(|n| [record(n, n * 10), of_gateway(n, n * 10)]);
    assert_eq!(found, expected.collect::<Vec<_>>());
    let filter = AuditFilter { events: vec!["used".into()], ..AuditFilter::default() };
    let used = keystore.newest_first(&filter, None, 10).await.expect("reads");
    assert_eq!(used, others.into_iter().rev().collect::<Vec<_>>());
    let filter = AuditFilter { writer: Some(own[0].writer.clone()), ..AuditFilter::default() };
    assert_eq!(keystore.newest_first(&filter, None, 10).await.expect("reads").len(), 5);
}

/// What somebody else has put there is shown as it is: who checks it says what is wrong.
async fn rows_of_another_form_hide_nothing(place: Place) {
    let keystore = place.open().await;
    let odd =
        |writer: &str, sequence, at| AuditRow { writer: writer.into(), ..record(sequence, at) };
    let mut rows = vec![record(1, 10), record(0, 11), record(-5, -12), record(i64::MIN + 1, 13)];
    rows.extend([odd("", 1, 14), odd("a/b c", -1, 15)]);
    keystore.append(&rows).await.expect("appends");
    let own = &rows[0].writer;
    let chain = keystore.chain(own, i64::MIN, 10).await.expect("reads");
    let places: Vec<_> = chain.iter().map(|row| row.sequence).collect();
    assert_eq!(places, [i64::MIN + 1, -5, 0, 1]);
    let chains = keystore.chains().await.expect("reads");
    let found: Vec<_> = chains.iter().map(|chain| (chain.writer.as_str(), chain.count)).collect();
    assert_eq!(found, [("", 1), ("a/b c", 1), (own.as_str(), 4)]);
    let all = keystore.newest_first(&AuditFilter::default(), None, 10).await.expect("reads");
    assert_eq!(all.len(), 6);
}
