//! What a keystore refuses.

use std::fmt;

/// What was unique, and is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The document's name.
    Name,
    /// A key's index.
    Number,
    /// The id, or the site's only row.
    Id,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Number => "index",
            Self::Id => "id",
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
    /// The schema is newer than this program.
    #[error("the keystore's schema is not this program's: use the program that wrote it")]
    Schema(#[source] sqlx::migrate::MigrateError),
    /// The database does not answer in time.
    #[error("the keystore's database does not answer in time")]
    Slow,
    /// The database is away, or failed.
    #[error("the keystore's database is away, or failed")]
    Database(#[from] sqlx::Error),
}
