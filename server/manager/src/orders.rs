//! Keys that gateways of other processes order: GENKEY and MANAGE, over TLS with certificates on both sides
//! (spec.md, "Orders for keys").

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sealwire_engine::host::accept;
use sealwire_engine::host::admission::{Admission, Places};
use sealwire_engine::wire::manage::{self, ManageOrder};
use sealwire_engine::wire::tls::Identity;
use sealwire_engine::wire::{ReadBuffer, Role};
use sealwire_protocol::message::{Failure, GenkeyRequest, GenkeyResponse, PingRequest};
use sealwire_protocol::{
    BodyError, ErrorCode, Flags, Frame, Header, Opcode, Reader, frame, limits,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Manager, ManagerError};

/// Connections that are served at once.
const PLACES: Places =
    Places { all: 1024, of_source: 512, unauthenticated: 128, unauthenticated_of_source: 64 };

/// Largest order, in bytes.
const MAX_ORDER: usize = 1024;

/// Time for the caller to take an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time without an order after which a connection is closed.
const IDLE: Duration = Duration::from_secs(300);

/// Serves gateways until `stop`. An order that has begun is finished.
pub async fn serve(
    listener: TcpListener,
    identity: Arc<Identity>,
    manager: Arc<Manager>,
    stop: CancellationToken,
) {
    let admission = Admission::new(&PLACES);
    let connections = TaskTracker::new();
    while let Some((stream, peer)) = accept(&listener, &stop).await {
        let Some(mut place) = admission.admit(peer.ip().to_canonical()) else {
            tracing::warn!(%peer, "too many connections");
            continue;
        };
        let (identity, manager, stop) = (identity.clone(), manager.clone(), stop.clone());
        connections.spawn(async move {
            let served = async {
                let (stream, _) = identity.accept(stream, &[Role::Gateway]).await?;
                place.authenticated();
                converse(stream, &manager, &stop).await
            };
            if let Err(error) = served.await {
                tracing::warn!(%peer, %error, "a gateway's connection");
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// One order after another: who wants several at once opens several connections.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    manager: &Manager,
    stop: &CancellationToken,
) -> io::Result<()> {
    let mut input = ReadBuffer::new();
    loop {
        let broken = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        while let Some(frame) = Frame::parse(input.unread(), MAX_ORDER).map_err(broken)? {
            let mut out = Vec::new();
            answer(manager, &frame, &mut out).await;
            let length = frame.wire_len();
            input.consume(length);
            let written = timeout(PATIENCE, async {
                stream.write_all(&out).await?;
                stream.flush().await
            });
            written.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        }
        tokio::select! {
            read = timeout(IDLE, input.fill(&mut stream)) => match read {
                Ok(Ok(0)) | Err(_) => return Ok(()),
                Ok(read) => drop(read?),
            },
            () = stop.cancelled() => return Ok(()),
        }
    }
}

async fn answer(manager: &Manager, frame: &Frame<'_>, out: &mut Vec<u8>) {
    let header = frame.header;
    let open = frame::begin(out, Header { flags: Flags::RESPONSE, ..header });
    let refused = match header.opcode {
        _ if header.flags != Flags::REQUEST => Some((ErrorCode::RESERVED_FLAGS, String::new())),
        Opcode::PING => match PingRequest::parse(frame.body) {
            Ok(ping) => {
                ping.encode(out);
                None
            }
            Err(error) => Some((ErrorCode::MALFORMED_BODY, error.to_string())),
        },
        manage::MANAGE => manage_key(manager, frame.body).await.err(),
        Opcode::GENKEY => match genkey(manager, frame.body).await {
            Ok(response) => {
                response.encode(out);
                None
            }
            Err(refused) => Some(refused),
        },
        _ => Some((ErrorCode::UNKNOWN_OPCODE, String::new())),
    };
    match refused {
        None => open.finish(out),
        Some((code, detail)) => {
            open.cancel(out);
            let open = frame::begin(out, Header { flags: Flags::FAILURE, ..header });
            Failure { code, detail: &detail }.encode(out);
            open.finish(out);
        }
    }
}

async fn manage_key(manager: &Manager, body: &[u8]) -> Result<(), (ErrorCode, String)> {
    let order: ManageOrder = serde_json::from_slice(body)
        .map_err(|error| (ErrorCode::MALFORMED_BODY, error.to_string()))?;
    let key = order.key.clone();
    manager.manage_for(order).await.map_err(|error| {
        tracing::warn!(%error, key, "MANAGE");
        (error.code(), error.to_string())
    })
}

async fn genkey(manager: &Manager, body: &[u8]) -> Result<GenkeyResponse, (ErrorCode, String)> {
    let malformed = |error: BodyError| (ErrorCode::MALFORMED_BODY, error.to_string());
    let mut reader = Reader::new(body);
    let app = reader.short(limits::MAX_APP_KEY, "app key").map_err(malformed)?;
    let app = std::str::from_utf8(app).map_err(|_| malformed(BodyError::Value("app key")))?;
    let order = GenkeyRequest::parse(reader.rest()).map_err(malformed)?;
    let index = (order.index != 0).then_some(order.index);
    let made = manager.genkey_for(app, order.name, index, &order.suites).await;
    let made = made.map_err(|error: ManagerError| {
        tracing::warn!(%error, key = %order.name, "GENKEY");
        (error.code(), error.to_string())
    })?;
    let (key, created) = (made.key, made.created);
    let version = key.newest_active().unwrap_or(0);
    Ok(GenkeyResponse { index: key.index, version, suite: key.suites[0], created })
}

const _: () = assert!(
    MAX_ORDER
        > limits::HEADER_LEN + 1 + limits::MAX_APP_KEY + 4 + 1 + 16 + 1 + limits::MAX_KEY_NAME
);
