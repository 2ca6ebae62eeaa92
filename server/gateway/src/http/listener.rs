//! The listener: it accepts, caps connections as that of TCP does, and speaks HTTP/1.1 and HTTP/2.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use sealwire_engine::host::accept;
use sealwire_protocol::ErrorCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior, timeout_at};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::connection::Connection;
use super::{HttpService, Shared, dispatch};
use crate::figures::FIGURES;
use crate::listener::{Counted, finish, is_loopback, span, tell_too_many};

/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Requests of one HTTP/2 connection that are worked on at once.
const MAX_STREAMS: u32 = 128;

/// What a stream of HTTP/2 may send unread, in bytes; a connection four times that.
const H2_WINDOW: u32 = 64 * 1024;

/// How often a connection looks at its clocks.
const TICK: Duration = Duration::from_millis(500);

/// Accepts connections until `stop`, then lets those that are open finish.
pub async fn run(listener: TcpListener, service: HttpService, stop: CancellationToken) {
    let shared = service.shared;
    let tended = tokio::spawn(shared.tokens.clone().tend(stop.clone()));
    let connections = TaskTracker::new();
    while let Some((stream, peer)) = accept(&listener, &stop).await {
        let address = peer.ip().to_canonical();
        let Some(connection) = admit(&shared, address) else { continue };
        if shared.tls.is_none()
            && !shared.service.is_plain_everywhere()
            && !is_loopback(&stream, address)
        {
            FIGURES.count("connection", Err(ErrorCode::TLS_REQUIRED));
            continue;
        }
        let deadline = Instant::now() + shared.gateway.limits.auth_timeout;
        let stop = stop.clone();
        let served = async move { serve_socket(stream, &connection, deadline, &stop).await };
        connections.spawn(served.instrument(span(address)));
    }
    drop(listener);
    finish(&connections, &shared.gateway.limits).await;
    let _ = tended.await;
}

/// Serves a connection from `address` whose stream is at hand, until it ends or `stop`.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    service: &HttpService,
    address: IpAddr,
    stop: &CancellationToken,
) {
    let deadline = Instant::now() + service.shared.gateway.limits.auth_timeout;
    if let Some(connection) = admit(&service.shared, address) {
        converse(stream, &connection, deadline, stop).await;
    }
}

/// Has a place for a connection, or says that there is none.
fn admit(shared: &Arc<Shared>, address: IpAddr) -> Option<Arc<Connection>> {
    let Some(place) = shared.service.admission().admit(address) else {
        tell_too_many(address);
        return None;
    };
    Some(Arc::new(Connection::new(shared.clone(), address, (place, Counted::new()))))
}

async fn serve_socket(
    stream: TcpStream,
    connection: &Arc<Connection>,
    deadline: Instant,
    stop: &CancellationToken,
) {
    let Some(certificate) = &connection.shared.tls else {
        return converse(stream, connection, deadline, stop).await;
    };
    match timeout_at(deadline, certificate.current().acceptor.accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, connection, deadline, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
        Err(_) => tracing::debug!("no TLS handshake in time"),
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    connection: &Arc<Connection>,
    deadline: Instant,
    stop: &CancellationToken,
) {
    let Shared { gateway, .. } = &*connection.shared;
    let limits = &gateway.limits;
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(MAX_HEAD);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(H2_WINDOW)
        .initial_connection_window_size(4 * H2_WINDOW)
        .max_header_list_size(u32::try_from(MAX_HEAD).expect("it is small"));
    let answering = hyper::service::service_fn(|request| {
        let connection = connection.clone();
        async move { Ok::<_, std::convert::Infallible>(dispatch::answer(&connection, request).await) }
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let served = http.serve_connection(TokioIo::new(Box::pin(stream)), answering);
    let mut served = std::pin::pin!(served);
    let mut clock = tokio::time::interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leaving: Option<Instant> = None;
    loop {
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ends");
                }
                return;
            }
            () = stop.cancelled(), if leaving.is_none() => {
                leaving = Some(Instant::now() + limits.drain_timeout);
                served.as_mut().graceful_shutdown();
            }
            _ = clock.tick() => {
                let now = Instant::now();
                connection.look_around();
                if leaving.is_some_and(|by| now >= by) || connection.is_stuck() {
                    return;
                }
                // Who has shown nothing in time is not kept, but for what is being answered.
                let stranger = !connection.is_known() && now >= deadline;
                if stranger && connection.is_quiet() {
                    return;
                }
                if leaving.is_none() && (stranger || connection.is_idle()) {
                    leaving = Some(now + limits.drain_timeout);
                    served.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
