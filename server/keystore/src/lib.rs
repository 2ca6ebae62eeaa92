//! The keystore: signed documents and wrapped keys in SQL. It never sees an unwrapped key, and
//! believes nothing of what it stores: whoever reads a document has the engine verify it.
//!
//! | module | what it does |
//! |---|---|
//! | [`Keystore`] | what every keystore does |
//! | `rows` | what is stored, row by row |
//! | `statements` | the SQL, once for both databases |
//! | [`audit`] | writes a chain of audit records |
//! | [`SqliteKeystore`] | everything in one file |
//! | [`MysqlKeystore`] | `MySQL`, `MariaDB`, and clusters that speak their protocol |
//! | [`transfer`] | from one keystore to another |
//! | [`Marks`] | kept outside the keystore: the newest revision of every document that was seen |
#![forbid(unsafe_code)]

pub mod audit;
mod committed;
mod error;
mod marks;
mod migrations;
mod mysql;
mod rows;
mod sqlite;
mod statements;
pub mod transfer;

pub use committed::Committed;
pub use error::{KeystoreError, Taken};
pub use marks::{Marks, Newest};
pub use mysql::{MysqlKeystore, MysqlOptions};
pub use rows::{
    AuditChain, AuditFilter, AuditPlace, AuditRow, By, Change, DocumentRow, Page, Reservation,
    Rewrapped, RotationRow, Rows, SiteRow, TokenRow, UsageRow, WrappedRow,
};
pub use sqlite::SqliteKeystore;

use std::sync::Arc;

use async_trait::async_trait;
use sealwire_engine::document::DocumentKind;
use sealwire_engine::{RootKeyId, TokenHash};

/// A store of audit records: what is in it stays as it is.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Adds records, all of them or none, durably.
    ///
    /// # Errors
    /// [`KeystoreError::Taken`] when one is there already.
    async fn append(&self, rows: &[AuditRow]) -> Result<(), KeystoreError>;

    /// Each chain. Looks at every record.
    async fn chains(&self) -> Result<Vec<AuditChain>, KeystoreError>;

    /// Whose chains there are.
    async fn writers(&self) -> Result<Vec<String>, KeystoreError>;

    /// One record.
    async fn record(&self, writer: &str, sequence: i64) -> Result<Option<AuditRow>, KeystoreError>;

    /// The newest records of a chain, at most so many, the newest first.
    async fn newest_records(
        &self,
        writer: &str,
        limit: u32,
    ) -> Result<Vec<AuditRow>, KeystoreError>;

    /// At most `limit` records of a chain, behind the place `after`.
    async fn chain(
        &self,
        writer: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, KeystoreError>;

    /// At most `limit` records of all chains, the newest first, older than the one at `before`.
    async fn newest_first(
        &self,
        filter: &AuditFilter,
        before: Option<&AuditPlace>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, KeystoreError>;
}

/// A store of what the tokens of apps stand for that come over HTTP: never of tokens.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Stores a row, unless its app has as many as it may; whether it did. `now` is Unix time in seconds: rows
    /// whose time is over do not count.
    async fn put_token(&self, row: &TokenRow, now: u64, limit: u32) -> Result<bool, KeystoreError>;

    /// One row.
    async fn token(&self, hash: &TokenHash) -> Result<Option<TokenRow>, KeystoreError>;

    /// Those hashes that are still there, in any order.
    async fn tokens_left(&self, hashes: &[TokenHash]) -> Result<Vec<TokenHash>, KeystoreError>;

    /// Replaces a row; whether it was there.
    async fn renew_token(&self, row: &TokenRow) -> Result<bool, KeystoreError>;

    /// Removes a row.
    async fn remove_token(&self, hash: &TokenHash) -> Result<(), KeystoreError>;

    /// Removes the rows whose time is over at `now`, Unix time in seconds; how many there were.
    async fn sweep_tokens(&self, now: u64) -> Result<u64, KeystoreError>;
}

/// A store of documents and wrapped keys.
#[async_trait]
pub trait Keystore: AuditLog + TokenStore {
    /// The site's row; `None` before [`Keystore::init_site`].
    async fn site(&self) -> Result<Option<SiteRow>, KeystoreError>;

    /// Writes the site's row, once.
    ///
    /// # Errors
    /// [`KeystoreError::Taken`] when there is one already.
    async fn init_site(&self, site: &SiteRow) -> Result<(), KeystoreError>;

    /// The site's revision: that of the newest document, 0 before the first one.
    async fn revision(&self) -> Result<u64, KeystoreError>;

    /// One document.
    async fn document(
        &self,
        kind: DocumentKind,
        by: By<'_>,
    ) -> Result<Option<DocumentRow>, KeystoreError>;

    /// At most `limit` documents, by name, behind the name `after`.
    async fn list(
        &self,
        kind: DocumentKind,
        after: &str,
        limit: u32,
    ) -> Result<Page<DocumentRow, String>, KeystoreError>;

    /// At most `limit` documents of revision `since` or a later one, by revision. The next page begins with
    /// the revision `next`.
    async fn changes(
        &self,
        since: u64,
        limit: u32,
    ) -> Result<Page<DocumentRow, u64>, KeystoreError>;

    /// At most `limit` documents, the newest first.
    async fn newest(&self, limit: u32) -> Result<Page<DocumentRow, u64>, KeystoreError>;

    /// The key documents of some indexes, in any order. None for an index that no key has.
    async fn keys(&self, indexes: &[u32]) -> Result<Vec<DocumentRow>, KeystoreError>;

    /// Every wrapped version of some keys, by uid and version.
    async fn wrapped(&self, uids: &[&str]) -> Result<Vec<WrappedRow>, KeystoreError>;

