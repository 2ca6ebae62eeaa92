//! Client of Sealwire: encrypt, decrypt and re-encrypt messages over one pipelined connection.
//!
//! ```no_run
//! use sealwire_client::{Client, Credentials, MessageAad};
//!
//! # async fn run() -> Result<(), sealwire_client::Error> {
//! let credentials = Credentials::new("ak_…", "sws1_…")?;
//! let client = Client::connect("sealwire://crypto.example:7700", credentials).await?;
//! let key = client.key("chat").await?;
//! let aad = MessageAad::new("tenant-1", "conversation-7", "42").to_bytes()?;
//! let envelope = client.enc(key.index, &aad, "你好 👋".as_bytes()).await?;
//! assert_eq!(client.dec(&aad, &envelope).await?, "你好 👋".as_bytes());
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] is cheap to clone. One task owns the connection, matches replies by their id, and
//! connects again, with back-off, when it breaks. Requests that were not sent yet wait for that;
//! those that were sent fail with an error that [is retryable](Error::is_retryable).
#![forbid(unsafe_code)]

mod aad;
mod address;
mod client;
mod connect;
mod credentials;
mod driver;
mod error;
pub mod raw;

pub use aad::MessageAad;
pub use address::Address;
pub use client::{Builder, Client, Key};
pub use credentials::Credentials;
pub use error::Error;
pub use sealwire_protocol::message::{DecRequest, EncRequest, ReencRequest};
pub use sealwire_protocol::{Binding, ErrorCode, Suite, is_envelope};
