//! A ceremony: init, verify, reshare, rotate. It has cards of its own: what is shown in one never counts
//! for another, and is forgotten with it.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::card::{Blank, Card, CardError, CardSet};
use super::chip::Seal;
use super::custodian::check_not_rotating;
use super::folder::{Pin, PinnedPrevious, PinnedSet};
use super::gathering::{Gathered, Gathering, Progress, Quorum};
use super::{Custodian, CustodyError, Passphrase, shares};
use crate::{EngineError, RootKey, RootKeyId, Warrant, chain};

/// Which ceremony.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CeremonyKind {
    /// A first root key, and its cards.
    Init,
    /// Whether cards give this root key. Changes nothing.
    Verify,
    /// New cards for the same root key.
    Reshare,
    /// A new root key, and its cards.
    Rotate,
    /// A warrant: what a quorum allows although no operator could. Changes nothing here.
    Warrant,
}

/// A card that was made, with the passphrase that opens it.
pub struct NewCard {
    /// The card.
    pub card: Card,
    /// The passphrase: shown once.
    pub passphrase: Passphrase,
}

/// What showing a current card has led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// More cards are needed.
    Partly(Progress),
    /// A quorum was shown.
    Proven {
        /// The root key that it gives: the pinned one.
        root: RootKeyId,
        /// The cards' set.
        set: String,
        /// Numbers of the cards whose shares are good.
        good: Vec<u8>,
        /// Numbers of the cards that were shown and whose shares are wrong.
        wrong: Vec<u8>,
    },
}

/// What showing a new card, read back, has led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirmed {
    /// More cards are needed.
    Partly(Progress),
    /// A quorum of the new cards gives a root key: [`Ceremony::install`] brings it into force.
    Ready {
        /// The root key.
        root: RootKeyId,
        /// Numbers of cards that were made elsewhere, were shown, and whose shares are wrong.
        wrong: Vec<u8>,
    },
}

/// See the module.
pub struct Ceremony {
    kind: CeremonyKind,
    custodian: Arc<Custodian>,
    /// The engine's epoch at the beginning: a sealing in between ends the ceremony.
    epoch: u64,
    /// When a card was last taken.
    last: Instant,
    current: Gathering,
    proven: Option<Quorum>,
    /// Whether new cards may be shown, and of which set when they were made here.
    expected: Option<Option<CardSet>>,
    new: Gathering,
    ready: Option<Quorum>,
}

impl Ceremony {
    pub(super) fn new(custodian: Arc<Custodian>, kind: CeremonyKind) -> Self {
        let (current, new) = (custodian.gathering(), custodian.gathering());
        let (epoch, last) = (custodian.engine().epoch(), Instant::now());
        let (proven, expected, ready) = (None, None, None);
        Self { kind, custodian, epoch, last, current, proven, expected, new, ready }
    }

    /// Takes a card of the pinned root key.
    ///
    /// # Errors
    /// What is wrong with the card; [`CustodyError::OutOfTurn`] in `init`.
    pub fn show(&mut self, card: &Card, passphrase: &Passphrase) -> Result<Shown, CustodyError> {
        if self.kind == CeremonyKind::Init {
            return Err(CustodyError::OutOfTurn("there are no cards yet"));
        }
        self.check_fresh()?;
        let pinned = self.custodian.pinned()?.root;
        let gathered = self.current.add(card, passphrase, Some(pinned))?;
        self.last = Instant::now();
        match gathered {
            Gathered::Partly(progress) => Ok(Shown::Partly(progress)),
            Gathered::Whole(quorum) => {
                let (root, set) = (quorum.root.id(), quorum.set.name());
                let (good, wrong) = (quorum.good.clone(), quorum.wrong.clone());
                self.proven = Some(quorum);
                if self.kind != CeremonyKind::Verify {
                    self.current.clear();
                }
                Ok(Shown::Proven { root, set, good, wrong })
            }
        }
    }

