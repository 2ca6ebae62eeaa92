//! High-water marks: the newest revision of every document that was seen and verified, kept in a file
//! outside the keystore. Who puts back an older row, or the whole database, is seen as long as one of
//! these files survives.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sealwire_engine::SignedDocument;
use sealwire_engine::document::DocumentKind;
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{QueryBuilder, Row};

use crate::sqlite::is_idle;
use crate::statements::{padded, signed, unsigned};
use crate::{KeystoreError, migrations};

/// The marks of a data folder.
pub struct Marks {
    path: PathBuf,
    pool: SqlitePool,
    /// Whether the last write has failed.
    failing: AtomicBool,
}

/// The newest document that was seen of a keystore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// The site's uid.
    pub site: String,
    /// The document's revision.
    pub revision: u64,
    /// The document's MAC.
    pub mac: [u8; 32],
}

impl Marks {
    /// Opens the file, or makes it, mode 0600.
    ///
    /// # Errors
    /// [`KeystoreError::Marks`].
    pub async fn open(path: &Path) -> Result<Self, KeystoreError> {
        let failed = |source| KeystoreError::Marks { path: path.to_owned(), source };
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| failed(error.into()))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .before_acquire(|connection, _| Box::pin(async { Ok(is_idle(connection)) }))
            .connect_with(options)
            .await;
        let pool = pool.map_err(failed)?;
        migrations::MARKS
            .run(&pool)
            .await
            .map_err(|error| failed(sqlx::Error::Migrate(Box::new(error))))?;
        Ok(Self { path: path.to_owned(), pool, failing: AtomicBool::new(false) })
    }

    /// Forgets every mark: removes the files. For a server that is stopped.
    ///
    /// # Errors
    /// [`KeystoreError::Marks`].
    pub fn forget(path: &Path) -> Result<(), KeystoreError> {
        for suffix in ["", "-wal", "-shm"] {
            let mut file = path.as_os_str().to_owned();
            file.push(suffix);
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(KeystoreError::Marks { path: file.into(), source: error.into() });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Compares documents that have verified with their marks, raises the marks, and says which
    /// documents are older than what was seen before: for each, in the same order, whether it is.
    ///
    /// # Errors
    /// [`KeystoreError::Marks`] when they cannot be read. That they cannot be written is logged.
    pub async fn check(&self, documents: &[&SignedDocument]) -> Result<Vec<bool>, KeystoreError> {
        let mut old = vec![false; documents.len()];
        let mut newer = Vec::new();
        for kind in DocumentKind::ALL {
            let ids: Vec<&str> = documents
                .iter()
                .filter(|row| row.kind == kind)
                .map(|row| row.id.as_str())
                .collect();
            if ids.is_empty() {
                continue;
            }
            let known = self.read(kind, &ids).await.map_err(|error| self.failed(error))?;
            for (document, old) in documents.iter().zip(&mut old) {
                if document.kind != kind {
                    continue;
                }
                match known.get(&document.id) {
                    Some(mark) if document.revision < *mark => *old = true,
                    Some(mark) if document.revision == *mark => {}
                    _ => newer.push(*document),
                }
            }
        }
        if !newer.is_empty() {
            let raised = self.raise(&newer).await;
            self.note(raised);
        }
        Ok(old)
    }

    /// The ids of every document of a kind that was seen. For kinds of which there are few.
    ///
    /// # Errors
    /// [`KeystoreError::Marks`].
    pub async fn ids(&self, kind: DocumentKind) -> Result<Vec<String>, KeystoreError> {
        let ids = sqlx::query_scalar("SELECT id FROM mark WHERE kind = ? ORDER BY id")
            .bind(kind.name())
            .fetch_all(&self.pool)
            .await;
        ids.map_err(|error| self.failed(error))
    }

    /// The newest document that was seen.
    ///
    /// # Errors
    /// [`KeystoreError::Marks`].
    pub async fn newest(&self) -> Result<Option<Newest>, KeystoreError> {
        let row = sqlx::query("SELECT site, revision, mac FROM newest")
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| self.failed(error))?;
        let Some(row) = row else { return Ok(None) };
        let mac: Vec<u8> = row.try_get("mac").map_err(|error| self.failed(error))?;
        let mac = mac.try_into().map_err(|_| KeystoreError::Broken("mark: mac".into()))?;
        let site = row.try_get("site").map_err(|error| self.failed(error))?;
        let revision = row.try_get("revision").map_err(|error| self.failed(error))?;
        Ok(Some(Newest { site, revision: unsigned(revision)?, mac }))
    }

    /// Notes the newest document that was seen, if it is newer than the one noted before.
    pub async fn note_newest(&self, newest: &Newest) {
        let noted = async {
            sqlx::query(
                "INSERT INTO newest (one, site, revision, mac) VALUES (1, ?, ?, ?) \
                 ON CONFLICT (one) DO UPDATE SET site = excluded.site, revision = excluded.revision, \
                 mac = excluded.mac WHERE excluded.revision > revision",
            )
            .bind(&newest.site)
            .bind(signed(newest.revision)?)
            .bind(newest.mac.as_slice())
            .execute(&self.pool)
            .await?;
            Ok(())
        };
        self.note(noted.await);
    }

    /// Closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn read(
        &self,
        kind: DocumentKind,
        ids: &[&str],
    ) -> Result<std::collections::HashMap<String, u64>, sqlx::Error> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT id, revision FROM mark WHERE kind = ");
        query.push_bind(kind.name());
        query.push(" AND id IN (");
        let mut list = query.separated(", ");
        for id in padded(ids) {
            list.push_bind(id.to_owned());
        }
        query.push(")");
        let rows = query.build().fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| Ok((row.try_get("id")?, row.try_get::<i64, _>("revision")?.unsigned_abs())))
            .collect()
    }

    async fn raise(&self, documents: &[&SignedDocument]) -> Result<(), KeystoreError> {
        let mut transaction = self.pool.begin().await?;
        for document in documents {
            sqlx::query(
                "INSERT INTO mark (kind, id, revision) VALUES (?, ?, ?) ON CONFLICT (kind, id) \
                 DO UPDATE SET revision = excluded.revision WHERE excluded.revision > revision",
            )
            .bind(document.kind.name())
            .bind(&document.id)
            .bind(signed(document.revision)?)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    fn note(&self, written: Result<(), KeystoreError>) {
        let failing = written.is_err();
        if self.failing.swap(failing, Ordering::Relaxed) == failing {
            return;
        }
        match written {
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%error, %path, "marks cannot be written: a rollback might go unnoticed");
            }
            Ok(()) => tracing::info!("marks are written again"),
        }
    }

    fn failed(&self, source: sqlx::Error) -> KeystoreError {
        KeystoreError::Marks { path: self.path.clone(), source }
    }
}
