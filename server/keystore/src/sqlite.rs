//! The keystore in one SQLite file: one writer, several readers, every commit on disk before it is
//! acknowledged.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use crate::migrations;
use crate::statements::keystore;

const READERS: u32 = 4;
const BUSY: Duration = Duration::from_secs(5);

/// Time for which the log is tried to be emptied, and between two tries.
const CHECKPOINT: Duration = Duration::from_secs(5);
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(20);

/// Time for which that is tried in the background: a long reader, such as an export, may be in the way.
const CHECKPOINT_LATER: Duration = Duration::from_secs(600);

/// A keystore in one SQLite file.
pub struct SqliteKeystore {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Asks for changes and for root rotations, on a connection of its own: however many keys are being
    /// loaded, a revocation is seen in time.
    follower: SqlitePool,
    committed: Arc<Committed>,
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
            .and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
            .map_err(sqlx::Error::Io)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .foreign_keys(true)
            .pragma("secure_delete", "ON");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(BUSY)
            .before_acquire(|connection, _| Box::pin(async { Ok(is_idle(connection)) }))
            .connect_with(options.clone())
            .await?;
        migrations::SQLITE.run(&writer).await.map_err(KeystoreError::Schema)?;
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
        keystore.committed.found(keystore.revision().await?);
        // What an earlier run has erased, and was killed before it was out of the log.
        keystore.erase_later();
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

    async fn reader(&self) -> Result<PoolConnection<Sqlite>, KeystoreError> {
        Ok(self.readers.acquire().await?)
    }

    async fn follower(&self) -> Result<PoolConnection<Sqlite>, KeystoreError> {
        Ok(self.follower.acquire().await?)
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, KeystoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// A transaction of SQLite sees the file as it was at its first read.
    async fn begin_snapshot(&self) -> Result<Transaction<'static, Sqlite>, KeystoreError> {
        Ok(self.readers.begin().await?)
    }

    /// SQLite has its own time limit, [`BUSY`].
    async fn limited<T>(
        &self,
        work: impl Future<Output = Result<T, KeystoreError>>,
    ) -> Result<T, KeystoreError> {
        work.await
    }

    async fn promptly<T>(
        &self,
        work: impl Future<Output = Result<T, KeystoreError>>,
    ) -> Result<T, KeystoreError> {
        work.await
    }

    async fn unhurried<T>(
        &self,
        work: impl Future<Output = Result<T, KeystoreError>>,
    ) -> Result<T, KeystoreError> {
        work.await
    }

    /// There is one writer, which waits its turn.
    fn is_conflict(_: &sqlx::Error) -> bool {
        false
    }

    /// Sees to it that what was erased is in no file any more.
    async fn erased(&self) {
        empty_log(&self.writer, CHECKPOINT).await;
    }

    /// The same, without anybody waiting for it.
    fn erase_later(&self) {
        let writer = self.writer.clone();
        tokio::spawn(async move { empty_log(&writer, CHECKPOINT_LATER).await });
    }

    async fn close_pools(&self) {
        self.follower.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Whether a connection may be used again. When the disk is full SQLite ends a transaction by itself, which sqlx
/// does not notice: such a connection begins no other, and is closed.
pub(crate) fn is_idle(connection: &SqliteConnection) -> bool {
    !connection.is_in_transaction()
}

/// Empties the write-ahead log into the main file, which then, with secure_delete, holds no old blob.
async fn empty_log(writer: &SqlitePool, patience: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        match checkpoint(writer).await {
            Ok(true) | Err(KeystoreError::Database(sqlx::Error::PoolClosed)) => return,
            Ok(false) => tokio::time::sleep(CHECKPOINT_PAUSE).await,
            Err(error) => {
                tracing::warn!(%error, "emptying the database's log");
                break;
            }
        }
    }
    tracing::warn!("the database's log is not emptied: it holds old wrapped keys until it is");
}

/// `false` when a reader is in the way: it is not waited for, since writers would wait too.
async fn checkpoint(writer: &SqlitePool) -> Result<bool, KeystoreError> {
    let mut connection = writer.acquire().await?;
    sqlx::query("PRAGMA busy_timeout = 0").execute(&mut *connection).await?;
    let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
    let patience = AssertSqlSafe(format!("PRAGMA busy_timeout = {}", BUSY.as_millis()));
    sqlx::query(patience).execute(&mut *connection).await?;
    Ok(row?.try_get::<i64, _>(0)? == 0)
}

keystore!(SqliteKeystore, Sqlite, "");
