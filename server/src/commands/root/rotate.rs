//! `sealwire root rotate`: new root key, new cards; the manager moves everything that is wrapped.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sealwire_engine::RootKeyId;
use sealwire_engine::custody::{CeremonyClient, CeremonyKind};
use sealwire_manager::{ManagerClient, RotationStage, RotationView};

use super::cards::Readers;
use super::new::{self, NewPlace};
use super::transcript::Transcript;
use super::{begin, current, print};

/// Time between two looks at the manager.
const LOOK: Duration = Duration::from_millis(200);

/// Looks after which a rotation that was not there is not coming: ten seconds.
const PATIENCE: u32 = 50;

const AFTERWARDS: &str = "\
The old cards open nothing any more here: destroy them. Backups of the database and of the data folder
that were made before still open with them; let them expire, or destroy them.
The business keys are the same as before. If a quorum of old cards was stolen, somebody may have them:
rotate those too (`sealwire key rotate NAME`), and re-encrypt (`sealwire reenc`).
";

/// What a rotation makes.
pub(super) struct Ceremony<'a> {
    pub(super) threshold: Option<u8>,
    pub(super) places: &'a [NewPlace],
}

impl Ceremony<'_> {
    pub(super) async fn run(
        &self,
        engines: &[CeremonyClient],
        manager: &ManagerClient,
        readers: &mut Readers<'_>,
        transcript: &mut Transcript,
    ) -> Result<()> {
        // Before any card is shown: the one who will move the rows must be there.
        manager.rotation().await.context("the manager leads a rotation")?;
        let mut parts = begin(engines, CeremonyKind::Rotate).await?;
        current::prove(&mut parts, readers, transcript).await?;
        let made = new::make(parts, self.places, self.threshold, transcript).await?;
        print(&format!(
            "\nroot key {} is in force: {} of {} new cards open it. Moving what is wrapped:\n",
            made.root,
            made.threshold,
            self.places.len()
        ))?;
        let view = watch(manager, Some(made.root)).await.context(
            "the new root key is in force; the rotation goes on by itself as soon as the server runs: \
             `sealwire root rotate --resume`",
        )?;
        finish(&view, transcript)
    }
}

/// Watches a rotation that is under way.
pub(super) async fn resume(manager: &ManagerClient, leave_behind: bool) -> Result<()> {
    let view = manager.rotation().await?;
    if view.stage == RotationStage::None {
        return print("no root rotation is under way\n");
    }
    if leave_behind {
        manager.leave_behind().await?;
    }
    let view = watch(manager, view.new).await?;
    finish(&view, &mut Transcript::none())
}

fn finish(view: &RotationView, transcript: &mut Transcript) -> Result<()> {
    let text = format!("{} wrapped keys moved; the old root key is forgotten", view.moved);
    transcript.note(&text)?;
    print(&format!("{text}\n\n{AFTERWARDS}"))
}

/// Shows how far the rotation is, to its end.
async fn watch(manager: &ManagerClient, new: Option<RootKeyId>) -> Result<RotationView> {
    let bar = ProgressBar::new(0);
    let style = "{bar:40} {pos} of {len} wrapped keys, {per_sec}, {eta} left {msg}";
    bar.set_style(ProgressStyle::with_template(style)?);
    let mut misses = 0;
    loop {
        let view = manager.rotation().await?;
        if view.new != new {
            misses += 1;
            if misses > PATIENCE {
                bail!("the manager does not know of this rotation: is it the engine's own?");
            }
        } else {
            bar.set_length(view.total);
            bar.set_position(view.moved);
            bar.set_message(view.problem.clone().unwrap_or_default());
            match view.stage {
                RotationStage::Done => {
                    bar.finish();
                    return Ok(view);
                }
                RotationStage::Stuck if !view.leave_behind => {
                    bar.abandon();
                    bail!(
                        "these rows do not open and cannot be moved:\n  {}\nThe old root key is kept until they \
                         are put right (from a backup), or left behind for good: `sealwire root rotate --resume \
                         --leave-behind`",
                        view.stuck.join("\n  ")
                    );
                }
                _ => {}
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
