//! New cards: made by the engine, written, read back, shown to every engine, and only then in force.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use sealwire_engine::custody::{
    CARD_LEN, Card, CeremonyError, Confirmed, Place, ShownCard, Token, TokenUri,
};
use sealwire_engine::{RootKeyId, chain};
use zeroize::Zeroizing;

use super::cards::{card_file, describe, join_object, read_bytes, token_pin};
use super::own_pin::own_pin;
use super::transcript::Transcript;
use super::{Part, print};
use crate::cli::root::{NewCards, Tokens};

/// Where the cards of a new set go, and how many of them give the root key.
pub(super) struct NewPlaces {
    places: Vec<NewPlace>,
    threshold: u8,
}

/// Where a new card goes.
struct NewPlace {
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
    /// The engines in which they are.
    engines: Vec<String>,
    pub(super) passphrases: Vec<Zeroizing<String>>,
}

impl Made {
    pub(super) fn note(&self, new: &NewPlaces, transcript: &mut Transcript) -> Result<()> {
        for name in &self.engines {
            transcript.note(&format!("in force: {name}"))?;
        }
        transcript.note(&format!("root key {}, {} cards", self.root, new.words()))
    }
}

impl NewPlaces {
    /// Looks at everything before a custodian shows a card: whether each place is free, its PIN right, and
    /// the threshold possible.
    pub(super) fn check(
        places: &[Place],
        pin_files: &[PathBuf],
        cards: &NewCards,
        tokens: &Tokens,
    ) -> Result<Self> {
        let needs_pin = |place: &&Place| cards.weak_pin || matches!(place, Place::Token(_));
        let count = places.iter().filter(needs_pin).count();
        ensure!(
            pin_files.is_empty() || pin_files.len() == count,
            "{count} of the new cards need a PIN: name a PIN file for each of those, in their order, or none"
        );
        let mut pin_files = pin_files.iter();
        let mut new: Vec<NewPlace> = Vec::with_capacity(places.len());
        for place in places {
            let pin_file = if needs_pin(&place) { pin_files.next() } else { None };
            let made = match place {
                Place::File(path) => NewPlace::file(place, path, cards.weak_pin, pin_file)?,
                Place::Token(uri) => NewPlace::token(place, uri, pin_file, tokens)?,
            };
            ensure!(!new.iter().any(|other| other.is_same(&made)), "card {place}: named twice");
            new.push(made);
        }
        Self::new(new, cards.threshold)
    }

    /// Cards in files, under generated passphrases, all of which are needed.
    pub(super) fn in_files(folders: &[PathBuf]) -> Result<Self> {
        let place =
            |folder: &PathBuf| NewPlace::file(&Place::File(folder.clone()), folder, false, None);
        Self::new(folders.iter().map(place).collect::<Result<_>>()?, None)
    }

    fn new(places: Vec<NewPlace>, threshold: Option<u8>) -> Result<Self> {
        let count = places.len();
        ensure!((2..=16).contains(&count), "a set has 2 to 16 cards; {count} are named");
        let all = u8::try_from(count)?;
        let threshold = threshold.unwrap_or(all);
        ensure!(
            (2..=all).contains(&threshold),
            "--threshold is from 2 to the number of cards, {count}"
        );
        Ok(Self { places, threshold })
    }

    /// How many of how many, in words.
    pub(super) fn words(&self) -> String {
        format!("{} of {}", self.threshold, self.places.len())
    }
}

impl NewPlace {
    /// A card in a file.
    fn file(
        place: &Place,
        path: &Path,
        weak_pin: bool,
        pin_file: Option<&PathBuf>,
    ) -> Result<Self> {
        let file = card_file(path);
        ensure!(
            !file.exists(),
            "card {}: there is a file already; it is not overwritten: name another place, or remove it if it \
             is left from a ceremony that did not end",
            file.display()
        );
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        ensure!(
            folder.is_none_or(Path::is_dir),
            "card {place}: no such folder; is the stick mounted?"
        );
        let own_pin = if weak_pin { Some(own_pin(place, pin_file)?) } else { None };
        Ok(Self { place: place.clone(), keeper: Keeper::File(file), own_pin })
    }

