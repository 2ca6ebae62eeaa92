//! Notes: what is to become audit records, in a file of the data folder. A process that is killed goes on with them,
//! and none becomes two records. The file also keeps how far the chain went, outside the keystore: who cuts it off
//! there is seen.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sealwire_engine::audit::{
    AuditEvent, AuditHash, AuditHead, AuditRecord, AuditWriter, AuditWriterKind,
};
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Row, SqliteConnection};

use super::{AuditError, AuditLimits};
use crate::sqlite::is_idle;
use crate::statements::{signed, unsigned};
use crate::{KeystoreError, migrations};

/// Bytes beyond the limit that a note of what was lost may take.
const ROOM_FOR_LOST: u64 = 4096;

/// A note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) number: u64,
    /// Unix time in milliseconds.
    pub(super) at: u64,
    pub(super) event: AuditEvent,
}

/// Which notes are records now.
#[derive(Debug, Clone, Copy)]
pub(super) enum Upto {
    /// All up to this one.
    All(u64),
    /// This one.
    This(u64),
}

/// See the module.
pub(super) struct Notes {
    path: PathBuf,
    pool: SqlitePool,
    limits: AuditLimits,
    /// Bytes that are taken: by what strangers send, and by everything else.
    taken: [AtomicU64; 2],
}

impl Notes {
    /// As [`Notes::open`]; a gateway's that is damaged is put aside: messages do not wait for it.
    pub(super) async fn open_or_begin(
        folder: &Path,
        kind: AuditWriterKind,
        limits: AuditLimits,
    ) -> Result<Self, AuditError> {
        match Self::open(folder, kind, limits).await {
            Err(AuditError::Notes { path, source })
                if kind == AuditWriterKind::Gateway && is_damaged(&source) =>
            {
                let aside = path.with_extension("db.damaged");
                tracing::error!(
                    error = sealwire_engine::chain(&source), aside = %aside.display(),
                    "audit: the notes are damaged: what was not recorded yet is lost, and another chain begins"
                );
                let failed = |source| AuditError::Notes {
                    path: path.clone(),
                    source: sqlx::Error::Io(source),
                };
                std::fs::rename(&path, aside).map_err(failed)?;
                for suffix in ["-wal", "-shm"] {
                    let mut beside = path.as_os_str().to_owned();
                    beside.push(suffix);
                    // Most often there is none.
                    let _ = std::fs::remove_file(beside);
                }
                Self::open(folder, kind, limits).await
            }
            opened => opened,
        }
    }

