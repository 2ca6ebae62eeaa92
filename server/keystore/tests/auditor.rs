//! A chain is written whole, whatever happens between its keystore and its notes: each note becomes one record.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use sealwire_engine::audit::{
    AuditActor, AuditEvent, AuditHash, AuditHead, AuditProof, AuditRecord, AuditWriter,
    AuditWriterKind,
};
use sealwire_engine::{Engine, EngineConfig, EngineError, GatewayRole, ManagerRole, RootKey, Site};
use sealwire_keystore::audit::{
    AuditError, AuditLimits, AuditSettings, Auditor, SignedHead, SiteSource,
};
use sealwire_keystore::{AuditRow, Keystore, SqliteKeystore};
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A keystore, an engine, and the data folder of a manager.
struct World {
    folder: TempDir,
    keystore: Arc<dyn Keystore>,
    engine: Arc<Engine>,
    manager: ManagerRole,
    site: Site,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keystore = SqliteKeystore::open(&folder.path().join("keystore.db")).await;
        let engine = Engine::new(&EngineConfig::default(), || 1_000_000).expect("memory");
        engine.open(RootKey::generate(engine.vault()).expect("random"));
        let manager = ManagerRole::new(engine.clone());
        let site = manager.make_site().await.expect("a site");
        Self { folder, keystore: Arc::new(keystore.expect("opens")), engine, manager, site }
    }

    fn settings(&self, limits: AuditLimits) -> AuditSettings {
        let folder = self.folder.path().to_owned();
        AuditSettings { heads: folder.join("heads"), folder, limits }
    }

    async fn auditor(&self) -> Arc<Auditor> {
        let settings = self.settings(AuditLimits::default());
        let opened = Auditor::open(&settings, self.manager.audit(), self.keystore.clone()).await;
        opened.expect("opens")
    }

    /// The chain, each record of which the engine has signed, and which has no gap.
    async fn chain(&self, auditor: &Auditor) -> Vec<AuditRecord> {
        let writer = auditor.head().await.writer;
        let rows = self.keystore.chain(&writer.to_string(), 0, 10_000).await.expect("reads");
        let mut head = AuditHead::none(writer);
        let mut records = Vec::new();
        for row in rows {
            let proof = AuditProof { is_head: false, body: &row.body, mac: row.mac };
            let bad = self.manager.check_audit(&self.site, &[proof]).await.expect("open");
            assert_eq!(bad, None, "record {}", row.sequence);
            let record = AuditRecord::decode(&row.body).expect("a record");
            assert!(record.follows(&head), "record {}", row.sequence);
            head = AuditHead::of(&record, &row.body);
            records.push(record);
        }
        records
    }
}

fn done(act: &str) -> AuditEvent {
    AuditEvent::Done { by: AuditActor::Manager, act: act.into(), detail: None }
}

/// The acts that records tell of.
fn acts(records: &[AuditRecord]) -> Vec<&str> {
    let act = |record: &'_ AuditRecord| match &record.event {
        AuditEvent::Done { act, .. } => Some(act.clone()),
        _ => None,
    };
    let known = ["one", "two", "three", "four"];
    let found = records.iter().filter_map(act);
    found.map(|act| *known.iter().find(|known| **known == act).expect("one of these")).collect()
}

fn copy(folder: &Path, from: &str, to: &str) {
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (format!("{from}{suffix}"), format!("{to}{suffix}"));
        let _ = std::fs::remove_file(folder.join(&to));
        if folder.join(&from).exists() {
            std::fs::copy(folder.join(from), folder.join(to)).expect("copied");
        }
    }
}

#[tokio::test]
async fn a_note_becomes_one_record_also_when_the_process_dies_before_it_knows() {
    let world = World::new().await;
    let auditor = world.auditor().await;
    auditor.note(done("one")).await.expect("noted");
    auditor.note(done("two")).await.expect("noted");
    // As it lies on the disk at this moment.
    copy(world.folder.path(), "audit-manager.db", "kept");
    drop(auditor.begin(&world.site).await.expect("recorded"));
    assert_eq!(acts(&world.chain(&auditor).await), ["one", "two"]);
    drop(auditor);

    copy(world.folder.path(), "kept", "audit-manager.db");
    let auditor = world.auditor().await;
    auditor.note(done("three")).await.expect("noted");
    drop(auditor.begin(&world.site).await.expect("recorded"));
    assert_eq!(acts(&world.chain(&auditor).await), ["one", "two", "three"]);
}

