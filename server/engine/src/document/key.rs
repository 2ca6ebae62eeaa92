//! The document of a business key. Its wrapped versions lie in rows of their own.

use sealwire_protocol::{Suite, credential};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Document, DocumentKind};
use crate::{EngineError, KeyBinding, Purpose, Uid, WrappedKey};

/// What a version of a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionState {
    /// ENC (when it is the newest such version) and DEC.
    Active,
    /// DEC alone.
    DecryptOnly,
    /// Nothing, until it is enabled again.
    Disabled,
}

/// A version of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyVersion {
    /// The number, from 1.
    pub version: u32,
    /// What it may be used for.
    pub state: VersionState,
    /// Unix time in seconds of its making.
    pub created: u64,
}

/// The document of a business key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyDocument {
    /// Always [`DocumentKind::Key`].
    #[serde(rename = "type")]
    pub kind: DocumentKind,
    /// Which key it is; the document's id.
    pub uid: Uid,
    /// See [`Document::revision`].
    pub revision: u64,
    /// The name, unique in a site.
    pub name: String,
    /// The index, unique in a site, never 0.
    pub index: u32,
    /// The suites that it may seal with, the first being its default.
    #[serde(serialize_with = "suite_names", deserialize_with = "suites_by_name")]
    pub suites: Vec<Suite>,
    /// Its versions, ascending from 1 without a gap.
    pub versions: Vec<KeyVersion>,
}

impl KeyDocument {
    /// The newest version that may seal.
    #[must_use]
    pub fn newest_active(&self) -> Option<u32> {
        let mut versions = self.versions.iter().rev();
        versions.find(|version| version.state == VersionState::Active).map(|found| found.version)
    }

    /// What a version may be used for; `None` when there is no such version.
    #[must_use]
    pub fn state_of(&self, version: u32) -> Option<VersionState> {
        let position = usize::try_from(version.checked_sub(1)?).ok()?;
        self.versions.get(position).map(|found| found.state)
    }

    /// What a version's wrapped key is bound to.
    #[must_use]
    pub fn binding(&self, version: u32) -> KeyBinding {
        KeyBinding {
            purpose: Purpose::BusinessKey,
            uid: self.uid,
            index: self.index,
            version,
            name: self.name.clone(),
        }
    }

    /// A version's wrapped key, from its stored blob.
    ///
    /// # Errors
    /// [`EngineError::Unwrap`] when the blob is not one.
    pub fn wrapped(&self, version: u32, blob: &[u8]) -> Result<WrappedKey, EngineError> {
        WrappedKey::new(self.binding(version), blob)
    }
}

impl Document for KeyDocument {
    const KIND: DocumentKind = DocumentKind::Key;

    fn kind(&self) -> DocumentKind {
        self.kind
    }

    fn id(&self) -> String {
        self.uid.to_string()
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn number(&self) -> Option<u32> {
        Some(self.index)
    }

    fn check(&self) -> Result<(), String> {
        credential::key_name(self.name.as_bytes()).map_err(|error| error.to_string())?;
        if self.index == 0 {
            return Err("index 0 is reserved".into());
        }
        if self.suites.is_empty() {
            return Err("a key needs a suite".into());
        }
        let numbers = self.versions.iter().map(|version| version.version);
        if self.versions.is_empty()
            || !numbers.eq(1..=u32::try_from(self.versions.len()).unwrap_or(0))
        {
            return Err("versions ascend from 1 without a gap".into());
        }
        Ok(())
    }
}

fn suite_names<S: Serializer>(suites: &[Suite], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(suites.iter().map(|suite| suite.name()))
}

fn suites_by_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Suite>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| name.parse().map_err(serde::de::Error::custom)).collect()
}
