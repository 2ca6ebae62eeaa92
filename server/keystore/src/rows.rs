//! What the keystore stores, row by row.

use sealwire_engine::document::Document;
use sealwire_engine::{RootKeyId, SignedDocument, TokenHash};

use crate::KeystoreError;

/// A signed document and what it is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentRow {
    /// The document.
    pub signed: SignedDocument,
    /// Its name, unique within its kind.
    pub name: String,
    /// A key's index, unique; `None` for other kinds.
    pub number: Option<u32>,
    /// Unix time in seconds at which the manager has something to do about it; `None` for never.
    pub due: Option<u64>,
}

impl DocumentRow {
    /// The row of a document that was signed.
    #[must_use]
    pub fn new<D: Document>(document: &D, signed: SignedDocument) -> Self {
        let (name, number, due) = (document.name().to_owned(), document.number(), document.due());
        Self { signed, name, number, due }
    }

    /// Whether the columns that the row was found by are what its document says, once that was
    /// verified.
    ///
    /// # Errors
    /// [`KeystoreError::Broken`], which names the row.
    pub fn check<D: Document>(&self, document: &D) -> Result<(), KeystoreError> {
        let columns = (self.name.as_str(), self.number, self.due);
        if columns == (document.name(), document.number(), document.due()) {
            return Ok(());
        }
        let (kind, id) = (self.signed.kind.name(), &self.signed.id);
        Err(KeystoreError::Broken(format!(
            "{kind} `{id}`: name, index or due time is not its document's"
        )))
    }
}

/// Rows, as far as they have the form of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The rows.
    pub rows: Vec<T>,
    /// Names of those that do not have it; the log says more.
    pub broken: Vec<String>,
    /// Behind which row the next page begins; `None` on the last one. Rows that are broken count.
    pub next: Option<C>,
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

/// An audit record as it is stored. What the columns say is compared with the body by who checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Whose chain it is in.
    pub writer: String,
    /// Its place there: from 1, unless somebody else has put it there.
    pub sequence: i64,
    /// Unix time in milliseconds.
    pub at: i64,
    /// The name of what it tells of.
    pub event: String,
    /// The record.
    pub body: Vec<u8>,
    /// Its MAC.
    pub mac: [u8; 32],
}

/// A chain of audit records, as the keystore has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditChain {
    /// Whose it is: any text, if somebody else has put it there.
    pub writer: String,
    /// The place of its newest record.
    pub newest: i64,
    /// How many records there are.
    pub count: u64,
}

/// Which audit records are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFilter {
    /// Unix time in milliseconds, from which on.
    pub from: i64,
    /// And up to which.
    pub until: i64,
    /// Names of what they tell of; none for any.
    pub events: Vec<String>,
    /// Whose chain; any unless set.
    pub writer: Option<String>,
}

impl Default for AuditFilter {
    fn default() -> Self {
        Self { from: i64::MIN, until: i64::MAX, events: Vec::new(), writer: None }
    }
}

/// A place among all audit records, by time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPlace {
    /// Unix time in milliseconds.
    pub at: i64,
    /// Whose chain.
    pub writer: String,
    /// The place there.
    pub sequence: i64,
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
    /// Versions of the key whose wrapped keys are overwritten and erased.
    pub erased: Vec<u32>,
    /// What the audit says of it.
    pub audit: AuditRow,
}

/// How many messages a version of a key may have sealed under a suite: counted in blocks that are
/// reserved ahead, so never too low.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// The key's uid, in text.
    pub uid: String,
    /// The version.
    pub version: u32,
    /// The suite's number.
    pub suite: u8,
    /// Messages that were reserved.
    pub reserved: u64,
    /// Whether the manager shall rotate the key.
    pub worn: bool,
}

/// A block of messages that a gateway wants to seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The key's uid, in text.
    pub uid: String,
    /// The version.
    pub version: u32,
    /// The suite's number.
    pub suite: u8,
    /// Messages.
    pub count: u64,
    /// Messages that all gateways together may seal; `None` where they are counted for the sake of a renewal
    /// alone.
    pub limit: Option<u64>,
    /// Messages from which the manager shall rotate the key.
    pub worn_at: u64,
}

/// Rows of a keystore that is moved to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// Documents.
    Documents(Vec<DocumentRow>),
    /// Wrapped keys.
    Wrapped(Vec<WrappedRow>),
    /// Counted messages.
    Usage(Vec<UsageRow>),
    /// Audit records.
    Audit(Vec<AuditRow>),
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

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// SHA-256 of the token's text.
    pub hash: TokenHash,
    /// The AppKey.
    pub app: String,
    /// The engine's [record](sealwire_engine::TokenRecord) of it, as bytes.
    pub record: Vec<u8>,
    /// Unix time in seconds from which it is no longer taken.
    pub expires: u64,
}
