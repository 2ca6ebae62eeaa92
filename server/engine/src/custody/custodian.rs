//! The custodian: what may be done with the root key, and in what order.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::card::{Card, CardError, CardSet};
use super::folder::Folder;
use super::gathering::{Gathering, LAPSE, Progress};
use super::{Chip, ChipError, Passphrase, shares};
use crate::{Engine, EngineError, RootKey, RootKeyId, State};

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
    #[error("there is no root key yet: make one with `sealwire root init`")]
    NoRootKey,
    /// The engine is open already.
    #[error("the engine is open already, under root key {0}")]
    AlreadyOpen(RootKeyId),
    /// No `init` waits for its cards to be read back.
    #[error("no new root key waits for its cards: begin again with `sealwire root init`")]
    NothingPending,
}

/// A card that was made, with the passphrase that opens it.
pub struct NewCard {
    /// The card.
    pub card: Card,
    /// The passphrase: shown once.
    pub passphrase: Passphrase,
}

/// What showing a card has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Opened {
    /// More cards are needed.
    Partly(Progress),
    /// The engine is open.
    Open(RootKeyId),
}

/// What an officer may know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Sealed or open.
    pub state: State,
    /// The pinned root key id; `None` before the first ceremony.
    pub root: Option<RootKeyId>,
    /// The chip's name.
    pub chip: String,
    /// How far an unsealing has come.
    pub progress: Option<Progress>,
}

/// Holds an engine, its data folder and its chip together.
pub struct Custodian {
    engine: Arc<Engine>,
    folder: Folder,
    chip: Chip,
    ceremony: Mutex<Ceremony>,
}

#[derive(Default)]
struct Ceremony {
    gathering: Gathering,
    /// The root key id of a set that was made and not yet read back, and when.
    pending: Option<(RootKeyId, Instant)>,
}

impl Custodian {
    /// A custodian over a data folder.
    #[must_use]
    pub fn new(engine: Arc<Engine>, data: PathBuf, chip: Chip) -> Self {
        Self { engine, folder: Folder::new(data), chip, ceremony: Mutex::default() }
    }

    /// Opens the engine by its chip, when there is a root key that the chip has sealed. Returns
    /// whether it is open now.
    ///
    /// # Errors
    /// Why the chip did not open it. The engine stays sealed then, and takes the cards.
    pub fn start(&self) -> Result<bool, CustodyError> {
        let Some(pinned) = self.pin()? else { return Ok(false) };
        let sealed = self.folder.sealed().map_err(|source| self.folder_error(source))?;
        let Some(sealed) = sealed.filter(|_| !matches!(self.chip, Chip::None)) else {
            return Ok(false);
        };
        let root = self.chip.open(&sealed, self.folder.path())?;
        if root.id() != pinned {
            return Err(ChipError::DoesNotOpen.into());
        }
        self.engine.open(root);
        Ok(true)
    }

    /// Makes a root key and the cards of it. Nothing is kept: the root key comes into force when the
    /// cards were written, read back and shown to [`Custodian::confirm`].
    ///
    /// # Errors
    /// [`CustodyError::Exists`], [`CardError::Threshold`].
    pub fn init(&self, threshold: u8, cards: u8) -> Result<Vec<NewCard>, CustodyError> {
        let mut ceremony = self.ceremony();
        if let Some(pinned) = self.pin()? {
            return Err(CustodyError::Exists(pinned));
        }
        let root = RootKey::generate()?;
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(EngineError::from)?;
        let set = CardSet::new(id, root.id(), threshold, cards)?;
        let mut made = Vec::with_capacity(usize::from(cards));
        for share in shares::split(&root, &set) {
            let passphrase = Passphrase::generate()?;
            let card = Card::seal(set, &share, &passphrase)?;
            made.push(NewCard { card, passphrase });
        }
        ceremony.gathering = Gathering::default();
        ceremony.pending = Some((root.id(), Instant::now()));
        Ok(made)
    }

    /// Takes a card of the set that [`Custodian::init`] has made, read back from where it was
    /// written. With the quorum, the root key is pinned, sealed by the chip, and the engine opens.
    ///
    /// # Errors
    /// [`CustodyError::NothingPending`], or what is wrong with the card.
    pub fn confirm(&self, card: &Card, passphrase: &Passphrase) -> Result<Opened, CustodyError> {
        let now = Instant::now();
        let mut ceremony = self.ceremony();
        if let Some(pinned) = self.pin()? {
            return Err(CustodyError::Exists(pinned));
        }
        let pending = ceremony
            .pending
            .filter(|(_, made)| now.duration_since(*made) < LAPSE)
            .ok_or(CustodyError::NothingPending)?;
        match ceremony.gathering.add(card, passphrase, Some(pending.0), now)? {
            Err(progress) => Ok(Opened::Partly(progress)),
            Ok(root) => {
                let id = root.id();
                self.seal_for_disk(&root)?;
                self.folder.set_pin(id).map_err(|source| self.folder_error(source))?;
                ceremony.pending = None;
                self.engine.open(root);
                Ok(Opened::Open(id))
            }
        }
    }

    /// Takes a card of the pinned root key. With the quorum, the engine opens.
    ///
    /// # Errors
    /// [`CustodyError::NoRootKey`], [`CustodyError::AlreadyOpen`], or what is wrong with the card.
    pub fn unseal(&self, card: &Card, passphrase: &Passphrase) -> Result<Opened, CustodyError> {
        let pinned = self.pin()?.ok_or(CustodyError::NoRootKey)?;
        if let State::Open { root } = self.engine.state() {
            return Err(CustodyError::AlreadyOpen(root));
        }
        let mut ceremony = self.ceremony();
        match ceremony.gathering.add(card, passphrase, Some(pinned), Instant::now())? {
            Err(progress) => Ok(Opened::Partly(progress)),
            Ok(root) => {
                // The cards alone suffice: a chip or a disk that fails is told, and keeps nothing shut.
                if let Err(error) = self.seal_for_disk(&root) {
                    tracing::error!(%error, "the root key was not sealed for the next start");
                }
                self.engine.open(root);
                Ok(Opened::Open(pinned))
            }
        }
    }

    /// Seals the engine. It opens again with the cards, or, with a chip, at its next start.
    pub fn seal(&self) {
        *self.ceremony() = Ceremony::default();
        self.engine.seal();
    }

    /// What an officer may know.
    ///
    /// # Errors
    /// [`CustodyError::Folder`].
    pub fn status(&self) -> Result<Status, CustodyError> {
        Ok(Status {
            state: self.engine.state(),
            root: self.pin()?,
            chip: self.chip.name().to_owned(),
            progress: self.ceremony().gathering.progress(Instant::now()),
        })
    }

    fn seal_for_disk(&self, root: &RootKey) -> Result<(), CustodyError> {
        if let Some(sealed) = self.chip.seal(root, self.folder.path())? {
            self.folder.set_sealed(&sealed).map_err(|source| self.folder_error(source))?;
        }
        Ok(())
    }

    fn pin(&self) -> Result<Option<RootKeyId>, CustodyError> {
        self.folder.pin().map_err(|source| self.folder_error(source))
    }

    fn folder_error(&self, source: io::Error) -> CustodyError {
        CustodyError::Folder { path: self.folder.path().to_owned(), source }
    }

    fn ceremony(&self) -> MutexGuard<'_, Ceremony> {
        self.ceremony.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
