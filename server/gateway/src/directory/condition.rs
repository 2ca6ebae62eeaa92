//! What the keystore is like, as far as is known here, and how a request is refused for it.

use std::error::Error;
use std::sync::atomic::{AtomicU8, Ordering};

use sealwire_keystore::KeystoreError;
use sealwire_protocol::ErrorCode;

use crate::Refusal;

/// What the keystore is like, as far as is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It answers.
    Up,
    /// It does not answer: what is kept here goes on.
    Away,
    /// It is older than it was before: nothing is read from it.
    RolledBack,
}

impl Condition {
    const ALL: [Self; 3] = [Self::Up, Self::Away, Self::RolledBack];

    pub(super) fn of(number: &AtomicU8) -> Self {
        let number = usize::from(number.load(Ordering::Relaxed));
        Self::ALL.get(number).copied().unwrap_or(Self::Away)
    }
}

/// What the directory knows of the keystore, for health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// What the keystore is like.
    pub condition: Condition,
    /// Whether it was away for so long that nothing is trusted any more.
    pub stale: bool,
    /// The revision up to which changes were taken in.
    pub revision: u64,
}

/// Whether there is any use in asking a keystore that is like this.
pub(super) fn readable(condition: Condition) -> Result<(), Refusal> {
    match condition {
        Condition::Up => Ok(()),
        Condition::Away => Err(away()),
        Condition::RolledBack => Err(ErrorCode::INTERNAL.into()),
    }
}

pub(super) fn away() -> Refusal {
    Refusal::new(ErrorCode::UNAVAILABLE, "the keystore is away: try again")
}

pub(crate) fn unavailable(error: &KeystoreError) -> Refusal {
    if error.is_away() {
        tracing::debug!(error = error as &dyn Error, "keystore");
        return away();
    }
    tracing::error!(error = error as &dyn Error, "keystore");
    ErrorCode::INTERNAL.into()
}
