//! The requests in flight on a connection, and whether there is room for more.

use std::collections::HashMap;

use sealwire_protocol::Opcode;
use sealwire_protocol::message::SessionLimits;
use tokio::sync::oneshot;

use crate::command::{Body, Lane, Outcome};

/// Requests in flight at most, whatever the server allows: what is kept of them is memory here.
const MOST: usize = 65_536;

/// Who waits for an answer. The body is kept, to be sent again.
pub(crate) struct Waiter {
    pub(crate) body: Body,
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// A request that was sent, and not answered yet.
pub(crate) struct Sent {
    opcode: Opcode,
    lane: Lane,
    /// Bytes of its frame.
    size: usize,
    /// `None`: nobody waits any more. It takes its place until the answer comes, all the same.
    pub(crate) waiter: Option<Waiter>,
}

/// What the server has yet to answer.
///
/// A gateway reads no further when `max_in_flight` requests wait, or more than four times
/// `max_frame` bytes. This stays below both, so that a PING is always read: else a server that has
/// much to do looks like one that hangs.
pub(crate) struct Flight {
    sent: HashMap<u64, Sent>,
    last_id: u64,
    most: usize,
    most_bulk: usize,
    max_frame: usize,
    bytes: usize,
    bulk: usize,
    bulk_bytes: usize,
}

impl Flight {
    pub(crate) fn new(limits: SessionLimits) -> Self {
        let allowed = usize::try_from(limits.max_in_flight).unwrap_or(MOST).min(MOST);
        Self {
            sent: HashMap::new(),
            last_id: 0,
            // One place is PING's.
            most: (allowed - 1).max(1),
            most_bulk: (allowed / 4).max(1),
            max_frame: usize::try_from(limits.max_frame).unwrap_or(usize::MAX),
            bytes: 0,
            bulk: 0,
            bulk_bytes: 0,
        }
    }

    /// Whether one more request may be sent, of up to `max_frame` bytes. Of `Bulk` ones there are
    /// never so many that no `Live` one could be sent.
    pub(crate) fn has_room(&self, lane: Lane) -> bool {
        let any = self.sent.len() < self.most && self.bytes <= 2 * self.max_frame;
        match lane {
            Lane::Live => any,
            Lane::Bulk => {
                any && self.bulk < self.most_bulk && self.bulk_bytes <= self.max_frame / 2
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether anybody waits for an answer.
    pub(crate) fn is_awaited(&self) -> bool {
        self.sent.values().any(|sent| sent.waiter.is_some())
    }

    /// The id of the request that is added next.
    pub(crate) fn next_id(&self) -> u64 {
        self.last_id + 1
    }

    /// Notes a request whose frame has `size` bytes.
    pub(crate) fn add(&mut self, opcode: Opcode, lane: Lane, size: usize, waiter: Option<Waiter>) {
        self.last_id += 1;
        self.bytes += size;
        if lane == Lane::Bulk {
            self.bulk += 1;
            self.bulk_bytes += size;
        }
        self.sent.insert(self.last_id, Sent { opcode, lane, size, waiter });
    }

    /// What was asked for under this id.
    pub(crate) fn opcode(&self, id: u64) -> Option<Opcode> {
        self.sent.get(&id).map(|sent| sent.opcode)
    }

    /// Takes out a request that is answered.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Sent> {
        let sent = self.sent.remove(&id)?;
        self.bytes -= sent.size;
        if sent.lane == Lane::Bulk {
            self.bulk -= 1;
            self.bulk_bytes -= sent.size;
        }
        Some(sent)
    }

    /// Lets go of the bodies of requests that nobody waits for.
    pub(crate) fn forget_cancelled(&mut self) {
        for sent in self.sent.values_mut() {
            if sent.waiter.as_ref().is_some_and(|waiter| waiter.reply.is_closed()) {
                sent.waiter = None;
            }
        }
    }

    /// All who wait; afterwards nobody does.
    pub(crate) fn take_waiters(&mut self) -> impl Iterator<Item = Waiter> {
        self.sent.values_mut().filter_map(|sent| sent.waiter.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = 40_000;

    fn flight(max_in_flight: u32) -> Flight {
        let max_frame = u32::try_from(FRAME).expect("small");
        Flight::new(SessionLimits { max_frame, max_in_flight, session_seconds: 1 })
    }

    fn fill(flight: &mut Flight, lane: Lane, size: usize) -> usize {
        let before = flight.len();
        while flight.has_room(lane) {
            flight.add(Opcode::ENC, lane, size, None);
        }
        flight.len() - before
    }

    #[test]
    fn a_place_is_left_for_ping_and_bytes_stay_below_what_a_gateway_reads() {
        for (allowed, sent) in [(1, 1), (2, 1), (64, 63), (u32::MAX, MOST - 1)] {
            assert_eq!(fill(&mut flight(allowed), Lane::Live, 0), sent, "{allowed}");
        }
        let mut large = flight(64);
        fill(&mut large, Lane::Live, FRAME);
        assert_eq!(large.bytes, 3 * FRAME);
    }

    #[test]
    fn bulk_takes_a_quarter_and_leaves_room_for_the_largest_live_request() {
        let mut full = flight(64);
        assert_eq!(fill(&mut full, Lane::Bulk, 100), 16);
        assert_eq!(fill(&mut full, Lane::Live, 100), 47);
        let mut large = flight(64);
        fill(&mut large, Lane::Bulk, FRAME);
        assert!(large.has_room(Lane::Live));
    }

    #[test]
    fn what_is_answered_makes_room_again() {
        let mut flight = flight(8);
        let id = flight.next_id();
        flight.add(Opcode::REENC, Lane::Bulk, FRAME, None);
        assert!(!flight.has_room(Lane::Bulk));
        assert_eq!(flight.opcode(id), Some(Opcode::REENC));
        assert!(flight.remove(id).is_some() && flight.remove(id).is_none());
        assert_eq!((flight.bytes, flight.bulk, flight.bulk_bytes), (0, 0, 0));
        assert!(flight.has_room(Lane::Bulk));
    }
}
