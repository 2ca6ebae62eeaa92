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
//! | trouble | what happens |
//! |---|---|
//! | a connection breaks | it is made again, with back-off, at another server first; what it had not answered is sent again on another |
//! | a server says GOAWAY | it answers what it has, new requests go to others, a new connection takes its place |
//! | a server hangs | what it has not answered goes to another server after a second; when there is none, it waits |
//! | a server refuses for now (`SEALED`, `UNAVAILABLE`, …) | each other server is asked once, then the refusal is told |
//! | no server is there | requests wait until one is |
//! | AUTH is refused | requests that wait are told |
//!
//! All of it ends at the request's [deadline](Builder::deadline), and none of it is an error unless
//! it comes to that. Every request may be sent again: all are idempotent (spec.md, section 6). A
//! request that has seen five connections break is given up with an error that
//! [is retryable](Error::is_retryable).
#![forbid(unsafe_code)]

mod aad;
mod address;
mod client;
mod connect;
mod credentials;
mod driver;
mod endpoint;
mod error;
mod output;
mod pool;
mod random;
pub mod raw;
mod roster;

pub use aad::MessageAad;
pub use address::Address;
pub use client::{Builder, Client, Key};
pub use credentials::Credentials;
pub use error::Error;
pub use sealwire_protocol::message::{DecRequest, EncRequest, ReencRequest};
pub use sealwire_protocol::{Binding, ErrorCode, Suite, is_envelope};
