//! Cards that exist: reading them from files and tokens, and what opens them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sealwire_engine::custody::{CARD_LEN, Card, Place, Token, TokenError, TokenUri};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::current::Refused;
use crate::cli::root::Tokens;

/// The name of a card in a folder.
const CARD_FILE: &str = "sealwire.card";

/// A card that was read, and what opens it.
pub(super) struct ReadCard {
    pub(super) place: Place,
    pub(super) card: Card,
    pub(super) passphrase: Zeroizing<String>,
}

impl ReadCard {
    /// The card in a line: which one, where, and which bytes.
    pub(super) fn describe(&self) -> String {
        describe(&self.card, &self.place)
    }
}

pub(super) fn describe(card: &Card, place: &Place) -> String {
    let (number, of, sum) = (card.number(), card.set().cards, Sha256::digest(card.bytes()));
    format!("card {number} of {of} ({place}), SHA-256 {}", hex::encode(sum))
}

/// The cards of a command, read one after another: a custodian types a passphrase when it is their turn.
pub(super) struct Readers<'a> {
    places: &'a [Place],
    pins: &'a [PathBuf],
    tokens: &'a Tokens,
    next: usize,
    /// How often a passphrase was mistyped.
    mistyped: u32,
}

/// How often a passphrase may be mistyped in a ceremony.
const MISTYPED: u32 = 5;

impl<'a> Readers<'a> {
    pub(super) fn new(
        places: &'a [Place],
        pins: &'a [PathBuf],
        tokens: &'a Tokens,
    ) -> Result<Self> {
        ensure!(
            pins.is_empty() || pins.len() == places.len(),
            "name a --pin-file for each --card, in the same order, or none"
        );
        Ok(Self { places, pins, tokens, next: 0, mistyped: 0 })
    }

    /// Reads the next card; `None` after the last one.
    pub(super) fn next(&mut self) -> Result<Option<ReadCard>> {
        let Some(place) = self.places.get(self.next) else { return Ok(None) };
        let pin_file = self.pins.get(self.next);
        self.next += 1;
        let read = match place {
            Place::File(path) => read_file(place, &card_file(path), pin_file)
                .with_context(|| format!("card {place}")),
            Place::Token(uri) => self.read_token(place, uri, pin_file),
        };
        read.map(Some)
    }

    /// Whether the card that was read last is asked for once more: only when its passphrase was typed, and
    /// is what was wrong with it.
    pub(super) fn ask_again(&mut self, refused: &Refused) -> bool {
        let last = self.next - 1;
        let typed = self.pins.is_empty() && matches!(self.places[last], Place::File(_));
        let Some(problems) = refused.mistyped().filter(|_| typed && self.mistyped < MISTYPED)
        else {
            return false;
        };
        self.mistyped += 1;
        for problem in problems {
            eprintln!("sealwire: {problem}");
        }
        self.next = last;
        true
    }

    fn read_token(
        &self,
        place: &Place,
        uri: &TokenUri,
        pin_file: Option<&PathBuf>,
    ) -> Result<ReadCard> {
        let pin = token_pin(uri, pin_file)?;
        let token = Token::new(uri.clone(), self.tokens.module.clone(), pin)?;
        let object = token.read_card()?;
        let split = split_object(&object).with_context(|| format!("card {place}"));
        let (card, passphrase) = split?;
        Ok(ReadCard { place: place.clone(), card, passphrase })
    }
}

fn read_file(place: &Place, file: &Path, pin_file: Option<&PathBuf>) -> Result<ReadCard> {
    let card = Card::parse(&read_bytes(file)?)?;
    let passphrase = match pin_file {
        Some(file) => read_pin(file)?,
        None => {
            let (number, of) = (card.number(), card.set().cards);
            ask(&format!("passphrase of card {number} of {of} ({place}): "))?
        }
    };
    Ok(ReadCard { place: place.clone(), card, passphrase })
}

/// A token's PIN: from `--pin-file`, from the URI's `pin-source`, or asked for.
pub(super) fn token_pin(uri: &TokenUri, pin_file: Option<&PathBuf>) -> Result<Zeroizing<String>> {
    ensure!(!uri.holds_pin(), TokenError::PinInUri);
    match pin_file.or(uri.pin_source.as_ref()) {
        Some(file) => read_pin(file),
        None => ask(&format!("PIN of {uri}: ")),
    }
}

/// Asks on the terminal, without echo.
pub(in crate::commands) fn ask(prompt: &str) -> Result<Zeroizing<String>> {
    let typed = rpassword::prompt_password(prompt);
    Ok(Zeroizing::new(typed.context("no terminal to ask on: use --pin-file")?))
}

/// Reads a passphrase or PIN from a file, without the end of its line.
pub(in crate::commands) fn read_pin(file: &Path) -> Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = text.with_context(|| format!("pin file {}", file.display()))?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// What a token's object holds: the card as in a file, then the passphrase that was generated for it.
pub(super) fn join_object(card: &[u8], passphrase: &str) -> Zeroizing<Vec<u8>> {
    let letters = passphrase.bytes().filter(|byte| *byte != b'-');
    Zeroizing::new(card.iter().copied().chain(letters).collect())
}

fn split_object(object: &[u8]) -> Result<(Card, Zeroizing<String>)> {
    let (card, passphrase) = object
        .split_at_checked(CARD_LEN)
        .context("the token's object is too short for a key card: is it another program's?")?;
    let text = std::str::from_utf8(passphrase).context("the token's object is damaged")?;
    Ok((Card::parse(card)?, Zeroizing::new(text.to_owned())))
}

pub(super) fn card_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(CARD_FILE) } else { path.to_owned() }
}

/// Reads a card's file: never more than one has.
pub(super) fn read_bytes(file: &Path) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(file).context("is the stick mounted?")?;
    let size = metadata.len();
    if size != CARD_LEN as u64 {
        bail!("this is not a key card: it has {size} bytes, a card has {CARD_LEN}");
    }
    Ok(std::fs::read(file)?)
}
