//! The keys that a connection has used lately.

use std::sync::Arc;

use sealwire_engine::EngineError;
use sealwire_protocol::{ErrorCode, Suite};

use crate::directory::{Budget, Directory, KeyEntry, NEVER};
use crate::ops::{Defect, Need, Stop};

/// Keys that a connection keeps, and a single request.
const SLOTS: usize = 64;
const SLOTS_OF_REQUEST: usize = 4;

/// A key that a connection uses.
struct Slot {
    index: u32,
    generation: u64,
    entry: Arc<KeyEntry>,
    /// Messages that may be sealed without asking, by suite number.
    left: [Chunk; Suite::ALL.len() + 1],
}

/// Messages that were taken from a budget. Those that are left are given back.
#[derive(Default)]
enum Chunk {
    /// Not asked for yet.
    #[default]
    Unknown,
    /// They are not counted.
    Endless,
    /// From this budget.
    Counted(Arc<Budget>, u32),
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Self::Counted(budget, left) = self
            && *left > 0
        {
            budget.give_back(u64::from(*left));
        }
    }
}

impl Slot {
    fn new(index: u32, generation: u64, entry: Arc<KeyEntry>) -> Self {
        Self { index, generation, entry, left: std::array::from_fn(|_| Chunk::default()) }
    }
}

/// A key at hand.
pub(crate) struct Held<'a> {
    slot: &'a mut Slot,
    directory: &'a Directory,
    of_request: bool,
}

impl<'a> Held<'a> {
    /// The key.
    #[inline]
    pub(crate) fn key(&self) -> &Arc<KeyEntry> {
        &self.slot.entry
    }

    /// The key, for as long as the keyring is not used otherwise.
    #[inline]
    pub(crate) fn into_key(self) -> &'a Arc<KeyEntry> {
        &self.slot.entry
    }

    /// Counts a message that is about to be sealed under a suite; whether it may be. Where messages have to be
    /// taken from the key's budget, `granted` is asked first.
    #[inline]
    pub(crate) fn charge(&mut self, suite: Suite, granted: impl FnOnce(&KeyEntry) -> bool) -> bool {
        match &mut self.slot.left[usize::from(suite.id())] {
            Chunk::Endless => true,
            Chunk::Counted(_, left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => granted(&self.slot.entry) && self.take(suite),
        }
    }

    #[cold]
    fn take(&mut self, suite: Suite) -> bool {
        let held = &mut self.slot.left[usize::from(suite.id())];
        if let Chunk::Unknown = held {
            *held = match self.directory.budget(&self.slot.entry, suite) {
                None => Chunk::Endless,
                Some(budget) => Chunk::Counted(budget, 0),
            };
        }
        match held {
            Chunk::Counted(budget, left) => {
                let wanted = if self.of_request { 1 } else { budget.chunk() };
                *left = u32::try_from(budget.take(wanted)).unwrap_or(0);
                let may = *left > 0;
                *left = left.saturating_sub(1);
                may
            }
            _ => true,
        }
    }

    /// Takes a [charge](Held::charge) back: nothing was sealed.
    #[cold]
    pub(crate) fn uncharge(&mut self, suite: Suite) {
        if let Chunk::Counted(_, left) = &mut self.slot.left[usize::from(suite.id())] {
            *left += 1;
        }
    }
}

/// The keys that a connection has used lately. Looking one up takes no lock, as long as the
/// directory has not moved.
pub(crate) struct Keyring {
    directory: Arc<Directory>,
    slots: Box<[Option<Slot>]>,
    /// Whether it is for a single request, which takes no messages ahead.
    of_request: bool,
    /// Set for a request that has loaded its keys itself: it uses those, whatever happens meanwhile.
    loaded: bool,
    looked_again: bool,
    reloaded: bool,
    /// Keys that were asked for: kept here, and to be read first.
    lookups: (u64, u64),
}

impl Keyring {
    /// The keys of a connection.
    pub(crate) fn new(directory: Arc<Directory>) -> Self {
        Self::with(directory, SLOTS, false)
    }

