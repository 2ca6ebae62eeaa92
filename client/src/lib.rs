//! Client of Sealwire: encrypt, decrypt and re-encrypt messages over a few pipelined connections to
//! one server or several.
//!
//! ```no_run
//! use sealwire_client::{Client, Credentials, MessageAad};
//!
//! # async fn run() -> Result<(), sealwire_client::Error> {
//! let credentials = Credentials::new("ak_…", "sws1_…")?;
//! let servers = "sealwire://crypto-a.example:7700, sealwire://crypto-b.example:7700";
//! let client = Client::connect(servers, credentials).await?;
//! let key = client.key("chat").await?;
//! let aad = MessageAad::new("tenant-1", "conversation-7", "42").to_bytes()?;
//! let envelope = client.enc(key.index, &aad, "你好 👋".as_bytes()).await?;
//! assert_eq!(client.dec(&aad, &envelope).await?, "你好 👋".as_bytes());
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] is cheap to clone; make one and share it. It keeps [a few
//! connections](Builder::connections), spread evenly over the servers: over all addresses that are
//! named, and over all records of each name. A name is looked up whenever a connection is made.
//!
//! # What happens in trouble
//!
//! | trouble | what happens |
//! |---|---|
//! | a connection breaks | it is made again, with delays of up to a second, at another server first; what it had not answered is sent again on another |
//! | a server says GOAWAY | it answers what it has, new requests go to others, a new connection takes its place |
//! | a server hangs | what it has not answered goes to another connection after a second, or after five when it had as much to do as it may have; a new connection takes its place. When none can be made, it waits |
//! | a way is cut without a word | [PING](Builder::idle_ping) finds out, also when there is nothing to ask |
//! | a server is sealed, or cut off from what it needs | it is left alone while others work, and its connections move to others |
//! | a request is refused for now (`SEALED`, `UNAVAILABLE`, `KEY_EXHAUSTED`, …) | other servers are asked, then all again after 50 milliseconds, and at growing intervals, up to half a second. The refusal is told at the deadline; at once when all servers are sealed, which takes people |
//! | no server is there | requests wait until one is |
//! | AUTH is refused, by two servers or by the only one | requests that wait are told |
//! | the name service is away | the machines that are known from before are used |
//!
//! All of it ends at the request's [deadline](Builder::deadline), and none of it is an error unless
//! it comes to that. Every request may be sent again: all are idempotent (spec.md, section 6). A
//! request that has seen five connections break is given up with an error that
//! [is retryable](Error::is_retryable). Who would rather decide about refusals itself uses
//! [`Client::with_refusals_at_once`].
//!
//! # What to do about an error
//!
//! | [`Error`] | what to do |
//! |---|---|
//! | [`is_timeout`](Error::is_timeout) | try again later; its [source](std::error::Error::source), if any, says why no server could be reached |
//! | [`is_retryable`](Error::is_retryable) | try again later: the client has done so until the deadline. With the [code](Error::code) `SEALED`, call whoever holds the key cards |
//! | [`is_auth`](Error::is_auth) | the AppKey or the AppSecret is wrong, the app is disabled, or this address is not on its list: the server's log says which |
//! | [`is_denied`](Error::is_denied) | do not repeat it: the app lacks a grant, or the key does not allow it |
//! | [`is_open_failed`](Error::is_open_failed) | the envelope was changed, or belongs to another context or AAD: do not repeat it, and look into it |
//! | anything else | the call or the configuration is wrong, or a server is: the text says what |
//!
//! # Good to know
//!
//! - Cancelling is safe: drop the future of a request, and its answer is dropped when it comes. Whether
//!   the server has done it, nobody knows then; it may be asked again.
//! - A client lives in the runtime that it was connected in, and all its tasks with it. Where tests or
//!   threads have runtimes of their own, each needs a client of its own.
//! - Credentials and authorities are read once. When the AppSecret or the CA has changed, connect a new
//!   client and drop the old one: what it has in flight is still answered.
#![forbid(unsafe_code)]

mod aad;
mod address;
mod builder;
mod client;
mod command;
mod connect;
mod credentials;
mod driver;
mod endpoint;
mod error;
mod flight;
mod gauge;
mod keeper;
mod names;
mod output;
mod pool;
mod queues;
mod random;
pub mod raw;
mod roster;
pub mod transit;
mod vigil;

pub use aad::MessageAad;
pub use address::Address;
pub use builder::Builder;
pub use client::{Client, DataKey, Key};
pub use credentials::Credentials;
pub use error::Error;
pub use sealwire_protocol::message::{
    DatakeyRequest, DecRequest, EncRequest, GenkeyResponse, ReencRequest, SessionLimits,
};
pub use sealwire_protocol::{Binding, ErrorCode, Suite, is_envelope};
