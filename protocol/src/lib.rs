//! Sealwire's wire protocol, without a socket, a clock or a runtime.
//!
//! `spec.md` at the root of the repository is the authority; this crate is its code, in the same
//! order:
//!
//! | module | spec.md |
//! |---|---|
//! | [`frame`] | the 16-byte header, the frame, the answer to an unknown version |
//! | [`message`] | one file per message kind: fields, limits, parse, encode |
//! | [`auth`] | the AUTH transcript, and the proofs over it |
//! | [`envelope`] | the ciphertext envelope and the data bound to it |
//! | [`suite`] | the AEAD suites: numbers, names, lengths |
//! | [`error`] | the error registry: one table |
//! | [`limits`] | every number a peer may rely on |
//!
//! Parsers borrow from the caller's buffer and copy no payload; encoders append to the caller's
//! buffer. A length read from a peer is compared with its limit before anything is stored.
#![forbid(unsafe_code)]

pub mod auth;
#[cfg(feature = "codec")]
pub mod codec;
pub mod credential;
pub mod envelope;
pub mod error;
pub mod frame;
pub mod limits;
pub mod message;
mod reader;
pub mod suite;

pub use envelope::{Binding, Envelope, is_envelope};
pub use error::ErrorCode;
pub use frame::{Flags, Frame, Header, Opcode};
pub use reader::{BodyError, Reader};
pub use suite::Suite;
