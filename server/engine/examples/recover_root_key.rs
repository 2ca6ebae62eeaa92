//! Gets a root key back from its key cards with nothing of Sealwire: only the algorithms that
//! `docs/card.md` names. It prints the root key: run it where that is all right.
//!
//! ```text
//! cargo run -p sealwire-engine --example recover_root_key -- CARD PIN-FILE CARD PIN-FILE ...
//! ```
//! A pin file holds the card's passphrase. A token's card lies in a data object: its first 161 bytes are
//! the card, the rest is the passphrase.

use aes_gcm_siv::{AeadInOut, Aes256GcmSiv, KeyInit};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};

/// A card's number, and its share.
pub(crate) type Share = (u8, [u8; 32]);

/// What a person types, as it is meant (docs/card.md, "The passphrase").
pub(crate) fn password(typed: &str) -> String {
    let letters: String = typed
        .trim()
        .chars()
        .filter(|letter| !matches!(letter, '-' | ' '))
        .map(|letter| match letter.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect();
    let alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let generated = letters.len() == 25 && letters.chars().all(|letter| alphabet.contains(letter));
    if generated { letters } else { typed.trim().to_owned() }
}

/// Opens a card.
pub(crate) fn open_card(card: &[u8], typed: &str) -> Result<Share, String> {
    if card.len() != 161 || !card.starts_with(b"SEALCARD\x01") {
        return Err("not a key card of format 1".into());
    }
    if Sha256::digest(&card[..129]).as_slice() != &card[129..] {
        return Err("a damaged card".into());
    }
    let word = |at: usize| u32::from_be_bytes(card[at..at + 4].try_into().expect("four bytes"));
    let params = argon2::Params::new(word(44), word(48), u32::from(card[52]), Some(32))
        .map_err(|error| error.to_string())?;
    let mut key = [0; 32];
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(password(typed).as_bytes(), &card[53..69], &mut key)
        .map_err(|error| error.to_string())?;
    let mut share: [u8; 32] = card[81..113].try_into().expect("32 bytes");
    let nonce = aes_gcm_siv::Nonce::try_from(&card[69..81]).expect("12 bytes");
    let tag = aes_gcm_siv::Tag::try_from(&card[113..129]).expect("16 bytes");
    Aes256GcmSiv::new_from_slice(&key)
        .expect("a key of 32 bytes")
        .decrypt_inout_detached(&nonce, &card[..81], share.as_mut_slice().into(), &tag)
        .map_err(|_| format!("card {}: wrong passphrase, or a changed card", card[11]))?;
    Ok((card[11], share))
}

/// Multiplies in GF(256) with the polynomial 0x11D.
fn times(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b > 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x1D };
        b >>= 1;
    }
    product
}

/// The inverse: a^254.
fn inverse(a: u8) -> u8 {
    (0..254).fold(1, |power, _| times(power, a))
}

/// Lagrange's interpolation at 0.
pub(crate) fn combine(shares: &[Share]) -> [u8; 32] {
    let mut root = [0; 32];
    for (x, y) in shares {
        let others = shares.iter().filter(|(other, _)| other != x);
        let factor =
            others.fold(1, |factor, (other, _)| times(factor, times(*other, inverse(other ^ x))));
        for (byte, value) in root.iter_mut().zip(y) {
            *byte ^= times(factor, *value);
        }
    }
    root
}

/// HKDF-SHA256 without salt; `info` is each field behind its length in two bytes.
pub(crate) fn derive<const N: usize>(key: &[u8], fields: &[&[u8]]) -> [u8; N] {
    let mut info = Vec::new();
    for field in fields {
        info.extend(u16::try_from(field.len()).expect("short").to_be_bytes());
        info.extend_from_slice(field);
    }
    let mut out = [0; N];
    Hkdf::<Sha256>::new(None, key).expand(&info, &mut out).expect("a short output");
    out
}

/// HKDF-SHA256's extract without salt (RFC 5869, section 2.2).
#[allow(dead_code, reason = "tests look for it in memory")]
pub(crate) fn extract(key: &[u8]) -> [u8; 32] {
    Hkdf::<Sha256>::extract(None, key).0.into()
}

/// The root key of some cards and what was typed for each.
pub(crate) fn recover(cards: &[(Vec<u8>, String)]) -> Result<[u8; 32], String> {
    let shares = cards.iter().map(|(card, typed)| open_card(card, typed));
    let shares = shares.collect::<Result<Vec<_>, _>>()?;
    let (first, _) = cards.first().ok_or("no cards")?;
    let same = |card: &[u8]| card[9..11] == first[9..11] && card[12..44] == first[12..44];
    if !cards.iter().all(|(card, _)| same(card)) {
        return Err("cards of different sets".into());
    }
    let repeated = |at: usize| shares[..at].iter().any(|(number, _)| *number == shares[at].0);
    if shares.len() < usize::from(first[9]) || (0..shares.len()).any(repeated) {
        return Err(format!("{} different cards are needed", first[9]));
    }
    let root = combine(&shares);
    let id: [u8; 16] = derive(&root, &[b"sealwire root key id v1"]);
    if id == first[28..44] {
        Ok(root)
    } else {
        Err("the shares do not give the root key that the cards name".into())
    }
}

#[allow(dead_code, reason = "tests use the functions above")]
fn main() -> Result<(), String> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let read = |path: &String| std::fs::read(path).map_err(|error| format!("{path}: {error}"));
    let mut cards = Vec::new();
    for pair in paths.chunks(2) {
        let [card, pin] = pair else { return Err("name a pin file for each card".into()) };
        let pin = String::from_utf8(read(pin)?).map_err(|error| error.to_string())?;
        cards.push((read(card)?, pin));
    }
    let root = recover(&cards)?;
    println!("root key id {}", hex::encode(derive::<16>(&root, &[b"sealwire root key id v1"])));
    println!("root key    {}", hex::encode(root));
    Ok(())
}
