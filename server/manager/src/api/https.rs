//! The API and the page over a network: HTTP/1.1 over TLS 1.3; without TLS for callers on the same machine alone.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sealwire_engine::host::accept;
use sealwire_engine::host::admission::{Admission, Place, Places};
use sealwire_engine::host::certificate::Certificate;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Manager, Source, page};

/// The protocol that is offered (ALPN, RFC 7301).
pub const PROTOCOLS: &[&[u8]] = &[b"http/1.1"];

/// Connections that are served at once. Before the first call of somebody who may make it, a connection has proven
/// nothing.
const PLACES: Places =
    Places { all: 1024, of_source: 128, unauthenticated: 512, unauthenticated_of_source: 32 };

/// Time for the TLS handshake, and for the head of a request, from when the one before was answered.
const HANDSHAKE: Duration = Duration::from_secs(5);
const HEAD: Duration = Duration::from_secs(30);

/// Time for a connection that has proven nothing, for any other, and for what is being answered at the end.
const LIFETIME_OF_STRANGERS: Duration = Duration::from_secs(60);
const LIFETIME: Duration = Duration::from_secs(3600);
const GRACE: Duration = Duration::from_secs(5);

/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// A connection's place, for whoever finds out that its caller is somebody.
#[derive(Clone)]
pub(crate) struct Admitted {
    place: Arc<Mutex<Place>>,
    is_known: Arc<AtomicBool>,
}

impl Admitted {
    fn new(place: Place) -> Self {
        Self { place: Arc::new(Mutex::new(place)), is_known: Arc::default() }
    }

    pub(super) fn authenticated(&self) {
        if !self.is_known.swap(true, Ordering::Relaxed) {
            self.place.lock().unwrap_or_else(PoisonError::into_inner).authenticated();
        }
    }
}

/// Serves the API and the page until `stop`. Without a certificate, only callers on loopback are served.
pub async fn serve(
    listener: TcpListener,
    certificate: Option<Arc<Certificate>>,
    manager: Arc<Manager>,
    stop: CancellationToken,
) {
    let admission = Admission::new(&PLACES);
    let routes = page::routes(&manager, certificate.is_some());
    let connections = TaskTracker::new();
    while let Some((stream, peer)) = accept(&listener, &stop).await {
        let address = peer.ip().to_canonical();
        if certificate.is_none() && !is_loopback(&stream, address) {
            tracing::warn!(peer = %address, "refused: without TLS the API is served on loopback alone");
            continue;
        }
        let Some(place) = admission.admit(address) else {
            tracing::warn!(peer = %address, "too many connections");
            continue;
        };
        let admitted = Admitted::new(place);
        let routes = routes.clone().layer(Extension(Source::of(address)));
        let routes = routes.layer(Extension(admitted.clone()));
        let (certificate, stop) = (certificate.clone(), stop.clone());
        connections.spawn(async move {
            converse(stream, &admitted, certificate, routes, &stop).await;
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

fn is_loopback(stream: &TcpStream, peer: IpAddr) -> bool {
    let local = stream.local_addr().map(|local| local.ip().to_canonical());
    peer.is_loopback() && local.is_ok_and(|local| local.is_loopback())
}

async fn converse(
    stream: TcpStream,
    admitted: &Admitted,
    certificate: Option<Arc<Certificate>>,
    routes: Router,
    stop: &CancellationToken,
) {
    let Some(certificate) = certificate else {
        return answer(stream, admitted, routes, stop).await;
    };
    match timeout(HANDSHAKE, certificate.current().acceptor.accept(stream)).await {
        Ok(Ok(stream)) => answer(stream, admitted, routes, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
        Err(_) => tracing::debug!("no TLS handshake in time"),
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    admitted: &Admitted,
    routes: Router,
    stop: &CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEAD);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(GRACE, connection.as_mut()).await.unwrap_or(Ok(()))
        }
        () = lapse(admitted) => {
            connection.as_mut().graceful_shutdown();
            timeout(GRACE, connection.as_mut()).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the API");
    }
}

/// Ends when a connection has lasted for as long as it may.
async fn lapse(admitted: &Admitted) {
    tokio::time::sleep(LIFETIME_OF_STRANGERS).await;
    if admitted.is_known.load(Ordering::Relaxed) {
        tokio::time::sleep(LIFETIME).await;
    }
}
