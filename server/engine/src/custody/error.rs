//! Why a ceremony was refused.

use std::io;
use std::path::PathBuf;

use super::{CardError, ChipError};
use crate::{EngineError, RootKeyId};

/// Why a ceremony was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CustodyError {
    /// Something is wrong with a card, or with its passphrase.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The chip refused.
    #[error(transparent)]
    Chip(#[from] ChipError),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The data folder could not be read or written.
    #[error("data folder {path}")]
    Folder {
        /// The data folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is a root key already.
    #[error("root key {0} exists already; it is unsealed with its cards, never made twice")]
    Exists(RootKeyId),
    /// There is no root key yet.
    #[error(
        "this engine has no root key: a new site makes one with `sealwire root init`; a further engine, or one \
         whose data folder was lost, takes the site's with `sealwire root adopt`"
    )]
    NoRootKey,
    /// A sealed root key lies without its pin.
    #[error(
        "root.sealed of root key {0} is there, but root.pin is not: the data folder was damaged; take the root \
         key from its cards with `sealwire root adopt`, or remove the file if it is of no use to anybody"
    )]
    Unpinned(RootKeyId),
    /// A root key that a rotation has left behind.
    #[error(
        "root key {0} was left behind by a rotation, and is not taken back; to open a backup of the database from \
         before, use an engine with an empty data folder, and `root adopt` with the cards of that time"
    )]
    Forgotten(RootKeyId),
    /// The engine is open already.
    #[error("the engine is open already, under root key {0}")]
    AlreadyOpen(RootKeyId),
    /// A root rotation is under way.
    #[error(
        "root key {0} is being replaced: wait until the rotation has ended (`sealwire root status`)"
    )]
    Rotating(RootKeyId),
    /// The disk fails in such a way that it cannot be told what it holds.
    #[error(
        "it cannot be told which root key is in force on the disk ({0}): keep all cards, mend the disk, and see \
         `sealwire root status` after a restart"
    )]
    Uncertain(io::Error),
    /// A PIN of one's own that no card takes.
    #[error("the PIN is not one: 6 to 64 printable ASCII characters")]
    Pin,
    /// A step of a ceremony that is not the next one.
    #[error("not now: {0}")]
    OutOfTurn(&'static str),
}
