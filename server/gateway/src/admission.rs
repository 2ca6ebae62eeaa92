//! Who may have a connection: caps in all, for each source, and before AUTH.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Limits;

/// Counts connections.
pub(crate) struct Admission {
    all: Arc<Semaphore>,
    unauthenticated: Arc<Semaphore>,
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_source: usize,
}

/// A place among the connections, given back on drop.
pub(crate) struct Place {
    _all: OwnedSemaphorePermit,
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
    source: IpAddr,
    unauthenticated: Option<OwnedSemaphorePermit>,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.max_connections)),
            unauthenticated: Arc::new(Semaphore::new(limits.max_unauthenticated)),
            sources: Arc::default(),
            per_source: limits.max_connections_per_source,
        }
    }

    /// A place for a connection from `address`; `None` when there is none.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Place> {
        let all = self.all.clone().try_acquire_owned().ok()?;
        let unauthenticated = self.unauthenticated.clone().try_acquire_owned().ok()?;
        let source = source(address);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(source).or_insert(0);
        if *count >= self.per_source {
            return None;
        }
        *count += 1;
        drop(sources);
        let unauthenticated = Some(unauthenticated);
        Some(Place { _all: all, sources: self.sources.clone(), source, unauthenticated })
    }
}

impl Place {
    /// The connection has authenticated.
    pub(crate) fn authenticated(&mut self) {
        self.unauthenticated = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 /64.
fn source(address: IpAddr) -> IpAddr {
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

    #[test]
    fn a_source_gets_its_share_and_gives_it_back() {
        let admission =
            Admission::new(&Limits { max_connections_per_source: 2, ..Limits::default() });
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
