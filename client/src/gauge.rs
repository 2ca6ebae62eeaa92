//! How a connection does, as its driver tells it to whoever sends and whoever keeps it up.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// How a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum State {
    /// It works, as far as anyone can tell.
    Fine,
    /// Its server refuses messages for now: it is sealed, or cut off from what it needs. One good
    /// answer and it is fine again.
    Refusing,
    /// It has been silent for too long, PING included. One word from the server and it is fine again.
    Suspect,
    /// It takes no more requests, the server being well: the session has reached its lifetime.
    Leaving,
    /// It takes no more requests, the server going away.
    Stopping,
    /// It broke.
    Gone,
}

/// What the driver of a connection tells of it.
#[derive(Default)]
pub(crate) struct Gauge {
    state: AtomicU8,
    in_flight: AtomicUsize,
    served: AtomicBool,
    changed: Notify,
}

impl Gauge {
    pub(crate) fn state(&self) -> State {
        const ALL: [State; 5] =
            [State::Fine, State::Refusing, State::Suspect, State::Leaving, State::Stopping];
        let state = usize::from(self.state.load(Ordering::Acquire));
        ALL.get(state).copied().unwrap_or(State::Gone)
    }

    pub(crate) fn set_state(&self, state: State) {
        if self.state.swap(state as u8, Ordering::AcqRel) != state as u8 {
            self.changed.notify_one();
        }
    }

    /// Requests that were sent, and not answered yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn set_in_flight(&self, count: usize) {
        self.in_flight.store(count, Ordering::Relaxed);
    }

    /// Whether it has ever sealed or opened a message.
    pub(crate) fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    pub(crate) fn set_served(&self) {
        self.served.store(true, Ordering::Relaxed);
    }

    /// Returns when the state has changed since the last call. For one caller only.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_read_as_it_was_set() {
        let gauge = Gauge::default();
        assert_eq!(gauge.state(), State::Fine);
        for state in [
            State::Gone,
            State::Stopping,
            State::Leaving,
            State::Suspect,
            State::Refusing,
            State::Fine,
        ] {
            gauge.set_state(state);
            assert_eq!(gauge.state(), state);
        }
    }
}
