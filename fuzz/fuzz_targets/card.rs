//! The key card and where it is: no bytes panic, and what is accepted is what was given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealwire_engine::custody::{Card, Passphrase, Place};

fuzz_target!(|input: &[u8]| {
    if let Ok(card) = Card::parse(input) {
        assert_eq!(card.bytes().as_slice(), input);
        assert!((1..=card.set().cards).contains(&card.number()));
        assert!((2..=card.set().cards).contains(&card.set().threshold));
        assert!(card.set().cards <= 16);
    }
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(place) = text.parse::<Place>()
        && let Place::Token(uri) = &place
    {
        assert!(uri.holds_pin() || place.to_string() == text);
    }
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(passphrase) = Passphrase::parse(text)
    {
        let again = Passphrase::parse(&passphrase.to_text()).expect("its own form");
        assert_eq!(*again.to_text(), *passphrase.to_text());
    }
});
