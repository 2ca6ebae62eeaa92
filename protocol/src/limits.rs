//! Every number that a peer may rely on (spec.md, "Limits").

/// The one protocol version that this crate speaks.
pub const VERSION: u8 = 1;

/// Bytes of a frame's header, the length field included.
pub const HEADER_LEN: usize = 16;

/// Largest frame, header included, that any peer may agree on: its first byte stays `0x00`, so a
/// frame never begins as a TLS record does (`0x16`).
pub const MAX_FRAME: usize = 0x00FF_FFFF;

/// Smallest frame limit that a server may offer.
pub const MIN_MAX_FRAME: usize = 32 * 1024;

/// Frame limit that a server offers unless configured otherwise: room for a message of 1 MiB.
pub const DEFAULT_MAX_FRAME: usize = 1024 * 1024 + 64 * 1024;

/// Largest frame, header included, before AUTH has succeeded.
pub const PRE_AUTH_MAX_FRAME: usize = 512;

/// What a frame must have room for besides a message: the header, the fields of the largest request
/// that carries its envelope (REENC with two full bindings), and what sealing adds.
pub const MESSAGE_ROOM: usize = HEADER_LEN + 6 + 4 * (2 + 4096) + crate::envelope::MAX_OVERHEAD;

/// Longest `context` of a message, in bytes.
pub const MAX_CONTEXT: usize = 4096;

/// Longest associated data (AAD) of a message, in bytes.
pub const MAX_AAD: usize = 4096;

/// Longest AppKey, in bytes of ASCII.
pub const MAX_APP_KEY: usize = 64;

/// Longest name of a key, in bytes of UTF-8.
pub const MAX_KEY_NAME: usize = 128;

/// Longest body of PING, in bytes.
pub const MAX_PING: usize = 64;

/// Longest detail text of an error, in bytes of UTF-8.
pub const MAX_DETAIL: usize = 512;

/// Bytes of a nonce of AUTH.
pub const AUTH_NONCE_LEN: usize = 32;

/// Bytes of a proof of AUTH (HMAC-SHA256).
pub const PROOF_LEN: usize = 32;
