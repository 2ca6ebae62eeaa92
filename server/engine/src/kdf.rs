//! Key derivation: HKDF-SHA256 (RFC 5869) with a label and length-prefixed fields as `info`.

use hkdf::Hkdf;
use sha2::Sha256;

use crate::Secret;

/// Derives `out` from `key`, without salt. `info` is the label and each field, every one behind its
/// 16-bit length, so that no two uses share an `info`.
pub(crate) fn expand(key: &[u8], label: &str, fields: &[&[u8]], out: &mut [u8]) {
    let mut info = Vec::with_capacity(128);
    push(&mut info, label.as_bytes());
    for field in fields {
        push(&mut info, field);
    }
    Hkdf::<Sha256>::new(None, key)
        .expand(&info, out)
        .expect("outputs are far below HKDF's limit of 8160 bytes");
}

/// Derives a secret of `N` bytes: see [`expand`].
pub(crate) fn derive<const N: usize>(key: &[u8], label: &str, fields: &[&[u8]]) -> Secret<N> {
    let mut secret = Secret::zeroed();
    expand(key, label, fields, secret.expose_mut());
    secret
}

/// Appends a field behind its 16-bit length.
pub(crate) fn push(out: &mut Vec<u8>, field: &[u8]) {
    let length = u16::try_from(field.len()).expect("fields are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(field);
}
