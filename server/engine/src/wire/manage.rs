//! What an app that may manage a key wants done to it: handed on by its gateway to a manager (spec.md, "Orders for
//! keys").

use sealwire_protocol::Opcode;
use serde::{Deserialize, Serialize};

/// The word, between a gateway and a manager. Its body is a [`ManageOrder`] as JSON; the answer's is empty.
pub const MANAGE: Opcode = Opcode(0x60);

/// What is to be done to a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ManageAct {
    /// Make it; when it is there, nothing is changed.
    Create {
        /// Names of suites, the first being the default; empty takes the site's.
        suites: Vec<String>,
        /// Whether it seals nothing without a context.
        context_required: bool,
        /// Age in seconds at which it gets a new version; `None` takes the site's, 0 is never.
        renew_after_seconds: Option<u64>,
    },
    /// Add a version.
    Rotate,
    /// Set it. What is `None` stays.
    Set {
        /// The lowest version that may open.
        min_dec: Option<u32>,
        /// The lowest version that may seal.
        min_enc: Option<u32>,
        /// Whether apps may delete it.
        deletion_allowed: Option<bool>,
        /// Age in seconds at which it gets a new version; 0 is never.
        renew_after_seconds: Option<u64>,
    },
    /// Disable the versions below, and ask for their destruction.
    Trim {
        /// The lowest version that stays.
        below: u32,
    },
    /// Disable all versions, and ask for their destruction.
    Delete,
}

/// The same, of which key, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManageOrder {
    /// The AppKey.
    pub app: String,
    /// The key's name.
    pub key: String,
    /// What.
    pub act: ManageAct,
}
