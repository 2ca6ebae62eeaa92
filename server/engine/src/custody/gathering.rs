//! The shares shown so far in one ceremony.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Passphrase;
use super::card::{Card, CardError, CardSet, Share};
use super::shares;
use crate::{EngineError, RootKey, RootKeyId, Vault};

/// How far a ceremony has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Cards shown.
    pub have: u8,
    /// Cards needed.
    pub need: u8,
}

/// What a card has led to.
pub(super) enum Gathered {
    /// More cards are needed.
    Partly(Progress),
    /// A quorum gives the root key.
    Whole(Quorum),
}

/// The root key that a quorum gives.
pub(super) struct Quorum {
    pub(super) root: RootKey,
    pub(super) set: CardSet,
    /// Numbers of the cards whose shares give it.
    pub(super) good: Vec<u8>,
    /// Numbers of the cards that were shown and whose shares do not.
    pub(super) wrong: Vec<u8>,
}

/// The shares shown so far, in the vault. They are forgotten when nobody goes on for a while.
pub(super) struct Gathering {
    vault: Arc<Vault>,
    lapse: Duration,
    begun: Option<Begun>,
}

struct Begun {
    set: CardSet,
    shares: Vec<Share>,
    last: Instant,
}

impl Gathering {
    /// Nothing yet; what is shown is forgotten `lapse` after the last card.
    pub(super) fn new(vault: Arc<Vault>, lapse: Duration) -> Self {
        Self { vault, lapse, begun: None }
    }

    /// Adds a card of the root key `pinned`. When a quorum is there, gives the root key; whether the
    /// shares are kept beyond that is up to the caller.
    ///
    /// # Errors
    /// A [`CardError`] that names the card; what was shown before is kept, except after
    /// [`CardError::Hopeless`].
    pub(super) fn add(
        &mut self,
        card: &Card,
        passphrase: &Passphrase,
        pinned: Option<RootKeyId>,
    ) -> Result<Gathered, CardError> {
        self.expire(Instant::now());
        self.check(card, pinned)?;
        let share = card.open(passphrase, &self.vault)?;
        let now = Instant::now();
        let set = *card.set();
        let begun = self.begun.get_or_insert_with(|| Begun { set, shares: Vec::new(), last: now });
        begun.shares.push(share);
        begun.last = now;
        let progress = begun.progress();
        if progress.have < progress.need {
            return Ok(Gathered::Partly(progress));
        }
        match begun.solve(&self.vault) {
            Err(CardError::Mismatch) if progress.have == set.cards => {
                self.begun = None;
                Err(CardError::Hopeless)
            }
            solved => solved.map(Gathered::Whole),
        }
    }

    /// How far the ceremony has come; `None` when none has begun.
    pub(super) fn progress(&self) -> Option<Progress> {
        self.begun.as_ref().map(Begun::progress)
    }

    /// Forgets what was shown, unless it was shown lately.
    pub(super) fn expire(&mut self, now: Instant) {
        let lapsed = |begun: &Begun| now.saturating_duration_since(begun.last) >= self.lapse;
        if self.begun.as_ref().is_some_and(lapsed) {
            tracing::info!("the cards shown have lapsed");
            self.begun = None;
        }
    }

    /// Forgets what was shown.
    pub(super) fn clear(&mut self) {
        self.begun = None;
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
}

impl Begun {
    fn progress(&self) -> Progress {
        let have = u8::try_from(self.shares.len()).unwrap_or(u8::MAX);
        Progress { have, need: self.set.threshold }
    }

    /// Looks for a quorum that gives the root key, and sorts the other cards by it.
    fn solve(&self, vault: &Arc<Vault>) -> Result<Quorum, CardError> {
        let size = usize::from(self.set.threshold);
        let mut quorum: Vec<usize> = (0..size).collect();
        loop {
            match self.combine(vault, &quorum) {
                Ok(root) => return self.sort(vault, &quorum, root),
                Err(CardError::Mismatch) => {}
                Err(error) => return Err(error),
            }
            if !next_choice(&mut quorum, self.shares.len()) {
                return Err(CardError::Mismatch);
            }
        }
    }

    /// The root key that some of the shares give.
    fn combine(&self, vault: &Arc<Vault>, chosen: &[usize]) -> Result<RootKey, CardError> {
        let number = chosen.last().map_or(0, |at| self.shares[*at].number);
        let machine =
            |error: EngineError| CardError::Machine { number, problem: error.to_string() };
        vault.enter(|inside| {
            // With room for all: a vector that grows would leave shares behind in what it has outgrown.
            let mut clear = Vec::with_capacity(chosen.len());
            for at in chosen {
                clear.push(self.shares[*at].clear(inside).map_err(machine)?);
            }
            let root = shares::combine(inside, &clear, &self.set)?;
            RootKey::keep(vault, inside, &root).map_err(machine)
        })
    }

    /// Whether each share lies on the polynomial of a quorum that is good.
    fn sort(
        &self,
        vault: &Arc<Vault>,
        quorum: &[usize],
        root: RootKey,
    ) -> Result<Quorum, CardError> {
        let (mut good, mut wrong) = (Vec::new(), Vec::new());
        for (at, share) in self.shares.iter().enumerate() {
            let with: Vec<usize> = [&quorum[1..], &[at]].concat();
            let fits = match quorum.contains(&at) {
                true => Ok(()),
                false => self.combine(vault, &with).map(drop),
            };
            match fits {
                Ok(()) => good.push(share.number),
                Err(CardError::Mismatch) => wrong.push(share.number),
                Err(error) => return Err(error),
            }
        }
        Ok(Quorum { root, set: self.set, good, wrong })
    }
}

/// The next choice of `chosen.len()` out of `count`, in lexical order; `false` after the last one.
fn next_choice(chosen: &mut [usize], count: usize) -> bool {
    let size = chosen.len();
    let Some(place) = (0..size).rev().find(|place| chosen[*place] < count - size + place) else {
        return false;
    };
    chosen[place] += 1;
    for at in place + 1..size {
        chosen[at] = chosen[at - 1] + 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::next_choice;

    #[test]
    fn every_choice_comes_once() {
        let mut chosen = vec![0, 1, 2];
        let mut all = vec![chosen.clone()];
        while next_choice(&mut chosen, 6) {
            all.push(chosen.clone());
        }
        assert_eq!(all.len(), 20);
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(all.last(), Some(&vec![3, 4, 5]));
        assert!(!next_choice(&mut [0, 1], 2));
    }
}
