//! What a keystore refuses.

use std::fmt;
use std::path::PathBuf;

use sealwire_engine::SignedDocument;

/// What was unique, and is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The document's name.
    Name,
    /// A key's index.
    Number,
    /// The id, or the site's only row.
    Id,
    /// The place of an audit record in its chain.
    Record,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Number => "index",
            Self::Id => "id",
            Self::Record => "place of an audit record",
        })
    }
}

/// Why the keystore did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// Something that must be unique is in use.
    #[error("this {0} is in use")]
    Taken(Taken),
    /// Somebody else changed a document in between: read again.
    #[error("the keystore has moved on to revision {0}")]
    Moved(u64),
    /// A row holds what no row may hold.
    #[error("a row of the keystore is broken: {0}")]
    Broken(String),
    /// The schema is newer than this program, or not Sealwire's.
    #[error("the keystore's schema is not this program's: use the program that wrote it")]
    Schema(#[source] sqlx::migrate::MigrateError),
    /// The schema is missing, or older than this program.
    #[error(
        "the keystore's schema is missing or old: run `sealwire keystore migrate --config FILE`"
    )]
    Outdated,
    /// There are rows, but no site: an import was cut off.
    #[error("an import into this keystore was cut off: run `sealwire keystore import` again")]
    Unfinished,
    /// A document, or the whole keystore, is older than what was seen before.
    #[error(
        "{0}; if the database was put back from a backup on purpose, stop the server and run \
         `sealwire keystore restored --config FILE`"
    )]
    RolledBack(String),
    /// Where the keystore is, or how it is reached, is not said well.
    #[error("{0}")]
    Options(String),
    /// The marks outside the keystore cannot be read or written.
    #[error("{path}: the marks of what was seen cannot be read or written")]
    Marks {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// The database does not answer in time.
    #[error("the keystore's database does not answer in time")]
    Slow,
    /// The database is away, or failed.
    #[error("the keystore's database is away, or failed")]
    Database(#[from] sqlx::Error),
}

impl KeystoreError {
    /// A document is older than its mark.
    #[must_use]
    pub fn rolled_back(document: &SignedDocument) -> Self {
        let SignedDocument { kind, id, revision, .. } = document;
        Self::RolledBack(format!(
            "{} `{id}` is there in revision {revision}, and a newer one was seen before",
            kind.name()
        ))
    }

    /// Whether nobody knows what has become of a commit: its answer has not come.
    #[must_use]
    pub fn is_unclear(&self) -> bool {
        match self {
            Self::Slow => true,
            // What the database itself has refused was not done.
            Self::Database(error) => {
                error.as_database_error().is_none() && !matches!(error, sqlx::Error::PoolTimedOut)
            }
            _ => false,
        }
    }

    /// Whether the keystore is away, and may be back soon.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Database(_) | Self::Slow)
    }
}
