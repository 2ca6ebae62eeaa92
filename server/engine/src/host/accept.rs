//! Accepting connections.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Rest after a failed accept: out of descriptors, most likely.
const REST: Duration = Duration::from_millis(50);

/// The next connection, and where it comes from; `None` once `stop` is cancelled. What is written to it
/// goes out at once (TCP_NODELAY).
pub async fn accept(
    listener: &TcpListener,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%peer, %error, "TCP_NODELAY");
                }
                return Some((stream, peer));
            }
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(REST).await;
            }
        }
    }
}
