//! The listeners: they accept, cap connections, tell TLS from plain TCP. One more, for load balancers,
//! demands the header that says where a connection comes from.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sealwire_engine::host::accept;
use sealwire_engine::host::admission::{Admission, Place, Places};
use sealwire_engine::host::certificate::Certificate;
use sealwire_protocol::ErrorCode;
use sealwire_protocol::auth::Channel;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::connection::{self, Peer};
use crate::figures::FIGURES;
use crate::handshake::CONNECTION;
use crate::proxy::{self, Upstreams};
use crate::tls;
use crate::{Gateway, Limits, Refusal};

/// First byte of a TLS record with a handshake message (RFC 8446, section 5.1). A frame never begins
/// with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// What the listeners of a gateway serve.
#[derive(Clone)]
pub struct Service {
    gateway: Arc<Gateway>,
    tls: Option<Arc<Certificate>>,
    plain_everywhere: bool,
    admission: Arc<Admission>,
}

impl Service {
    /// With TLS when there is a certificate; `plain_everywhere` serves plain TCP beyond loopback, too.
    #[must_use]
    pub fn new(
        gateway: Arc<Gateway>,
        tls: Option<Arc<Certificate>>,
        plain_everywhere: bool,
    ) -> Self {
        let limits = &gateway.limits;
        let places = Places {
            all: limits.max_connections,
            of_source: limits.max_connections_per_source,
            unauthenticated: limits.max_unauthenticated,
            unauthenticated_of_source: limits.max_unauthenticated_per_source,
        };
        let admission = Arc::new(Admission::new(&places));
        Self { gateway, tls, plain_everywhere, admission }
    }

    pub(crate) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(crate) fn is_plain_everywhere(&self) -> bool {
        self.plain_everywhere
    }
}

/// Accepts connections until `stop`, then lets those that are open finish. Who connects is at the other
/// end of the socket.
pub async fn run(listener: TcpListener, service: Service, stop: CancellationToken) {
    let connections = TaskTracker::new();
    while let Some((stream, peer)) = accept(&listener, &stop).await {
        let address = peer.ip().to_canonical();
        let Some(place) = service.admission.admit(address) else {
            turn_away(&stream, address);
            continue;
        };
        let deadline = Instant::now() + service.gateway.limits.auth_timeout;
        let (service, stop) = (service.clone(), stop.clone());
        let span = span(address);
        let served = async move {
            serve((stream, address), (place, Counted::new()), &service, &stop, deadline).await;
        };
        connections.spawn(served.instrument(span));
    }
    drop(listener);
    finish(&connections, &service.gateway.limits).await;
}

/// As [`run`], for load balancers that say who connects in a header of the PROXY protocol. Nobody else
/// gets as far as sending one.
pub async fn run_behind(
    listener: TcpListener,
    upstreams: Upstreams,
    service: Service,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    while let Some((mut stream, peer)) = accept(&listener, &stop).await {
        let upstream = peer.ip().to_canonical();
        if !upstreams.contains(upstream) {
            tracing::warn!(peer = %upstream, "refused: not one of the load balancers");
            continue;
        }
        let Some(mut place) = service.admission.admit_unknown() else {
            turn_away(&stream, upstream);
            continue;
        };
        let deadline = Instant::now() + service.gateway.limits.auth_timeout;
        let header_timeout = upstreams.header_timeout;
        let (service, stop) = (service.clone(), stop.clone());
        connections.spawn(async move {
            let counted = Counted::new();
            let address = match timeout(header_timeout, proxy::read_source(&mut stream)).await {
                Ok(Ok(source)) => source.unwrap_or(upstream),
                Ok(Err(error)) => {
                    tracing::warn!(peer = %upstream, %error, "PROXY header refused");
                    return;
                }
                Err(_) => {
                    tracing::warn!(peer = %upstream, "no PROXY header in time");
                    return;
                }
            };
            if place.comes_from(address) {
                let served = serve((stream, address), (place, counted), &service, &stop, deadline);
                served.instrument(span(address)).await;
            } else {
                turn_away(&stream, address);
            }
        });
    }
    drop(listener);
    finish(&connections, &service.gateway.limits).await;
}

