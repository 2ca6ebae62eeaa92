//! The HTTP face: what business systems speak that have a client for the Transit API already (docs/http.md). It is
//! another way to the same sessions: each request becomes the frames that a TCP client would have sent.
//!
//! | module | what it does |
//! |---|---|
//! | `listener` | accepts, TLS, HTTP/1.1 and HTTP/2 |
//! | `connection` | what the requests of a connection share: whose it is, and its session |
//! | `tokens`, `token` | login, and what tokens stand for; one of them |
//! | `route` | which call a request is |
//! | `dispatch` | from a request to its answer: who calls, its body, the call |
//! | `body`, `input`, `lenient` | bodies within their limits; JSON; numbers and booleans that came as strings |
//! | `answer`, `outgoing` | the envelope of answers, and the errors; a body on its way out |
//! | `auth` | login, and a token about itself |
//! | `crypt`, `batch` | encrypt, decrypt, rewrap, datakey: one message, or many |
//! | `keys` | show, list, and manage keys |
//! | `sys` | what a server tells of itself |
//! | `openapi` | what is served, for programs |

mod answer;
mod auth;
mod batch;
mod body;
mod connection;
mod crypt;
mod dispatch;
mod input;
mod keys;
mod lenient;
mod listener;
mod openapi;
mod outgoing;
mod route;
mod sys;
mod token;
mod tokens;

pub use listener::{run, serve};

use std::sync::Arc;
use std::time::Duration;

use sealwire_engine::host::certificate::Certificate;
use tokio::sync::Semaphore;

use crate::Gateway;
use crate::listener::Service;
use tokens::Tokens;

/// The protocols that are offered (ALPN, RFC 7301).
pub const PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Lists of keys that are made at once.
const LISTS: usize = 4;

/// What a request may cost.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Longest body, in bytes.
    pub max_body: usize,
    /// Most items of a batch.
    pub max_items: usize,
    /// Time for a body to arrive.
    pub body_timeout: Duration,
    /// Time for a request in all, once its body is there.
    pub request_timeout: Duration,
    /// Time for which a token is good, unless it is renewed.
    pub token_ttl: Duration,
    /// Time after the login from which a token cannot be renewed.
    pub token_max_ttl: Duration,
    /// Tokens that an app may have at once.
    pub max_tokens_per_app: u32,
    /// Memory for long bodies that are being read or worked on, in bytes.
    pub max_buffered: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_body: 32 * 1024 * 1024,
            max_items: 20_000,
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            token_ttl: Duration::from_secs(3600),
            token_max_ttl: Duration::from_secs(24 * 3600),
            max_tokens_per_app: 10_000,
            max_buffered: 512 * 1024 * 1024,
        }
    }
}

/// What the HTTP listener of a gateway serves.
#[derive(Clone)]
pub struct HttpService {
    shared: Arc<Shared>,
}

/// What its connections share.
struct Shared {
    gateway: Arc<Gateway>,
    /// Places are the same as over TCP.
    service: Service,
    tls: Option<Arc<Certificate>>,
    limits: HttpLimits,
    tokens: Arc<Tokens>,
    /// The memory that there is for long requests.
    room: Arc<Semaphore>,
    /// Lists of keys that are made at once.
    lists: Semaphore,
}

impl HttpService {
    /// Beside the listener of `service`, whose places it shares; with TLS when there is a certificate.
    #[must_use]
    pub fn new(service: Service, tls: Option<Arc<Certificate>>, limits: HttpLimits) -> Self {
        let gateway = service.gateway().clone();
        let tokens = Arc::new(Tokens::new(gateway.clone(), limits.clone()));
        let (room, lists) = (body::room(&limits), Semaphore::new(LISTS));
        Self { shared: Arc::new(Shared { gateway, service, tls, limits, tokens, room, lists }) }
    }
}
