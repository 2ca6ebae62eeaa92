//! New cards: made by the engine, written, read back, shown to every engine, and only then in force.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sealwire_engine::RootKeyId;
use sealwire_engine::custody::{Card, Confirmed, Passphrase, Place, ShownCard, Token};
use zeroize::Zeroizing;

use super::cards::{ask, card_file, describe, join_object, read_bytes, read_pin, token_pin};
use super::transcript::Transcript;
use super::{Part, print};
use crate::cli::root::Tokens;

/// Where a new card goes.
pub(super) struct NewPlace {
    place: Place,
    keeper: Keeper,
    /// A PIN of one's own, for a card in a file.
    own_pin: Option<Zeroizing<String>>,
}

enum Keeper {
    File(PathBuf),
    Token(Box<Token>),
}

/// New cards that are in force.
pub(super) struct Made {
    pub(super) root: RootKeyId,
    pub(super) threshold: u8,
    pub(super) passphrases: Vec<Zeroizing<String>>,
}

impl NewPlace {
    /// A card in a file, under a generated passphrase.
    pub(super) fn file(path: PathBuf) -> Result<Self> {
        let file = card_file(&path);
        ensure!(
            !file.exists(),
            "card {}: there is a file already; it is not overwritten: name another place, or remove it if it \
             is left from a ceremony that did not end",
            file.display()
        );
        Ok(Self { place: Place::File(path), keeper: Keeper::File(file), own_pin: None })
    }

    /// Writes a card, and gives what is read back from where it was written.
    fn write(&self, card: &ShownCard) -> Result<Vec<u8>> {
        let bytes = card.bytes()?;
        let read = match &self.keeper {
            Keeper::File(file) => write_file(file, &bytes)?,
            Keeper::Token(token) => {
                let object = join_object(&bytes, &card.passphrase);
                token.write_card(&object)?;
                let read = token.read_card()?;
                read.get(..bytes.len()).unwrap_or_default().to_vec()
            }
        };
        ensure!(read == bytes, "it reads back differently from what was written");
        Ok(read)
    }

    /// Takes back what [`NewPlace::write`] has written.
    fn remove(&self) -> Result<()> {
        match &self.keeper {
            Keeper::File(file) => Ok(std::fs::remove_file(file)?),
            Keeper::Token(token) => Ok(token.remove_card()?),
        }
    }
}

/// Looks at every place before anything is made: whether it is free, and its PIN right.
pub(super) fn places(
    places: &[Place],
    pin_files: &[PathBuf],
    weak_pin: bool,
    tokens: &Tokens,
) -> Result<Vec<NewPlace>> {
    ensure!(places.len() <= 16, "a set has at most 16 cards");
    let needs_pin = |place: &&Place| weak_pin || matches!(place, Place::Token(_));
    let count = places.iter().filter(needs_pin).count();
    ensure!(
        pin_files.is_empty() || pin_files.len() == count,
        "{count} of the new cards need a PIN: name a PIN file for each of those, in their order, or none"
    );
    let mut pin_files = pin_files.iter();
    let mut new: Vec<NewPlace> = Vec::with_capacity(places.len());
    for (position, place) in places.iter().enumerate() {
        ensure!(!places[..position].contains(place), "card {place}: named twice");
        let made = match place {
            Place::File(path) => {
                let mut made = NewPlace::file(path.clone())?;
                let folder = match &made.keeper {
                    Keeper::File(file) => file.parent().map(Path::to_owned),
                    Keeper::Token(_) => None,
                };
                if let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) {
                    ensure!(folder.is_dir(), "card {place}: no such folder; is the stick mounted?");
                }
                if weak_pin {
                    made.own_pin = Some(own_pin(place, pin_files.next())?);
                }
                made
            }
            Place::Token(uri) => {
                let pin = token_pin(uri, pin_files.next())?;
                let token = Token::new(uri.clone(), tokens.module.clone(), pin)?;
                ensure!(
                    !token.has_card()?,
                    "card {place}: the token holds a card under this name already; name another with object=…"
                );
                NewPlace {
                    place: place.clone(),
                    keeper: Keeper::Token(Box::new(token)),
                    own_pin: None,
                }
            }
        };
        let same = |other: &NewPlace| match (&other.keeper, &made.keeper) {
            (Keeper::File(one), Keeper::File(other)) => one == other,
            _ => false,
        };
        ensure!(!new.iter().any(same), "card {place}: named twice");
        new.push(made);
    }
    Ok(new)
}

/// A PIN of one's own, with a word on what it is worth.
fn own_pin(place: &Place, pin_file: Option<&PathBuf>) -> Result<Zeroizing<String>> {
    let typed = match pin_file {
        Some(file) => read_pin(file)?,
        None => {
            let typed = ask(&format!("new PIN of the card in {place}: "))?;
            ensure!(*typed == *ask("once more: ")?, "the two PINs differ: begin again");
            typed
        }
    };
    let pin = Passphrase::parse(&typed).with_context(|| format!("card {place}"))?;
    if !pin.is_generated() {
        eprintln!(
            "sealwire: card {place}: WEAK: whoever gets hold of the card finds this PIN within {}, on one \
             machine with eight GPUs; sooner if it is a word, a name or a date",
            duration(pin.hours_at_most())
        );
    }
    Ok(typed)
}

