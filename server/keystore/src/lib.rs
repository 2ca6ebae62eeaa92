//! The keystore: signed documents and wrapped keys in SQL. It never sees an unwrapped key, and
//! believes nothing of what it stores: whoever reads a document has the engine verify it.
//!
//! [`Keystore`] is the trait; [`SqliteKeystore`] keeps everything in one file.
#![forbid(unsafe_code)]

mod error;
mod sqlite;
mod sqlite_rotation;

pub use error::{KeystoreError, Taken};
pub use sqlite::SqliteKeystore;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use sealwire_engine::document::{Document, DocumentKind};
use sealwire_engine::{RootKeyId, SignedDocument};

/// A signed document and what it is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentRow {
    /// The document.
    pub signed: SignedDocument,
    /// Its name, unique within its kind.
    pub name: String,
    /// A key's index, unique; `None` for other kinds.
    pub number: Option<u32>,
}

impl DocumentRow {
    /// The row of a document that was signed.
    #[must_use]
    pub fn new<D: Document>(document: &D, signed: SignedDocument) -> Self {
        Self { signed, name: document.name().to_owned(), number: document.number() }
    }

    /// Whether the columns that the row was found by are what its document says, once that was
    /// verified.
    ///
    /// # Errors
    /// [`KeystoreError::Broken`], which names the row.
    pub fn check<D: Document>(&self, document: &D) -> Result<(), KeystoreError> {
        if self.name == document.name() && self.number == document.number() {
            return Ok(());
        }
        let (kind, id) = (self.signed.kind.name(), &self.signed.id);
        Err(KeystoreError::Broken(format!("{kind} `{id}`: name or index is not its document's")))
    }
}

/// A version of a wrapped key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedRow {
    /// The key's uid, in text.
    pub uid: String,
    /// The version, from 1.
    pub version: u32,
    /// The wrapped key.
    pub blob: Vec<u8>,
}

/// The site's own row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRow {
    /// [`sealwire_engine::Site`] in its stored form.
    pub keys: Vec<u8>,
    /// An app's document that nobody has the secret of: unknown AppKeys are checked against it.
    pub decoy: SignedDocument,
}

/// A wrapped key that a root rotation moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrapped {
    /// The key's uid, in text.
    pub uid: String,
    /// The version.
    pub version: u32,
    /// The blob that the row must still hold.
    pub old: Vec<u8>,
    /// The blob that it gets.
    pub new: Vec<u8>,
}

/// The last root rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRow {
    /// Id of the root key that is left behind.
    pub old: RootKeyId,
    /// Id of the root key that takes its place.
    pub new: RootKeyId,
    /// The old root key, wrapped under the new one; empty when it is over.
    pub wrapped: Vec<u8>,
    /// Whether it is over.
    pub done: bool,
}

/// A change: all of it is written, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The site's revision that the change was made upon. The document's is one more.
    pub upon: u64,
    /// The document, new or changed.
    pub document: DocumentRow,
    /// The wrapped key that comes with it.
    pub wrapped: Option<WrappedRow>,
}

/// What a document is looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By<'a> {
    /// The id.
    Id(&'a str),
    /// The name.
    Name(&'a str),
    /// A key's index.
    Number(u32),
}

/// A store of documents and wrapped keys.
#[async_trait]
pub trait Keystore: Send + Sync {
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
    ) -> Result<Vec<DocumentRow>, KeystoreError>;

    /// At most `limit` documents of a revision above `since`, by revision.
    async fn changes(&self, since: u64, limit: u32) -> Result<Vec<DocumentRow>, KeystoreError>;

    /// Every wrapped version of a key, by version.
    async fn wrapped(&self, uid: &str) -> Result<Vec<WrappedRow>, KeystoreError>;

    /// The lowest index of `first..=last` above every index that is in use there, or the lowest
    /// one that is free when the highest is in use; `None` when all are.
    async fn free_index(&self, first: u32, last: u32) -> Result<Option<u32>, KeystoreError>;

    /// Writes a change, durably: when it returns `Ok`, a power loss does not undo it.
    ///
    /// # Errors
    /// [`KeystoreError::Moved`] when the site's revision is not [`Change::upon`] any more;
    /// [`KeystoreError::Taken`] when another document has the name or the number.
    async fn commit(&self, change: &Change) -> Result<(), KeystoreError>;

    /// Replaces the site's row, if its keys are still `old`; whether they were.
    async fn replace_site(&self, old: &[u8], new: &SiteRow) -> Result<bool, KeystoreError>;

    /// The last root rotation; `None` before the first one.
    async fn rotation(&self) -> Result<Option<RotationRow>, KeystoreError>;

    /// Notes a root rotation, durably, in place of one that is over.
    ///
    /// # Errors
    /// [`KeystoreError::Taken`] when one is under way.
    async fn begin_rotation(&self, rotation: &RotationRow) -> Result<(), KeystoreError>;

    /// Notes that the rotation to `new` is over, and forgets the wrapped root key: nothing of what was
    /// replaced is left in the database's files.
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

    /// The newest revision that was committed through this handle: read by gateways of the same
    /// process, so that what was acknowledged is in force at once.
    fn committed(&self) -> Arc<AtomicU64>;

    /// Closes every connection.
    async fn close(&self);
}
