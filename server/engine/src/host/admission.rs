//! Who may have a connection: caps in all, for each source, and before AUTH.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many connections a listener takes.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// In all.
    pub all: usize,
    /// Of one source.
    pub of_source: usize,
    /// That have not authenticated yet.
    pub unauthenticated: usize,
    /// Of one source, that have not authenticated yet.
    pub unauthenticated_of_source: usize,
}

/// Counts connections.
pub struct Admission {
    all: Arc<Semaphore>,
    unauthenticated: Arc<Semaphore>,
    sources: Arc<Sources>,
}

/// Connections by source.
struct Sources {
    counts: Mutex<HashMap<IpAddr, Count>>,
    limit: Count,
}

/// Connections of one source.
#[derive(Clone, Copy, Default)]
struct Count {
    all: usize,
    unauthenticated: usize,
}

/// A place among the connections, given back on drop.
pub struct Place {
    _all: OwnedSemaphorePermit,
    unauthenticated: Option<OwnedSemaphorePermit>,
    sources: Arc<Sources>,
    source: Option<IpAddr>,
}

impl Admission {
    /// An admission to so many places.
    #[must_use]
    pub fn new(places: &Places) -> Self {
        let limit =
            Count { all: places.of_source, unauthenticated: places.unauthenticated_of_source };
        Self {
            all: Arc::new(Semaphore::new(places.all)),
            unauthenticated: Arc::new(Semaphore::new(places.unauthenticated)),
            sources: Arc::new(Sources { counts: Mutex::default(), limit }),
        }
    }

    /// A place for a connection from `address`; `None` when there is none.
    #[must_use]
    pub fn admit(&self, address: IpAddr) -> Option<Place> {
        let mut place = self.admit_unknown()?;
        place.comes_from(address).then_some(place)
    }

    /// A place for a connection whose source is not known yet.
    #[must_use]
    pub fn admit_unknown(&self) -> Option<Place> {
        let all = self.all.clone().try_acquire_owned().ok()?;
        let unauthenticated = Some(self.unauthenticated.clone().try_acquire_owned().ok()?);
        let sources = self.sources.clone();
        Some(Place { _all: all, unauthenticated, sources, source: None })
    }
}

impl Sources {
    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The connection turns out to come from `address`; `false` when that source has its share already.
    pub fn comes_from(&mut self, address: IpAddr) -> bool {
        let source = source(address);
        let limit = self.sources.limit;
        let mut counts = self.sources.counts();
        let count = counts.entry(source).or_default();
        if count.all >= limit.all || count.unauthenticated >= limit.unauthenticated {
            return false;
        }
        count.all += 1;
        count.unauthenticated += 1;
        self.source = Some(source);
        true
    }

    /// The connection has authenticated.
    pub fn authenticated(&mut self) {
        if self.unauthenticated.take().is_none() {
            return;
        }
        if let Some(source) = self.source
            && let Some(count) = self.sources.counts().get_mut(&source)
        {
            count.unauthenticated -= 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.authenticated();
        let Some(source) = self.source else { return };
        let mut counts = self.sources.counts();
        if let Some(count) = counts.get_mut(&source) {
            count.all -= 1;
            if count.all == 0 {
                counts.remove(&source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 /64.
#[must_use]
pub fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: Places =
        Places { all: 99, of_source: 99, unauthenticated: 99, unauthenticated_of_source: 99 };

    #[test]
    fn one_source_cannot_take_every_place_before_auth() {
        let admission = Admission::new(&Places { unauthenticated_of_source: 1, ..MANY });
        let here: IpAddr = "192.0.2.1".parse().expect("address");
        let mut first = admission.admit(here).expect("free");
        assert!(admission.admit(here).is_none());
        first.authenticated();
        first.authenticated();
        let second = admission.admit(here).expect("free");
        drop((first, second));
        assert!(admission.sources.counts().is_empty());
    }

    #[test]
    fn a_source_gets_its_share_and_gives_it_back() {
        let admission = Admission::new(&Places { of_source: 2, ..MANY });
        let here: IpAddr = "2001:db8::1".parse().expect("address");
        let near: IpAddr = "2001:db8::2".parse().expect("address");
        let there: IpAddr = "2001:db8:0:1::1".parse().expect("address");
        let first = admission.admit(here).expect("free");
        let _second = admission.admit(near).expect("free");
        assert!(admission.admit(here).is_none());
        assert!(admission.admit(there).is_some());
        drop(first);
        assert!(admission.admit(near).is_some());
    }
}