    /// Makes the cards of a new set, one for each entry of `pins`: under a generated passphrase, or under
    /// the PIN that is given. Nothing is kept: the set comes into force when a quorum of it was written,
    /// read back and shown to [`Ceremony::confirm`].
    ///
    /// # Errors
    /// [`CardError::Threshold`]; [`CustodyError::Chip`] when the chip would not seal the new root key;
    /// [`CustodyError::OutOfTurn`] before a quorum of the current cards was
    /// shown.
    pub fn make(
        &mut self,
        threshold: u8,
        pins: Vec<Option<Passphrase>>,
    ) -> Result<Vec<NewCard>, CustodyError> {
        self.check_proven()?;
        if self.kind == CeremonyKind::Init {
            self.custodian.check_empty()?;
        }
        if matches!(self.kind, CeremonyKind::Init | CeremonyKind::Rotate) {
            self.custodian.probe_chip()?;
        }
        let cards = u8::try_from(pins.len()).map_err(|_| CardError::Threshold)?;
        let vault = self.custodian.engine().vault();
        let fresh;
        let root = match (self.kind, &self.proven) {
            (CeremonyKind::Reshare, Some(quorum)) => &quorum.root,
            _ => {
                fresh = RootKey::generate(vault)?;
                &fresh
            }
        };
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(EngineError::from)?;
        let set = CardSet::new(id, root.id(), threshold, cards)?;
        let mut passphrases = Vec::with_capacity(pins.len());
        let mut blanks = Vec::with_capacity(pins.len());
        for (number, pin) in (1..=cards).zip(pins) {
            let passphrase = pin.map_or_else(Passphrase::generate, Ok)?;
            blanks.push(Blank::new(set, number, &passphrase)?);
            passphrases.push(passphrase);
        }
        let made = root.enter(|inside, root| {
            let shares = shares::split(inside, root, &set);
            blanks.into_iter().zip(&shares).map(|(blank, share)| blank.seal(share)).collect()
        });
        let made: Vec<Card> = made?;
        self.new.clear();
        self.ready = None;
        self.expected = Some(Some(set));
        self.last = Instant::now();
        let cards = made.into_iter().zip(passphrases);
        Ok(cards.map(|(card, passphrase)| NewCard { card, passphrase }).collect())
    }

    /// Makes the warrant for a statement, one for each quorum that was shown.
    ///
    /// # Errors
    /// [`CustodyError::OutOfTurn`] before a quorum of the current cards was shown, or in another ceremony;
    /// [`EngineError::Document`] as [`CustodyError::Engine`], when the statement is not in words.
    pub fn warrant(&mut self, statement: &str) -> Result<Warrant, CustodyError> {
        self.check_fresh()?;
        if self.kind != CeremonyKind::Warrant {
            return Err(CustodyError::OutOfTurn("this ceremony is for something else"));
        }
        self.still_pinned()?;
        let turn = CustodyError::OutOfTurn("show a quorum of the current cards first");
        let quorum = self.proven.take().ok_or(turn)?;
        Ok(quorum.root.warrant(statement)?)
    }

    /// Takes new cards that another engine of the site has made in the same ceremony.
    ///
    /// # Errors
    /// [`CustodyError::OutOfTurn`] before a quorum of the current cards was shown.
    pub fn follow(&mut self) -> Result<(), CustodyError> {
        self.check_proven()?;
        self.expected = Some(None);
        Ok(())
    }

    /// Takes a new card, read back from where it was written.
    ///
    /// # Errors
    /// What is wrong with the card; [`CustodyError::OutOfTurn`] before there are new cards.
    pub fn confirm(
        &mut self,
        card: &Card,
        passphrase: &Passphrase,
    ) -> Result<Confirmed, CustodyError> {
        self.check_fresh()?;
        let expected = self.expected.ok_or(CustodyError::OutOfTurn("no cards were made"))?;
        self.check_new(card, expected)?;
        let gathered = self.new.add(card, passphrase, None)?;
        self.last = Instant::now();
        self.ready = None;
        match gathered {
            Gathered::Partly(progress) => Ok(Confirmed::Partly(progress)),
            Gathered::Whole(quorum) if self.follows() || quorum.wrong.is_empty() => {
                let (root, wrong) = (quorum.root.id(), quorum.wrong.clone());
                self.ready = Some(quorum);
                Ok(Confirmed::Ready { root, wrong })
            }
            // They were made a moment ago: none may be wrong.
            Gathered::Whole(quorum) => {
                let wrong: Vec<String> = quorum.wrong.iter().map(u8::to_string).collect();
                Err(CardError::WrongShares(wrong.join(", ")).into())
            }
        }
    }

    /// Brings the new cards into force, atomically: after a crash, the old state or the new one is found.
    /// The ceremony is over then.
    ///
    /// # Errors
    /// [`CustodyError::OutOfTurn`] before a quorum of the new cards was shown, or when the engine was
    /// sealed, or its root key rotated, since the ceremony began; [`CustodyError::Chip`],
    /// [`CustodyError::Folder`]. Nothing has changed then.
    pub fn install(&mut self) -> Result<RootKeyId, CustodyError> {
        self.check_fresh()?;
        let custodian = self.custodian.clone();
        let turn = CustodyError::OutOfTurn("the new cards were not shown");
        let ready = self.ready.as_ref().ok_or(turn)?;
        let root = ready.root.id();
        let (seal, chip_problem) = self.prepare_seal(root)?;
        let _alone = custodian.alone();
        let set = PinnedSet::new(&ready.set, custodian.engine().now());
        match self.kind {
            CeremonyKind::Verify | CeremonyKind::Warrant => {
                return Err(CustodyError::OutOfTurn("this ceremony changes nothing"));
            }
            CeremonyKind::Init => {
                if let Some(pin) = custodian.pin()? {
                    return Err(CustodyError::Exists(pin.root));
                }
                self.check_not_sealed_meanwhile()?;
                let pin = Pin { root, set, previous: None, forgotten: Vec::new() };
                custodian.install(&pin, &ready.root, seal)?;
            }
            CeremonyKind::Reshare => {
                let pin = self.still_pinned()?;
                custodian.set_pin(&Pin { set, ..pin })?;
            }
            CeremonyKind::Rotate => {
                let pin = self.still_pinned()?;
                check_not_rotating(&pin)?;
                self.check_not_sealed_meanwhile()?;
                let turn = CustodyError::OutOfTurn("the current cards were not shown");
                let old = &self.proven.as_ref().ok_or(turn)?.root;
                let wrapped = ready.root.wrap_root(old)?;
                let previous = Some(PinnedPrevious::new(old.id(), &wrapped));
                custodian.install(&Pin { root, set, previous, ..pin }, &ready.root, seal)?;
            }
        }
        if let Some(problem) = chip_problem {
            custodian.note_chip(Some(&problem));
        }
        self.put_into_the_engine();
        tracing::info!(ceremony = ?self.kind, %root, "in force");
        Ok(root)
    }

