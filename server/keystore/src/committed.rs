//! What this process has committed: a gateway in it takes that in at once, without asking the database.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::DocumentRow;

/// The changes that were committed through a keystore's handle.
#[derive(Default)]
pub struct Committed {
    newest: AtomicU64,
    followed: AtomicBool,
    waiting: AtomicUsize,
    rows: Mutex<Vec<DocumentRow>>,
}

impl Committed {
    /// The newest revision that was committed through this handle, or found when it was opened.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Has changes kept until they are [taken](Committed::take), from now on.
    pub fn follow(&self) {
        self.followed.store(true, Ordering::Release);
    }

    /// Whether there are changes to be taken.
    #[inline]
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Takes the changes. Until `work` has ended, [`Committed::is_waiting`] is true, and others who want
    /// to take them wait.
    pub fn take<T>(&self, work: impl FnOnce(Vec<DocumentRow>) -> T) -> T {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(std::mem::take(&mut *rows));
        self.waiting.store(0, Ordering::Release);
        done
    }

    pub(crate) fn found(&self, revision: u64) {
        self.newest.store(revision, Ordering::Release);
    }

    pub(crate) fn push(&self, row: &DocumentRow) {
        self.newest.fetch_max(row.signed.revision, Ordering::AcqRel);
        if self.followed.load(Ordering::Acquire) {
            let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows.push(row.clone());
            self.waiting.store(rows.len(), Ordering::Release);
        }
    }
}
