//! The shares shown so far in one ceremony.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Passphrase;
use super::card::{Card, CardError, CardSet, Share};
use super::shares;
use crate::{RootKey, RootKeyId};

/// How far a ceremony has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Cards shown.
    pub have: u8,
    /// Cards needed.
    pub need: u8,
}

/// The shares shown so far. They are forgotten after [`LAPSE`] without another one.
#[derive(Default)]
pub(super) struct Gathering {
    begun: Option<Begun>,
}

struct Begun {
    set: CardSet,
    shares: Vec<Share>,
    last: Instant,
}

/// Time after which a ceremony that nobody goes on with is forgotten.
pub(super) const LAPSE: Duration = Duration::from_secs(15 * 60);

impl Gathering {
    /// Adds a card. When the quorum is there, gives the root key, and the ceremony is over.
    ///
    /// # Errors
    /// A [`CardError`] that names the card; what was shown before is kept, except when the quorum is
    /// there and does not give the root key.
    pub(super) fn add(
        &mut self,
        card: &Card,
        passphrase: &Passphrase,
        pinned: Option<RootKeyId>,
        now: Instant,
    ) -> Result<Result<RootKey, Progress>, CardError> {
        self.expire(now);
        self.check(card, pinned)?;
        let share = card.open(passphrase)?;
        let begun = self.begun.get_or_insert_with(|| Begun {
            set: *card.set(),
            shares: Vec::new(),
            last: now,
        });
        begun.shares.push(share);
        begun.last = now;
        let (have, need) =
            (u8::try_from(begun.shares.len()).unwrap_or(u8::MAX), begun.set.threshold);
        if have < need {
            return Ok(Err(Progress { have, need }));
        }
        let begun = self.begun.take().expect("a share was added above");
        shares::combine(&begun.shares, &begun.set).map(Ok)
    }

    /// How far the ceremony has come; `None` when none has begun.
    pub(super) fn progress(&mut self, now: Instant) -> Option<Progress> {
        self.expire(now);
        let begun = self.begun.as_ref()?;
        let have = u8::try_from(begun.shares.len()).unwrap_or(u8::MAX);
        Some(Progress { have, need: begun.set.threshold })
    }

    fn check(&self, card: &Card, pinned: Option<RootKeyId>) -> Result<(), CardError> {
        let (number, found) = (card.number(), card.set().root);
        if let Some(pinned) = pinned.filter(|pinned| *pinned != found) {
            return Err(CardError::OtherRoot { number, found, pinned });
        }
        let Some(begun) = &self.begun else { return Ok(()) };
        if begun.set != *card.set() {
            let (expected, found) = (begun.set.name(), card.set().name());
            return Err(CardError::Foreign { number, expected, found });
        }
        if begun.shares.iter().any(|share| share.number == number) {
            return Err(CardError::Repeated(number));
        }
        Ok(())
    }

    fn expire(&mut self, now: Instant) {
        if self.begun.as_ref().is_some_and(|begun| now.duration_since(begun.last) >= LAPSE) {
            self.begun = None;
        }
    }
}
