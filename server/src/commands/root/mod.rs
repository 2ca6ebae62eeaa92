//! `sealwire root …`: ceremonies, over the engines' own sockets.

mod cards;
mod current;
mod new;
mod own_pin;
mod rotate;
mod status;
mod transcript;

use std::path::PathBuf;

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::CommandFactory;
use sealwire_engine::custody::{CeremonyClient, CeremonyKind, CeremonySession};
use sealwire_manager::{BreakGlass, ManagerClient, Statement, Warranted};
use zeroize::Zeroizing;

use super::{identity, operator, print};
use crate::cli::{Engines, Root};
use cards::Readers;
pub(super) use cards::{ask, read_pin};
use new::NewPlaces;
use transcript::Transcript;

pub(super) async fn run(command: Root) -> Result<()> {
    match command {
        Root::Init { cards, pins, new, shared } => {
            let engines = engines(&shared.engines);
            let places = NewPlaces::check(&cards, &pins, &new, &shared.tokens)?;
            let mut transcript = Transcript::begin("root init", &shared)?;
            let done = make_root_key(&engines, &places, &mut transcript).await.map(drop);
            transcript.end(done)
        }
        Root::Unseal { current, shared } => {
            let engines = engines(&shared.engines);
            let mut readers = Readers::new(&current.cards, &current.pins, &shared.tokens)?;
            let mut transcript = Transcript::begin("root unseal", &shared)?;
            let done = current::unseal(&engines, &mut readers, &mut transcript).await;
            transcript.end(done)
        }
        Root::Adopt { current, shared } => {
            let engines = engines(&shared.engines);
            let mut readers = Readers::new(&current.cards, &current.pins, &shared.tokens)?;
            let mut transcript = Transcript::begin("root adopt", &shared)?;
            let done = current::adopt(&engines, &mut readers, &mut transcript).await;
            transcript.end(done)
        }
        Root::Status { json, engines: sockets } => status::run(&engines(&sockets), json).await,
        Root::Seal { transcript, engines: sockets } => {
            let engines = engines(&sockets);
            let mut transcript = Transcript::open("root seal", transcript.as_deref(), &sockets)?;
            let done = seal(&engines, &mut transcript).await;
            transcript.end(done)
        }
        Root::Verify { current, shared } => {
            let engines = engines(&shared.engines);
            let mut readers = Readers::new(&current.cards, &current.pins, &shared.tokens)?;
            let mut transcript = Transcript::begin("root verify", &shared)?;
            let done = current::verify(&engines, &mut readers, &mut transcript).await;
            transcript.end(done)
        }
        Root::Reshare { current, places, new, shared } => {
            let engines = engines(&shared.engines);
            let mut readers = Readers::new(&current.cards, &current.pins, &shared.tokens)?;
            let (cards, pins) = (&places.new_cards, &places.new_pins);
            let places = NewPlaces::check(cards, pins, &new, &shared.tokens)?;
            let mut transcript = Transcript::begin("root reshare", &shared)?;
            let done = reshare(&engines, &mut readers, &places, &mut transcript).await;
            transcript.end(done)
        }
        Root::BreakGlass { name, password_file, socket, current, shared } => {
            let engines = engines(&shared.engines);
            let mut readers = Readers::new(&current.cards, &current.pins, &shared.tokens)?;
            let mut transcript = Transcript::begin("root break-glass", &shared)?;
            let done = async {
                let password = operator::new_password(password_file.as_deref(), &name)?;
                let manager = identity::manager(&socket)?;
                let who = BreakGlass { name, password };
                break_glass(&engines, &manager, &who, &mut readers, &mut transcript).await
            };
            let done = done.await;
            transcript.end(done)
        }
        Root::Rotate(args) => rotate::run(args).await,
    }
}

/// The engines that are named: without one, that is wrong usage.
fn engines(engines: &Engines) -> Vec<CeremonyClient> {
    if engines.sockets.is_empty() {
        let mut command = crate::cli::Cli::command();
        let missing = clap::error::ErrorKind::MissingRequiredArgument;
        command.error(missing, "name an engine: --engine, or SEALWIRE_CEREMONY_SOCKET").exit();
    }
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

/// Has a quorum of cards allow what the manager would do, at each engine, and has it done.
async fn break_glass(
    engines: &[CeremonyClient],
    manager: &ManagerClient,
    who: &BreakGlass,
    readers: &mut Readers<'_>,
    transcript: &mut Transcript,
) -> Result<()> {
    let Statement { statement } = manager.ask_break_glass(who).await?;
    print(&format!("This is what the cards allow:\n\n{statement}\n"))?;
    for line in statement.lines() {
        transcript.note(line)?;
    }
    let mut parts = begin(engines, CeremonyKind::Warrant).await?;
    current::prove(&mut parts, readers, transcript).await?;
    let part = parts.first_mut().context("no engine was named")?;
    let warrant = part.session.warrant(&statement).await?;
    let warrant = STANDARD.encode(warrant);
    let made = manager.break_glass(&Warranted { statement, warrant }).await?;
    let text = format!("root-officer `{}` is made, {}", made.name, made.id);
    transcript.note(&text)?;
    print(&format!("{text}: `sealwire sign-in {}`\n", made.name))
}

/// Makes a root key, and returns each card's passphrase.
async fn make_root_key(
    engines: &[CeremonyClient],
    places: &NewPlaces,
    transcript: &mut Transcript,
) -> Result<Vec<Zeroizing<String>>> {
    let parts = begin(engines, CeremonyKind::Init).await?;
    let hint =
        "keep the new cards; bring the others along: `sealwire root adopt --engine … --card …`";
    let made = new::make(parts, places, hint, transcript).await?;
    made.note(places, transcript)?;
    print(&format!("\nroot key {} is in force: {} cards open it\n", made.root, places.words()))?;
    Ok(made.passphrases)
}

/// Makes a root key with cards in files, for the quickstart. Returns where the cards are and their
/// passphrases.
pub(super) async fn init_in_files(
    ceremony: &CeremonyClient,
    folders: &[PathBuf],
) -> Result<Vec<(PathBuf, Zeroizing<String>)>> {
    let places = NewPlaces::in_files(folders)?;
    let engines = [ceremony.clone()];
    let passphrases = make_root_key(&engines, &places, &mut Transcript::none()).await?;
    let files = folders.iter().map(|folder| cards::card_file(folder));
    Ok(files.zip(passphrases).collect())
}

async fn reshare(
    engines: &[CeremonyClient],
    readers: &mut Readers<'_>,
    places: &NewPlaces,
    transcript: &mut Transcript,
) -> Result<()> {
    let mut parts = begin(engines, CeremonyKind::Reshare).await?;
    current::prove(&mut parts, readers, transcript).await?;
    let hint = "keep the new cards and the old ones: both open it";
    let made = new::make(parts, places, hint, transcript).await?;
    made.note(places, transcript)?;
    let text = format!(
        "\nroot key {}: {} new cards open it from now on\nTHE OLD CARDS STILL OPEN IT: destroy them. If one \
         was lost or stolen, rotate the root key instead:\n  sealwire root rotate --card … --new-card …\n",
        made.root,
        places.words()
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