#[tokio::test]
async fn where_somebody_else_has_put_a_record_another_chain_begins() {
    let world = World::new().await;
    let auditor = world.auditor().await;
    auditor.note(done("one")).await.expect("noted");
    drop(auditor.begin(&world.site).await.expect("recorded"));
    let head = auditor.head().await;
    auditor.note(done("two")).await.expect("noted");
    let forged = AuditRecord {
        writer: head.writer,
        sequence: head.sequence + 1,
        at: head.at,
        previous: head.hash,
        note: Some(1_000_000),
        event: done("three"),
    };
    let row = AuditRow {
        writer: head.writer.to_string(),
        sequence: i64::try_from(forged.sequence).expect("small"),
        at: i64::try_from(forged.at).expect("small"),
        event: "done".into(),
        body: forged.encode().expect("sound"),
        mac: [0; 32],
    };
    world.keystore.append(std::slice::from_ref(&row)).await.expect("put there");
    // Its place is taken: it goes on with another chain, which says how far this one went.
    drop(auditor.begin(&world.site).await.expect("recorded"));
    let rows = world.keystore.chain(&row.writer, 0, 10).await.expect("reads");
    assert_eq!(rows.last(), Some(&row), "nothing is built upon it");
    let other = world.chain(&auditor).await;
    assert_ne!(other[0].writer, head.writer);
    assert_eq!(acts(&other), ["two"]);
    let tells = |record: &AuditRecord| record.event == AuditEvent::Heads { heads: vec![head] };
    assert!(other.iter().any(tells), "{other:?}");

    // Also when it is at the end of all places, where no other would fit behind it.
    let head = auditor.head().await;
    let last = AuditRow { writer: head.writer.to_string(), sequence: i64::MAX, ..row.clone() };
    let next = i64::try_from(head.sequence).expect("small") + 1;
    let in_the_way = AuditRow { sequence: next, ..last.clone() };
    world.keystore.append(&[last, in_the_way]).await.expect("put there");
    auditor.note(done("four")).await.expect("noted");
    drop(auditor.begin(&world.site).await.expect("recorded"));
    assert_eq!(acts(&world.chain(&auditor).await), ["four"]);
}

#[tokio::test]
async fn two_processes_with_the_same_folder_take_no_note_from_each_other() {
    let world = World::new().await;
    let one = world.auditor().await;
    drop(one.begin(&world.site).await.expect("recorded"));
    // A machine that was copied while it ran: the same writer.
    let copy_of = tempfile::tempdir().expect("a folder");
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("audit-manager.db{suffix}");
        let _ = std::fs::copy(world.folder.path().join(&name), copy_of.path().join(&name));
    }
    let settings = AuditSettings {
        folder: copy_of.path().to_owned(),
        heads: copy_of.path().join("heads"),
        limits: AuditLimits::default(),
    };
    let other = Auditor::open(&settings, world.manager.audit(), world.keystore.clone()).await;
    let other = other.expect("opens");
    one.note(done("one")).await.expect("noted");
    other.note(done("two")).await.expect("noted");
    drop(one.begin(&world.site).await.expect("recorded"));
    drop(other.begin(&world.site).await.expect("recorded"));
    one.note(done("three")).await.expect("noted");
    drop(one.begin(&world.site).await.expect("recorded"));
    let (of_one, of_other) = (world.chain(&one).await, world.chain(&other).await);
    assert_ne!(of_one[0].writer, of_other[0].writer);
    assert_eq!((acts(&of_one), acts(&of_other)), (vec!["one", "three"], vec!["two"]));
}

#[tokio::test]
async fn notes_are_recorded_once_also_when_what_was_recorded_cannot_be_noted() {
    let world = World::new().await;
    let auditor = world.auditor().await;
    let path = world.folder.path().join("audit-manager.db");
    let url = format!("sqlite:{}", path.display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.expect("opens");
    auditor.note(done("one")).await.expect("noted");
    let refuse = "CREATE TRIGGER full BEFORE DELETE ON note BEGIN SELECT RAISE(FAIL, 'full'); END";
    sqlx::raw_sql(refuse).execute(&mut other).await.expect("runs");
    for _ in 0..3 {
        auditor.begin(&world.site).await.map(drop).expect_err("cannot be noted");
    }
    sqlx::raw_sql("DROP TRIGGER full").execute(&mut other).await.expect("runs");
    auditor.note(done("two")).await.expect("noted");
    // A record that is written together with a change, whose writing nobody has heard of.
    let mut appending = auditor.begin(&world.site).await.expect("begins");
    let row = appending.next(done("three")).await.expect("signed");
    drop(appending);
    world.keystore.append(&[row]).await.expect("written");
    auditor.note(done("four")).await.expect("noted");
    drop(auditor.begin(&world.site).await.expect("recorded"));
    assert_eq!(acts(&world.chain(&auditor).await), ["one", "two", "three", "four"]);
}

#[tokio::test]
async fn where_the_end_was_cut_off_a_gap_stays() {
    let world = World::new().await;
    let auditor = world.auditor().await;
    for act in ["one", "two"] {
        auditor.note(done(act)).await.expect("noted");
        drop(auditor.begin(&world.site).await.expect("recorded"));
    }
    let known = auditor.head().await;
    drop(auditor);
    // The keystore as it was before anything was recorded.
    let other = SqliteKeystore::open(&world.folder.path().join("other.db")).await.expect("opens");
    let world = World { keystore: Arc::new(other), ..world };
    let auditor = world.auditor().await;
    auditor.note(done("three")).await.expect("noted");
    drop(auditor.begin(&world.site).await.expect("recorded"));
    let writer = known.writer.to_string();
    let rows = world.keystore.chain(&writer, 0, 10).await.expect("reads");
    let next = i64::try_from(known.sequence).expect("small") + 1;
    assert_eq!(rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), [next]);
    let record = AuditRecord::decode(&rows[0].body).expect("a record");
    assert_eq!(record.previous, known.hash);
}