    /// The chip's part, where a root key is brought into force. With cards that exist already, a chip that
    /// fails keeps nothing back: the cards alone suffice.
    fn prepare_seal(
        &self,
        root: RootKeyId,
    ) -> Result<(Option<Seal>, Option<CustodyError>), CustodyError> {
        if !matches!(self.kind, CeremonyKind::Init | CeremonyKind::Rotate) {
            return Ok((None, None));
        }
        match self.custodian.prepare_seal(root) {
            Ok(seal) => Ok((seal, None)),
            Err(error) if self.follows() => {
                let problem = chain(&error);
                tracing::error!(problem, "the root key is not sealed for the next start");
                Ok((None, Some(error)))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the new cards were made elsewhere.
    fn follows(&self) -> bool {
        self.expected == Some(None)
    }

    /// Whether no card was taken for as long as cards lapse.
    #[must_use]
    pub fn has_lapsed(&self) -> bool {
        self.last.elapsed() >= self.custodian.lapse()
    }

    /// What is on the disk now is in force here too.
    fn put_into_the_engine(&mut self) {
        let engine = self.custodian.engine();
        match (self.kind, self.ready.take(), self.proven.take()) {
            (CeremonyKind::Init, Some(new), _) => engine.open(new.root),
            (CeremonyKind::Rotate, Some(new), Some(old)) => engine.rotate(new.root, old.root),
            _ => {}
        }
    }

    /// The pin, if its root key is the one that was proven.
    fn still_pinned(&self) -> Result<Pin, CustodyError> {
        let pin = self.custodian.pinned()?;
        match &self.proven {
            Some(quorum) if quorum.root.id() == pin.root => Ok(pin),
            _ => Err(CustodyError::OutOfTurn(
                "the root key has been rotated since the current cards were shown: begin again",
            )),
        }
    }

    fn check_not_sealed_meanwhile(&self) -> Result<(), CustodyError> {
        if self.custodian.engine().epoch() == self.epoch {
            Ok(())
        } else {
            Err(CustodyError::OutOfTurn(
                "the engine was sealed or opened since the ceremony began: begin again",
            ))
        }
    }

    /// Forgets everything when no card was taken for as long as cards lapse.
    fn check_fresh(&mut self) -> Result<(), CustodyError> {
        if !self.has_lapsed() {
            return Ok(());
        }
        self.current.clear();
        self.new.clear();
        (self.proven, self.expected, self.ready) = (None, None, None);
        Err(CustodyError::OutOfTurn("the ceremony has lapsed: begin again"))
    }

    fn check_proven(&mut self) -> Result<(), CustodyError> {
        self.check_fresh()?;
        let needed = matches!(self.kind, CeremonyKind::Reshare | CeremonyKind::Rotate);
        if matches!(self.kind, CeremonyKind::Verify | CeremonyKind::Warrant) {
            return Err(CustodyError::OutOfTurn("this ceremony changes nothing"));
        }
        if needed && self.proven.is_none() {
            return Err(CustodyError::OutOfTurn("show a quorum of the current cards first"));
        }
        Ok(())
    }

    /// Whether a card belongs to the set that was made, or may belong to one that another engine made.
    fn check_new(&self, card: &Card, made: Option<CardSet>) -> Result<(), CustodyError> {
        let (number, found) = (card.number(), card.set());
        if let Some(made) = made.filter(|made| made != found) {
            let (expected, found) = (made.name(), found.name());
            return Err(CardError::Foreign { number, expected, found }.into());
        }
        let Some(pin) = self.custodian.pin()? else { return Ok(()) };
        match self.kind {
            CeremonyKind::Reshare if found.root != pin.root => {
                Err(CardError::OtherRoot { number, found: found.root, pinned: pin.root }.into())
            }
            CeremonyKind::Rotate if pin.forgotten.contains(&found.root) => {
                Err(CustodyError::Forgotten(found.root))
            }
            CeremonyKind::Rotate if found.root == pin.root => {
                Err(CustodyError::OutOfTurn("this card is of the root key that is to be replaced"))
            }
            _ => Ok(()),
        }
    }
}
