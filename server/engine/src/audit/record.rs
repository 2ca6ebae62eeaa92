//! Records, chains and heads.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::AuditEvent;
use crate::EngineError;

/// Longest record, in bytes.
pub const MAX_AUDIT_RECORD: usize = 48 * 1024;

/// Most records that are signed, or checked, at once.
pub const MAX_AUDIT_BATCH: usize = 128;

const HASH_LABEL: &[u8] = b"sealwire audit chain v1\0";

/// SHA-256 over a record: the link of a chain. Of no record: zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AuditHash(pub [u8; 32]);

impl AuditHash {
    /// The hash of a record's bytes.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(HASH_LABEL);
        hash.update(body);
        Self(hash.finalize().into())
    }
}

impl fmt::Display for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<AuditHash> for String {
    fn from(hash: AuditHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for AuditHash {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash)?;
        Ok(Self(hash))
    }
}

/// What kind of process writes a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuditWriterKind {
    /// A gateway.
    Gateway,
    /// A manager.
    Manager,
}

impl AuditWriterKind {
    const ALL: [Self; 2] = [Self::Gateway, Self::Manager];

    /// The name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Manager => "manager",
        }
    }
}

/// Who writes a chain: a kind of process, and a random id that its data folder keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AuditWriter {
    /// The kind of process.
    pub kind: AuditWriterKind,
    /// The id.
    pub id: [u8; 8],
}

impl AuditWriter {
    /// A writer that there was not before.
    ///
    /// # Errors
    /// [`EngineError::Random`].
    pub fn generate(kind: AuditWriterKind) -> Result<Self, EngineError> {
        let mut id = [0; 8];
        getrandom::fill(&mut id)?;
        Ok(Self { kind, id })
    }
}

impl fmt::Display for AuditWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.kind.name(), hex::encode(self.id))
    }
}

impl FromStr for AuditWriter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('-').and_then(|(kind, id)| {
            let kind = AuditWriterKind::ALL.into_iter().find(|known| known.name() == kind)?;
            let mut bytes = [0; 8];
            hex::decode_to_slice(id, &mut bytes).ok()?;
            Some(Self { kind, id: bytes })
        });
        // One way to write it.
        let same = parsed.filter(|writer| writer.to_string() == text);
        same.ok_or_else(|| "a writer is named gateway-ID or manager-ID".into())
    }
}

impl From<AuditWriter> for String {
    fn from(writer: AuditWriter) -> Self {
        writer.to_string()
    }
}

impl TryFrom<String> for AuditWriter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// Whose chain it is in.
    pub writer: AuditWriter,
    /// Its place there, from 1.
    pub sequence: u64,
    /// Unix time in milliseconds.
    pub at: u64,
    /// The hash of the record before it.
    pub previous: AuditHash,
    /// The number of the writer's note that became this record, so that none becomes two; `None` for what was never a
    /// note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<u64>,
    /// What it tells of.
    pub event: AuditEvent,
}

impl AuditRecord {
    /// The one encoding.
    ///
    /// # Errors
    /// [`EngineError::Document`] when it says what no record may say.
    pub fn encode(&self) -> Result<Vec<u8>, EngineError> {
        let refused = |why: String| EngineError::Document(format!("an audit record: {why}"));
        if self.sequence == 0 {
            return Err(refused("sequence 0".into()));
        }
        self.event.check().map_err(refused)?;
        let body = serde_json::to_vec(self).map_err(|error| refused(error.to_string()))?;
        match body.len() > MAX_AUDIT_RECORD {
            true => Err(refused(format!("longer than {MAX_AUDIT_RECORD} bytes"))),
            false => Ok(body),
        }
    }

    /// Reads a record, whose MAC is checked elsewhere.
    ///
    /// # Errors
    /// [`EngineError::Document`].
    pub fn decode(body: &[u8]) -> Result<Self, EngineError> {
        let refused = |why: String| EngineError::Document(format!("an audit record: {why}"));
        if body.len() > MAX_AUDIT_RECORD {
            return Err(refused(format!("longer than {MAX_AUDIT_RECORD} bytes")));
        }
        let record: Self =
            serde_json::from_slice(body).map_err(|error| refused(error.to_string()))?;
        match record.encode()? == body {
            true => Ok(record),
            false => Err(refused("it is not in its canonical form".into())),
        }
    }

    /// Whether it is the next one of a chain.
    #[must_use]
    pub fn follows(&self, head: &AuditHead) -> bool {
        self.writer == head.writer
            && Some(self.sequence) == head.sequence.checked_add(1)
            && self.previous == head.hash
    }
}

/// How far a chain goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditHead {
    /// Whose chain.
    pub writer: AuditWriter,
    /// The place of its last record; 0 for none.
    pub sequence: u64,
    /// That record's hash.
    pub hash: AuditHash,
    /// That record's time: Unix time in milliseconds.
    pub at: u64,
}

impl AuditHead {
    /// The head of a chain that has no records yet.
    #[must_use]
    pub fn none(writer: AuditWriter) -> Self {
        Self { writer, sequence: 0, hash: AuditHash::default(), at: 0 }
    }

    /// The head behind a record.
    #[must_use]
    pub fn of(record: &AuditRecord, body: &[u8]) -> Self {
        let AuditRecord { writer, sequence, at, .. } = *record;
        Self { writer, sequence, hash: AuditHash::of(body), at }
    }

    /// The bytes that its MAC is over.
    ///
    /// # Panics
    /// Never: it has plain fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain fields")
    }
}

/// What the engine makes of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSigned {
    /// The MAC of each.
    pub macs: Vec<[u8; 32]>,
    /// The head behind the last of them.
    pub head: AuditHead,
    /// The head's MAC.
    pub head_mac: [u8; 32],
}
