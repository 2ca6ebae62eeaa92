//! The engine protocol: what a gateway and a manager say to an engine that is a process of its own
//! (spec.md, "Engine protocol"). The frames are those of [`sealwire_protocol::frame`]; the words are
//! its own.
//!
//! | module | what it does |
//! |---|---|
//! | [`Role`] | who a certificate belongs to, and which words it may say |
//! | [`word`] | the words' numbers |
//! | [`message`], `audit` | their bodies |
//! | [`manage`] | what gateways hand on to managers |
//! | `failure` | an [`EngineError`](crate::EngineError) on the wire |
//! | [`tls`] | the site's own authority, certificates on both sides, always |
//! | [`ReadBuffer`] | where frames are parsed in place |

pub(crate) mod audit;
mod buffer;
pub(crate) mod failure;
pub mod manage;
pub mod message;
mod role;
pub mod tls;

pub use buffer::ReadBuffer;
pub use role::Role;

use sealwire_protocol::{Flags, Header, Opcode, limits};

/// Largest frame of the engine protocol, in bytes, header included: the largest that there is.
pub const MAX_FRAME: usize = limits::MAX_FRAME;

/// What a request of the engine protocol adds to the client's, in bytes, at most: the session, two
/// wrapped keys with what they are bound to, and some room.
pub const FRAME_ROOM: usize = 1024;

/// Sessions that a connection may name. Beyond, those that were not used lately are forgotten, and
/// answered with `NO_SESSION` until they are said again.
pub const MAX_SESSIONS: usize = 16_384;

/// The header of what an engine says of its own accord.
#[must_use]
pub const fn unasked(opcode: Opcode) -> Header {
    Header { opcode, flags: Flags::RESPONSE, request_id: 0 }
}

/// The words.
pub mod word {
    use sealwire_protocol::Opcode;

    /// What the engine is like: the first word on a connection, and said by the engine whenever that
    /// changes.
    pub const STATUS: Opcode = Opcode(0x40);
    /// The site's own keys, wrapped, for the words behind it.
    pub const SITE: Opcode = Opcode(0x41);
    /// A capability, and the number that words will name it by.
    pub const SESSION: Opcode = Opcode(0x42);
    /// Whether a document verifies.
    pub const VERIFY: Opcode = Opcode(0x43);
    /// The server nonce of an AUTH.
    pub const CHALLENGE: Opcode = Opcode(0x44);
    /// A client's proof against an app's document.
    pub const AUTH_VERIFY: Opcode = Opcode(0x45);
    /// Seal a message.
    pub const ENC: Opcode = Opcode(0x46);
    /// Open an envelope.
    pub const DEC: Opcode = Opcode(0x47);
    /// Open an envelope and seal its message again.
    pub const REENC: Opcode = Opcode(0x48);
    /// Sign audit records.
    pub const AUDIT: Opcode = Opcode(0x49);
    /// Make a data key, and seal it.
    pub const DATAKEY: Opcode = Opcode(0x4A);
    /// An HTTP secret against an app's document, for a token.
    pub const LOGIN: Opcode = Opcode(0x4B);
    /// Whether a token is good.
    pub const TOKEN: Opcode = Opcode(0x4C);
    /// Sign a document.
    pub const SIGN: Opcode = Opcode(0x50);
    /// The keys of a new site.
    pub const MAKE_SITE: Opcode = Opcode(0x51);
    /// A business key, wrapped.
    pub const GENKEY: Opcode = Opcode(0x52);
    /// An AppSecret or HTTP secret, wrapped, and once in clear for its owner.
    pub const MAKE_SECRET: Opcode = Opcode(0x53);
    /// A wrapped key under the current root key.
    pub const REWRAP: Opcode = Opcode(0x54);
    /// The root key of before, wrapped under the current one.
    pub const PREVIOUS: Opcode = Opcode(0x55);
    /// Take the root key of before.
    pub const ADMIT: Opcode = Opcode(0x56);
    /// Forget the root key of before.
    pub const FORGET: Opcode = Opcode(0x57);
    /// What is stored of an operator's hashed password.
    pub const PEPPER: Opcode = Opcode(0x58);
    /// Whether a quorum of key cards has allowed something.
    pub const WARRANT: Opcode = Opcode(0x59);
    /// Whether audit records are what was signed.
    pub const AUDIT_CHECK: Opcode = Opcode(0x5A);
    /// What officers have done here.
    pub const CEREMONIES: Opcode = Opcode(0x5B);
}
