//! What a connection waits for: a place for each request id, in their order, so that finding one is
//! counting.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::{Batch, Trace};

/// What an answer is for.
pub(super) enum Awaited {
    /// A request of a batch, what has become of it before, and whether it was sent again.
    Request { batch: Arc<Batch>, at: usize, trace: Trace, again: bool },
    /// STATUS.
    Status,
    /// The proof that the engine holds the site's root key.
    Proof,
    /// SESSION, of this number.
    Session(u64),
    /// SITE, PING: only that there is an answer.
    Nothing,
}

/// See the module. Request ids ascend from 1.
#[derive(Default)]
pub(super) struct Ring {
    places: VecDeque<Option<Awaited>>,
    /// The id of the first place.
    first: u64,
    /// Places that are taken by requests.
    requests: usize,
}

impl Ring {
    pub(super) fn new() -> Self {
        Self { places: VecDeque::new(), first: 1, requests: 0 }
    }

    /// Requests that are awaited.
    pub(super) fn requests(&self) -> usize {
        self.requests
    }

    /// Whether anything is awaited.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The id for what is awaited.
    pub(super) fn push(&mut self, awaited: Awaited) -> u64 {
        self.requests += usize::from(matches!(awaited, Awaited::Request { .. }));
        self.places.push_back(Some(awaited));
        self.first + self.places.len() as u64 - 1
    }

    /// Takes what an id stands for; `None` when it is not awaited, or not any more.
    pub(super) fn take(&mut self, id: u64) -> Option<Awaited> {
        let at = usize::try_from(id.checked_sub(self.first)?).ok()?;
        let taken = self.places.get_mut(at)?.take();
        self.requests -= usize::from(matches!(taken, Some(Awaited::Request { .. })));
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
        taken
    }

    /// Takes every request that `wanted` picks out. Their late answers are passed over.
    pub(super) fn take_requests(
        &mut self,
        mut wanted: impl FnMut(&Arc<Batch>, usize, Trace) -> bool,
    ) -> Vec<(Arc<Batch>, usize, Trace)> {
        let mut taken = Vec::new();
        for place in &mut self.places {
            if let Some(Awaited::Request { batch, at, trace, .. }) = place
                && wanted(batch, *at, *trace)
            {
                taken.push((batch.clone(), *at, *trace));
                *place = None;
            }
        }
        self.requests -= taken.len();
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_what_they_are_for_in_any_order_and_once() {
        let mut ring = Ring::new();
        let ids: Vec<u64> = (0..4).map(|_| ring.push(Awaited::Nothing)).collect();
        assert_eq!(ids, [1, 2, 3, 4]);
        assert!(ring.take(3).is_some());
        assert!(ring.take(3).is_none(), "only once");
        assert!(ring.take(1).is_some());
        assert!(ring.take(2).is_some());
        assert_eq!(ring.push(Awaited::Nothing), 5);
        assert!(ring.take(0).is_none() && ring.take(9).is_none());
        assert!(ring.take(4).is_some() && ring.take(5).is_some());
        assert!(ring.is_empty());
    }
}
