//! The keystore in one SQLite file: one writer, several readers, every commit on disk before it is
//! acknowledged.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sealwire_engine::document::DocumentKind;
use sealwire_engine::{RootKeyId, SignedDocument};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row, SqliteConnection, SqlitePool};

use crate::{
    By, Change, DocumentRow, Keystore, KeystoreError, Rewrapped, RotationRow, SiteRow, Taken,
    WrappedRow, sqlite_rotation,
};

const READERS: u32 = 4;
pub(crate) const BUSY: Duration = Duration::from_secs(5);

/// A keystore in one SQLite file.
pub struct SqliteKeystore {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Asks for changes and for root rotations, on a connection of its own: however many keys are being
    /// loaded, a revocation is seen in time.
    follower: SqlitePool,
    committed: Arc<AtomicU64>,
}

impl SqliteKeystore {
    /// Opens the file, or makes it, mode 0600, and brings its schema up to date.
    ///
    /// # Errors
    /// [`KeystoreError::Schema`] when a newer program has written it; [`KeystoreError::Database`].
    pub async fn open(path: &Path) -> Result<Self, KeystoreError> {
        // SQLite gives the files beside the database the database's own mode.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(sqlx::Error::Io)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .foreign_keys(true)
            .pragma("secure_delete", "ON");
        let writer =
            SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        sqlx::migrate!("migrations/sqlite").run(&writer).await.map_err(KeystoreError::Schema)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(BUSY)
            .connect_with(options.clone().read_only(true))
            .await?;
        let follower = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(BUSY)
            .connect_with(options.read_only(true))
            .await?;
        let keystore = Self { writer, readers, follower, committed: Arc::default() };
        keystore.committed.store(keystore.revision().await?, Ordering::Release);
        Ok(keystore)
    }

    /// The settings that durability rests on: (journal mode, synchronous), as SQLite reports them
    /// of the connection that writes.
    ///
    /// # Errors
    /// [`KeystoreError::Database`].
    pub async fn durability(&self) -> Result<(String, i64), KeystoreError> {
        let mut connection = self.writer.acquire().await?;
        let journal = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await?;
        let level = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *connection).await?;
        Ok((journal, level))
    }
}

#[async_trait]
impl Keystore for SqliteKeystore {
    async fn site(&self) -> Result<Option<SiteRow>, KeystoreError> {
        let row = sqlx::query("SELECT site_keys, decoy_id, decoy_body, decoy_mac FROM site")
            .fetch_optional(&self.readers)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let decoy = SignedDocument {
            kind: DocumentKind::App,
            id: row.try_get("decoy_id")?,
            revision: 0,
            body: row.try_get("decoy_body")?,
            mac: mac(&row, "decoy_mac")?,
        };
        Ok(Some(SiteRow { keys: row.try_get("site_keys")?, decoy }))
    }

    async fn init_site(&self, site: &SiteRow) -> Result<(), KeystoreError> {
        sqlx::query(
            "INSERT INTO site (id, revision, site_keys, decoy_id, decoy_body, decoy_mac) \
             VALUES (1, 0, ?, ?, ?, ?)",
        )
        .bind(&site.keys)
        .bind(&site.decoy.id)
        .bind(&site.decoy.body)
        .bind(site.decoy.mac.as_slice())
        .execute(&self.writer)
        .await
        .map_err(taken)?;
        Ok(())
    }

    async fn revision(&self) -> Result<u64, KeystoreError> {
        let mut connection = self.readers.acquire().await?;
        site_revision(&mut connection).await
    }

    async fn document(
        &self,
        kind: DocumentKind,
        by: By<'_>,
    ) -> Result<Option<DocumentRow>, KeystoreError> {
        let query = match by {
            By::Id(id) => sqlx::query("SELECT * FROM document WHERE kind = ? AND id = ?")
                .bind(kind.name())
                .bind(id.to_owned()),
            By::Name(name) => sqlx::query("SELECT * FROM document WHERE kind = ? AND name = ?")
                .bind(kind.name())
                .bind(name.to_owned()),
            By::Number(number) => {
                sqlx::query("SELECT * FROM document WHERE kind = ? AND number = ?")
                    .bind(kind.name())
                    .bind(i64::from(number))
            }
        };
        query.fetch_optional(&self.readers).await?.as_ref().map(document_row).transpose()
    }

