//! The server is killed while keys are made, rotated and destroyed: nothing that was acknowledged is
//! lost, and nothing is half made.
//!
//! `scripts/kill-loop` is the full form: 100 kills on each database.

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sealwire_engine::document::VersionState;
use sealwire_manager::{CreateKey, DestroyKey, KeyView, ManagerClient, Versions};
use support::Server;
use support::database::Database;
use support::load::round_trip;

const NO_WAIT: &str = "\n[manager]\ndestroy_wait_seconds = 0";

fn kills() -> u32 {
    std::env::var("SEALWIRE_TEST_KILLS").map_or(6, |text| text.parse().expect("a number"))
}

/// What was acknowledged of a key.
#[derive(Debug, Clone, Default)]
struct Known {
    index: u32,
    versions: usize,
    /// Whether its first version is to be destroyed, or is.
    destroyed: bool,
}

type Acknowledged = Arc<Mutex<HashMap<String, Known>>>;

/// Makes, rotates and destroys until the server is gone.
async fn live(manager: ManagerClient, first: u32, known: Acknowledged) {
    for number in first.. {
        let name = format!("key-{number}");
        let note = |change: &dyn Fn(&mut Known)| {
            change(known.lock().expect("no panic").entry(name.clone()).or_default());
        };
        let wish = CreateKey { name: name.clone(), ..CreateKey::default() };
        let Ok(made) = manager.create_key(&wish).await else { return };
        note(&|known| (known.index, known.versions) = (made.index, made.versions.len()));
        for _ in 0..2 {
            let Ok(rotated) = manager.rotate_key(&name).await else { return };
            note(&|known| known.versions = rotated.versions.len());
        }
        let version = Some(1);
        let disabled = manager.change_key(&name, "disable", Versions { version }).await;
        let destroyed = manager.destroy_key(&name, DestroyKey { version, after_seconds: None });
        if disabled.is_err() || destroyed.await.is_err() {
            return;
        }
        note(&|known| known.destroyed = true);
    }
}

async fn killed_again_and_again(database: Database, mut server: Server) {
    let app = server.local_app(&["enc,dec:*"]).await;
    let known = Acknowledged::default();
    for round in 0..kills() {
        let living = tokio::spawn(live(server.manager(), round * 10_000, known.clone()));
        // Now and then for so long that destructions are under way, too.
        let long = if round % 3 == 2 { 1500 } else { 0 };
        tokio::time::sleep(Duration::from_millis(100 + long + u64::from(round * 37 % 400))).await;
        server.kill();
        living.await.expect("no panic");
        server.restart();
    }
    // What was to be destroyed is, soon.
    let pending = async || {
        let listed = server.manager().list_keys().await.expect("a list").keys;
        let states = listed.iter().flat_map(|key| key.versions.iter().map(|held| held.state));
        states.filter(|state| *state == VersionState::DestroyScheduled).count()
    };
    for _ in 0..300 {
        if pending().await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let known = known.lock().expect("no panic").clone();
    let listed = server.manager().list_keys().await.expect("a list");
    assert_eq!(listed.unverified, Vec::<String>::new());
    let listed: HashMap<&str, &KeyView> =
        listed.keys.iter().map(|key| (key.name.as_str(), key)).collect();
    for (name, known) in &known {
        let key = listed.get(name.as_str()).unwrap_or_else(|| panic!("{name} is lost"));
        assert_eq!(key.index, known.index);
        assert!(key.versions.len() >= known.versions, "{name}: a version is lost");
        if known.destroyed {
            assert_eq!(key.versions[0].state, VersionState::Destroyed, "{name}");
        }
    }
    let client = server.client(&app).await;
    for (name, key) in &listed {
        let shown = server.manager().show_key(name).await.expect("shown");
        for version in &shown.versions {
            let there = version.state != VersionState::Destroyed;
            assert_eq!(version.wrapped.is_some(), there, "{name} is half made: {version:?}");
        }
        let active =
            shown.versions.iter().filter(|held| held.state == VersionState::Active).count();
        assert_eq!(active, 1, "{name}");
        round_trip(&client, key.index).await.expect("usable");
    }
    let destroyed = known.values().filter(|known| known.destroyed).count();
    let versions: usize = known.values().map(|known| known.versions).sum();
    assert!(known.len() >= kills() as usize && destroyed > 0, "{} keys were made", known.len());
    let what = match database {
        Database::Sqlite(_) => "SQLite",
        Database::Mysql(_) => "MariaDB",
    };
    println!(
        "{what}: {} kills; acknowledged: {} keys, {versions} versions, {destroyed} destroyed; {} keys there",
        kills(),
        known.len(),
        listed.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn over_sqlite() {
    let (database, server) = Database::sqlite(NO_WAIT).await;
    killed_again_and_again(database, server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_mariadb() {
    let (database, server) = Database::mysql(NO_WAIT).await;
    killed_again_and_again(database, server).await;
}