    /// The keys of a single request.
    pub(crate) fn of_request(directory: Arc<Directory>) -> Self {
        Self::with(directory, SLOTS_OF_REQUEST, true)
    }

    fn with(directory: Arc<Directory>, slots: usize, of_request: bool) -> Self {
        let slots = std::iter::repeat_with(|| None).take(slots).collect();
        let (loaded, looked_again, reloaded) = (false, false, false);
        let lookups = (0, 0);
        Self { directory, slots, of_request, loaded, looked_again, reloaded, lookups }
    }

    /// Keys that were asked for since the last time: kept here, and to be read first.
    pub(crate) fn take_lookups(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.lookups)
    }

    fn position(&self, index: u32) -> usize {
        usize::try_from(index).unwrap_or(0) % self.slots.len()
    }

    /// A key by its index, or the need to load it.
    #[inline]
    pub(crate) fn get(&mut self, index: u32) -> Result<Held<'_>, Stop> {
        let generation = self.directory.generation();
        let position = self.position(index);
        let slot = &mut self.slots[position];
        let warm = slot.as_ref().is_some_and(|slot| {
            slot.index == index
                && (self.loaded || (slot.generation == generation && generation != NEVER))
        });
        if !warm {
            let Some(entry) = self.directory.cached(index) else {
                self.lookups.1 += 1;
                return Err(Stop::Need(Need::Key(index)));
            };
            *slot = Some(Slot::new(index, generation, entry));
        }
        self.lookups.0 += 1;
        let slot = slot.as_mut().expect("the slot was filled above");
        Ok(Held { slot, directory: &self.directory, of_request: self.of_request })
    }

    /// Puts a key that was loaded for this request.
    pub(crate) fn put(&mut self, index: u32, entry: Arc<KeyEntry>) {
        self.loaded = true;
        let position = self.position(index);
        self.slots[position] = Some(Slot::new(index, NEVER, entry));
    }

    /// Notes that the keystore was asked for changes on behalf of this request.
    pub(crate) fn note_looked_again(&mut self) {
        self.looked_again = true;
    }

    /// Notes that keys were loaded anew on behalf of this request.
    pub(crate) fn note_reloaded(&mut self) {
        self.reloaded = true;
    }

    /// What to do when the engine refuses. A key that is wrapped under a root key which it does not hold
    /// may have been moved by a root rotation since it was read: it is read again, once.
    #[cold]
    pub(crate) fn refused(&mut self, error: EngineError, indexes: [u32; 2]) -> Stop {
        match error {
            EngineError::OtherRoot { .. } if !self.reloaded => {
                for index in indexes {
                    let position = self.position(index);
                    self.slots[position] = None;
                }
                Stop::Need(Need::Rewrapped(indexes))
            }
            error => {
                if let EngineError::Unwrap(_) = error {
                    self.name_keys(indexes);
                }
                Stop::Refuse(error.into())
            }
        }
    }

    /// Says in the log which keys a wrapped key that does not open belongs to.
    #[cold]
    fn name_keys(&self, indexes: [u32; 2]) {
        for index in indexes {
            if let Some(slot) = &self.slots[self.position(index)] {
                let (uid, name) = (slot.entry.document.uid, &slot.entry.document.name);
                tracing::error!(%uid, name, "a wrapped key does not open: its row was changed or moved");
            }
        }
    }

    /// What to do when a key does not open an envelope: `seen` is what the app may know. A version that
    /// is not known may be newer than what is known here; for an app that may know of the key, the
    /// keystore is asked, once.
    #[cold]
    pub(crate) fn cannot_open(&self, index: u32, defect: Defect, seen: ErrorCode) -> Stop {
        let hidden = seen == ErrorCode::KEY_NOT_FOUND;
        if defect == Defect::UnknownVersion && !hidden && !self.looked_again {
            Stop::Need(Need::Newer(index))
        } else {
            Stop::Refuse(seen.into())
        }
    }
}
