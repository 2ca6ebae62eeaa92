//! The custodian: what may be done with the root key, and in what order.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::card::Card;
use super::chip::Seal;
use super::folder::{Folder, NotInstalled, Pin, PinnedPrevious};
use super::gathering::{Gathered, Gathering};
use super::journal::{Ceremonies, CeremonyStep, Journal};
use super::status::{Opened, Status};
use super::{Ceremony, CeremonyKind, Chip, ChipError, CustodyError, Passphrase};
use crate::{Engine, RootKey, RootKeyId, State, WrappedKey, chain};

/// Holds an engine, its data folder and its chip together.
pub struct Custodian {
    engine: Arc<Engine>,
    folder: Folder,
    journal: Journal,
    chip: Chip,
    lapse: Duration,
    unsealing: Mutex<Gathering>,
    chip_problem: Mutex<Option<String>>,
    /// What the pin said of a rotation when it was read or written last.
    rotating: AtomicBool,
    /// Held while the data folder and the engine's root key change together.
    changing: Mutex<()>,
}

impl Custodian {
    /// Time after which the cards shown are forgotten, unless configured otherwise.
    pub const LAPSE: Duration = Duration::from_secs(15 * 60);

    /// A custodian over a data folder. Cards shown are forgotten `lapse` after the last one.
    #[must_use]
    pub fn new(engine: Arc<Engine>, data: PathBuf, chip: Chip, lapse: Duration) -> Arc<Self> {
        let unsealing = Mutex::new(Gathering::new(engine.vault().clone(), lapse));
        Arc::new(Self {
            engine,
            journal: Journal::new(&data),
            folder: Folder::new(data),
            chip,
            lapse,
            unsealing,
            chip_problem: Mutex::default(),
            rotating: AtomicBool::new(false),
            changing: Mutex::default(),
        })
    }

    /// Opens the engine by its chip, when there is a root key that the chip has sealed. Returns
    /// whether it is open now.
    ///
    /// # Errors
    /// Why the chip did not open it. The engine stays sealed then, and takes the cards.
    pub fn start(&self) -> Result<bool, CustodyError> {
        let opened = self.open_by_chip();
        self.note_chip(opened.as_ref().err());
        if let Ok(true) = opened {
            self.note_step(CeremonyStep::OpenedByChip);
        }
        opened
    }

    fn open_by_chip(&self) -> Result<bool, CustodyError> {
        let Some(pin) = self.pin()? else { return Ok(false) };
        if let Chip::None = self.chip {
            return Ok(false);
        }
        let sealed = self.folder.sealed(&pin).map_err(|source| self.folder_error(source))?;
        let Some(sealed) = sealed else { return Ok(false) };
        let root = self.chip.open(&sealed, self.folder.path(), self.engine.vault())?;
        if root.id() != pin.root {
            return Err(ChipError::DoesNotOpen.into());
        }
        self.open(root, &pin);
        Ok(true)
    }

    /// Begins a ceremony.
    ///
    /// # Errors
    /// [`CustodyError::Exists`] for `init` when there is a root key; [`CustodyError::NoRootKey`] for
    /// the others when there is none; [`CustodyError::Rotating`] for `rotate` during one.
    pub fn begin(self: &Arc<Self>, kind: CeremonyKind) -> Result<Ceremony, CustodyError> {
        match (kind, self.pin()?) {
            (CeremonyKind::Init, Some(pin)) => return Err(CustodyError::Exists(pin.root)),
            (CeremonyKind::Init, None) => {}
            (_, None) => return Err(CustodyError::NoRootKey),
            (CeremonyKind::Rotate, Some(pin)) => check_not_rotating(&pin)?,
            (_, Some(_)) => {}
        }
        Ok(Ceremony::new(self.clone(), kind))
    }

    /// Takes a card of the pinned root key. With the quorum, the engine opens.
    ///
    /// # Errors
    /// [`CustodyError::NoRootKey`], [`CustodyError::AlreadyOpen`], or what is wrong with the card; what
    /// was shown before is kept.
    pub fn unseal(&self, card: &Card, passphrase: &Passphrase) -> Result<Opened, CustodyError> {
        let mut unsealing = self.unsealing();
        let pin = self.pinned()?;
        if let State::Open { root } = self.engine.state() {
            return Err(CustodyError::AlreadyOpen(root));
        }
        let quorum = match unsealing.add(card, passphrase, Some(pin.root))? {
            Gathered::Partly(progress) => return Ok(Opened::Partly(progress)),
            Gathered::Whole(quorum) => quorum,
        };
        unsealing.clear();
        let epoch = self.engine.epoch();
        drop(unsealing);
        let (root, wrong) = (quorum.root.id(), quorum.wrong);
        self.open_by_cards(quorum.root, epoch)?;
        // The cards alone suffice: a chip or a disk that fails is told, and keeps nothing shut.
        let sealed = self.seal_for_disk(root);
        self.note_chip(sealed.as_ref().err());
        if let Err(error) = sealed {
            let error = chain(&error);
            tracing::error!(error, "the root key was not sealed for the next start");
        }
        Ok(Opened::Open { root, wrong })
    }

