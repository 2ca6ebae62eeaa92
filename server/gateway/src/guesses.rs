//! Who has sent many wrong AUTHs takes turns: one AUTH after another of a source, with a pause between. What a wrong
//! AUTH costs, others do not notice then. An app at such an address gets its turn, too: they go round in the order in
//! which they were asked for, and few wait. When more do, it may have to connect several times, as everybody there.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::Cache;
use sealwire_engine::host::admission::source;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep_until};

/// Sources that are remembered; beyond, those that were not heard of for longest are forgotten.
const SOURCES: usize = 16_384;

/// Wrong AUTHs of a source that nothing follows from: so many at once, and one in this time.
const BURST: u32 = 64;
const PACE: Duration = Duration::from_millis(50);

/// How long a source takes turns at most, after its last wrong AUTH.
const MEMORY: Duration = Duration::from_secs(60);

/// Time between two turns of a source.
const PAUSE: Duration = Duration::from_millis(5);

/// Those of a source that wait for their turn: the last has it within a third of a second, long before its time for AUTH
/// is over. Beyond, connections are ended at once, and their places are free for others.
const WAITING: usize = 64;

/// Too many connections of a source wait for their turn.
#[derive(Debug)]
pub(crate) struct Crowd;

/// Sources that have sent wrong AUTHs.
pub(crate) struct Guesses {
    begun: Instant,
    sources: Cache<IpAddr, Arc<Source>>,
}

struct Source {
    /// The generic cell rate algorithm's theoretical arrival time (ITU-T I.371, annex A): milliseconds.
    arrival: AtomicU64,
    /// When the last turn began.
    turn: Mutex<Instant>,
    /// Who may wait for one.
    waiting: Semaphore,
}

impl Guesses {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), sources: Cache::new(SOURCES) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits until it is an address's turn: not at all, unless many wrong AUTHs have come from there.
    ///
    /// # Errors
    /// When too many of its connections wait already.
    pub(crate) async fn turn(&self, address: IpAddr) -> Result<(), Crowd> {
        let Some(known) = self.sources.get(&source(address)) else { return Ok(()) };
        if !known.is_suspect(self.now()) {
            return Ok(());
        }
        let _place = known.waiting.try_acquire().map_err(|_| Crowd)?;
        // Fair: in the order in which they were asked for.
        let mut last = known.turn.lock().await;
        sleep_until(*last + PAUSE).await;
        *last = Instant::now();
        Ok(())
    }

    /// Notes that an AUTH from an address was refused; whether that is worth a line of the log by itself. The audit
    /// counts all of them.
    pub(crate) fn refused(&self, address: IpAddr) -> bool {
        let known =
            self.sources.get_or_insert_with(&source(address), || Ok(Arc::new(Source::new())));
        let known = known.unwrap_or_else(|never: std::convert::Infallible| match never {});
        known.note(self.now())
    }
}

impl Source {
    fn new() -> Self {
        Self {
            arrival: AtomicU64::new(0),
            turn: Mutex::new(Instant::now()),
            waiting: Semaphore::new(WAITING),
        }
    }

    /// Whether it has sent many wrong AUTHs lately. Times are milliseconds.
    fn is_suspect(&self, now: u64) -> bool {
        self.arrival.load(Ordering::Relaxed) > now + millis(PACE * BURST)
    }

    /// Notes a wrong AUTH; whether it is one of few.
    fn note(&self, now: u64) -> bool {
        let next = |arrival: u64| {
            let next = arrival.max(now) + millis(PACE);
            Some(next.min(now + millis(PACE * BURST + MEMORY)))
        };
        let before = self.arrival.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        before.is_ok_and(|arrival| arrival <= now + millis(PACE * BURST))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_few_are_forgiven_and_many_are_forgotten_in_time() {
        let known = Source::new();
        let few = (0..=BURST).filter(|_| known.note(1000)).count();
        assert_eq!(few, BURST as usize + 1);
        assert!(known.is_suspect(1000));
        assert!(!known.is_suspect(1000 + millis(PACE)), "one more in its time");
        let many = (0..100_000).filter(|_| known.note(2000)).count();
        assert!(many <= 20, "{many}");
        assert!(known.is_suspect(2000 + millis(MEMORY) - 1));
        assert!(!known.is_suspect(2000 + millis(MEMORY)));
    }

    #[tokio::test]
    async fn who_guesses_takes_turns_in_order_and_nobody_else_does() {
        let guesses = Arc::new(Guesses::new());
        for _ in 0..1000 {
            guesses.refused(address("2001:db8::1"));
        }
        // The same /64, in the order in which they have asked, while somebody has the turn.
        let known = guesses.sources.get(&source(address("2001:db8::1"))).expect("known");
        let (held, begun) = (known.turn.lock().await, Instant::now());
        let turns = (0..WAITING).map(|_| {
            let guesses = guesses.clone();
            tokio::spawn(async move {
                guesses.turn(address("2001:db8::2")).await.expect("few wait");
                begun.elapsed()
            })
        });
        let turns: Vec<_> = turns.collect();
        while known.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        guesses.turn(address("2001:db8::3")).await.expect_err("too many wait");
        // Others have not to wait for these.
        for other in ["2001:db8:1::1", "192.0.2.1"] {
            guesses.turn(address(other)).await.expect("at once");
        }
        assert!(turns.iter().all(|turn| !turn.is_finished()));
        drop(held);
        let mut waited = Vec::new();
        for turn in turns {
            waited.push(turn.await.expect("no panic"));
        }
        assert!(waited.is_sorted(), "{waited:?}");
        assert!(waited[WAITING - 1] >= PAUSE * 60, "{waited:?}");
    }
}
