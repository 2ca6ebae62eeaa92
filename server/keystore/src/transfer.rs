//! From one keystore to another: everything in lines of JSON, with a checksum over all of them. Keys are
//! in there as they are stored, wrapped; documents with their MACs.

use std::io::{self, BufRead, Read, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealwire_engine::document::DocumentKind;
use sealwire_engine::{RootKeyId, SignedDocument};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    AuditRow, DocumentRow, Keystore, KeystoreError, RotationRow, Rows, SiteRow, UsageRow,
    WrappedRow,
};

const FORMAT: u32 = 1;

/// Rows that are read, or written in one transaction.
const PAGE: u32 = 500;

/// Longest line that is read, in bytes.
const MAX_LINE: u64 = 16 * 1024 * 1024;

/// Why nothing was moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The keystore to move from has no site.
    #[error("this keystore is empty: there is nothing to export")]
    Empty,
    /// The keystore to move to has a site.
    #[error("this keystore holds a site already: nothing is overwritten; import into an empty one")]
    Occupied,
    /// The input is not an export, or was cut off.
    #[error("line {line}: {problem}; nothing was imported")]
    Input {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The keystore failed.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// The file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// Documents.
    pub documents: u64,
    /// Wrapped keys.
    pub wrapped: u64,
    /// Rows of counted messages.
    pub usage: u64,
    /// Audit records.
    #[serde(default)]
    pub audit: u64,
}

impl Moved {
    /// Rows in all.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.documents + self.wrapped + self.usage + self.audit
    }
}

/// A line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Line {
    Export { format: u32, revision: u64 },
    Site { keys: Blob, decoy_id: String, decoy_body: Blob, decoy_mac: Blob },
    Rotation { old: RootKeyId, new: RootKeyId, wrapped: Blob, done: bool },
    Document(DocumentLine),
    Wrapped { uid: String, version: u32, blob: Blob },
    Usage { uid: String, version: u32, suite: u8, reserved: u64, worn: bool },
    Audit(AuditLine),
    End { moved: Moved, sha256: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentLine {
    kind: DocumentKind,
    id: String,
    revision: u64,
    name: String,
    number: Option<u32>,
    due: Option<u64>,
    body: Blob,
    mac: Blob,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditLine {
    writer: String,
    sequence: i64,
    at: i64,
    event: String,
    body: Blob,
    mac: Blob,
}

impl From<AuditRow> for AuditLine {
    fn from(row: AuditRow) -> Self {
        let AuditRow { writer, sequence, at, event, body, mac } = row;
        Self { writer, sequence, at, event, body: Blob(body), mac: Blob(mac.to_vec()) }
    }
}

impl TryFrom<AuditLine> for AuditRow {
    type Error = &'static str;

    fn try_from(line: AuditLine) -> Result<Self, Self::Error> {
        let AuditLine { writer, sequence, at, event, body, mac } = line;
        Ok(Self { writer, sequence, at, event, body: body.0, mac: mac_of(mac)? })
    }
}

/// Bytes, in base64.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[derive(Clone)]
struct Blob(Vec<u8>);

impl TryFrom<String> for Blob {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self)
    }
}

impl From<Blob> for String {
    fn from(blob: Blob) -> Self {
        STANDARD.encode(blob.0)
    }
}

impl From<DocumentRow> for DocumentLine {
    fn from(row: DocumentRow) -> Self {
        let DocumentRow { signed, name, number, due } = row;
        let SignedDocument { kind, id, revision, body, mac } = signed;
        Self { kind, id, revision, name, number, due, body: Blob(body), mac: Blob(mac.to_vec()) }
    }
}

impl TryFrom<DocumentLine> for DocumentRow {
    type Error = &'static str;

    fn try_from(line: DocumentLine) -> Result<Self, Self::Error> {
        let DocumentLine { kind, id, revision, name, number, due, body, mac } = line;
        let signed = SignedDocument { kind, id, revision, body: body.0, mac: mac_of(mac)? };
        Ok(Self { signed, name, number, due })
    }
}

fn mac_of(blob: Blob) -> Result<[u8; 32], &'static str> {
    blob.0.try_into().map_err(|_| "a MAC has 32 bytes")
}