    /// A card on a token.
    fn token(
        place: &Place,
        uri: &TokenUri,
        pin_file: Option<&PathBuf>,
        tokens: &Tokens,
    ) -> Result<Self> {
        let pin = token_pin(uri, pin_file)?;
        let token = Token::new(uri.clone(), tokens.module.clone(), pin)?;
        ensure!(
            !token.has_card()?,
            "card {place}: the token holds a card under this name already; name another with object=…"
        );
        Ok(Self { place: place.clone(), keeper: Keeper::Token(Box::new(token)), own_pin: None })
    }

    fn is_same(&self, other: &Self) -> bool {
        match (&self.keeper, &other.keeper) {
            (Keeper::File(one), Keeper::File(other)) => one == other,
            _ => self.place == other.place,
        }
    }

    /// Writes a card, and gives what is read back from where it was written.
    fn write(&self, card: &ShownCard) -> Result<Card> {
        let bytes = card.bytes()?;
        let read = match &self.keeper {
            Keeper::File(file) => write_file(file, &bytes)?,
            Keeper::Token(token) => {
                token.write_card(&join_object(&bytes, &card.passphrase))?;
                self.read()?
            }
        };
        ensure!(
            read == bytes,
            "it reads back differently from what was written; what is left there is worth nothing: remove it"
        );
        Ok(Card::parse(&read)?)
    }

    /// The bytes of the card that is there now.
    fn read(&self) -> Result<Vec<u8>> {
        match &self.keeper {
            Keeper::File(file) => read_bytes(file),
            Keeper::Token(token) => {
                Ok(token.read_card()?.get(..CARD_LEN).unwrap_or_default().to_vec())
            }
        }
    }

    /// Takes back what [`NewPlace::write`] has written, and nothing else.
    fn remove(&self, card: &Card) -> Result<()> {
        ensure!(self.read()? == card.bytes(), "another card is there now");
        match &self.keeper {
            Keeper::File(file) => Ok(std::fs::remove_file(file)?),
            Keeper::Token(token) => Ok(token.remove_card()?),
        }
    }
}

/// Makes cards, and brings them into force at every engine.
pub(super) async fn make(
    mut parts: Vec<Part>,
    new: &NewPlaces,
    hint: &str,
    transcript: &mut Transcript,
) -> Result<Made> {
    let first = parts.first_mut().context("no engine is named")?;
    let pins = new.places.iter().map(|place| place.own_pin.clone()).collect();
    let made = first.session.make(new.threshold, pins).await?;
    ensure!(made.len() == new.places.len(), "the engine made {} cards", made.len());
    let mut written = Vec::with_capacity(made.len());
    let ready = prepare(&mut parts, new, &made, &mut written, transcript).await;
    let root = ready.map_err(|error| error.context(take_back(new, &written)))?;
    let installed = install(parts).await;
    if installed.changed_nothing() {
        return Err(anyhow!("{}", installed.problems.join("\n")).context(take_back(new, &written)));
    }
    let engines = installed.all_or(hint)?;
    let passphrases = made.into_iter().map(|card| card.passphrase).collect();
    Ok(Made { root, engines, passphrases })
}

/// Writes the cards, and shows what was read back to every engine. Nothing is in force afterwards.
async fn prepare(
    parts: &mut [Part],
    new: &NewPlaces,
    made: &[ShownCard],
    written: &mut Vec<Card>,
    transcript: &mut Transcript,
) -> Result<RootKeyId> {
    for (card, place) in made.iter().zip(&new.places) {
        let read = place.write(card).with_context(|| format!("card {}", place.place))?;
        let line = describe(&read, &place.place);
        written.push(read);
        transcript.note(&format!("written and read back: {line}"))?;
    }
    show(made, new)?;
    for part in &mut parts[1..] {
        part.session.follow().await.with_context(|| format!("engine {}", part.name))?;
    }
    let cards = written.iter().zip(made).take(usize::from(new.threshold));
    let quorum: Vec<_> = cards.map(|(card, shown)| (card, shown.passphrase.as_str())).collect();
    confirm(parts, &quorum).await
}

