//! The name service: which machines each address stands for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::{Address, Error};

/// Longest wait for a fresh answer where an older one is there: a name service that does not answer
/// must not keep us from machines that we know.
const PATIENCE: Duration = Duration::from_millis(500);

/// The records of an address.
pub(crate) type Records = Result<Vec<SocketAddr>, Error>;

/// Who answers for names.
type Resolver = fn(Address) -> BoxFuture<'static, Records>;

/// Looks up the records of an address, by the system's resolver.
///
/// # Errors
/// When the lookup fails, or finds nothing.
pub(crate) async fn look_up(address: &Address) -> Records {
    let Address { host, port, .. } = address;
    let failed = |error| Error::io(&format!("{host}:{port}"), error);
    let found: Vec<_> =
        tokio::net::lookup_host((host.as_str(), *port)).await.map_err(failed)?.collect();
    if found.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(found)
}

/// All addresses, and what was last heard of each.
pub(crate) struct Names {
    addresses: Vec<Address>,
    resolver: Resolver,
    heard: watch::Sender<Vec<Heard>>,
}

/// What was heard of one address.
#[derive(Clone, Default)]
struct Heard {
    /// A lookup is under way.
    looking: bool,
    /// What the name said last: it serves on while the name service is away.
    records: Vec<SocketAddr>,
    /// Why the last lookup has failed, if it has.
    error: Option<Error>,
}

impl Names {
    pub(crate) fn new(addresses: Vec<Address>) -> Self {
        Self::with_resolver(addresses, |address| async move { look_up(&address).await }.boxed())
    }

    fn with_resolver(addresses: Vec<Address>, resolver: Resolver) -> Self {
        let heard = watch::Sender::new(vec![Heard::default(); addresses.len()]);
        Self { addresses, resolver, heard }
    }

    /// Looks all names up. Waits up to `most` when nothing at all is known, a quarter of it for names
    /// that nothing is known of, and half a second for the rest: then what is known must do.
    pub(crate) async fn refresh(self: &Arc<Self>, most: Duration) {
        let begun = Instant::now();
        self.ask();
        let mut changes = self.heard.subscribe();
        loop {
            let patience = {
                let heard = changes.borrow_and_update();
                if !heard.iter().any(|name| name.looking) {
                    return;
                }
                if heard.iter().all(|name| name.records.is_empty()) {
                    most
                } else if heard.iter().any(|name| name.looking && name.records.is_empty()) {
                    most / 4
                } else {
                    PATIENCE.min(most / 4)
                }
            };
            if timeout_at(begun + patience, changes.changed()).await.is_err() {
                return;
            }
        }
    }

    /// What is known of each address: its place in the list, and its machines.
    pub(crate) fn known(&self) -> Vec<(usize, Vec<SocketAddr>)> {
        self.heard.borrow().iter().map(|name| name.records.clone()).enumerate().collect()
    }

    /// Why the last lookups have failed, those that have.
    pub(crate) fn errors(&self) -> Vec<Error> {
        self.heard.borrow().iter().filter_map(|name| name.error.clone()).collect()
    }

    /// Starts lookups. No name has two under way: a resolver that hangs holds a thread for each. An
    /// answer that comes late is kept, too.
    fn ask(self: &Arc<Self>) {
        let mut idle = Vec::new();
        self.heard.send_if_modified(|heard| {
            for (place, name) in heard.iter_mut().enumerate() {
                if !std::mem::replace(&mut name.looking, true) {
                    idle.push(place);
                }
            }
            false
        });
        for place in idle {
            let (names, lookup) = (self.clone(), (self.resolver)(self.addresses[place].clone()));
            tokio::spawn(async move {
                let answer = lookup.await;
                names.heard.send_modify(|heard| {
                    let name = &mut heard[place];
                    name.looking = false;
                    match answer {
                        Ok(records) => (name.records, name.error) = (records, None),
                        Err(error) => name.error = Some(error),
                    }
                });
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far longer than any test may take.
    const AN_HOUR: Duration = Duration::from_secs(3600);

    fn names(resolver: Resolver) -> Arc<Names> {
        let addresses = Address::list("sealwire+tcp://a, sealwire+tcp://b").expect("two");
        Arc::new(Names::with_resolver(addresses, resolver))
    }

    fn socket(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    async fn refreshed(names: &Arc<Names>, most: Duration) {
        let limit = Instant::now() + Duration::from_secs(60);
        timeout_at(limit, names.refresh(most)).await.expect("does not wait for the resolver");
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_keeps_nobody_from_machines_that_are_known() {
        let names = names(|_| std::future::pending().boxed());
        names.heard.send_modify(|heard| {
            heard[0].records = vec![socket(1)];
            heard[1].records = vec![socket(2)];
        });
        refreshed(&names, AN_HOUR).await;
        refreshed(&names, AN_HOUR).await;
        assert_eq!(names.known(), [(0, vec![socket(1)]), (1, vec![socket(2)])]);
    }

    #[tokio::test]
    async fn a_name_that_hangs_holds_up_the_others_for_a_part_of_the_time() {
        let names = names(|address| match address.host.as_str() {
            "a" => std::future::pending().boxed(),
            _ => std::future::ready(Ok(vec![socket(2)])).boxed(),
        });
        refreshed(&names, Duration::from_secs(1)).await;
        assert_eq!(names.known(), [(0, vec![]), (1, vec![socket(2)])]);
    }

    #[tokio::test]
    async fn what_is_known_stays_when_a_lookup_fails_and_goes_when_it_says_otherwise() {
        let names = names(|address| match address.host.as_str() {
            "a" => std::future::ready(Err(Error::lost())).boxed(),
            _ => std::future::ready(Ok(vec![socket(3)])).boxed(),
        });
        names.heard.send_modify(|heard| {
            heard[0].records = vec![socket(1)];
            heard[1].records = vec![socket(2)];
        });
        refreshed(&names, AN_HOUR).await;
        assert_eq!(names.known(), [(0, vec![socket(1)]), (1, vec![socket(3)])]);
        assert_eq!(names.errors().len(), 1);
    }
}