#[tokio::test]
async fn refusals_do_not_take_the_place_of_others_and_what_is_lost_is_told() {
    let world = World::new().await;
    let limits = AuditLimits { notes: 4096, refusals: 4096 };
    let settings = world.settings(limits);
    let auditor = Auditor::open(&settings, world.manager.audit(), world.keystore.clone()).await;
    let auditor = auditor.expect("opens");
    let refused =
        || AuditEvent::LoginRefused { who: "x".repeat(100), from: None, why: "no".repeat(40) };
    let mut refusals = 0;
    while auditor.note(refused()).await.is_ok() {
        refusals += 1;
    }
    assert!((4..30).contains(&refusals), "{refusals}");
    // There is room for what is no refusal.
    auditor.note(done("one")).await.expect("noted");
    let mut filled = 0;
    let full = loop {
        match auditor.note(done("two")).await {
            Ok(()) => filled += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, AuditError::Full), "{full}");
    // What nobody waits for is counted, and recorded as lost.
    for _ in 0..5 {
        auditor.tell(done("three"));
    }
    world.engine.seal();
    let stop = CancellationToken::new();
    let source = Arc::new(Keys(None));
    let run = tokio::spawn(auditor.clone().run(source, stop.clone()));
    while auditor.health().lost < 5 {
        tokio::task::yield_now().await;
    }
    // The next turn has room for saying so.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    stop.cancel();
    run.await.expect("ends");
    assert!(auditor.health().waiting_bytes > 4096);
    drop(auditor);

    let engine = Engine::new(&EngineConfig::default(), || 1_000_000).expect("memory");
    engine.open(RootKey::generate(engine.vault()).expect("random"));
    let manager = ManagerRole::new(engine.clone());
    let site = manager.make_site().await.expect("a site");
    let world = World { engine, manager, site, ..world };
    let auditor = world.auditor().await;
    drop(auditor.begin(&world.site).await.expect("recorded"));
    let records = world.chain(&auditor).await;
    assert_eq!(acts(&records), [vec!["one"], vec!["two"; filled]].concat());
    let told = records.iter().filter(|record| record.event.is_refusal()).count();
    assert_eq!(told, refusals);
    let lost = records.iter().filter_map(|record| match record.event {
        AuditEvent::Lost { notes } => Some(notes),
        _ => None,
    });
    assert!(lost.sum::<u64>() >= 5, "as many as there were, and what the start would have said");
}

/// The site's keys, or that they cannot be had.
struct Keys(Option<Arc<Site>>);

#[async_trait]
impl SiteSource for Keys {
    async fn site(&self) -> Option<Arc<Site>> {
        self.0.clone()
    }
}

