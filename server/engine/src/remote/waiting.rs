//! What waits for engines.

use std::sync::atomic::{AtomicUsize, Ordering};

/// An amount of requests that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub requests: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { requests: 131_072, bytes: 256 * 1024 * 1024 }
    }
}

/// What waits in a lane.
#[derive(Default)]
pub(super) struct Queued {
    pub(super) requests: AtomicUsize,
    pub(super) bytes: AtomicUsize,
}

impl Queued {
    /// Adds to what waits, and gives how much that is then.
    pub(super) fn add(&self, requests: usize, bytes: usize) -> Waiting {
        Waiting {
            requests: self.requests.fetch_add(requests, Ordering::Relaxed) + requests,
            bytes: self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes,
        }
    }

    pub(super) fn take(&self, requests: usize, bytes: usize) {
        self.requests.fetch_sub(requests, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