    /// Opens the engine, if the root key is still the pinned one, and nobody has opened or sealed it since
    /// `epoch`.
    fn open_by_cards(&self, root: RootKey, epoch: u64) -> Result<(), CustodyError> {
        let _alone = self.alone();
        let pin = self.pinned()?;
        if let State::Open { root } = self.engine.state() {
            return Err(CustodyError::AlreadyOpen(root));
        }
        if pin.root != root.id() || self.engine.epoch() != epoch {
            return Err(CustodyError::OutOfTurn(
                "the engine was sealed, or its root key rotated, meanwhile: begin again",
            ));
        }
        self.open(root, &pin);
        Ok(())
    }

    /// A root key of before that does not open keeps nothing shut: the manager has another copy.
    fn open(&self, root: RootKey, pin: &Pin) {
        let previous = pin.previous.as_ref().and_then(|previous| {
            let opened = previous.wrapped().and_then(|wrapped| root.unwrap_root(&wrapped));
            opened
                .inspect_err(|error| tracing::error!(%error, "root.pin: the root key of before"))
                .ok()
        });
        self.engine.open_with(root, previous);
    }

    /// Seals the engine. It opens again with the cards, or, with a chip, at its next start. Ceremonies
    /// under way do not open it any more.
    pub fn seal(&self) {
        self.unsealing().clear();
        let _alone = self.alone();
        self.engine.seal();
    }

    /// Forgets cards that nobody went on with. Called once a second or so.
    pub fn expire(&self) {
        // Whoever holds it shows a card just now.
        if let Ok(mut unsealing) = self.unsealing.try_lock() {
            unsealing.expire(Instant::now());
        }
    }

