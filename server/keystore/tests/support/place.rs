//! Both kinds of keystore, for tests that run over each.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sealwire_engine::SignedDocument;
use sealwire_engine::document::DocumentKind;
use sealwire_keystore::{Keystore, MysqlKeystore, MysqlOptions, SiteRow, SqliteKeystore};
use tempfile::TempDir;

use crate::mariadb::Mariadb;

static MARIADB: LazyLock<Mariadb> = LazyLock::new(Mariadb::start);
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// Where a keystore is.
pub(crate) enum Place {
    Sqlite(TempDir),
    Mysql(MysqlOptions),
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn mysql() -> Self {
        let name = format!("ks{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let (url, patience) = (MARIADB.database(&name), Duration::from_secs(10));
        Self::Mysql(MysqlOptions { url, password: None, tls_ca: None, connections: 4, patience })
    }

    /// Opens the keystore; another handle when it is open already.
    pub(crate) async fn open_bare(&self) -> Arc<dyn Keystore> {
        match self {
            Self::Sqlite(folder) => {
                let path = folder.path().join("k.db");
                Arc::new(SqliteKeystore::open(&path).await.expect("opens"))
            }
            Self::Mysql(options) => {
                MysqlKeystore::migrate(options).await.expect("migrates");
                Arc::new(MysqlKeystore::open(options.clone()).await.expect("opens"))
            }
        }
    }

    pub(crate) async fn open(&self) -> Arc<dyn Keystore> {
        let keystore = self.open_bare().await;
        if keystore.site().await.expect("reads").is_none() {
            keystore.init_site(&site()).await.expect("writes");
        }
        keystore
    }
}

/// Has every test run over both.
macro_rules! over_both {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Place::sqlite()).await;
            })+
        }
        mod mysql {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Place::mysql()).await;
            })+
        }
    };
}
pub(crate) use over_both;

pub(crate) fn site() -> SiteRow {
    SiteRow { keys: b"keys".to_vec(), decoy: signed(DocumentKind::App, "decoy", 0) }
}

pub(crate) fn signed(kind: DocumentKind, id: &str, revision: u64) -> SignedDocument {
    let body = format!("{id} {revision}").into_bytes();
    SignedDocument { kind, id: id.into(), revision, body, mac: [7; 32] }
}
