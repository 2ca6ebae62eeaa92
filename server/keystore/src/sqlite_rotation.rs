//! Root rotation in SQLite. The root key id stands in bytes 1 to 16 of each wrapped key.

use std::time::{Duration, Instant};

use sealwire_engine::RootKeyId;
use sqlx::{AssertSqlSafe, Row, SqlitePool};

use crate::sqlite::{BUSY, number, taken};
use crate::{KeystoreError, Rewrapped, RotationRow, SiteRow, WrappedRow};

/// Time for which the log is tried to be emptied at the end of a rotation, and between two tries.
const CHECKPOINT: Duration = Duration::from_secs(5);
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(20);

pub(crate) async fn replace_site(
    writer: &SqlitePool,
    old: &[u8],
    new: &SiteRow,
) -> Result<bool, KeystoreError> {
    let written = sqlx::query(
        "UPDATE site SET site_keys = ?, decoy_id = ?, decoy_body = ?, decoy_mac = ? \
         WHERE site_keys = ?",
    )
    .bind(&new.keys)
    .bind(&new.decoy.id)
    .bind(&new.decoy.body)
    .bind(new.decoy.mac.as_slice())
    .bind(old)
    .execute(writer)
    .await?;
    Ok(written.rows_affected() == 1)
}

pub(crate) async fn rotation(readers: &SqlitePool) -> Result<Option<RotationRow>, KeystoreError> {
    let row = sqlx::query("SELECT old_root, new_root, wrapped, done FROM root_rotation")
        .fetch_optional(readers)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let root = |column: &str| -> Result<RootKeyId, KeystoreError> {
        let text: String = row.try_get(column)?;
        text.parse().map_err(|error| KeystoreError::Broken(format!("{column}: {error}")))
    };
    let (old, new, done) =
        (root("old_root")?, root("new_root")?, row.try_get::<i64, _>("done")? != 0);
    Ok(Some(RotationRow { old, new, wrapped: row.try_get("wrapped")?, done }))
}

pub(crate) async fn begin_rotation(
    writer: &SqlitePool,
    rotation: &RotationRow,
) -> Result<(), KeystoreError> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("DELETE FROM root_rotation WHERE done = 1").execute(&mut *transaction).await?;
    sqlx::query("INSERT INTO root_rotation (id, old_root, new_root, wrapped) VALUES (1, ?, ?, ?)")
        .bind(rotation.old.to_string())
        .bind(rotation.new.to_string())
        .bind(&rotation.wrapped)
        .execute(&mut *transaction)
        .await
        .map_err(taken)?;
    transaction.commit().await?;
    Ok(())
}

pub(crate) async fn end_rotation(writer: &SqlitePool, new: RootKeyId) -> Result<(), KeystoreError> {
    sqlx::query("UPDATE root_rotation SET done = 1, wrapped = x'' WHERE new_root = ?")
        .bind(new.to_string())
        .execute(writer)
        .await?;
    let begun = Instant::now();
    while begun.elapsed() < CHECKPOINT {
        match checkpoint(writer).await {
            Ok(true) => return Ok(()),
            Ok(false) => tokio::time::sleep(CHECKPOINT_PAUSE).await,
            Err(error) => {
                tracing::warn!(%error, "emptying the database's log");
                break;
            }
        }
    }
    tracing::warn!("the database's log is not emptied: it holds old wrapped keys for a while");
    Ok(())
}

/// Empties the write-ahead log into the main file, which then, with secure_delete, holds no old blob.
/// `false` when a reader is in the way: it is not waited for, since writers would wait too.
async fn checkpoint(writer: &SqlitePool) -> Result<bool, KeystoreError> {
    let mut connection = writer.acquire().await?;
    sqlx::query("PRAGMA busy_timeout = 0").execute(&mut *connection).await?;
    let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
    let patience = AssertSqlSafe(format!("PRAGMA busy_timeout = {}", BUSY.as_millis()));
    sqlx::query(patience).execute(&mut *connection).await?;
    Ok(row?.try_get::<i64, _>(0)? == 0)
}

pub(crate) async fn wrapped_elsewhere(
    readers: &SqlitePool,
    root: RootKeyId,
    after: Option<(&str, u32)>,
    limit: u32,
) -> Result<Vec<WrappedRow>, KeystoreError> {
    let (uid, version) = after.unwrap_or(("", 0));
    let rows = sqlx::query(
        "SELECT uid, version, blob FROM wrapped_key \
         WHERE (uid, version) > (?, ?) AND substr(blob, 2, 16) <> ? ORDER BY uid, version LIMIT ?",
    )
    .bind(uid)
    .bind(i64::from(version))
    .bind(root.to_bytes().as_slice())
    .bind(i64::from(limit))
    .fetch_all(readers)
    .await?;
    rows.iter()
        .map(|row| {
            let version = number(row.try_get("version")?)?;
            Ok(WrappedRow { uid: row.try_get("uid")?, version, blob: row.try_get("blob")? })
        })
        .collect()
}

pub(crate) async fn count_elsewhere(
    readers: &SqlitePool,
    root: RootKeyId,
) -> Result<u64, KeystoreError> {
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM wrapped_key WHERE substr(blob, 2, 16) <> ?")
            .bind(root.to_bytes().as_slice())
            .fetch_one(readers)
            .await?;
    Ok(count.unsigned_abs())
}

pub(crate) async fn rewrap(writer: &SqlitePool, moved: &[Rewrapped]) -> Result<u64, KeystoreError> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    let mut replaced = 0;
    for row in moved {
        replaced += sqlx::query(
            "UPDATE wrapped_key SET blob = ? WHERE uid = ? AND version = ? AND blob = ?",
        )
        .bind(&row.new)
        .bind(&row.uid)
        .bind(i64::from(row.version))
        .bind(&row.old)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    }
    transaction.commit().await?;
    Ok(replaced)
}
