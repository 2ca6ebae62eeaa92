//! `sealwire serve`, `gateway`, `manager`: all parts in one process, or one.

use std::path::Path;

use anyhow::{Result, bail};
use sealwire_engine::State;
use sealwire_engine::host::process;

use crate::config::{Config, Part};
use crate::parts::Parts;

/// How it calls itself on stderr.
const PROGRAM: &str = "sealwire";

fn tell(text: &str) {
    process::tell(PROGRAM, text);
}

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(path: &Path, part: Part) -> Result<()> {
    let config = Config::read_for(path, part)?;
    let parts = Parts::start(&config, part).await?;
    for (what, place) in &parts.places {
        tell(&format!("{what} on {place}"));
    }
    if let Some(problem) = &parts.opened.problem {
        process::tell_failure(
            PROGRAM,
            &format!("the chip did not open the root key, unseal with the key cards: {problem}"),
        );
    }
    match (part, parts.state()) {
        (Part::All, State::Sealed | State::Away) => tell(
            "sealed; `sealwire root unseal --card …` opens it (`root init` makes a first root key)",
        ),
        (Part::All, State::Open { .. }) => tell("open"),
        _ => tell(&format!("engines {}", config.engines.addresses.join(", "))),
    }
    until_stopped(parts).await
}

/// Waits for SIGTERM or SIGINT, then stops the parts in order.
pub(super) async fn until_stopped(parts: Parts) -> Result<()> {
    process::ready();
    let failed = process::until_stopped(parts.stop_token()).await?;
    tell("stopping: finishing what is in flight");
    process::stopping();
    parts.stop().await;
    if failed {
        bail!("a part has failed");
    }
    tell("stopped");
    Ok(())
}
