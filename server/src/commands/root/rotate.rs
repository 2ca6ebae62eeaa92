//! `sealwire root rotate`: new root key, new cards; the manager moves everything that is wrapped.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use sealwire_engine::RootKeyId;
use sealwire_engine::custody::{CeremonyClient, CeremonyKind};
use sealwire_manager::{ManagerClient, RotationStage, RotationView};

use super::cards::Readers;
use super::new::{self, NewPlaces};
use super::transcript::Transcript;
use super::{begin, current, engines, print};
use crate::cli::ManagerPlace;
use crate::cli::root::Rotate;
use crate::commands::identity;

/// Time between two looks at the manager.
const LOOK: Duration = Duration::from_millis(200);

const AFTERWARDS: &str = "\
The old cards open nothing any more in these engines: destroy them, once every engine of the site has
been brought along. Backups of the database and of the data folder that were made before still open with
them; let them expire, or destroy them.
The business keys are the same as before. If a quorum of old cards was stolen, somebody may have them:
rotate those too (`sealwire key rotate NAME`), and re-encrypt (`sealwire reenc`).
";

const IN_FORCE: &str = "the new root key is in force, and both are held until everything has moved; go on with \
                        `sealwire root rotate --resume` when the server runs";

pub(super) async fn run(args: Rotate) -> Result<()> {
    // Clap wants it for all but --join, which has no use for it.
    let socket = args.manager.clone().unwrap_or_default();
    let manager = identity::client(&ManagerPlace::Socket(socket))?;
    let engines = if args.resume { Vec::new() } else { engines(&args.shared.engines) };
    if args.resume {
        let mut transcript = Transcript::begin("root rotate --resume", &args.shared)?;
        let done = resume(&manager, args.leave_behind, &mut transcript).await;
        return transcript.end(done);
    }
    let mut readers = Readers::new(&args.current.cards, &args.current.pins, &args.shared.tokens)?;
    let (cards, pins) = (&args.current.new_cards, &args.current.new_pins);
    if args.join {
        let mut new = Readers::new(cards, pins, &args.shared.tokens)?;
        let mut transcript = Transcript::begin("root rotate --join", &args.shared)?;
        let done = join(&engines, &mut readers, &mut new, &mut transcript).await;
        return transcript.end(done);
    }
    let places = NewPlaces::check(cards, pins, &args.new, &args.shared.tokens)?;
    let mut transcript = Transcript::begin("root rotate", &args.shared)?;
    let done = rotate(&engines, &manager, &mut readers, &places, &mut transcript).await;
    transcript.end(done)
}

async fn rotate(
    engines: &[CeremonyClient],
    manager: &ManagerClient,
    readers: &mut Readers<'_>,
    places: &NewPlaces,
    transcript: &mut Transcript,
) -> Result<()> {
    // Before any card is shown: the one who will move the rows must be there, and free.
    let view = manager.rotation().await.context("the manager, which leads rotations")?;
    ensure!(
        matches!(view.stage, RotationStage::None | RotationStage::Done),
        "a root rotation is under way: end it with `sealwire root rotate --resume`"
    );
    if let Some(problem) = view.problem {
        bail!("{problem}");
    }
    let mut parts = begin(engines, CeremonyKind::Rotate).await?;
    current::prove(&mut parts, readers, transcript).await?;
    let hint = "keep the new cards and the old ones; bring the others along with `sealwire root rotate --join`, then \
                go on with `sealwire root rotate --resume`";
    let made = new::make(parts, places, hint, transcript).await?;
    manager.begin_rotation().await.context(IN_FORCE)?;
    made.note(places, transcript).context(IN_FORCE)?;
    print(&format!(
        "\nroot key {} is in force: {} new cards open it. Moving what is wrapped:\n",
        made.root,
        places.words()
    ))
    .context(IN_FORCE)?;
    let view = watch(manager, Some(made.root)).await?;
    finish(&view, transcript)
}

/// Brings engines along that were left out: they see a quorum of the old cards, and one of the new ones.
async fn join(
    engines: &[CeremonyClient],
    old: &mut Readers<'_>,
    new: &mut Readers<'_>,
    transcript: &mut Transcript,
) -> Result<()> {
    let mut parts = begin(engines, CeremonyKind::Rotate).await?;
    current::prove(&mut parts, old, transcript).await?;
    let mut cards = Vec::new();
    while let Some(read) = new.next()? {
        transcript.note(&format!("new {}", read.describe()))?;
        cards.push(read);
    }
    for part in &mut parts {
        part.session.follow().await.with_context(|| format!("engine {}", part.name))?;
    }
    let quorum: Vec<_> = cards.iter().map(|read| (&read.card, read.passphrase.as_str())).collect();
    let root = new::confirm(&mut parts, &quorum).await.context("nothing has changed")?;
    let hint = "try again with those that are left, and keep the cards of both root keys";
    for name in new::install(parts).await.all_or(hint)? {
        transcript.note(&format!("root key {root} is in force: {name}"))?;
    }
    print(&format!("root key {root} is in force in these engines, too\n"))
}

/// Goes on with a rotation that was cut off, and watches it.
async fn resume(
    manager: &ManagerClient,
    leave_behind: bool,
    transcript: &mut Transcript,
) -> Result<()> {
    let view = manager.rotation().await?;
    if matches!(view.stage, RotationStage::None | RotationStage::Done) {
        return match view.problem {
            Some(problem) => Err(anyhow!("{problem}")),
            None => print("no root rotation is under way\n"),
        };
    }
    if leave_behind {
        for row in manager.leave_behind().await?.left_behind {
            transcript.note(&format!("left behind: {row}"))?;
        }
    }
    let view = manager.begin_rotation().await?;
    let view = watch(manager, view.new).await?;
    finish(&view, transcript)
}

fn finish(view: &RotationView, transcript: &mut Transcript) -> Result<()> {
    let text = format!("{} wrapped keys moved; the old root key is forgotten", view.moved);
    transcript.note(&text)?;
    print(&format!("{text}\n\n{AFTERWARDS}"))
}

/// Shows how far the rotation is, to its end.
async fn watch(manager: &ManagerClient, new: Option<RootKeyId>) -> Result<RotationView> {
    let bar = ProgressBar::new(0);
    let style = "{bar:40} {pos} of {len} wrapped keys, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style)?);
    let mut said = None;
    loop {
        let view = manager.rotation().await.context(IN_FORCE)?;
        ensure!(view.new == new, "another root rotation goes on than this one");
        bar.set_length(view.total);
        bar.set_position(view.moved);
        if view.problem != said {
            if let Some(problem) = &view.problem {
                bar.suspend(|| eprintln!("sealwire: {problem}"));
            }
            said.clone_from(&view.problem);
        }
        if view.stage == RotationStage::Done {
            bar.finish();
            return Ok(view);
        }
        let waits = view.stuck.iter().any(|row| !view.left_behind.contains(row));
        if view.stage == RotationStage::Stuck && waits {
            bar.abandon();
            bail!(
                "these rows do not open and cannot be moved:\n  {}\nThe old root key is kept until they are put \
                 right (from a backup), or left behind for good: `sealwire root rotate --resume --leave-behind`",
                view.stuck.join("\n  ")
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}
