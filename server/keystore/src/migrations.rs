//! The steps by which each schema came about: the files of `migrations/`, as part of the program.

use std::pin::Pin;

use sqlx::error::BoxDynError;
use sqlx::migrate::{MigrateError, Migration, MigrationSource, MigrationType, Migrator};
use sqlx::{SqlSafeStr, SqlitePool};

/// The steps of a folder, in their order: the name and the text of each file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps(&'static [(&'static str, &'static str)]);

macro_rules! steps {
    ($folder:literal: $($name:literal),+) => {
        Steps(&[$((
            $name,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/", $folder, "/", $name, ".sql")),
        )),+])
    };
}

pub(crate) const MYSQL: Steps = steps!(
    "mysql":
    "0001_site",
    "0002_document",
    "0003_wrapped_key",
    "0004_root_rotation",
    "0005_key_usage",
    "0006_audit",
    "0007_token"
);
pub(crate) const SQLITE: Steps = steps!(
    "sqlite":
    "0001_keystore",
    "0002_root_rotation",
    "0003_life_cycle",
    "0004_audit",
    "0005_token"
);
pub(crate) const NOTES: Steps = steps!("notes": "0001_notes");
pub(crate) const MARKS: Steps = steps!("marks": "0001_marks");

impl Steps {
    pub(crate) fn migrations(self) -> Vec<Migration> {
        let migration = |&(name, sql): &(&'static str, &'static str)| {
            let (version, description) = name.split_once('_').expect("NUMBER_WHAT");
            let version = version.parse().expect("a number");
            let description = description.replace('_', " ").into();
            Migration::new(version, description, MigrationType::Simple, sql.into_sql_str(), false)
        };
        self.0.iter().map(migration).collect()
    }

    /// Makes those that are not made yet.
    pub(crate) async fn run(self, pool: &SqlitePool) -> Result<(), MigrateError> {
        Migrator::new(self).await?.run(pool).await
    }
}

impl MigrationSource<'static> for Steps {
    fn resolve(self) -> Pin<Box<dyn Future<Output = Result<Vec<Migration>, BoxDynError>> + Send>> {
        Box::pin(async move { Ok(self.migrations()) })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn every_file_is_a_step_and_says_what_sqlx_reads_in_it() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        for (name, steps) in
            [("mysql", MYSQL), ("sqlite", SQLITE), ("notes", NOTES), ("marks", MARKS)]
        {
            let read = Migrator::new(folder.join(name)).await.expect("a folder");
            let all = |steps: &mut dyn Iterator<Item = &Migration>| -> Vec<_> {
                let what = |step: &Migration| {
                    (step.version, step.description.clone(), step.checksum.clone(), step.no_tx)
                };
                steps.map(what).collect()
            };
            assert_eq!(all(&mut steps.migrations().iter()), all(&mut read.iter()), "{name}");
        }
    }
}
