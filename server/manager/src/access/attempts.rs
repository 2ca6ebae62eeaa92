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
    /// The address, or the network's; `None` for the socket.
    #[must_use]
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Socket => None,
            Self::Address(address) => Some(address),
        }
    }

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
pub(crate) struct Attempts {
    entries: Mutex<Cache<Counted, Wrong>>,
    /// Names that have signed in, and from where: whoever else guesses there does not keep them waiting.
    at_home: Mutex<Cache<(Source, String), ()>>,
}

/// A password that is being looked at: it counts as wrong, until it was found right.
pub(crate) struct Attempt<'a> {
    attempts: &'a Attempts,
    name: String,
    source: Source,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self { entries: Mutex::new(Cache::new(ENTRIES)), at_home: Mutex::new(Cache::new(ENTRIES)) }
    }

    /// Begins to look at a password, unless it is too soon: then it is said how long to wait.
    pub(crate) fn begin(
        &self,
        name: &str,
        source: Source,
        now: Instant,
    ) -> Result<Attempt<'_>, Duration> {
        let mut entries = lock(&self.entries);
        let name = name.to_owned();
        let at_home = lock(&self.at_home).get(&(source, name.clone())).is_some();
        let left = |counted, free| {
            let wrong = entries.get(&counted)?;
            let wait = wait_after(wrong.count.checked_sub(free)?);
            wait.checked_sub(now.saturating_duration_since(wrong.last))
        };
        let of_name = left(Counted::Name(source, name.clone()), FREE);
        let of_source = left(Counted::Source(source), FREE_OF_SOURCE).filter(|_| !at_home);
        let wait = of_name.max(of_source).unwrap_or_default();
        if !wait.is_zero() {
            return Err(wait);
        }
        for counted in [Counted::Name(source, name.clone()), Counted::Source(source)] {
            let fresh = |wrong: &Wrong| now.saturating_duration_since(wrong.last) < MEMORY;
            let before = entries.get(&counted).copied().filter(fresh);
            let count = before.map_or(0, |wrong| wrong.count).saturating_add(1);
            entries.insert(counted, Wrong { count, last: now });
        }
        Ok(Attempt { attempts: self, name, source })
    }
}

impl Attempt<'_> {
    /// It was right: its name starts anew there, and what it has counted for the place is taken back.
    pub(crate) fn was_right(self) {
        self.take_back();
        let Self { attempts, name, source } = self;
        lock(&attempts.entries).remove(&Counted::Name(source, name.clone()));
        lock(&attempts.at_home).insert((source, name), ());
    }

    /// It could not be looked at.
    pub(crate) fn take_back(&self) {
        let mut entries = lock(&self.attempts.entries);
        let of_name = Counted::Name(self.source, self.name.clone());
        for counted in [of_name, Counted::Source(self.source)] {
            if let Some(wrong) = entries.get(&counted).copied() {
                let count = wrong.count.saturating_sub(1);
                entries.insert(counted, Wrong { count, ..wrong });
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// The wait, of somebody whose password is wrong when there is none.
    fn wrong(attempts: &Attempts, name: &str, source: Source, now: Instant) -> Duration {
        attempts.begin(name, source, now).map(drop).err().unwrap_or_default()
    }

    fn right(attempts: &Attempts, name: &str, source: Source, now: Instant) {
        match attempts.begin(name, source, now) {
            Ok(attempt) => attempt.was_right(),
            Err(wait) => panic!("{name} waits {wait:?}"),
        }
    }

    #[test]
    fn waits_grow_up_to_a_minute_and_end() {
        let (attempts, mut now) = (Attempts::new(), Instant::now());
        for _ in 0..FREE {
            assert_eq!(wrong(&attempts, "alice", HERE, now), Duration::ZERO);
        }
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(wrong(&attempts, "alice", HERE, now), wait);
            assert_eq!(wrong(&attempts, "alice", HERE, now), wait, "who waits is not counted");
            now += wait;
            assert_eq!(wrong(&attempts, "alice", HERE, now), Duration::ZERO);
        }
        assert_eq!(wrong(&attempts, "alice", HERE, now + MEMORY), Duration::ZERO, "forgotten");
        assert_eq!(wrong(&attempts, "alice", HERE, now + MEMORY), Duration::ZERO);
    }

    #[test]
    fn passwords_that_come_together_count_together() {
        let (attempts, now) = (Attempts::new(), Instant::now());
        let together: Vec<_> = (0..50).map(|_| attempts.begin("alice", HERE, now)).collect();
        let begun = together.iter().filter(|begun| begun.is_ok()).count();
        assert_eq!(u32::try_from(begun), Ok(FREE));
    }

    #[test]
    fn who_guesses_keeps_nobody_else_out() {
        let (attempts, mut now) = (Attempts::new(), Instant::now());
        right(&attempts, "carol", elsewhere(1), now);
        for _ in 0..100 {
            wrong(&attempts, "alice", elsewhere(1), now);
            now += LONGEST;
        }
        wrong(&attempts, "alice", elsewhere(1), now);
        assert_eq!(wrong(&attempts, "alice", HERE, now), Duration::ZERO);
        assert_eq!(wrong(&attempts, "alice", elsewhere(2), now), Duration::ZERO);
        assert_eq!(wrong(&attempts, "bob", elsewhere(1), now), LONGEST, "the place guesses at all");
        assert_eq!(wrong(&attempts, "carol", elsewhere(1), now), Duration::ZERO, "at home there");
    }

    #[test]
    fn a_right_password_takes_back_what_it_has_counted() {
        let (attempts, now) = (Attempts::new(), Instant::now());
        for number in 0..1000 {
            let name = number.to_string();
            right(&attempts, &name, HERE, now);
        }
    }

    #[test]
    fn a_flood_of_names_and_places_takes_no_more_memory_and_keeps_nobody_out() {
        let (attempts, now) = (Attempts::new(), Instant::now());
        for number in 0..40_000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            wrong(&attempts, &number.to_string(), Source::of(address), now);
        }
        assert!(lock(&attempts.entries).len() <= ENTRIES);
        assert_eq!(wrong(&attempts, "bob", HERE, now), Duration::ZERO);
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
