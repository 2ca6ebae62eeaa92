//! The listener: accepts, caps connections, tells TLS from plain TCP.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sealwire_protocol::ErrorCode;
use sealwire_protocol::auth::Channel;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, Place};
use crate::connection::{self, Peer};
use crate::handshake::CONNECTION;
use crate::{Gateway, Refusal, tls};

/// First byte of a TLS record with a handshake message (RFC 8446, section 5.1). A frame never begins
/// with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// Rest after a failed accept: out of descriptors, most likely.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What a listener serves.
#[derive(Clone)]
pub struct Service {
    /// The gateway behind it.
    pub gateway: Arc<Gateway>,
    /// TLS, when there is a certificate.
    pub tls: Option<TlsAcceptor>,
    /// Whether plain TCP is served beyond loopback, too.
    pub plain_everywhere: bool,
}

/// Accepts connections until `stop`, then lets those that are open finish.
pub async fn run(listener: TcpListener, service: Service, stop: CancellationToken) {
    let admission = Admission::new(&service.gateway.limits);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let address = address.ip().to_canonical();
        let Some(place) = admission.admit(address) else {
            turn_away(&stream, address);
            continue;
        };
        let (service, stop) = (service.clone(), stop.clone());
        connections.spawn(async move { serve(stream, address, place, &service, &stop).await });
    }
    drop(listener);
    connections.close();
    let limits = &service.gateway.limits;
    let patience = limits.drain_timeout + limits.write_timeout;
    if tokio::time::timeout(patience, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "connections did not end in time");
    }
}

/// Says that there is no place, as far as the peer listens without being waited for.
fn turn_away(stream: &TcpStream, address: IpAddr) {
    tracing::warn!(peer = %address, "too many connections");
    let mut frame = Vec::new();
    Refusal::from(ErrorCode::TOO_MANY_CONNECTIONS).write(CONNECTION, &mut frame);
    let _ = stream.try_write(&frame);
}

async fn serve(
    stream: TcpStream,
    address: IpAddr,
    mut place: Place,
    service: &Service,
    stop: &CancellationToken,
) {
    let gateway = &service.gateway;
    let deadline = Instant::now() + gateway.limits.auth_timeout;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(peer = %address, %error, "TCP_NODELAY");
    }
    let Ok(Ok(first)) = tokio::time::timeout_at(deadline, first_byte(&stream)).await else {
        return;
    };
    let authenticated = || place.authenticated();
    match (&service.tls, first) {
        (Some(acceptor), TLS_HANDSHAKE) => {
            let accepted = tokio::time::timeout_at(deadline, acceptor.accept(stream)).await;
            let Ok(Ok(stream)) = accepted else {
                tracing::debug!(peer = %address, "TLS handshake failed");
                return;
            };
            let Ok(channel) = tls::channel(stream.get_ref().1) else { return };
            let peer = Peer { address, channel };
            connection::serve(stream, peer, gateway, stop, deadline, authenticated).await;
        }
        _ if service.plain_everywhere || is_loopback(&stream) => {
            let peer = Peer { address, channel: Channel::Tcp };
            connection::serve(stream, peer, gateway, stop, deadline, authenticated).await;
        }
        _ => {
            let mut frame = Vec::new();
            Refusal::from(ErrorCode::TLS_REQUIRED).write(CONNECTION, &mut frame);
            let _ = stream.try_write(&frame);
        }
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

fn is_loopback(stream: &TcpStream) -> bool {
    stream.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
}
