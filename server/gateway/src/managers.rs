//! Managers of other processes, as the makers of keys: GENKEY and MANAGE are handed on to one of them, over TLS with
//! certificates on both sides (spec.md, "Orders for keys").

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sealwire_engine::wire::manage::{self, ManageAct, ManageOrder};
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

/// Time for an order in all, whoever is asked, waiting for its turn included.
const IN_ALL: Duration = Duration::from_secs(20);

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
    /// The id of the last order.
    request_id: u64,
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

    /// Hands an order to one manager. A connection that was kept may have ended meanwhile: then another is
    /// tried. A manager that does not answer is not asked again, and none of its connections is kept.
    async fn order_at(&self, manager: usize, order: &Order) -> io::Result<Answer> {
        loop {
            // What must not be done twice goes over a connection that has just been made: it does not break by itself.
            let kept = if order.repeats { self.take(manager) } else { None };
            let (mut connection, kept) = match kept {
                Some(connection) => (connection, true),
                None => (self.connect(manager).await?, false),
            };
            match connection.order(order).await {
                Ok(answer) => {
                    self.keep(manager, connection);
                    return Ok(answer);
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    self.kept().retain(|(number, _)| *number != manager);
                    return Err(error);
                }
                Err(error) if !kept => return Err(error),
                Err(_) => {}
            }
        }
    }

    async fn connect(&self, manager: usize) -> io::Result<Connection> {
        let connect = async {
            let stream = TcpStream::connect(&self.addresses[manager]).await?;
            stream.set_nodelay(true)?;
            self.identity.connector().connect(Role::Manager.server_name(), stream).await
        };
        let connected = timeout(CONNECT, connect).await;
        let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        Ok(Connection { stream, input: ReadBuffer::new(), request_id: 0 })
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(usize, Connection)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, manager: usize) -> Option<Connection> {
        let mut kept = self.kept();
        let at = kept.iter().position(|(number, _)| *number == manager)?;
        Some(kept.swap_remove(at).1)
    }

    fn keep(&self, manager: usize, connection: Connection) {
        let mut kept = self.kept();
        if kept.len() < KEPT && connection.input.unread().is_empty() {
            kept.push((manager, connection));
        }
    }
}

/// The body of an answer, or why there is none.
type Answer = Result<Vec<u8>, KeyMakerError>;

/// What is ordered.
struct Order {
    opcode: Opcode,
    body: Vec<u8>,
    /// Whether it does the same when it is given twice.
    repeats: bool,
}

impl Connection {
    async fn order(&mut self, order: &Order) -> io::Result<Answer> {
        self.request_id += 1;
        let header =
            Header { opcode: order.opcode, flags: Flags::REQUEST, request_id: self.request_id };
        let mut bytes = Vec::new();
        let open = frame::begin(&mut bytes, header);
        bytes.extend_from_slice(&order.body);
        open.finish(&mut bytes);
        let ordered = timeout(PATIENCE, async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await?;
            loop {
                if let Some(frame) =
                    Frame::parse(self.input.unread(), MAX_ANSWER).map_err(broken)?
                {
                    let answer = read(&frame, header)?;
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

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The answer to the order of that header.
fn read(frame: &Frame<'_>, order: Header) -> io::Result<Answer> {
    if (frame.header.opcode, frame.header.request_id) != (order.opcode, order.request_id) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to something else"));
    }
    if frame.header.flags == Flags::FAILURE {
        let Failure { code, detail } = Failure::parse(frame.body).map_err(broken)?;
        return Ok(Err(KeyMakerError { code, detail: detail.to_owned() }));
    }
    Ok(Ok(frame.body.to_vec()))
}

impl Managers {
    async fn order(&self, request: &Order) -> Answer {
        let (first, count) = (self.current.load(Ordering::Relaxed), self.addresses.len());
        let mut last = Err(away("no manager is configured"));
        for turn in 0..count {
            let manager = (first + turn) % count;
            match self.order_at(manager, request).await {
                // One that may have done it, and does not know, is not followed by another.
                Ok(Err(error))
                    if error.code.is_retryable()
                        && (request.repeats || error.code == ErrorCode::SEALED) =>
                {
                    last = Err(error);
                }
                Ok(answer) => {
                    self.current.store(manager, Ordering::Relaxed);
                    return answer;
                }
                Err(error) => {
                    let address = &self.addresses[manager];
                    tracing::warn!(manager = %address, %error, "a manager does not answer");
                    if !request.repeats && error.kind() != io::ErrorKind::ConnectionRefused {
                        return Err(away(
                            "a manager has not answered: whether it was done, the key's versions tell",
                        ));
                    }
                    last = Err(away("no manager answers"));
                }
            }
            // The next order does not begin with one that cannot do it.
            let next = (manager + 1) % count;
            let _ =
                self.current.compare_exchange(manager, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        last
    }
}

impl Managers {
    async fn give(&self, order: &Order) -> Answer {
        let given = timeout(IN_ALL, async {
            let _turn = self.turns.acquire().await;
            self.order(order).await
        });
        given.await.unwrap_or_else(|_| Err(away("no manager has answered in time")))
    }
}

#[async_trait]
impl KeyMaker for Managers {
    /// Tries each manager in turn: an order that was given twice makes one key.
    async fn genkey(&self, order: KeyOrder) -> Result<MadeKey, KeyMakerError> {
        let KeyOrder { app, name, index, suites } = order;
        let malformed = |detail: String| KeyMakerError { code: ErrorCode::MALFORMED_BODY, detail };
        let mut body = vec![u8::try_from(app.len()).map_err(|error| malformed(error.to_string()))?];
        body.extend_from_slice(app.as_bytes());
        GenkeyRequest { index: index.unwrap_or(0), suites, name: &name }
            .encode(&mut body)
            .map_err(|error| malformed(error.to_string()))?;
        let order = Order { opcode: Opcode::GENKEY, body, repeats: true };
        let answer = self.give(&order).await?;
        let made = GenkeyResponse::parse(&answer);
        let GenkeyResponse { index, version, suite, created } =
            made.map_err(|_| away("a manager broke the protocol"))?;
        Ok(MadeKey { index, version, suite, created })
    }

    async fn manage(&self, order: ManageOrder) -> Result<(), KeyMakerError> {
        let repeats = order.act != ManageAct::Rotate;
        let body = serde_json::to_vec(&order).expect("plain fields");
        self.give(&Order { opcode: manage::MANAGE, body, repeats }).await.map(drop)
    }
}

fn away(detail: &str) -> KeyMakerError {
    KeyMakerError { code: ErrorCode::UNAVAILABLE, detail: detail.to_owned() }
}
