//! Managers of other processes, as the makers of keys: GENKEY is handed on to one of them, over TLS with
//! certificates on both sides (spec.md, "Orders for keys").

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sealwire_engine::wire::tls::Identity;
use sealwire_engine::wire::{ReadBuffer, Role};
use sealwire_protocol::message::{Failure, GenkeyRequest, GenkeyResponse};
use sealwire_protocol::{ErrorCode, Flags, Frame, Header, Opcode, frame};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::{KeyMaker, KeyMakerError, KeyOrder, MadeKey};

/// Orders that are on their way at once.
const AT_ONCE: usize = 64;

/// Connections that are kept for the next order.
const KEPT: usize = 8;

/// Largest answer, in bytes.
const MAX_ANSWER: usize = 1024;

/// Time for a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// Time for an order at one manager: longer than the manager itself takes when its database hangs.
const PATIENCE: Duration = Duration::from_secs(8);

/// See the module.
pub struct Managers {
    addresses: Vec<String>,
    identity: Arc<Identity>,
    /// The manager that has answered last.
    current: AtomicUsize,
    kept: Mutex<Vec<(usize, Connection)>>,
    turns: Semaphore,
}

struct Connection {
    stream: TlsStream<TcpStream>,
    input: ReadBuffer,
}

impl Managers {
    /// Managers at HOST:PORT.
    #[must_use]
    pub fn new(addresses: Vec<String>, identity: Arc<Identity>) -> Self {
        Self {
            addresses,
            identity,
            current: AtomicUsize::new(0),
            kept: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// Hands an order to one manager. A connection that was kept may have ended meanwhile: then it is tried
    /// once more on a new one.
    async fn order_at(&self, manager: usize, order: &[u8]) -> io::Result<Answer> {
        while let Some(mut connection) = self.take(manager) {
            if let Ok(answer) = connection.order(order).await {
                self.keep(manager, connection);
                return Ok(answer);
            }
        }
        let mut connection = self.connect(manager).await?;
        let answer = connection.order(order).await?;
        self.keep(manager, connection);
        Ok(answer)
    }

    async fn connect(&self, manager: usize) -> io::Result<Connection> {
        let connect = async {
            let stream = TcpStream::connect(&self.addresses[manager]).await?;
            stream.set_nodelay(true)?;
            self.identity.connector().connect(Role::Manager.server_name(), stream).await
        };
        let connected = timeout(CONNECT, connect).await;
        let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        Ok(Connection { stream, input: ReadBuffer::new() })
    }

    fn take(&self, manager: usize) -> Option<Connection> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(number, _)| *number == manager)?;
        Some(kept.swap_remove(at).1)
    }

    fn keep(&self, manager: usize, connection: Connection) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push((manager, connection));
        }
    }
}

type Answer = Result<MadeKey, KeyMakerError>;

impl Connection {
    async fn order(&mut self, order: &[u8]) -> io::Result<Answer> {
        let ordered = timeout(PATIENCE, async {
            self.stream.write_all(order).await?;
            self.stream.flush().await?;
            loop {
                let broken = |error| io::Error::new(io::ErrorKind::InvalidData, error);
                if let Some(frame) =
                    Frame::parse(self.input.unread(), MAX_ANSWER).map_err(broken)?
                {
                    let answer = read(&frame)?;
                    let length = frame.wire_len();
                    self.input.consume(length);
                    return Ok(answer);
                }
                if self.input.fill(&mut self.stream).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        });
        ordered.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

fn read(frame: &Frame<'_>) -> io::Result<Answer> {
    let broken = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    if frame.header.flags == Flags::FAILURE {
        let Failure { code, detail } = Failure::parse(frame.body).map_err(broken)?;
        return Ok(Err(KeyMakerError { code, detail: detail.to_owned() }));
    }
    let made = GenkeyResponse::parse(frame.body).map_err(broken)?;
    let GenkeyResponse { index, version, suite, created } = made;
    Ok(Ok(MadeKey { index, version, suite, created }))
}

#[async_trait]
impl KeyMaker for Managers {
    /// Tries each manager in turn: an order that was given twice makes one key.
    async fn genkey(&self, order: KeyOrder) -> Result<MadeKey, KeyMakerError> {
        let away = |detail: String| KeyMakerError { code: ErrorCode::UNAVAILABLE, detail };
        let _turn = self.turns.acquire().await;
        let request = GenkeyRequest {
            index: order.index.unwrap_or(0),
            suites: order.suites,
            name: &order.name,
        };
        let mut bytes = Vec::new();
        let header = Header { opcode: Opcode::GENKEY, flags: Flags::REQUEST, request_id: 1 };
        let open = frame::begin(&mut bytes, header);
        request.encode(&mut bytes).map_err(|error| KeyMakerError {
            code: ErrorCode::MALFORMED_BODY,
            detail: error.to_string(),
        })?;
        open.finish(&mut bytes);
        let (first, count) = (self.current.load(Ordering::Relaxed), self.addresses.len());
        let mut last = away("no manager is configured".into());
        for turn in 0..count {
            let manager = (first + turn) % count;
            match self.order_at(manager, &bytes).await {
                Ok(answer) => {
                    self.current.store(manager, Ordering::Relaxed);
                    let elsewhere = matches!(&answer, Err(error) if error.code.is_retryable())
                        && turn + 1 < count;
                    if !elsewhere {
                        return answer;
                    }
                }
                Err(error) => {
                    let address = &self.addresses[manager];
                    tracing::warn!(manager = %address, %error, "a manager cannot be reached");
                    last = away("no manager answers".into());
                }
            }
        }
        Err(last)
    }
}