fn duration(hours: f64) -> String {
    match hours {
        hours if hours < 0.1 => "minutes".to_owned(),
        hours if hours < 1000.0 => format!("{hours:.1} hours"),
        hours if hours < 1e9 => format!("{hours:.0} hours (at the very most)"),
        _ => "more than a hundred thousand years (at the very most)".to_owned(),
    }
}

/// Makes cards, and brings them into force at every engine.
pub(super) async fn make(
    mut parts: Vec<Part>,
    places: &[NewPlace],
    threshold: Option<u8>,
    transcript: &mut Transcript,
) -> Result<Made> {
    let count = u8::try_from(places.len()).context("a set has at most 16 cards")?;
    let threshold = threshold.unwrap_or(count);
    let first = parts.first_mut().context("no engine is named")?;
    let pins = places.iter().map(|place| place.own_pin.clone()).collect();
    let made = first.session.make(threshold, pins).await?;
    ensure!(made.len() == places.len(), "the engine made {} cards", made.len());
    let mut written = 0;
    let done = async {
        let mut read = Vec::with_capacity(made.len());
        for (card, place) in made.iter().zip(places) {
            written += 1;
            let bytes = place.write(card).with_context(|| format!("card {}", place.place))?;
            let parsed = Card::parse(&bytes).with_context(|| format!("card {}", place.place))?;
            transcript
                .note(&format!("written and read back: {}", describe(&parsed, &place.place)))?;
            read.push(bytes);
        }
        show(&made, places, threshold)?;
        for part in &mut parts[1..] {
            part.session.follow().await.with_context(|| format!("engine {}", part.name))?;
        }
        let quorum: Vec<_> = read.iter().zip(&made).take(usize::from(threshold)).collect();
        confirm(&mut parts, &quorum).await
    }
    .await;
    let root = match done {
        Ok(root) => root,
        Err(error) => {
            // Nothing is in force: what was written opens nothing.
            for place in &places[..written] {
                let _ = place.remove();
            }
            return Err(
                error.context("the new cards are not in force, and were removed; begin again")
            );
        }
    };
    for part in parts {
        part.session.install().await.with_context(|| {
            format!(
                "engine {}: the new cards may not be in force there; `sealwire root status` tells. Keep the \
                 new cards and the old ones",
                part.name
            )
        })?;
        transcript.note(&format!("in force: {}", part.name))?;
    }
    transcript.note(&format!("root key {root}, {threshold} of {count} cards"))?;
    Ok(Made {
        root,
        threshold,
        passphrases: made.into_iter().map(|card| card.passphrase).collect(),
    })
}

/// Shows a quorum of what was read back to every engine.
async fn confirm(parts: &mut [Part], quorum: &[(&Vec<u8>, &ShownCard)]) -> Result<RootKeyId> {
    let mut ready = None;
    for part in parts {
        for (bytes, card) in quorum {
            let confirmed = part.session.confirm(bytes, &card.passphrase).await;
            let context = || format!("new card {}, engine {}", card.number, part.name);
            if let Confirmed::Ready(root) = confirmed.with_context(context)? {
                ready = Some(root);
            }
        }
    }
    ready.context("the engine has not found a quorum")
}

/// Shows where each card is, and its passphrase, this once.
fn show(made: &[ShownCard], places: &[NewPlace], threshold: u8) -> Result<()> {
    let mut shown = false;
    for (card, place) in made.iter().zip(places) {
        let Some(name) = file_name(place) else {
            print(&format!("  card {}   {}   under the token's PIN\n", card.number, place.place))?;
            continue;
        };
        print(&format!("  card {}   {name}   ", card.number))?;
        if place.own_pin.is_some() {
            print("under its own PIN\n")?;
            continue;
        }
        print("passphrase ")?;
        print(&card.passphrase)?;
        print("\n")?;
        shown = true;
    }
    print(if shown {
        "\nWrite each passphrase down, apart from its card: they are not shown again. "
    } else {
        "\n"
    })?;
    print(&match made.len() - usize::from(threshold) {
        0 => "All cards are needed:\nif one is lost, and the machine, the root key is lost with everything \
              under it (--threshold keeps spares).\n"
            .to_owned(),
        spare => format!("{spare} of the cards may be lost.\n"),
    })
}

fn file_name(place: &NewPlace) -> Option<String> {
    match &place.keeper {
        Keeper::File(file) => Some(file.display().to_string()),
        Keeper::Token(_) => None,
    }
}

fn write_file(file: &Path, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    let written = out.write_all(bytes).and_then(|()| out.sync_all());
    drop(out);
    if let Err(error) = written {
        let _ = std::fs::remove_file(file);
        bail!("writing: {error}");
    }
    read_bytes(file)
}