/// Removes cards that are not in force, and says what became of them.
fn take_back(new: &NewPlaces, written: &[Card]) -> String {
    let mut text = "the new cards are not in force".to_owned();
    for (card, place) in written.iter().zip(&new.places) {
        if let Err(error) = place.remove(card) {
            text.push_str(&format!(
                "; card {} could not be removed again ({error:#})",
                place.place
            ));
        }
    }
    text + "; begin again"
}

/// What has become of new cards in the engines.
pub(super) struct Installed {
    done: Vec<String>,
    problems: Vec<String>,
    /// Whether every engine that did not do it has said so.
    certain: bool,
}

impl Installed {
    /// Whether no engine has changed anything, for certain.
    fn changed_nothing(&self) -> bool {
        self.done.is_empty() && self.certain
    }

    /// The engines, when all have them in force; else what is wrong, and what to do.
    pub(super) fn all_or(self, hint: &str) -> Result<Vec<String>> {
        ensure!(
            self.problems.is_empty(),
            "{}\nDone in {} of {} engines, as far as is known; `sealwire root status` tells; {hint}",
            self.problems.join("\n"),
            self.done.len(),
            self.done.len() + self.problems.len()
        );
        Ok(self.done)
    }
}

/// Brings cards that every engine has seen a quorum of into force, at one engine right after the other.
pub(super) async fn install(parts: Vec<Part>) -> Installed {
    let mut installed = Installed { done: Vec::new(), problems: Vec::new(), certain: true };
    for part in parts {
        match part.session.install().await {
            Ok(_) => installed.done.push(part.name),
            Err(error) => {
                installed.certain &= matches!(error, CeremonyError::Refused(_));
                installed.problems.push(format!("engine {}: {}", part.name, chain(&error)));
                if installed.changed_nothing() {
                    // Then nothing shall change elsewhere.
                    break;
                }
            }
        }
    }
    installed
}

/// Shows a quorum of new cards to every engine.
pub(super) async fn confirm(parts: &mut [Part], quorum: &[(&Card, &str)]) -> Result<RootKeyId> {
    let mut root = None;
    for part in parts {
        let mut ready = None;
        for (card, passphrase) in quorum {
            let confirmed = part.session.confirm(card.bytes(), passphrase).await;
            let context = || format!("new card {}, engine {}", card.number(), part.name);
            if let Confirmed::Ready { root, .. } = confirmed.with_context(context)? {
                ready = Some(root);
            }
        }
        root = Some(ready.with_context(|| format!("engine {}: too few new cards", part.name))?);
    }
    root.context("no engine is named")
}

/// Shows where each card is, and its passphrase, this once.
fn show(made: &[ShownCard], new: &NewPlaces) -> Result<()> {
    let mut shown = false;
    for (card, place) in made.iter().zip(&new.places) {
        let Keeper::File(file) = &place.keeper else {
            print(&format!("  card {}   {}   under the token's PIN\n", card.number, place.place))?;
            continue;
        };
        print(&format!("  card {}   {}   ", card.number, file.display()))?;
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
    print(&match made.len() - usize::from(new.threshold) {
        0 => "All cards are needed:\nif one is lost, and the machine, the root key is lost with everything \
              under it (--threshold keeps spares).\n"
            .to_owned(),
        spare => format!("{spare} of the cards may be lost.\n"),
    })
}

fn write_file(file: &Path, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    let mut written = out.write_all(bytes).and_then(|()| out.sync_all());
    drop(out);
    // The folder too: a stick that is pulled right now must have the card.
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        written = written.and_then(|()| File::open(folder)?.sync_all());
    }
    if let Err(error) = written {
        let _ = std::fs::remove_file(file);
        bail!("writing: {error}");
    }
    read_bytes(file)
}