    async fn list(
        &self,
        kind: DocumentKind,
        after: &str,
        limit: u32,
    ) -> Result<Vec<DocumentRow>, KeystoreError> {
        let rows =
            sqlx::query("SELECT * FROM document WHERE kind = ? AND name > ? ORDER BY name LIMIT ?")
                .bind(kind.name())
                .bind(after)
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await?;
        rows.iter().map(document_row).collect()
    }

    async fn changes(&self, since: u64, limit: u32) -> Result<Vec<DocumentRow>, KeystoreError> {
        let rows =
            sqlx::query("SELECT * FROM document WHERE revision > ? ORDER BY revision LIMIT ?")
                .bind(signed(since)?)
                .bind(i64::from(limit))
                .fetch_all(&self.follower)
                .await?;
        rows.iter().map(document_row).collect()
    }

    async fn wrapped(&self, uid: &str) -> Result<Vec<WrappedRow>, KeystoreError> {
        let rows =
            sqlx::query("SELECT version, blob FROM wrapped_key WHERE uid = ? ORDER BY version")
                .bind(uid)
                .fetch_all(&self.readers)
                .await?;
        rows.iter()
            .map(|row| {
                let version = number(row.try_get("version")?)?;
                Ok(WrappedRow { uid: uid.to_owned(), version, blob: row.try_get("blob")? })
            })
            .collect()
    }

    async fn free_index(&self, first: u32, last: u32) -> Result<Option<u32>, KeystoreError> {
        let highest: Option<i64> = sqlx::query_scalar(
            "SELECT MAX(number) FROM document WHERE kind = 'key' AND number BETWEEN ? AND ?",
        )
        .bind(i64::from(first))
        .bind(i64::from(last))
        .fetch_one(&self.readers)
        .await?;
        match highest.map(number).transpose()? {
            None => return Ok(Some(first)),
            Some(highest) if highest < last => return Ok(Some(highest + 1)),
            Some(_) => {}
        }
        let free: Option<i64> = sqlx::query_scalar(
            "SELECT MIN(free) FROM (SELECT ? AS free UNION ALL \
             SELECT number + 1 FROM document WHERE kind = 'key' AND number BETWEEN ? AND ? - 1) \
             WHERE NOT EXISTS (SELECT 1 FROM document WHERE kind = 'key' AND number = free)",
        )
        .bind(i64::from(first))
        .bind(i64::from(first))
        .bind(i64::from(last))
        .fetch_one(&self.readers)
        .await?;
        free.map(number).transpose()
    }

    async fn commit(&self, change: &Change) -> Result<(), KeystoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let held = site_revision(&mut transaction).await?;
        if held != change.upon {
            return Err(KeystoreError::Moved(held));
        }
        write(&mut transaction, change).await?;
        transaction.commit().await?;
        self.committed.fetch_max(change.document.signed.revision, Ordering::AcqRel);
        Ok(())
    }

    async fn replace_site(&self, old: &[u8], new: &SiteRow) -> Result<bool, KeystoreError> {
        sqlite_rotation::replace_site(&self.writer, old, new).await
    }

    async fn rotation(&self) -> Result<Option<RotationRow>, KeystoreError> {
        sqlite_rotation::rotation(&self.follower).await
    }

    async fn begin_rotation(&self, rotation: &RotationRow) -> Result<(), KeystoreError> {
        sqlite_rotation::begin_rotation(&self.writer, rotation).await
    }

    async fn end_rotation(&self, new: RootKeyId) -> Result<(), KeystoreError> {
        sqlite_rotation::end_rotation(&self.writer, new).await
    }

    async fn wrapped_elsewhere(
        &self,
        root: RootKeyId,
        after: Option<(&str, u32)>,
        limit: u32,
    ) -> Result<Vec<WrappedRow>, KeystoreError> {
        sqlite_rotation::wrapped_elsewhere(&self.readers, root, after, limit).await
    }

    async fn count_elsewhere(&self, root: RootKeyId) -> Result<u64, KeystoreError> {
        sqlite_rotation::count_elsewhere(&self.readers, root).await
    }

    async fn rewrap(&self, moved: &[Rewrapped]) -> Result<u64, KeystoreError> {
        sqlite_rotation::rewrap(&self.writer, moved).await
    }

    fn committed(&self) -> Arc<AtomicU64> {
        self.committed.clone()
    }

    async fn close(&self) {
        self.follower.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }
}