    /// At most `limit` documents whose due time is `now` or has passed, by id, behind the id `after`.
    async fn due(
        &self,
        now: u64,
        after: &str,
        limit: u32,
    ) -> Result<Page<DocumentRow, String>, KeystoreError>;

    /// The lowest index of `first..=last` above every index that is in use there, or the lowest
    /// one that is free when the highest is in use; `None` when all are.
    async fn free_index(&self, first: u32, last: u32) -> Result<Option<u32>, KeystoreError>;

    /// Writes a change, durably: when it returns `Ok`, a power loss does not undo it.
    ///
    /// # Errors
    /// [`KeystoreError::Moved`] when the site's revision is not [`Change::upon`] any more;
    /// [`KeystoreError::Taken`] when another document has the name or the number.
    async fn commit(&self, change: &Change) -> Result<(), KeystoreError>;

    /// Reserves messages, as far as the limit allows, and gives the number: 0 when there are none left, and
    /// for a version that [`Keystore::close_counted`] has closed.
    async fn reserve(&self, block: &Reservation) -> Result<u64, KeystoreError>;

    /// What was reserved of a key, by version and suite.
    async fn usage(&self, uid: &str) -> Result<Vec<UsageRow>, KeystoreError>;

    /// Counts of versions that the manager shall rotate: all of at most `limit` keys, by uid, behind the uid
    /// `after`.
    async fn worn(&self, after: &str, limit: u32) -> Result<Page<UsageRow, String>, KeystoreError>;

    /// Notes that the manager has seen to a version.
    async fn rested(&self, uid: &str, version: u32) -> Result<(), KeystoreError>;

    /// Closes every version that is there to suites whose messages are counted: after the database was
    /// put back, nobody knows what was counted meanwhile.
    async fn close_counted(&self) -> Result<(), KeystoreError>;

    /// Replaces the site's row, if its keys are still `old`; whether they were.
    async fn replace_site(&self, old: &[u8], new: &SiteRow) -> Result<bool, KeystoreError>;

    /// The last root rotation; `None` before the first one.
    async fn rotation(&self) -> Result<Option<RotationRow>, KeystoreError>;

    /// Notes a root rotation, durably, in place of one that is over.
    ///
    /// # Errors
    /// [`KeystoreError::Taken`] when one is under way.
    async fn begin_rotation(&self, rotation: &RotationRow) -> Result<(), KeystoreError>;

    /// Notes that the rotation to `new` is over, and forgets the wrapped root key. In SQLite's files nothing is
    /// left then of what was replaced; MySQL's undo and redo logs are the database's own business.
    async fn end_rotation(&self, new: RootKeyId) -> Result<(), KeystoreError>;

    /// At most `limit` wrapped keys that name another root key than `root`, by uid and version, behind
    /// `after`.
    async fn wrapped_elsewhere(
        &self,
        root: RootKeyId,
        after: Option<(&str, u32)>,
        limit: u32,
    ) -> Result<Vec<WrappedRow>, KeystoreError>;

    /// How many wrapped keys name another root key than `root`.
    async fn count_elsewhere(&self, root: RootKeyId) -> Result<u64, KeystoreError>;

    /// Replaces blobs, all in one transaction; a row that holds another blob by now is left alone.
    /// Returns how many were replaced.
    async fn rewrap(&self, moved: &[Rewrapped]) -> Result<u64, KeystoreError>;

    /// Everything as it is now, however long the reading takes.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, KeystoreError>;

    /// Begins to take in another keystore's rows: removes what an import has left that was cut off.
    ///
    /// # Errors
    /// [`KeystoreError::Taken`] when there is a site.
    async fn begin_import(&self) -> Result<(), KeystoreError>;

    /// Takes in rows; the wrapped keys are [closed](Keystore::close_counted).
    async fn import(&self, rows: &Rows) -> Result<(), KeystoreError>;

    /// Ends an import: only with the site's row is the keystore one.
    async fn end_import(
        &self,
        revision: u64,
        site: &SiteRow,
        rotation: Option<&RotationRow>,
    ) -> Result<(), KeystoreError>;

    /// What was committed through this handle: taken in by a gateway of the same process, so that what was
    /// acknowledged is in force at once.
    fn committed(&self) -> Arc<Committed>;

    /// Closes every connection.
    async fn close(&self);
}

/// A keystore as it was at one moment.
#[async_trait]
pub trait Snapshot: Send {
    /// The site's revision and its row.
    async fn site(&mut self) -> Result<Option<(u64, SiteRow)>, KeystoreError>;

    /// The last root rotation.
    async fn rotation(&mut self) -> Result<Option<RotationRow>, KeystoreError>;

    /// At most `limit` documents of revision `since` or a later one, by revision.
    async fn documents(
        &mut self,
        since: u64,
        limit: u32,
    ) -> Result<Vec<DocumentRow>, KeystoreError>;

    /// At most `limit` wrapped keys by uid and version, behind `after`.
    async fn wrapped(
        &mut self,
        after: Option<(&str, u32)>,
        limit: u32,
    ) -> Result<Vec<WrappedRow>, KeystoreError>;

    /// At most `limit` audit records by writer and sequence, behind `after`.
    async fn audit(
        &mut self,
        after: Option<(&str, i64)>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, KeystoreError>;

    /// At most `limit` rows of usage by uid, version and suite, behind `after`.
    async fn usage(
        &mut self,
        after: Option<(&str, u32, u8)>,
        limit: u32,
    ) -> Result<Vec<UsageRow>, KeystoreError>;
}