    /// What an officer may know.
    ///
    /// # Errors
    /// [`CustodyError::Folder`].
    pub fn status(&self) -> Result<Status, CustodyError> {
        let pin = self.pin()?;
        let chip_problem = self.chip_problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Status {
            state: self.engine.state(),
            since: self.engine.since(),
            root: pin.as_ref().map(|pin| pin.root),
            previous: pin.as_ref().and_then(|pin| Some(pin.previous.as_ref()?.root())),
            set: pin.map(|pin| pin.set),
            chip: self.chip.name().to_owned(),
            chip_problem,
            memory: self.engine.vault().protection(),
            progress: self.unsealing().progress(),
            lapse_seconds: self.lapse.as_secs(),
        })
    }

    /// Key cards that are still to be shown before the engine opens; `None` when it is open, never had a root key, or
    /// a card is being shown just now.
    pub(crate) fn cards_missing(&self) -> Option<u8> {
        if matches!(self.engine.state(), State::Open { .. }) {
            return None;
        }
        let progress = self.unsealing.try_lock().ok()?.progress();
        let left = progress.map(|progress| progress.need.saturating_sub(progress.have));
        left.or_else(|| self.pin().ok().flatten().map(|pin| pin.set.threshold))
    }

    /// Takes the root key of before from the manager, which has kept it wrapped under the current one.
    /// One that a rotation has left behind for good does not come back.
    pub(crate) fn admit_previous(&self, wrapped: &WrappedKey) -> Result<(), CustodyError> {
        let _alone = self.alone();
        let pin = self.pinned()?;
        let old = RootKeyId::from_bytes(wrapped.binding().uid.to_bytes());
        if pin.forgotten.contains(&old) || old == pin.root {
            return Err(CustodyError::Forgotten(old));
        }
        self.engine.admit_previous(wrapped)?;
        self.set_pin(&Pin { previous: Some(PinnedPrevious::new(old, wrapped)), ..pin })
    }

    /// Ends the root rotation from `old` to `new`: the root key of before is forgotten, here and on the
    /// disk.
    pub(crate) fn forget_previous(
        &self,
        old: RootKeyId,
        new: RootKeyId,
    ) -> Result<(), CustodyError> {
        let _alone = self.alone();
        let mut pin = self.pinned()?;
        if self.engine.roots() == Some((new, None)) && pin.forgotten.contains(&old) {
            // Said twice.
            return Ok(());
        }
        if self.engine.roots() != Some((new, Some(old))) || pin.root != new {
            return Err(CustodyError::OutOfTurn("the engine holds other root keys than these"));
        }
        pin.forgotten.push(old);
        self.set_pin(&Pin { previous: None, ..pin })?;
        self.engine.forget_previous();
        Ok(())
    }

    /// Notes what an officer has done, for the audit.
    pub(super) fn note_step(&self, step: CeremonyStep) {
        self.journal.note(self.engine.now(), step);
    }

    /// CEREMONIES: what officers have done here and no manager has taken yet. `taken` is what one has: this
    /// engine's id, and a number.
    ///
    /// # Errors
    /// [`CustodyError::Folder`].
    pub(crate) fn ceremonies(
        &self,
        taken: Option<(&str, u64)>,
    ) -> Result<Ceremonies, CustodyError> {
        self.journal.take(taken).map_err(|source| self.folder_error(source))
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(super) fn gathering(&self) -> Gathering {
        Gathering::new(self.engine.vault().clone(), self.lapse)
    }

    pub(super) fn lapse(&self) -> Duration {
        self.lapse
    }

    /// Whether the pin names a root key that a rotation leaves behind, be the engine sealed or not. The disk
    /// is not asked.
    pub(crate) fn is_rotating(&self) -> bool {
        self.rotating.load(Ordering::Relaxed)
    }

    /// Waits until nobody else changes the data folder or the root key.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the chip prepare to seal a root key. Nothing is locked meanwhile: a chip that hangs keeps nobody
    /// from sealing the engine.
    pub(super) fn prepare_seal(&self, root: RootKeyId) -> Result<Option<Seal>, CustodyError> {
        Ok(self.chip.prepare(root, self.folder.path())?)
    }

    /// Whether the chip would seal: asked before a ceremony, rather than at its end.
    pub(super) fn probe_chip(&self) -> Result<(), CustodyError> {
        self.prepare_seal(RootKeyId::from_bytes([0; 16])).map(drop)
    }

    /// Brings a pin into force, with its root key sealed.
    pub(super) fn install(
        &self,
        pin: &Pin,
        root: &RootKey,
        seal: Option<Seal>,
    ) -> Result<(), CustodyError> {
        let sealed = seal.map(|seal| seal.close(root)).transpose()?;
        let tidied = self.folder.install(pin, sealed.as_deref());
        let tidied = tidied.map_err(|error| match error {
            NotInstalled::Old(source) => self.folder_error(source),
            NotInstalled::Unknown(source) => CustodyError::Uncertain(source),
        })?;
        self.note_pin(Some(pin));
        // The pin is in force: what is left to do concerns the next start alone.
        let problem = tidied.err().map(|source| self.folder_error(source));
        self.note_chip(problem.as_ref());
        Ok(())
    }

    /// Refuses `init` where a sealed root key lies without its pin.
    pub(super) fn check_empty(&self) -> Result<(), CustodyError> {
        let left = self.folder.sealed_root().map_err(|source| self.folder_error(source))?;
        match left {
            Some(root) => Err(CustodyError::Unpinned(root)),
            None => Ok(()),
        }
    }

    pub(super) fn set_pin(&self, pin: &Pin) -> Result<(), CustodyError> {
        self.folder.set_pin(pin).map_err(|source| self.folder_error(source))?;
        self.note_pin(Some(pin));
        Ok(())
    }

    pub(super) fn pin(&self) -> Result<Option<Pin>, CustodyError> {
        let pin = self.folder.pin().map_err(|source| self.folder_error(source))?;
        self.note_pin(pin.as_ref());
        Ok(pin)
    }

    fn note_pin(&self, pin: Option<&Pin>) {
        let rotating = pin.is_some_and(|pin| pin.previous.is_some());
        self.rotating.store(rotating, Ordering::Relaxed);
    }

    pub(super) fn pinned(&self) -> Result<Pin, CustodyError> {
        self.pin()?.ok_or(CustodyError::NoRootKey)
    }

    /// Has the chip seal the root key of the open engine for the next start.
    fn seal_for_disk(&self, root: RootKeyId) -> Result<(), CustodyError> {
        let seal = self.prepare_seal(root)?;
        let _alone = self.alone();
        if self.pinned()?.root != root {
            return Ok(());
        }
        let written = match seal {
            Some(seal) => {
                let sealed = self.engine.with_root(|held| seal.close(held))?;
                self.folder.set_sealed(&sealed)
            }
            None => self.folder.remove_sealed(),
        };
        written.map_err(|source| self.folder_error(source))
    }

    pub(super) fn note_chip(&self, problem: Option<&CustodyError>) {
        let mut noted = self.chip_problem.lock().unwrap_or_else(PoisonError::into_inner);
        *noted = problem.map(|error| chain(error));
    }

    fn folder_error(&self, source: io::Error) -> CustodyError {
        CustodyError::Folder { path: self.folder.path().to_owned(), source }
    }

    fn unsealing(&self) -> MutexGuard<'_, Gathering> {
        self.unsealing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn check_not_rotating(pin: &Pin) -> Result<(), CustodyError> {
    match &pin.previous {
        Some(previous) => Err(CustodyError::Rotating(previous.root())),
        None => Ok(()),
    }
}
