//! The keys that a connection has used lately.

use std::sync::Arc;

use sealwire_engine::EngineError;
use sealwire_protocol::ErrorCode;

use crate::directory::{Directory, NEVER};
use crate::key_entry::KeyEntry;
use crate::ops::{Defect, Need, Stop};

const SLOTS: usize = 64;

struct Slot {
    index: u32,
    generation: u64,
    entry: Arc<KeyEntry>,
}

/// The keys that a connection has used lately. Looking one up takes no lock, as long as the
/// directory has not moved.
pub(crate) struct Keyring {
    directory: Arc<Directory>,
    slots: Box<[Option<Slot>]>,
    /// Set for a request that has loaded its keys itself: it uses those, whatever happens meanwhile.
    loaded: bool,
    looked_again: bool,
    reloaded: bool,
}

impl Keyring {
    pub(crate) fn new(directory: Arc<Directory>) -> Self {
        let slots = std::iter::repeat_with(|| None).take(SLOTS).collect();
        Self { directory, slots, loaded: false, looked_again: false, reloaded: false }
    }

    /// A key by its index, or the need to load it.
    #[inline]
    pub(crate) fn get(&mut self, index: u32) -> Result<&Arc<KeyEntry>, Stop> {
        let generation = self.directory.generation();
        let slot = &mut self.slots[position(index)];
        let warm = slot.as_ref().is_some_and(|slot| {
            slot.index == index
                && (self.loaded || (slot.generation == generation && generation != NEVER))
        });
        if !warm {
            let entry = self.directory.cached(index).ok_or(Stop::Need(Need::Key(index)))?;
            *slot = Some(Slot { index, generation, entry });
        }
        Ok(&slot.as_ref().expect("the slot was filled above").entry)
    }

    /// Puts a key that was loaded for this request.
    pub(crate) fn put(&mut self, index: u32, entry: Arc<KeyEntry>) {
        self.loaded = true;
        self.slots[position(index)] = Some(Slot { index, generation: NEVER, entry });
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
                    self.slots[position(index)] = None;
                }
                Stop::Need(Need::Rewrapped(indexes))
            }
            error => Stop::Refuse(error.into()),
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

fn position(index: u32) -> usize {
    usize::try_from(index).unwrap_or(0) % SLOTS
}
