//! The text forms of the HTTP face (docs/http.md): for who seals over TCP what others open over HTTP, or the other way
//! round.
//!
//! ```
//! use sealwire_client::transit;
//!
//! # fn run(envelope: &[u8]) -> Option<()> {
//! let ciphertext = transit::ciphertext(envelope)?; // vault:v1:9QIAAA…
//! assert_eq!(transit::envelope(&ciphertext)?, envelope);
//! // The `context` and `associated_data` of an HTTP request, for a Binding with these bytes:
//! assert_eq!(transit::bytes(b"tenant-1"), "dGVuYW50LTE=");
//! # Some(())
//! # }
//! ```

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealwire_protocol::Envelope;

const PREFIX: &str = "vault:v";

/// The ciphertext of an envelope: `vault:vN:` with the key's version, and the envelope, base64 (RFC 4648, section 4).
/// `None` when the bytes are not an envelope.
#[must_use]
pub fn ciphertext(envelope: &[u8]) -> Option<String> {
    let version = Envelope::parse(envelope).ok()?.header.key_version;
    Some(format!("{PREFIX}{version}:{}", STANDARD.encode(envelope)))
}

/// The envelope of a ciphertext, in which line ends are passed over; `None` when it is not one.
#[must_use]
pub fn envelope(ciphertext: &str) -> Option<Vec<u8>> {
    let (version, base64) = ciphertext.strip_prefix(PREFIX)?.split_once(':')?;
    let base64: Vec<u8> = base64.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    let envelope = STANDARD.decode(base64).ok()?;
    let header = Envelope::parse(&envelope).ok()?.header;
    (version.parse() == Ok(header.key_version)).then_some(envelope)
}

/// Bytes as the `context`, the `associated_data` and the `plaintext` of a request have them: base64.
#[must_use]
pub fn bytes(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
