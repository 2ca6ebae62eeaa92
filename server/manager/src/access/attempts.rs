//! Wrong passwords: who sends them waits, longer each time, and nobody else does.
//!
//! What is counted is an operator's name together with where it comes from, and where it comes from alone. So
//! somebody elsewhere, who knows the name, cannot keep its operator out.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

/// Wrong passwords that cost no wait: for one name from one place, and for all names from one place.
const FREE: u32 = 5;
const FREE_OF_SOURCE: u32 = 20;

/// The first wait; each is twice the one before, up to the longest, which is short enough for people who share
/// an address with a guesser.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Time after which wrong passwords are forgotten.
const MEMORY: Duration = Duration::from_secs(3600);

/// Names and places that are remembered at most: those that were not seen lately are forgotten first.
const ENTRIES: usize = 16 * 1024;

/// Where a sign-in comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The manager's socket: a program on the same machine, by a user who may open it.
    Socket,
    /// An address; of IPv6 a /64, which one person has to himself.
    Address(IpAddr),
}

impl Source {
    /// Of a peer's address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::Address(v4.into()),
            IpAddr::V6(v6) => {
                let network = v6.to_bits() & (u128::MAX << 64);
                Self::Address(IpAddr::V6(network.into()))
            }
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket => f.write_str("the manager's socket"),
            Self::Address(address @ IpAddr::V4(_)) => address.fmt(f),
            Self::Address(address) => write!(f, "{address}/64"),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Counted {
    Source(Source),
    Name(Source, String),
}

#[derive(Clone, Copy)]
struct Wrong {
    count: u32,
    last: Instant,
}

/// Counts wrong passwords.
pub(crate) struct Attempts(Mutex<Cache<Counted, Wrong>>);

impl Attempts {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Cache::new(ENTRIES)))
    }

    /// How long somebody has yet to wait before the next password is looked at; zero when not at all.
    pub(crate) fn wait(&self, name: &str, source: Source, now: Instant) -> Duration {
        let entries = self.entries();
        let left = |counted, free| {
            let wrong = entries.get(&counted)?;
            let wait = wait_after(wrong.count.checked_sub(free)?);
            wait.checked_sub(now.saturating_duration_since(wrong.last))
        };
        let of_name = left(Counted::Name(source, name.to_owned()), FREE);
        let of_source = left(Counted::Source(source), FREE_OF_SOURCE);
        of_name.max(of_source).unwrap_or_default()
    }

    /// A password was wrong.
    pub(crate) fn note_wrong(&self, name: &str, source: Source, now: Instant) {
        let mut entries = self.entries();
        for counted in [Counted::Name(source, name.to_owned()), Counted::Source(source)] {
            let fresh = |wrong: &Wrong| now.saturating_duration_since(wrong.last) < MEMORY;
            let before = entries.get(&counted).copied().filter(fresh);
            let count = before.map_or(0, |wrong| wrong.count).saturating_add(1);
            entries.insert(counted, Wrong { count, last: now });
        }
    }

    /// A password was right: its name starts anew there.
    pub(crate) fn note_right(&self, name: &str, source: Source) {
        self.entries().remove(&Counted::Name(source, name.to_owned()));
    }

    fn entries(&self) -> MutexGuard<'_, Cache<Counted, Wrong>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait_after(beyond: u32) -> Duration {
    FIRST.saturating_mul(1 << beyond.min(16)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Source = Source::Socket;

    fn elsewhere(number: u8) -> Source {
        Source::of(IpAddr::from([192, 0, 2, number]))
    }

    #[test]
    fn waits_grow_up_to_a_minute_and_end() {
        let (attempts, now) = (Attempts::new(), Instant::now());
        for _ in 0..FREE - 1 {
            attempts.note_wrong("alice", HERE, now);
            assert_eq!(attempts.wait("alice", HERE, now), Duration::ZERO);
        }
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            attempts.note_wrong("alice", HERE, now);
            assert_eq!(attempts.wait("alice", HERE, now), Duration::from_secs(seconds));
            let later = now + Duration::from_secs(seconds);
            assert_eq!(attempts.wait("alice", HERE, later), Duration::ZERO);
        }
        attempts.note_wrong("alice", HERE, now + MEMORY);
        assert_eq!(attempts.wait("alice", HERE, now + MEMORY), Duration::ZERO, "forgotten");
    }

    #[test]
    fn who_guesses_keeps_nobody_else_out() {
        let (attempts, now) = (Attempts::new(), Instant::now());
        for _ in 0..1000 {
            attempts.note_wrong("alice", elsewhere(1), now);
        }
        assert_eq!(attempts.wait("alice", HERE, now), Duration::ZERO);
        assert_eq!(attempts.wait("alice", elsewhere(2), now), Duration::ZERO);
        assert_eq!(attempts.wait("bob", elsewhere(1), now), LONGEST, "the place guesses at all");
        attempts.note_right("alice", elsewhere(1));
        assert_eq!(attempts.wait("alice", elsewhere(1), now), LONGEST, "and that stays");
    }

    #[test]
    fn a_flood_of_names_and_places_takes_no_more_memory_and_keeps_nobody_out() {
        let (attempts, now) = (Attempts::new(), Instant::now());
        for number in 0..40_000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            attempts.note_wrong(&number.to_string(), Source::of(address), now);
        }
        assert!(attempts.entries().len() <= ENTRIES);
        assert_eq!(attempts.wait("bob", HERE, now), Duration::ZERO);
    }

    #[test]
    fn a_place_of_ipv6_is_a_network_of_64() {
        let of = |text: &str| Source::of(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!(of("2001:db8::1").to_string(), "2001:db8::/64");
    }
}
