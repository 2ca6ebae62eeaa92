//! The crypto service: it keeps connections, authenticates apps, checks grants, and has the engine
//! seal and open. It stores no message and knows neither the root key nor an unwrapped key.
//!
//! The tree is a request's path:
//!
//! | module | what it does |
//! |---|---|
//! | [`listener`] | accepts, caps connections, tells TLS from plain TCP |
//! | [`proxy`] | where a connection comes from, in the word of a load balancer |
//! | [`handshake`](connection) | AUTH: nobody goes on without it |
//! | `admission` | how an app is let in, whatever it shows: a proof, an HTTP secret, a token |
//! | [`http`] | the HTTP face: requests become the same frames |
//! | `guesses` | who has sent many wrong AUTHs takes turns |
//! | [`connection`] | the loop of a connection: a read, every reply that is ready, a write |
//! | `link` | its stream, and the buffers that frames are parsed and answered in |
//! | `session` | which operation a frame asks for, and its reply |
//! | `ops` | ENC, DEC, REENC, DATAKEY: parse in place, find the key, hand it to the engine |
//! | `later` | what cannot be answered at once: key loads, large messages, GENKEY |
//! | `figures` | what is counted on the way |
//! | [`managers`](Managers) | managers of other processes, which make keys |
//! | [`directory`](Directory) | verified documents and wrapped keys, as fresh as the keystore |
#![forbid(unsafe_code)]

mod admission;
pub mod connection;
mod directory;
mod figures;
mod gateway;
mod guesses;
mod handshake;
pub mod http;
mod keyring;
mod later;
mod link;
pub mod listener;
mod managers;
mod ops;
pub mod proxy;
mod refusal;
mod session;
pub mod tls;

pub use directory::{Condition, Directory, DirectoryConfig, Health};
pub use gateway::{Gateway, KeyMaker, KeyMakerError, KeyOrder, Limits, MadeKey};
pub use managers::Managers;
pub use refusal::Refusal;