#[tokio::test]
async fn without_heads_elsewhere_nothing_is_managed_for_long() {
    let world = World::new().await;
    let settings = AuditSettings {
        heads: world.folder.path().join("missing").join("heads"),
        ..world.settings(AuditLimits::default())
    };
    let auditor = Auditor::open(&settings, world.manager.audit(), world.keystore.clone()).await;
    let auditor = auditor.expect("opens");
    let mut records = 0;
    let refused = loop {
        auditor.note(done("one")).await.expect("noted");
        match auditor.begin(&world.site).await {
            Ok(_) => records += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AuditError::Heads(_)), "{refused}");
    assert!(records > 1000, "{records}");
    std::fs::create_dir(settings.heads.parent().expect("a folder")).expect("made");
    let (stop, source) =
        (CancellationToken::new(), Arc::new(Keys(Some(Arc::new(world.site.clone())))));
    let run = tokio::spawn(auditor.clone().run(source, stop.clone()));
    while auditor.health().behind > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    drop(auditor.begin(&world.site).await.expect("managed again"));
    stop.cancel();
    run.await.expect("ends");
    // What it has told is what the chain leads to.
    let text = std::fs::read_to_string(&settings.heads).expect("heads");
    let last: SignedHead = serde_json::from_str(text.lines().last().expect("one")).expect("a head");
    assert_eq!(last.head, auditor.head().await);
    let body = last.head.encode();
    let proof = AuditProof { is_head: true, body: &body, mac: last.mac };
    assert_eq!(world.manager.check_audit(&world.site, &[proof]).await.expect("open"), None);
    // A head's MAC is none over a record.
    let proof = AuditProof { is_head: false, ..proof };
    assert_eq!(world.manager.check_audit(&world.site, &[proof]).await.expect("open"), Some(0));
}

#[tokio::test]
async fn each_kind_of_process_has_its_own_records_signed_and_no_others() {
    let world = World::new().await;
    let gateway = GatewayRole::new(world.engine.clone()).audit();
    let manager = world.manager.audit();
    let record = |kind, event| AuditRecord {
        writer: AuditWriter { kind, id: [1; 8] },
        sequence: 1,
        at: 1,
        previous: AuditHash::default(),
        note: None,
        event,
    };
    let used = AuditEvent::Used { minute: 0, counts: Vec::new() };
    let own = [
        (&gateway, record(AuditWriterKind::Gateway, used.clone())),
        (&manager, record(AuditWriterKind::Manager, done("one"))),
    ];
    for (role, record) in &own {
        role.sign(&world.site, std::slice::from_ref(record)).await.expect("its own");
    }
    for (role, record) in [
        (&gateway, record(AuditWriterKind::Manager, done("one"))),
        (&gateway, record(AuditWriterKind::Gateway, done("one"))),
        (&manager, record(AuditWriterKind::Gateway, used.clone())),
        (&manager, record(AuditWriterKind::Manager, used)),
    ] {
        let refused = role.sign(&world.site, &[record]).await;
        assert!(matches!(refused, Err(EngineError::Role)), "{refused:?}");
    }
    // Two of a kind that do not follow each other.
    let one = own[1].1.clone();
    let next = AuditRecord { sequence: 2, ..one.clone() };
    let refused = manager.sign(&world.site, &[one, next]).await;
    assert!(matches!(refused, Err(EngineError::Document(_))), "{refused:?}");
    assert!(manager.sign(&world.site, &[]).await.is_err());
}

#[tokio::test]
async fn what_cannot_be_written_down_now_waits() {
    let world = World::new().await;
    let auditor = world.auditor().await;
    let path = world.folder.path().join("audit-manager.db");
    let mut other = sqlx::SqliteConnection::connect(&format!("sqlite:{}", path.display()))
        .await
        .expect("opens");
    let refuse = "CREATE TRIGGER full BEFORE INSERT ON note BEGIN SELECT RAISE(FAIL, 'full'); END";
    sqlx::raw_sql(refuse).execute(&mut other).await.expect("runs");
    auditor.tell(done("one"));
    auditor.note(done("two")).await.expect_err("who waits for it is told");
    let stop = CancellationToken::new();
    let source = Arc::new(Keys(Some(Arc::new(world.site.clone()))));
    let run = tokio::spawn(auditor.clone().run(source, stop.clone()));
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    sqlx::raw_sql("DROP TRIGGER full").execute(&mut other).await.expect("runs");
    while auditor.head().await.sequence == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(auditor.health().lost, 0);
    assert_eq!(acts(&world.chain(&auditor).await), ["one"]);
    stop.cancel();
    run.await.expect("ends");
}

#[tokio::test]
async fn a_gateway_s_damaged_notes_are_put_aside_and_a_manager_s_are_not() {
    let world = World::new().await;
    let gateway = GatewayRole::new(world.engine.clone()).audit();
    let settings = world.settings(AuditLimits::default());
    for kind in ["gateway", "manager"] {
        let path = world.folder.path().join(format!("audit-{kind}.db"));
        std::fs::write(path, "this is no database of SQLite's".repeat(100)).expect("written");
    }
    Auditor::open(&settings, gateway, world.keystore.clone()).await.expect("another chain");
    assert!(world.folder.path().join("audit-gateway.db.damaged").exists());
    let refused = Auditor::open(&settings, world.manager.audit(), world.keystore.clone()).await;
    assert!(matches!(refused.err(), Some(AuditError::Notes { .. })));
}
