//! `sealwire root …`: ceremonies, over the engines' own sockets.

mod cards;
mod current;
mod new;
mod rotate;
mod status;
mod transcript;

use std::path::PathBuf;

use anyhow::{Context, Result};
use sealwire_engine::custody::{CeremonyClient, CeremonyKind, CeremonySession, Place};
use zeroize::Zeroizing;

use super::print;
use crate::cli::{Engines, NewCards, Root, Shared};
use cards::Readers;
use new::NewPlace;
use transcript::Transcript;

pub(super) async fn run(command: Root) -> Result<()> {
    match command {
        Root::Init { cards, pins, new, shared } => {
            let mut transcript = Transcript::begin("root init", &shared)?;
            let done = init(&shared, &cards, &pins, &new, &mut transcript).await;
            transcript.end(done)
        }
        Root::Unseal { current, shared } => {
            let mut transcript = Transcript::begin("root unseal", &shared)?;
            let mut readers = Readers::new(&current.cards, &current.pins, &shared.tokens)?;
            let done =
                current::unseal(&engines(&shared.engines), &mut readers, &mut transcript).await;
            transcript.end(done)
        }
        Root::Adopt { current, shared } => {
            let mut transcript = Transcript::begin("root adopt", &shared)?;
            let mut readers = Readers::new(&current.cards, &current.pins, &shared.tokens)?;
            let done =
                current::adopt(&engines(&shared.engines), &mut readers, &mut transcript).await;
            transcript.end(done)
        }
        Root::Status { json, engines: sockets } => status::run(&engines(&sockets), json).await,
        Root::Seal { transcript, engines: sockets } => {
            let mut transcript = Transcript::open("root seal", transcript.as_deref(), &sockets)?;
            let done = seal(&engines(&sockets), &mut transcript).await;
            transcript.end(done)
        }
        Root::Verify { current, shared } => {
            let mut transcript = Transcript::begin("root verify", &shared)?;
            let mut readers = Readers::new(&current.cards, &current.pins, &shared.tokens)?;
            let done =
                current::verify(&engines(&shared.engines), &mut readers, &mut transcript).await;
            transcript.end(done)
        }
        Root::Reshare { current, places, new, shared } => {
            let mut transcript = Transcript::begin("root reshare", &shared)?;
            let mut readers = Readers::new(&current.cards, &current.pins, &shared.tokens)?;
            let (cards, pins) = (&places.new_cards, &places.new_pins);
            let done = reshare(&shared, &mut readers, cards, pins, &new, &mut transcript).await;
            transcript.end(done)
        }
        Root::Rotate { current, new, resume, leave_behind, manager, shared } => {
            let manager = sealwire_manager::ManagerClient::new(manager);
            if resume {
                return rotate::resume(&manager, leave_behind).await;
            }
            let mut transcript = Transcript::begin("root rotate", &shared)?;
            let mut readers = Readers::new(&current.cards, &current.pins, &shared.tokens)?;
            let (cards, pins) = (&current.new_cards, &current.new_pins);
            let places = new::places(cards, pins, new.weak_pin, &shared.tokens)?;
            let ceremony = rotate::Ceremony { threshold: new.threshold, places: &places };
            let done = ceremony
                .run(&engines(&shared.engines), &manager, &mut readers, &mut transcript)
                .await;
            transcript.end(done)
        }
    }
}

fn engines(engines: &Engines) -> Vec<CeremonyClient> {
    engines.sockets.iter().cloned().map(CeremonyClient::new).collect()
}

/// An engine, and its part of a ceremony.
struct Part {
    name: String,
    session: CeremonySession,
}

/// Begins a ceremony at every engine.
async fn begin(engines: &[CeremonyClient], kind: CeremonyKind) -> Result<Vec<Part>> {
    let mut parts = Vec::with_capacity(engines.len());
    for engine in engines {
        let name = engine.path().display().to_string();
        let session = engine.begin(kind).await.with_context(|| format!("engine {name}"))?;
        parts.push(Part { name, session });
    }
    Ok(parts)
}

async fn init(
    shared: &Shared,
    cards: &[Place],
    pins: &[PathBuf],
    new: &NewCards,
    transcript: &mut Transcript,
) -> Result<()> {
    let places = new::places(cards, pins, new.weak_pin, &shared.tokens)?;
    make_root_key(&engines(&shared.engines), &places, new.threshold, transcript).await.map(drop)
}

/// Makes a root key, and returns each card's passphrase.
async fn make_root_key(
    engines: &[CeremonyClient],
    places: &[NewPlace],
    threshold: Option<u8>,
    transcript: &mut Transcript,
) -> Result<Vec<Zeroizing<String>>> {
    let parts = begin(engines, CeremonyKind::Init).await?;
    let made = new::make(parts, places, threshold, transcript).await?;
    print(&format!(
        "\nroot key {} is in force: {} of {} cards open it\n",
        made.root,
        made.threshold,
        places.len()
    ))?;
    Ok(made.passphrases)
}

/// Makes a root key with cards in files, for the quickstart. Returns where the cards are and their
/// passphrases.
pub(super) async fn init_in_files(
    ceremony: &CeremonyClient,
    folders: &[PathBuf],
) -> Result<Vec<(PathBuf, Zeroizing<String>)>> {
    let places: Vec<NewPlace> =
        folders.iter().map(|folder| NewPlace::file(folder.clone())).collect::<Result<_>>()?;
    let engines = [ceremony.clone()];
    let mut transcript = Transcript::none();
    let passphrases = make_root_key(&engines, &places, None, &mut transcript).await?;
    let files = folders.iter().map(|folder| cards::card_file(folder));
    Ok(files.zip(passphrases).collect())
}

async fn reshare(
    shared: &Shared,
    readers: &mut Readers<'_>,
    cards: &[Place],
    pins: &[PathBuf],
    new: &NewCards,
    transcript: &mut Transcript,
) -> Result<()> {
    let places = new::places(cards, pins, new.weak_pin, &shared.tokens)?;
    let mut parts = begin(&engines(&shared.engines), CeremonyKind::Reshare).await?;
    current::prove(&mut parts, readers, transcript).await?;
    let made = new::make(parts, &places, new.threshold, transcript).await?;
    let text = format!(
        "\nroot key {}: {} of {} new cards open it from now on\nTHE OLD CARDS STILL OPEN IT: destroy them. \
         If one was lost or stolen, rotate the root key instead:\n  sealwire root rotate --card … --new-card …\n",
        made.root,
        made.threshold,
        places.len()
    );
    transcript.note("the old cards still open the root key until it is rotated")?;
    print(&text)
}

async fn seal(engines: &[CeremonyClient], transcript: &mut Transcript) -> Result<()> {
    for engine in engines {
        let name = engine.path().display();
        engine.seal().await.with_context(|| format!("engine {name}"))?;
        transcript.note(&format!("sealed: {name}"))?;
    }
    print(
        "sealed: nothing opens until the key cards are shown again, or, with a chip, until the next start\n",
    )
}
