//! The document of a business key, and what it allows. Its wrapped versions lie in rows of their own.

use sealwire_protocol::{Suite, credential};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Document, DocumentKind, is_false};
use crate::{EngineError, KeyBinding, Purpose, Uid, Verified, WrappedKey};

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
    /// Nothing, and it is to be destroyed; that can be called off until then.
    DestroyScheduled,
    /// Nothing, for ever: its wrapped key was erased.
    Destroyed,
}

impl VersionState {
    /// Whether it may be used for anything.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Active | Self::DecryptOnly)
    }

    /// The word of the document, the API and the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::DecryptOnly => "decrypt-only",
            Self::Disabled => "disabled",
            Self::DestroyScheduled => "destroy-scheduled",
            Self::Destroyed => "destroyed",
        }
    }
}

/// A version of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyVersion {
    /// The number, from 1.
    pub version: u32,
    /// What it may be used for.
    pub state: VersionState,
    /// Unix time in seconds of its making.
    pub created: u64,
    /// Unix time in seconds from which it may be destroyed: while it is scheduled, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroy_at: Option<u64>,
}

/// When a key gets a new version by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renewal {
    /// Seconds after the active version was made; `None` for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_seconds: Option<u64>,
    /// Messages that the active version has sealed under one suite; `None` where only the suite's own
    /// limit counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_messages: Option<u64>,
}

impl Renewal {
    fn is_never(&self) -> bool {
        *self == Self::default()
    }
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
    /// The lowest version that may seal; never below `min_dec`.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub min_enc: u32,
    /// The lowest version that may open.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub min_dec: u32,
    /// When it gets a new version by itself.
    #[serde(default, skip_serializing_if = "Renewal::is_never")]
    pub renewal: Renewal,
    /// Whether granting DEC on it takes two persons.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sensitive: bool,
    /// Whether it seals nothing without a context.
    #[serde(default, skip_serializing_if = "is_false")]
    pub context_required: bool,
    /// Whether apps that may manage it may have it deleted: then an operator is asked.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deletion_allowed: bool,
    /// Its versions, ascending from 1 without a gap.
    pub versions: Vec<KeyVersion>,
}

impl KeyDocument {
    /// The newest version that may seal.
    #[must_use]
    pub fn newest_active(&self) -> Option<u32> {
        let mut versions = self.versions.iter().rev().map(|version| version.version);
        versions.find(|version| self.may_seal(*version))
    }

    /// What a version may be used for; `None` when there is no such version.
    #[must_use]
    pub fn state_of(&self, version: u32) -> Option<VersionState> {
        let position = usize::try_from(version.checked_sub(1)?).ok()?;
        self.versions.get(position).map(|found| found.state)
    }

    /// Whether a version may seal, under one of the key's suites.
    #[must_use]
    pub fn may_seal(&self, version: u32) -> bool {
        version >= self.min_enc && self.state_of(version) == Some(VersionState::Active)
    }

    /// Whether a version may open.
    #[must_use]
    pub fn may_open(&self, version: u32) -> bool {
        let opening = [Some(VersionState::Active), Some(VersionState::DecryptOnly)];
        version >= self.min_dec && opening.contains(&self.state_of(version))
    }

    /// Messages that a version may seal under a suite before the key gets a new one; `None` when they
    /// are not counted.
    #[must_use]
    pub fn counts(&self, suite: Suite) -> Option<u64> {
        let limit = suite.message_limit();
        let wish = self.renewal.after_messages;
        match (limit, wish) {
            (Some(limit), Some(wish)) => Some(wish.min(limit)),
            (limit, wish) => limit.or(wish),
        }
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

    fn due(&self) -> Option<u64> {
        let destroy = self.versions.iter().filter_map(|version| version.destroy_at).min();
        let renew = self.renewal.after_seconds.and_then(|after| {
            let active = self.newest_active()?;
            let made = self.versions.iter().find(|version| version.version == active)?.created;
            made.checked_add(after)
        });
        [destroy, renew].into_iter().flatten().min()
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
        if self.min_dec == 0 || self.min_enc < self.min_dec {
            return Err(
                "the lowest versions are from 1, and that for ENC not below that for DEC".into()
            );
        }
        if self.renewal.after_seconds == Some(0) || self.renewal.after_messages == Some(0) {
            return Err("a key is not renewed after nothing".into());
        }
        let scheduled = |version: &KeyVersion| version.state == VersionState::DestroyScheduled;
        if self.versions.iter().any(|version| scheduled(version) != version.destroy_at.is_some()) {
            return Err(
                "a version has a time of its destruction if it is scheduled, and only then".into(),
            );
        }
        Ok(())
    }
}

impl Verified<KeyDocument> {
    /// A version's key for a [`Session`](crate::Session), with what the document lets it be used for.
    ///
    /// # Errors
    /// [`EngineError::Unwrap`] when the blob is not a wrapped key.
    pub fn usable(&self, version: u32, blob: &[u8]) -> Result<UsableKey, EngineError> {
        let seals = match self.may_seal(version) {
            true => self.suites.iter().fold(0, |seals, suite| seals | bit(*suite)),
            false => 0,
        };
        let wrapped = self.wrapped(version, blob)?;
        Ok(UsableKey { wrapped, seals, opens: self.may_open(version) })
    }
}

/// A version's wrapped key, and what its document lets it be used for. Only a document that has verified
/// makes one.
#[derive(Debug, Clone)]
pub struct UsableKey {
    wrapped: WrappedKey,
    /// A bit for each suite.
    seals: u8,
    opens: bool,
}

impl UsableKey {
    /// The wrapped key.
    #[inline]
    #[must_use]
    pub fn wrapped(&self) -> &WrappedKey {
        &self.wrapped
    }

    /// Whether it may seal under a suite.
    #[inline]
    #[must_use]
    pub fn seals(&self, suite: Suite) -> bool {
        self.seals & bit(suite) != 0
    }

    /// Whether it may open.
    #[inline]
    #[must_use]
    pub fn opens(&self) -> bool {
        self.opens
    }
}

/// Suites have the numbers 1 to 6.
#[inline]
const fn bit(suite: Suite) -> u8 {
    1 << suite.id()
}

const fn first() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_first(version: &u32) -> bool {
    *version == first()
}

fn suite_names<S: Serializer>(suites: &[Suite], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(suites.iter().map(|suite| suite.name()))
}

fn suites_by_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Suite>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| name.parse().map_err(serde::de::Error::custom)).collect()
}