async fn site_revision(connection: &mut SqliteConnection) -> Result<u64, KeystoreError> {
    let revision: Option<i64> =
        sqlx::query_scalar("SELECT revision FROM site").fetch_optional(connection).await?;
    unsigned(revision.unwrap_or(0))
}

async fn write(connection: &mut SqliteConnection, change: &Change) -> Result<(), KeystoreError> {
    let DocumentRow { signed: document, name, number } = &change.document;
    let revision = signed(document.revision)?;
    if change.upon.checked_add(1) != Some(document.revision) {
        return Err(KeystoreError::Broken("a change raises the revision by one".into()));
    }
    sqlx::query("UPDATE site SET revision = ?").bind(revision).execute(&mut *connection).await?;
    sqlx::query(
        "INSERT INTO document (kind, id, revision, name, number, body, mac) \
         VALUES (?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision, \
         name = excluded.name, number = excluded.number, body = excluded.body, mac = excluded.mac",
    )
    .bind(document.kind.name())
    .bind(&document.id)
    .bind(revision)
    .bind(name)
    .bind(number.map(i64::from))
    .bind(&document.body)
    .bind(document.mac.as_slice())
    .execute(&mut *connection)
    .await
    .map_err(taken)?;
    if let Some(wrapped) = &change.wrapped {
        sqlx::query("INSERT INTO wrapped_key (uid, version, blob) VALUES (?, ?, ?)")
            .bind(&wrapped.uid)
            .bind(i64::from(wrapped.version))
            .bind(&wrapped.blob)
            .execute(&mut *connection)
            .await
            .map_err(taken)?;
    }
    Ok(())
}

fn document_row(row: &SqliteRow) -> Result<DocumentRow, KeystoreError> {
    let kind = match row.try_get("kind")? {
        "app" => DocumentKind::App,
        "key" => DocumentKind::Key,
        other => return Err(KeystoreError::Broken(format!("kind `{other}`"))),
    };
    let signed = SignedDocument {
        kind,
        id: row.try_get("id")?,
        revision: unsigned(row.try_get("revision")?)?,
        body: row.try_get("body")?,
        mac: mac(row, "mac")?,
    };
    let number = row.try_get::<Option<i64>, _>("number")?.map(number).transpose()?;
    Ok(DocumentRow { signed, name: row.try_get("name")?, number })
}

fn mac(row: &SqliteRow, column: &str) -> Result<[u8; 32], KeystoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(|_| KeystoreError::Broken(format!("{column} has not 32 bytes")))
}

pub(crate) fn number(value: i64) -> Result<u32, KeystoreError> {
    u32::try_from(value).map_err(|_| KeystoreError::Broken(format!("number {value}")))
}

fn unsigned(value: i64) -> Result<u64, KeystoreError> {
    u64::try_from(value).map_err(|_| KeystoreError::Broken(format!("revision {value}")))
}

fn signed(value: u64) -> Result<i64, KeystoreError> {
    i64::try_from(value).map_err(|_| KeystoreError::Broken(format!("revision {value}")))
}

/// A violated constraint, by what it protects.
pub(crate) fn taken(error: sqlx::Error) -> KeystoreError {
    match error.as_database_error() {
        Some(database) if database.is_unique_violation() => {
            let message = database.message();
            KeystoreError::Taken(if message.contains("document.name") {
                Taken::Name
            } else if message.contains("document.number") {
                Taken::Number
            } else {
                Taken::Id
            })
        }
        _ => error.into(),
    }
}
