//! The document of the site's policy: how much care is taken before what cannot be undone.

use serde::{Deserialize, Serialize};

use super::{Document, DocumentKind};

/// The one id, and the one name.
pub const POLICY_ID: &str = "policy";

/// The document of the site's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// Always [`DocumentKind::Policy`].
    #[serde(rename = "type")]
    pub kind: DocumentKind,
    /// Always [`POLICY_ID`].
    pub id: String,
    /// See [`Document::revision`].
    pub revision: u64,
    /// Whether what cannot be undone, or opens doors, takes two persons.
    pub two_persons: bool,
    /// The least seconds between the word that a version of a key is to be destroyed, and its destruction. A
    /// manager's configuration may ask for more.
    pub destroy_wait_seconds: u64,
}

impl Document for PolicyDocument {
    const KIND: DocumentKind = DocumentKind::Policy;

    fn kind(&self) -> DocumentKind {
        self.kind
    }

    fn id(&self) -> String {
        self.id.clone()
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn name(&self) -> &str {
        &self.id
    }

    fn number(&self) -> Option<u32> {
        None
    }

    fn due(&self) -> Option<u64> {
        None
    }

    fn check(&self) -> Result<(), String> {
        if self.id == POLICY_ID { Ok(()) } else { Err("there is one policy".into()) }
    }
}
