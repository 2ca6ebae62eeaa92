//! The envelope: its parts are its bytes, text is none, and nothing opens that was not sealed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealwire_engine::aead::{AeadError, open};
use sealwire_protocol::{Binding, Envelope, is_envelope};

fuzz_target!(|input: &[u8]| {
    assert!(!is_envelope(input) || std::str::from_utf8(input).is_err());
    let Ok(envelope) = Envelope::parse(input) else { return };
    let header = envelope.header.to_bytes();
    let parts = [&header, envelope.nonce, envelope.ciphertext, envelope.tag].concat();
    assert_eq!(parts, input);
    let mut aad = Vec::new();
    Binding::aad(envelope.ciphertext.get(..64).unwrap_or_default())
        .bound_aad(envelope.header, &mut aad)
        .expect("within limits");
    let suite = envelope.header.suite;
    let sealed = [envelope.ciphertext, envelope.tag].concat();
    let key = [0x5A; 32];
    let opened = open(suite, &key[..suite.key_len()], envelope.nonce, &aad, &sealed);
    assert_eq!(opened, Err(AeadError::Auth));
});
