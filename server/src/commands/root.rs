//! `sealwire root …`: ceremonies, over the engine's own socket.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sealwire_engine::State;
use sealwire_engine::custody::{CARD_LEN, Card, CeremonyClient, Opened, Progress, ShownCard};
use zeroize::Zeroizing;

use super::{print, print_json};
use crate::cli::Root;

/// The name of a card in a folder.
const CARD_FILE: &str = "sealwire.card";

pub(super) async fn run(command: Root) -> Result<()> {
    match command {
        Root::Init { cards, threshold, socket } => {
            init(&CeremonyClient::new(socket.path), &cards, threshold).await.map(drop)
        }
        Root::Unseal { cards, pins, socket } => {
            unseal(&CeremonyClient::new(socket.path), &cards, &pins).await
        }
        Root::Status { json, socket } => status(&CeremonyClient::new(socket.path), json).await,
        Root::Seal { socket } => {
            CeremonyClient::new(socket.path).seal().await?;
            print("sealed: nothing opens until the key cards are shown again\n")
        }
    }
}

/// Makes a root key: all cards are written and read back, their passphrases shown, and only then a quorum
/// of what was read is shown to the engine, which pins the root key and opens. Returns where the cards
/// are and their passphrases.
pub(super) async fn init(
    ceremony: &CeremonyClient,
    paths: &[PathBuf],
    threshold: Option<u8>,
) -> Result<Vec<(PathBuf, Zeroizing<String>)>> {
    let count = u8::try_from(paths.len()).context("a set has at most 16 cards")?;
    let threshold = threshold.unwrap_or(count);
    let files: Vec<PathBuf> = paths.iter().map(|path| card_file(path)).collect();
    for (position, file) in files.iter().enumerate() {
        ensure!(
            !file.exists(),
            "card {}: there is a file already; it is not overwritten",
            file.display()
        );
        ensure!(!files[..position].contains(file), "card {}: named twice", file.display());
    }
    let made = ceremony.init(threshold, count).await?;
    ensure!(made.len() == files.len(), "the engine made {} cards", made.len());
    let mut written = Vec::with_capacity(made.len());
    for (card, file) in made.iter().zip(&files) {
        let read = write_and_read_back(card, file).with_context(|| {
            format!(
                "card {}: no root key has come into force; remove the cards and begin again",
                file.display()
            )
        })?;
        written.push(read);
    }
    show_cards(&made, &files, threshold)?;
    let mut opened = None;
    for (card, read) in made.iter().zip(&written).take(usize::from(threshold)) {
        let context =
            "the cards were not taken; `sealwire root status` tells whether they are in force";
        if let Opened::Open(root) =
            ceremony.confirm(read, &card.passphrase).await.context(context)?
        {
            opened = Some(root);
        }
    }
    let root = opened.context("the engine did not open")?;
    print(&format!("\nroot key {root} is in force: {threshold} of {count} cards open it\n"))?;
    Ok(files.into_iter().zip(made.into_iter().map(|card| card.passphrase)).collect())
}

/// Shows where each card is, and its passphrase, this once.
fn show_cards(made: &[ShownCard], files: &[PathBuf], threshold: u8) -> Result<()> {
    for (card, file) in made.iter().zip(files) {
        print(&format!("  card {}   {}   passphrase ", card.number, file.display()))?;
        print(&card.passphrase)?;
        print("\n")?;
    }
    print(&match made.len() - usize::from(threshold) {
        0 => "\nWrite each passphrase down, apart from its card: they are not shown again. All cards are \
              needed:\nif one is lost, and the machine, the root key is lost with everything under it \
              (--threshold keeps spares).\n"
            .to_owned(),
        spare => format!(
            "\nWrite each passphrase down, apart from its card: they are not shown again. {spare} of \
             the cards may be lost.\n"
        ),
    })
}

/// Writes a card, and gives what is read back from where it was written.
fn write_and_read_back(card: &ShownCard, file: &Path) -> Result<Vec<u8>> {
    let bytes = card.bytes()?;
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    out.write_all(&bytes)?;
    out.sync_all()?;
    drop(out);
    let read = read_card(file)?;
    ensure!(read == bytes, "it reads back differently from what was written");
    Card::parse(&read)?;
    Ok(read)
}

async fn unseal(ceremony: &CeremonyClient, cards: &[PathBuf], pins: &[PathBuf]) -> Result<()> {
    ensure!(
        pins.is_empty() || pins.len() == cards.len(),
        "name a --pin-file for each --card, in the same order, or none"
    );
    for (position, path) in cards.iter().enumerate() {
        let file = card_file(path);
        let context = || format!("card {}", file.display());
        let bytes = read_card(&file).with_context(context)?;
        let card = Card::parse(&bytes).with_context(context)?;
        let passphrase = match pins.get(position) {
            Some(pin) => Zeroizing::new(
                std::fs::read_to_string(pin)
                    .with_context(|| format!("pin file {}", pin.display()))?,
            ),
            None => {
                let (number, of) = (card.number(), card.set().cards);
                let prompt = format!("passphrase of card {number} of {of} ({}): ", file.display());
                Zeroizing::new(
                    rpassword::prompt_password(prompt)
                        .context("no terminal to ask for the passphrase: use --pin-file")?,
                )
            }
        };
        match ceremony.unseal(&bytes, &passphrase).await.with_context(context)? {
            Opened::Partly(Progress { have, need }) => {
                print(&format!("card {}: {have} of {need}\n", card.number()))?;
            }
            Opened::Open(root) => {
                print(&format!("card {}: open, root key {root}\n", card.number()))?;
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn status(ceremony: &CeremonyClient, json: bool) -> Result<()> {
    let status = ceremony.status().await?;
    if json {
        return print_json(&status);
    }
    let state = match status.state {
        State::Open { .. } => "open".to_owned(),
        State::Sealed => match status.progress {
            Some(Progress { have, need }) => format!("sealed, {have} of {need} cards shown"),
            None => "sealed".to_owned(),
        },
    };
    let root = status.root.map_or_else(|| "none yet".to_owned(), |root| root.to_string());
    print(&format!("state     {state}\nroot key  {root}\nchip      {}\n", status.chip))
}

fn card_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(CARD_FILE) } else { path.to_owned() }
}

/// Reads a card: never more than one has.
fn read_card(file: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(file)?.len();
    if size != CARD_LEN as u64 {
        bail!("this is not a key card: it has {size} bytes, a card has {CARD_LEN}");
    }
    Ok(std::fs::read(file)?)
}
