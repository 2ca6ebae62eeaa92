//! A key as the directory keeps it.

use std::sync::atomic::{AtomicBool, Ordering};

use sealwire_engine::Verified;
use sealwire_engine::document::{KeyDocument, UsableKey};

/// A verified key with its wrapped versions.
pub(crate) struct KeyEntry {
    pub(crate) document: Verified<KeyDocument>,
    /// By version, from 1; `None` where the keystore has no blob.
    versions: Vec<Option<UsableKey>>,
    sealing: Option<u32>,
    /// The directory's epoch before it was read.
    as_of: u64,
    /// Whether nothing had changed while it was read: only then may others find it.
    settled: AtomicBool,
}

impl KeyEntry {
    /// An entry that was read after the directory's epoch was `as_of`.
    pub(crate) fn new(
        document: Verified<KeyDocument>,
        versions: Vec<Option<UsableKey>>,
        as_of: u64,
    ) -> Self {
        let sealing = document.newest_active();
        Self { document, versions, sealing, as_of, settled: AtomicBool::new(false) }
    }

    /// Whether others may find it.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// The number of the version that seals.
    #[inline]
    pub(crate) fn sealing_version(&self) -> Option<u32> {
        self.sealing
    }

    /// The version that seals.
    #[inline]
    pub(crate) fn sealing(&self) -> Option<&UsableKey> {
        self.version(self.sealing?)
    }

    /// Whether the entry is as new as the keystore, now that it can be found: no change was taken
    /// in between the moment before it was read and this one. Asked once, by who has put it there.
    pub(crate) fn settle(&self, epoch: u64) -> bool {
        let settled = self.as_of == epoch;
        self.settled.store(settled, Ordering::Release);
        settled
    }

    /// A version's key, whatever its state.
    #[inline]
    pub(crate) fn version(&self, version: u32) -> Option<&UsableKey> {
        let position = usize::try_from(version.checked_sub(1)?).ok()?;
        self.versions.get(position)?.as_ref()
    }
}
