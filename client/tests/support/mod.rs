//! A small server that speaks the real protocol: AUTH with a known secret, then it echoes bodies, or
//! misbehaves as the test wishes.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use sealwire_client::{Client, Credentials};
use sealwire_protocol::auth::{Channel, Transcript};
use sealwire_protocol::message::{
    AuthRequest, AuthResponse, Failure, Goaway, GoawayReason, SessionLimits,
};
use sealwire_protocol::{ErrorCode, Flags, Frame, Header, Opcode, credential, frame, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub(crate) const SECRET: [u8; 32] = [7; 32];

/// Long enough for anything on a busy machine, and never waited for when all is well.
pub(crate) const LONG: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    Answer,
    /// Reads nothing and says nothing, as a stopped process does.
    Hang,
    /// The same, but only the connections before the so many-th: as where a load balancer stands for
    /// several servers, and one of them has stopped.
    HangBefore(usize),
    /// Answers PING alone. Reads no further once as many requests wait as are allowed.
    Hold,
    /// Answers everything but requests that may wait.
    HoldBulk,
    /// Refuses every request but PING.
    Refuse(ErrorCode),
    /// Says this of the connection when a request comes, and closes.
    End(ErrorCode),
    /// Closes when a request comes.
    Cut,
    /// Answers as if something else had been asked.
    Confuse,
    /// Says GOAWAY together with the last word of AUTH, on the first connection.
    Greet,
}

impl Mode {
    fn hangs(self, number: usize) -> bool {
        match self {
            Self::Hang => true,
            Self::HangBefore(limit) => number < limit,
            _ => false,
        }
    }
}

/// What every fake allows.
const LIMITS: SessionLimits =
    SessionLimits { max_frame: 1 << 20, max_in_flight: 64, session_seconds: 3600 };

struct Shared {
    mode: watch::Sender<Mode>,
    goaway: watch::Sender<Option<GoawayReason>>,
    logins: AtomicUsize,
    requests: AtomicUsize,
    bulk: AtomicUsize,
    pings: AtomicUsize,
    secret: [u8; 32],
}

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), SECRET).await
    }

    pub(crate) async fn start_at(address: SocketAddr, secret: [u8; 32]) -> Self {
        let listener = TcpListener::bind(address).await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            mode: watch::Sender::new(Mode::Answer),
            goaway: watch::Sender::new(None),
            logins: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            bulk: AtomicUsize::new(0),
            pings: AtomicUsize::new(0),
            secret,
        });
        let for_all = shared.clone();
        let accepting = tokio::spawn(async move {
            // Aborting this task drops the set, which aborts them all.
            let mut connections = JoinSet::new();
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                connections.spawn(serve(stream, number, for_all.clone()));
            }
        });
        Self { address, shared, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("sealwire+tcp://{}", self.address)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Connections that have logged in so far.
    pub(crate) fn logins(&self) -> usize {
        self.shared.logins.load(Ordering::SeqCst)
    }

    /// Requests that have come so far, PING not counted.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Those among them that may wait.
    pub(crate) fn bulk(&self) -> usize {
        self.shared.bulk.load(Ordering::SeqCst)
    }

    pub(crate) fn pings(&self) -> usize {
        self.shared.pings.load(Ordering::SeqCst)
    }

    /// Says GOAWAY on the connections that stand, and ends each 300 ms later.
    pub(crate) fn say_goaway(&self, reason: GoawayReason) {
        self.shared.goaway.send_replace(Some(reason));
    }

    /// Ends at once, as by kill -9.
    pub(crate) async fn kill(self) -> SocketAddr {
        self.accepting.abort();
        let _ = self.accepting.await;
        self.address
    }
}

pub(crate) fn credentials_of(secret: [u8; 32]) -> Credentials {
    Credentials::new("ak_test", &credential::encode_app_secret(&secret)).expect("in form")
}

pub(crate) fn urls(fakes: &[&Fake]) -> String {
    fakes.iter().map(|fake| fake.url()).collect::<Vec<_>>().join(", ")
}

/// A client with one connection to each, all of which stand.
pub(crate) async fn client(fakes: &[&Fake], deadline: Duration) -> Client {
    let client = Client::builder(&urls(fakes), credentials_of(SECRET))
        .connections(fakes.len())
        .deadline(deadline)
        .connect()
        .await
        .expect("connects");
    until(|| fakes.iter().all(|fake| fake.logins() > 0)).await;
    // The server has counted a login before the client has read of it.
    tokio::time::sleep(Duration::from_millis(50)).await;
    client
}

pub(crate) async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.expect("it comes true");
}

/// So many requests at once; the first error, if any.
pub(crate) async fn ask_many(client: &Client, count: usize) -> Result<(), sealwire_client::Error> {
    let mut asked = JoinSet::new();
    for number in 0..count {
        let client = client.clone();
        asked.spawn(async move {
            let message = number.to_be_bytes();
            let answer = client.enc(1, b"aad", &message).await?;
            assert!(answer.ends_with(&message), "the answer to another request");
            Ok(())
        });
    }
    asked.join_all().await.into_iter().collect()
}

fn answer(header: Header, flags: Flags, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let open = frame::begin(&mut out, Header { flags, ..header });
    body(&mut out);
    open.finish(&mut out);
    out
}

