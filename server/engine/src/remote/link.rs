//! A connection to an engine, made again for as long as the pool lives.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::Pool;
use super::batch::Work;
use super::connection::Connection;
use crate::wire::Role;
use crate::wire::message::Lane;

/// Rest before the first new try, and the longest.
const FIRST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// What a link is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// Not connected.
    Down,
    /// The engine is sealed.
    Sealed,
    /// The engine is open, and has yet to prove that it holds the site's root key.
    Unproven,
    /// It does not.
    Foreign,
    /// The engine is stopping: it answers what it has, and gets nothing more.
    Leaving,
    /// It takes work.
    Up,
    /// It should have answered by now: work goes there only when there is no other.
    Suspect,
}

impl Condition {
    const ALL: [Self; 7] = [
        Self::Down,
        Self::Sealed,
        Self::Unproven,
        Self::Foreign,
        Self::Leaving,
        Self::Up,
        Self::Suspect,
    ];
}

/// A link, as its pool sees it.
pub(super) struct Link {
    /// Which engine.
    pub(super) engine: usize,
    pub(super) lane: Lane,
    pub(super) queue: UnboundedSender<Work>,
    /// Requests that were given to it and are not answered.
    load: AtomicUsize,
    condition: AtomicU8,
}

impl Link {
    pub(super) fn new(engine: usize, lane: Lane, queue: UnboundedSender<Work>) -> Self {
        Self { engine, lane, queue, load: AtomicUsize::new(0), condition: AtomicU8::new(0) }
    }

    pub(super) fn condition(&self) -> Condition {
        let number = usize::from(self.condition.load(Ordering::Acquire));
        Condition::ALL.get(number).copied().unwrap_or(Condition::Down)
    }

    pub(super) fn set(&self, condition: Condition) {
        self.condition.store(condition as u8, Ordering::Release);
    }

    /// Puts work back into its queue.
    pub(super) fn give_back(&self, work: Work) {
        // The queue lasts as long as the link.
        let _ = self.queue.send(work);
    }

    pub(super) fn is_up(&self) -> bool {
        self.condition() == Condition::Up
    }

    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    pub(super) fn add_load(&self, requests: usize) {
        self.load.fetch_add(requests, Ordering::Relaxed);
    }

    pub(super) fn take_load(&self, requests: usize) {
        self.load.fetch_sub(requests, Ordering::Relaxed);
    }
}

/// Keeps a link up, until `stop`.
pub(super) async fn run(
    pool: Arc<Pool>,
    link: Arc<Link>,
    mut queue: UnboundedReceiver<Work>,
    stop: CancellationToken,
) {
    let address = pool.engines[link.engine].address.clone();
    let (mut rest, mut told) = (FIRST_REST, false);
    while !stop.is_cancelled() {
        let ended = match aside(&pool, &link, &mut queue, &stop, connect(&pool, &address)).await {
            None => return,
            Some(Ok(stream)) => {
                let chain = stream.get_ref().1.peer_certificates();
                *pool.engines[link.engine].certificate() =
                    chain.and_then(|chain| chain.first()).map(|first| first.clone().into_owned());
                let ended = Connection::new(&pool, &link, stream).run(&mut queue, &stop).await;
                // With TLS 1.3 a connection stands before the engine has looked at the certificate; and one that
                // breaks whatever is said to it is not to be tried all the time.
                if ended.has_worked {
                    (rest, told) = (FIRST_REST, false);
                }
                ended.result
            }
            Some(Err(error)) => Err(error),
        };
        link.set(Condition::Down);
        let engine = &pool.engines[link.engine];
        if engine.links().all(|link| link.condition() == Condition::Down) {
            pool.note(link.engine, None);
        }
        match ended {
            Err(error) if !told && !stop.is_cancelled() => {
                told = true;
                tracing::warn!(engine = %address, %error, "an engine cannot be reached");
            }
            ended => tracing::debug!(engine = %address, ?ended, "a connection to an engine ends"),
        }
        let jitter = Duration::from_millis(pool.roll(50) as u64);
        if aside(&pool, &link, &mut queue, &stop, tokio::time::sleep(rest + jitter)).await.is_none()
        {
            return;
        }
        rest = (rest * 2).min(LONGEST_REST);
    }
}

/// Waits for something, and passes on what comes for the link meanwhile. `None` when it shall stop.
async fn aside<T>(
    pool: &Pool,
    link: &Link,
    queue: &mut UnboundedReceiver<Work>,
    stop: &CancellationToken,
    awaited: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(awaited);
    loop {
        tokio::select! {
            done = &mut awaited => return Some(done),
            Some(work) = queue.recv() => {
                link.take_load(work.range.len());
                pool.pass_on(work);
            }
            () = stop.cancelled() => return None,
        }
    }
}

async fn connect(pool: &Pool, address: &str) -> io::Result<TlsStream<TcpStream>> {
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        pool.identity.connector().connect(Role::Engine.server_name(), stream).await
    };
    let connected = tokio::time::timeout(pool.connect_timeout, connect).await;
    connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
