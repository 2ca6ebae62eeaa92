//! The schema: checked at each start, changed by `sealwire keystore migrate` alone, so that neither a
//! gateway's nor a manager's account may change it.

use std::collections::HashMap;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection as _, MySqlConnection};

use super::{error_number, number};
use crate::KeystoreError;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/mysql");

/// sqlx's name for it.
const TABLE: &str = "_sqlx_migrations";

/// Whether the schema is this program's.
pub(super) async fn check(connection: &mut MySqlConnection) -> Result<(), KeystoreError> {
    let dirty = connection.dirty_version(TABLE).await.map_err(failed)?;
    let applied = connection.list_applied_migrations(TABLE).await.map_err(failed)?;
    let known: HashMap<i64, _> =
        MIGRATIONS.iter().map(|step| (step.version, &step.checksum)).collect();
    for step in &applied {
        match known.get(&step.version) {
            None => return Err(KeystoreError::Schema(MigrateError::VersionMissing(step.version))),
            Some(checksum) if **checksum != step.checksum => {
                return Err(KeystoreError::Schema(MigrateError::VersionMismatch(step.version)));
            }
            Some(_) => {}
        }
    }
    if dirty.is_some() || applied.len() < known.len() {
        return Err(KeystoreError::Outdated);
    }
    Ok(())
}

/// Applies what is missing, and gives how many steps that were.
pub(super) async fn migrate(options: &MySqlConnectOptions) -> Result<u32, KeystoreError> {
    let mut connection = options.connect().await?;
    connection.lock().await.map_err(failed)?;
    connection.ensure_migrations_table(TABLE).await.map_err(failed)?;
    // MySQL does not roll back a change of the schema. Each step is one statement that may be repeated:
    // one that was cut off is done again.
    sqlx::query("DELETE FROM _sqlx_migrations WHERE success = 0").execute(&mut connection).await?;
    let before = connection.list_applied_migrations(TABLE).await.map_err(failed)?.len();
    MIGRATIONS.run(&mut connection).await.map_err(failed)?;
    let after = connection.list_applied_migrations(TABLE).await.map_err(failed)?.len();
    connection.unlock().await.map_err(failed)?;
    connection.close().await?;
    Ok(u32::try_from(after - before).unwrap_or(u32::MAX))
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