fn failure(header: Header, code: ErrorCode) -> Vec<u8> {
    answer(header, Flags::FAILURE, |out| Failure { code, detail: "" }.encode(out))
}

const OWN: Header = Header { opcode: Opcode(0), flags: Flags::FAILURE, request_id: 0 };

fn goaway(reason: GoawayReason) -> Vec<u8> {
    let header = Header { opcode: Opcode::GOAWAY, ..OWN };
    answer(header, Flags::RESPONSE, |out| Goaway { reason, grace_ms: 300 }.encode(out))
}

/// One connection, until it ends.
async fn serve(mut stream: TcpStream, number: usize, shared: Arc<Shared>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut input = BytesMut::new();
    let mut leaving = shared.goaway.subscribe();
    let mut mode = shared.mode.subscribe();
    let _ = mode.wait_for(|mode| !mode.hangs(number)).await;
    login(&mut stream, &mut input, number, &shared).await?;
    shared.logins.fetch_add(1, Ordering::SeqCst);
    let (mut end, mut held) = (None, 0);
    loop {
        let _ = mode.wait_for(|mode| !mode.hangs(number)).await;
        while held < LIMITS.max_in_flight
            && let Some(frame) = Frame::parse(&input, limits::MAX_FRAME).expect("sound")
        {
            let length = frame.wire_len();
            let (header, bytes) = respond(&frame, &shared)?;
            held += u32::from(bytes.is_empty());
            input.advance(length);
            stream.write_all(&bytes).await.ok()?;
            if header.request_id == 0 {
                return None;
            }
        }
        let ended = async {
            match end {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = stream.read_buf(&mut input), if held < LIMITS.max_in_flight => {
                if read.ok()? == 0 {
                    return None;
                }
            }
            Ok(()) = leaving.changed() => {
                let reason = (*leaving.borrow())?;
                stream.write_all(&goaway(reason)).await.ok()?;
                end = Some(tokio::time::Instant::now() + Duration::from_millis(300));
            }
            Ok(()) = mode.changed() => {}
            () = ended => {
                stream.write_all(&failure(OWN, ErrorCode::SHUTTING_DOWN)).await.ok()?;
                return None;
            }
        }
    }
}

/// What is said to a request, and under which header; `None` closes.
fn respond(frame: &Frame<'_>, shared: &Shared) -> Option<(Header, Vec<u8>)> {
    let header = frame.header;
    let echo = || answer(header, Flags::RESPONSE, |out| out.extend_from_slice(frame.body));
    if header.opcode == Opcode::PING {
        shared.pings.fetch_add(1, Ordering::SeqCst);
        return Some((header, echo()));
    }
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let bulk = header.flags == Flags::BULK;
    shared.bulk.fetch_add(usize::from(bulk), Ordering::SeqCst);
    match *shared.mode.borrow() {
        Mode::HoldBulk if bulk => Some((header, Vec::new())),
        Mode::Answer | Mode::Hang | Mode::HangBefore(_) | Mode::HoldBulk | Mode::Greet => {
            Some((header, echo()))
        }
        Mode::Hold => Some((header, Vec::new())),
        Mode::Confuse => {
            let other = Header { opcode: Opcode::KEYINFO, ..header };
            Some((other, answer(other, Flags::RESPONSE, |out| out.extend_from_slice(frame.body))))
        }
        Mode::Refuse(code) => Some((header, failure(header, code))),
        Mode::End(code) => Some((OWN, failure(OWN, code))),
        Mode::Cut => None,
    }
}

async fn login(
    stream: &mut TcpStream,
    input: &mut BytesMut,
    number: usize,
    shared: &Shared,
) -> Option<()> {
    let limits = LIMITS;
    let (header, body) = next(stream, input).await?;
    let AuthRequest::Hello { client_nonce, app_key } = AuthRequest::parse(&body).ok()? else {
        return None;
    };
    let server_nonce = [9; limits::AUTH_NONCE_LEN];
    let challenge = AuthResponse::Challenge { server_nonce, limits };
    let bytes = answer(header, Flags::RESPONSE, |out| challenge.encode(out));
    stream.write_all(&bytes).await.ok()?;
    let (header, body) = next(stream, input).await?;
    let AuthRequest::Proof { proof } = AuthRequest::parse(&body).ok()? else { return None };
    let channel = Channel::Tcp;
    let transcript = Transcript { channel, client_nonce, server_nonce, app_key, limits };
    if !transcript.verify_client_proof(&shared.secret, &proof) {
        stream.write_all(&failure(header, ErrorCode::AUTH_FAILED)).await.ok()?;
        return None;
    }
    let proof = transcript.server_proof(&shared.secret, &proof);
    let accepted = AuthResponse::Accepted { proof };
    let mut bytes = answer(header, Flags::RESPONSE, |out| accepted.encode(out));
    if number == 0 && *shared.mode.borrow() == Mode::Greet {
        bytes.extend(goaway(GoawayReason::SESSION_LIFETIME));
    }
    stream.write_all(&bytes).await.ok()
}

async fn next(stream: &mut TcpStream, input: &mut BytesMut) -> Option<(Header, Vec<u8>)> {
    loop {
        if let Some(frame) = Frame::parse(input, limits::MAX_FRAME).ok()? {
            let (header, body, length) = (frame.header, frame.body.to_vec(), frame.wire_len());
            input.advance(length);
            return Some((header, body));
        }
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    }
}