/// What every line of the log that concerns a connection begins with: its number in this process, and where
/// it comes from.
pub(crate) fn span(peer: IpAddr) -> tracing::Span {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    tracing::info_span!("connection", number, %peer)
}

/// Lets the connections end, for as long as they may take.
pub(crate) async fn finish(connections: &TaskTracker, limits: &Limits) {
    connections.close();
    let patience = limits.drain_timeout + limits.write_timeout;
    if timeout(patience, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "connections did not end in time");
    }
}

/// Says that there is no place, as far as the peer listens without being waited for.
fn turn_away(stream: &TcpStream, address: IpAddr) {
    tell_too_many(address);
    let mut frame = Vec::new();
    Refusal::from(ErrorCode::TOO_MANY_CONNECTIONS).write(CONNECTION, &mut frame);
    let _ = stream.try_write(&frame);
}

/// Notes that there is no place.
pub(crate) fn tell_too_many(address: IpAddr) {
    /// When that was told last, Unix time in seconds: once a second is enough, the figures count all of them.
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if TOLD.swap(now, Ordering::Relaxed) != now {
        tracing::warn!(peer = %address, "too many connections");
    }
    FIGURES.count("connection", Err(ErrorCode::TOO_MANY_CONNECTIONS));
}

async fn serve(
    (stream, address): (TcpStream, IpAddr),
    (mut place, mut counted): (Place, Counted),
    service: &Service,
    stop: &CancellationToken,
    deadline: Instant,
) {
    let gateway = &service.gateway;
    let Ok(Ok(first)) = timeout_at(deadline, first_byte(&stream)).await else {
        return;
    };
    let authenticated = || {
        place.authenticated();
        counted.authenticated();
    };
    match (&service.tls, first) {
        (Some(certificate), TLS_HANDSHAKE) => {
            let accepted =
                timeout_at(deadline, certificate.current().acceptor.accept(stream)).await;
            let Ok(Ok(stream)) = accepted else {
                tracing::debug!("TLS handshake failed");
                return;
            };
            let Ok(channel) = tls::channel(stream.get_ref().1) else { return };
            let peer = Peer { address, channel };
            connection::serve(stream, peer, gateway, stop, deadline, authenticated).await;
        }
        _ if service.plain_everywhere || is_loopback(&stream, address) => {
            let peer = Peer { address, channel: Channel::Tcp };
            connection::serve(stream, peer, gateway, stop, deadline, authenticated).await;
        }
        _ => {
            FIGURES.count("connection", Err(ErrorCode::TLS_REQUIRED));
            let mut frame = Vec::new();
            Refusal::from(ErrorCode::TLS_REQUIRED).write(CONNECTION, &mut frame);
            let _ = stream.try_write(&frame);
        }
    }
}

/// A connection among the figures, for as long as it lasts.
pub(crate) struct Counted {
    authenticated: bool,
}

impl Counted {
    pub(crate) fn new() -> Self {
        FIGURES.connections.inc();
        FIGURES.unauthenticated.inc();
        Self { authenticated: false }
    }

    pub(crate) fn authenticated(&mut self) {
        if !std::mem::replace(&mut self.authenticated, true) {
            FIGURES.unauthenticated.dec();
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.authenticated();
        FIGURES.connections.dec();
    }
}

/// The first byte, left in the socket.
async fn first_byte(stream: &TcpStream) -> io::Result<u8> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0]),
    }
}

/// Whether nothing of the connection leaves this machine: behind a load balancer, that is for the client
/// to tell.
pub(crate) fn is_loopback(stream: &TcpStream, client: IpAddr) -> bool {
    client.is_loopback()
        && stream.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
}