    /// Opens the file, or makes it, mode 0600.
    pub(super) async fn open(
        folder: &Path,
        kind: AuditWriterKind,
        limits: AuditLimits,
    ) -> Result<Self, AuditError> {
        let path = file(folder, kind);
        let failed = |source| AuditError::Notes { path: path.clone(), source };
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| failed(sqlx::Error::Io(error)))?;
        // A killed process loses nothing of it. A power loss may take the last moments of what is not in the
        // keystore yet.
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .before_acquire(|connection, _| Box::pin(async { Ok(is_idle(connection)) }))
            .connect_with(options)
            .await
            .map_err(failed)?;
        migrations::NOTES
            .run(&pool)
            .await
            .map_err(|error| failed(sqlx::Error::Migrate(Box::new(error))))?;
        let notes = Self { path: path.clone(), pool, limits, taken: Default::default() };
        notes.count().await.map_err(failed)?;
        Ok(notes)
    }

    async fn count(&self) -> Result<(), sqlx::Error> {
        let rows =
            sqlx::query("SELECT refusal, SUM(length(event)) AS bytes FROM note GROUP BY refusal")
                .fetch_all(&self.pool)
                .await?;
        for row in &rows {
            let (class, bytes) = class_and_bytes(row)?;
            self.taken[class].store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Bytes that are taken.
    pub(super) fn bytes(&self) -> u64 {
        self.taken.iter().map(|taken| taken.load(Ordering::Relaxed)).sum()
    }

    /// The head of the chain that this process writes; a new one when there is none.
    pub(super) async fn head(&self, kind: AuditWriterKind) -> Result<AuditHead, AuditError> {
        let row = sqlx::query("SELECT writer, sequence, hash, at FROM chain")
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.failed(error))?;
        if let Some(row) = row {
            let known = || -> Result<Option<AuditHead>, sqlx::Error> {
                let (sequence, at): (i64, i64) = (row.try_get("sequence")?, row.try_get("at")?);
                let writer: String = row.try_get("writer")?;
                let hash: Vec<u8> = row.try_get("hash")?;
                let (Ok(writer), Ok(hash)) = (writer.parse::<AuditWriter>(), hash.try_into())
                else {
                    return Ok(None);
                };
                let (sequence, at) = (sequence.unsigned_abs(), at.unsigned_abs());
                Ok(Some(AuditHead { writer, sequence, hash: AuditHash(hash), at }))
            };
            let known = known().map_err(|error| self.failed(error))?;
            return known.ok_or_else(|| {
                self.failed(sqlx::Error::Decode("the chain's head is not one".into()))
            });
        }
        let head = AuditHead::none(AuditWriter::generate(kind)?);
        self.settled(&head, None).await?;
        Ok(head)
    }

    /// Writes notes down: as many as there is room for. Returns how many.
    pub(super) async fn add(&self, notes: &[(u64, AuditEvent)]) -> Result<usize, AuditError> {
        let mut written = 0;
        let mut bytes = [0, 0];
        let add = async {
            let mut transaction = self.pool.begin().await?;
            for (at, event) in notes {
                let Some(body) = sound(event) else {
                    tracing::error!(event = event.name(), "this is no note for the audit: a bug");
                    continue;
                };
                let (class, size) = (usize::from(event.is_refusal()), body.len() as u64);
                let taken = self.taken[class].load(Ordering::Relaxed) + bytes[class];
                let room = match event {
                    AuditEvent::Lost { .. } => ROOM_FOR_LOST,
                    _ => 0,
                };
                if taken + size > self.limits.of(event) + room {
                    continue;
                }
                sqlx::query("INSERT INTO note (refusal, at, event) VALUES (?, ?, ?)")
                    .bind(i64::from(event.is_refusal()))
                    .bind(signed(*at)?)
                    .bind(&body)
                    .execute(&mut *transaction)
                    .await?;
                bytes[class] += size;
                written += 1;
            }
            transaction.commit().await?;
            Ok(())
        };
        add.await.map_err(|error: KeystoreError| self.keystore_failed(error))?;
        for (taken, bytes) in self.taken.iter().zip(bytes) {
            taken.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(written)
    }

    /// The oldest notes, at most so many.
    pub(super) async fn oldest(&self, limit: usize) -> Result<Vec<Note>, AuditError> {
        let rows = sqlx::query("SELECT number, at, event FROM note ORDER BY number LIMIT ?")
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.failed(error))?;
        let notes: Result<_, _> = rows.iter().map(note).collect();
        notes.map_err(|error| self.keystore_failed(error))
    }

    /// A note.
    pub(super) async fn get(&self, number: u64) -> Result<Option<Note>, AuditError> {
        let get = async {
            let row = sqlx::query("SELECT number, at, event FROM note WHERE number = ?")
                .bind(signed(number)?)
                .fetch_optional(&self.pool)
                .await?;
            row.as_ref().map(note).transpose()
        };
        get.await.map_err(|error| self.keystore_failed(error))
    }

    /// Forgets whose chain this process writes.
    pub(super) async fn forget_chain(&self) -> Result<(), AuditError> {
        let forgotten = sqlx::query("DELETE FROM chain").execute(&self.pool).await;
        forgotten.map(drop).map_err(|error| self.failed(error))
    }

    /// The chain goes as far as `head` now, and these notes are in it.
    pub(super) async fn settled(
        &self,
        head: &AuditHead,
        upto: Option<Upto>,
    ) -> Result<(), AuditError> {
        let settle = async {
            let mut transaction = self.pool.begin().await?;
            set_chain(&mut transaction, head).await?;
            let (first, last) = match upto {
                None => (1, 0),
                Some(Upto::This(number)) => (number, number),
                Some(Upto::All(number)) => (0, number),
            };
            let freed = sqlx::query(
                "DELETE FROM note WHERE number BETWEEN ? AND ? RETURNING refusal, length(event) AS bytes",
            )
            .bind(signed(first)?)
            .bind(signed(last)?)
            .fetch_all(&mut *transaction)
            .await?;
            transaction.commit().await?;
            let freed = freed.iter().map(class_and_bytes).collect::<Result<Vec<_>, _>>()?;
            Ok::<_, KeystoreError>(freed)
        };
        let freed = settle.await.map_err(|error| self.keystore_failed(error))?;
        for (class, bytes) in freed {
            self.taken[class].fetch_sub(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Another chain begins, and a note that is there in any case.
    pub(super) async fn begin_chain(
        &self,
        head: &AuditHead,
        (at, event): (u64, AuditEvent),
    ) -> Result<(), AuditError> {
        let begin = async {
            let body = serde_json::to_vec(&event)
                .map_err(|error| KeystoreError::Broken(format!("a note: {error}")))?;
            let mut transaction = self.pool.begin().await?;
            set_chain(&mut transaction, head).await?;
            sqlx::query("INSERT INTO note (refusal, at, event) VALUES (0, ?, ?)")
                .bind(signed(at)?)
                .bind(&body)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(body.len() as u64)
        };
        let size = begin.await.map_err(|error: KeystoreError| self.keystore_failed(error))?;
        self.taken[0].fetch_add(size, Ordering::Relaxed);
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    fn failed(&self, source: sqlx::Error) -> AuditError {
        AuditError::Notes { path: self.path.clone(), source }
    }

    fn keystore_failed(&self, error: KeystoreError) -> AuditError {
        match error {
            KeystoreError::Database(source) => self.failed(source),
            error => self.failed(sqlx::Error::Decode(error.to_string().into())),
        }
    }
}

async fn set_chain(
    connection: &mut SqliteConnection,
    head: &AuditHead,
) -> Result<(), KeystoreError> {
    sqlx::query(
            "INSERT INTO chain (one, writer, sequence, hash, at) VALUES (1, ?, ?, ?, ?) \
             ON CONFLICT (one) DO UPDATE SET writer = excluded.writer, sequence = excluded.sequence, \
             hash = excluded.hash, at = excluded.at",
        )
        .bind(head.writer.to_string())
        .bind(signed(head.sequence)?)
        .bind(head.hash.0.as_slice())
        .bind(signed(head.at)?)
        .execute(connection)
        .await?;
    Ok(())
}

fn note(row: &SqliteRow) -> Result<Note, KeystoreError> {
    let event: Vec<u8> = row.try_get("event")?;
    let event = serde_json::from_slice(&event)
        .map_err(|error| KeystoreError::Broken(format!("a note: {error}")))?;
    let (number, at) = (row.try_get("number")?, row.try_get("at")?);
    Ok(Note { number: unsigned(number)?, at: unsigned(at)?, event })
}

fn class_and_bytes(row: &SqliteRow) -> Result<(usize, u64), sqlx::Error> {
    let class = usize::from(row.try_get::<i64, _>("refusal")? != 0);
    Ok((class, row.try_get::<i64, _>("bytes")?.unsigned_abs()))
}

/// The event's bytes, if a record could hold it: one that could not would keep back all behind it.
pub(super) fn sound(event: &AuditEvent) -> Option<Vec<u8>> {
    let kinds = [AuditWriterKind::Gateway, AuditWriterKind::Manager];
    let kind = kinds.into_iter().find(|kind| event.may_come_from(*kind))?;
    let writer = AuditWriter { kind, id: [0; 8] };
    let (sequence, at, note) = (u64::MAX, u64::MAX, Some(u64::MAX));
    let previous = AuditHash::default();
    let record = AuditRecord { writer, sequence, at, previous, note, event: event.clone() };
    record.encode().ok()?;
    serde_json::to_vec(event).ok()
}

/// Whether SQLite says that the file is broken, or none of its own.
fn is_damaged(error: &sqlx::Error) -> bool {
    /// `SQLITE_CORRUPT` and `SQLITE_NOTADB`.
    const CODES: [&str; 2] = ["11", "26"];
    match error {
        sqlx::Error::Migrate(error) => match &**error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                is_damaged(error)
            }
            _ => false,
        },
        error => {
            let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
            code.is_some_and(|code| CODES.contains(&&*code))
        }
    }
}

/// Whether there are notes of a kind of writer.
pub(super) fn is_there(folder: &Path, kind: AuditWriterKind) -> bool {
    file(folder, kind).exists()
}

fn file(folder: &Path, kind: AuditWriterKind) -> PathBuf {
    folder.join(format!("audit-{}.db", kind.name()))
}
