//! What an officer is told.

use serde::{Deserialize, Serialize};

use super::folder::PinnedSet;
use super::gathering::Progress;
use crate::{Protection, RootKeyId, State};

/// What showing a card has led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Opened {
    /// More cards are needed.
    Partly(Progress),
    /// The engine is open.
    Open {
        /// The root key.
        root: RootKeyId,
        /// Numbers of the cards that were shown and whose shares are wrong.
        wrong: Vec<u8>,
    },
}

/// What an officer may know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Sealed or open.
    pub state: State,
    /// Unix time in seconds since when.
    pub since: u64,
    /// The pinned root key id; `None` before the first ceremony.
    pub root: Option<RootKeyId>,
    /// The root key that a rotation leaves behind; `None` when none is under way.
    pub previous: Option<RootKeyId>,
    /// The card set of the last ceremony.
    pub set: Option<PinnedSet>,
    /// The chip's name.
    pub chip: String,
    /// Why the chip has not opened the engine, or does not seal the root key.
    pub chip_problem: Option<String>,
    /// How the root key's memory is protected.
    pub memory: Protection,
    /// How far an unsealing has come.
    pub progress: Option<Progress>,
    /// Seconds after which the cards shown are forgotten when no other follows.
    pub lapse_seconds: u64,
}