/// Writes everything that a keystore holds, as it is at this moment. `progress` is told the rows that
/// were written.
///
/// # Errors
/// [`TransferError::Empty`], [`TransferError::Keystore`], [`TransferError::Io`].
pub async fn export(
    keystore: &dyn Keystore,
    out: &mut (dyn Write + Send),
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Moved, TransferError> {
    let mut snapshot = keystore.snapshot().await?;
    let (revision, site) = snapshot.site().await?.ok_or(TransferError::Empty)?;
    let mut writer = Writer { out, hash: Sha256::new() };
    writer.line(&Line::Export { format: FORMAT, revision })?;
    let SiteRow { keys, decoy } = site;
    let (decoy_body, decoy_mac) = (Blob(decoy.body), Blob(decoy.mac.to_vec()));
    writer.line(&Line::Site { keys: Blob(keys), decoy_id: decoy.id, decoy_body, decoy_mac })?;
    if let Some(RotationRow { old, new, wrapped, done }) = snapshot.rotation().await? {
        writer.line(&Line::Rotation { old, new, wrapped: Blob(wrapped), done })?;
    }
    let mut moved = Moved::default();
    let mut since = 0;
    loop {
        let rows = snapshot.documents(since, PAGE).await?;
        let Some(last) = rows.last() else { break };
        since = last.signed.revision + 1;
        moved.documents += rows.len() as u64;
        rows.into_iter().try_for_each(|row| writer.line(&Line::Document(row.into())))?;
        progress(moved.rows());
    }
    let mut after: Option<(String, u32)> = None;
    loop {
        let behind = after.as_ref().map(|(uid, version)| (uid.as_str(), *version));
        let rows = snapshot.wrapped(behind, PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = Some((last.uid.clone(), last.version));
        moved.wrapped += rows.len() as u64;
        for WrappedRow { uid, version, blob } in rows {
            writer.line(&Line::Wrapped { uid, version, blob: Blob(blob) })?;
        }
        progress(moved.rows());
    }
    let mut after: Option<(String, u32, u8)> = None;
    loop {
        let behind = after.as_ref().map(|(uid, version, suite)| (uid.as_str(), *version, *suite));
        let rows = snapshot.usage(behind, PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = Some((last.uid.clone(), last.version, last.suite));
        moved.usage += rows.len() as u64;
        for UsageRow { uid, version, suite, reserved, worn } in rows {
            writer.line(&Line::Usage { uid, version, suite, reserved, worn })?;
        }
        progress(moved.rows());
    }
    let mut after: Option<(String, i64)> = None;
    loop {
        let behind = after.as_ref().map(|(writer, sequence)| (writer.as_str(), *sequence));
        let rows = snapshot.audit(behind, PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = Some((last.writer.clone(), last.sequence));
        moved.audit += rows.len() as u64;
        rows.into_iter().try_for_each(|row| writer.line(&Line::Audit(row.into())))?;
        progress(moved.rows());
    }
    let sha256 = hex::encode(writer.hash.clone().finalize());
    writer.line(&Line::End { moved, sha256 })?;
    writer.out.flush()?;
    Ok(moved)
}

struct Writer<'a> {
    out: &'a mut (dyn Write + Send),
    /// Over every line, with its line feed.
    hash: Sha256,
}

impl Writer<'_> {
    fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.hash.update(&bytes);
        self.out.write_all(&bytes)
    }
}

/// Takes in what [`export`] has written, into a keystore without a site. Unless it is there to its end,
/// and its checksum is right, the keystore gets no site, and what was written is removed by the next
/// import.
///
/// Versions that are imported are closed to suites whose messages are counted: the old keystore may have
/// counted on after the export.
///
/// # Errors
/// [`TransferError`].
pub async fn import(
    keystore: &dyn Keystore,
    input: &mut (dyn BufRead + Send),
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Moved, TransferError> {
    keystore.begin_import().await.map_err(|error| match error {
        KeystoreError::Taken(_) => TransferError::Occupied,
        error => error.into(),
    })?;
    let mut reader = Reader { input, hash: Sha256::new(), number: 0, line: Vec::new() };
    let Line::Export { format: FORMAT, revision } = reader.next()? else {
        return Err(reader.wrong("this is not an export of this version"));
    };
    let (mut site, mut rotation) = (None, None);
    let mut batch = Batch::default();
    loop {
        let before = reader.hash.clone();
        match reader.next()? {
            Line::Export { .. } => return Err(reader.wrong("a second beginning")),
            Line::Site { keys, decoy_id, decoy_body, decoy_mac } => {
                let mac = mac_of(decoy_mac).map_err(|problem| reader.wrong(problem))?;
                let (kind, id, body) = (DocumentKind::App, decoy_id, decoy_body.0);
                let decoy = SignedDocument { kind, id, revision: 0, body, mac };
                site = Some(SiteRow { keys: keys.0, decoy });
            }
            Line::Rotation { old, new, wrapped, done } => {
                rotation = Some(RotationRow { old, new, wrapped: wrapped.0, done });
            }
            Line::Document(line) => {
                batch.documents.push(line.try_into().map_err(|problem| reader.wrong(problem))?);
            }
            Line::Wrapped { uid, version, blob } => {
                batch.wrapped.push(WrappedRow { uid, version, blob: blob.0 });
            }
            Line::Usage { uid, version, suite, reserved, worn } => {
                batch.usage.push(UsageRow { uid, version, suite, reserved, worn });
            }
            Line::Audit(line) => {
                batch.audit.push(line.try_into().map_err(|problem| reader.wrong(problem))?);
            }
            Line::End { moved, sha256 } => {
                batch.write(keystore, 0).await?;
                if !reader.is_at_end()? {
                    return Err(reader.wrong("something follows the end"));
                }
                if moved != batch.moved || sha256 != hex::encode(before.finalize()) {
                    return Err(reader.wrong("the checksum is wrong: the export was changed"));
                }
                let site = site.ok_or_else(|| reader.wrong("there is no site"))?;
                keystore.end_import(revision, &site, rotation.as_ref()).await?;
                return Ok(batch.moved);
            }
        }
        if batch.write(keystore, PAGE as usize).await? {
            progress(batch.moved.rows());
        }
    }
}

#[derive(Default)]
struct Batch {
    documents: Vec<DocumentRow>,
    wrapped: Vec<WrappedRow>,
    usage: Vec<UsageRow>,
    audit: Vec<AuditRow>,
    moved: Moved,
}

impl Batch {
    /// Writes what has gathered, when it is more than `keep` rows; whether it was.
    async fn write(&mut self, keystore: &dyn Keystore, keep: usize) -> Result<bool, KeystoreError> {
        let waiting =
            self.documents.len() + self.wrapped.len() + self.usage.len() + self.audit.len();
        if waiting <= keep {
            return Ok(false);
        }
        self.moved.documents += self.documents.len() as u64;
        self.moved.wrapped += self.wrapped.len() as u64;
        self.moved.usage += self.usage.len() as u64;
        self.moved.audit += self.audit.len() as u64;
        let rows = [
            Rows::Documents(std::mem::take(&mut self.documents)),
            Rows::Wrapped(std::mem::take(&mut self.wrapped)),
            Rows::Usage(std::mem::take(&mut self.usage)),
            Rows::Audit(std::mem::take(&mut self.audit)),
        ];
        for rows in &rows {
            keystore.import(rows).await?;
        }
        Ok(true)
    }
}

struct Reader<'a> {
    input: &'a mut (dyn BufRead + Send),
    hash: Sha256,
    number: u64,
    line: Vec<u8>,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<Line, TransferError> {
        self.number += 1;
        self.line.clear();
        (&mut self.input).take(MAX_LINE).read_until(b'\n', &mut self.line)?;
        if self.line.last() != Some(&b'\n') {
            return Err(self.wrong("the export ends here: it was cut off"));
        }
        self.hash.update(&self.line);
        serde_json::from_slice(&self.line).map_err(|error| self.wrong(&error.to_string()))
    }

    fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.input.fill_buf()?.is_empty())
    }

    fn wrong(&self, problem: &str) -> TransferError {
        TransferError::Input { line: self.number, problem: problem.to_owned() }
    }
}
