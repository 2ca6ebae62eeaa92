//! The schema: checked at each start, changed by `sealwire keystore migrate` alone, so that neither a
//! gateway's nor a manager's account may change it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use sqlx::migrate::{Migrate, MigrateError, Migration};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection as _, MySqlConnection};

use super::{error_number, number};
use crate::{KeystoreError, migrations};

static MIGRATIONS: LazyLock<Vec<Migration>> = LazyLock::new(|| migrations::MYSQL.migrations());

/// Time for another process to end its migration.
const LOCK_SECONDS: i64 = 120;

/// sqlx's name for it.
const TABLE: &str = "_sqlx_migrations";

/// Whether the schema is this program's.
pub(super) async fn check(connection: &mut MySqlConnection) -> Result<(), KeystoreError> {
    let dirty = connection.dirty_version(TABLE).await.map_err(failed)?;
    if dirty.is_some() || !missing(connection).await?.is_empty() {
        return Err(KeystoreError::Outdated);
    }
    Ok(())
}

/// The steps that are not made yet. What was made must be this program's.
async fn missing(
    connection: &mut MySqlConnection,
) -> Result<Vec<&'static Migration>, KeystoreError> {
    let mut steps: BTreeMap<i64, _> = MIGRATIONS.iter().map(|step| (step.version, step)).collect();
    for made in connection.list_applied_migrations(TABLE).await.map_err(failed)? {
        let wrong = match steps.remove(&made.version) {
            None => MigrateError::VersionMissing(made.version),
            Some(step) if step.checksum != made.checksum => {
                MigrateError::VersionMismatch(made.version)
            }
            Some(_) => continue,
        };
        return Err(KeystoreError::Schema(wrong));
    }
    Ok(steps.into_values().collect())
}

/// Applies what is missing, and gives how many steps that were.
pub(super) async fn migrate(options: &MySqlConnectOptions) -> Result<u32, KeystoreError> {
    let mut connection = options.connect().await?;
    lock(&mut connection).await?;
    connection.ensure_migrations_table(TABLE).await.map_err(failed)?;
    // MySQL does not roll back a change of the schema. Each step is one statement that may be repeated:
    // one that was cut off is done again.
    missing(&mut connection).await?;
    sqlx::query("DELETE FROM _sqlx_migrations WHERE success = 0").execute(&mut connection).await?;
    let missing = missing(&mut connection).await?;
    for step in &missing {
        connection.apply(TABLE, step).await.map_err(failed)?;
    }
    // The lock ends with the connection.
    connection.close().await?;
    Ok(u32::try_from(missing.len()).unwrap_or(u32::MAX))
}

/// Takes the lock that one process at a time has. (sqlx's own waits without a limit, which MariaDB takes
/// for no waiting at all.)
async fn lock(connection: &mut MySqlConnection) -> Result<(), KeystoreError> {
    let locked: Option<i64> =
        sqlx::query_scalar("SELECT GET_LOCK(CONCAT(DATABASE(), ' keystore migrate'), ?)")
            .bind(LOCK_SECONDS)
            .fetch_one(connection)
            .await?;
    if locked == Some(1) { Ok(()) } else { Err(KeystoreError::Slow) }
}

fn failed(error: MigrateError) -> KeystoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            match error_number(&error) {
                Some(number::NO_SUCH_TABLE) => KeystoreError::Outdated,
                _ => error.into(),
            }
        }
        error => KeystoreError::Schema(error),
    }
}
