//! `sealwire root status`.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use sealwire_engine::custody::{CeremonyClient, Progress, Status};
use sealwire_engine::{Protection, State};

use crate::commands::{print, print_json};

pub(super) async fn run(engines: &[CeremonyClient], json: bool) -> Result<()> {
    let mut all = Vec::with_capacity(engines.len());
    for engine in engines {
        let name = engine.path().display();
        all.push((engine, engine.status().await.with_context(|| format!("engine {name}"))?));
    }
    if json {
        return match all.as_slice() {
            [(_, status)] => print_json(status),
            several => print_json(&several.iter().map(|(_, status)| status).collect::<Vec<_>>()),
        };
    }
    for (engine, status) in &all {
        if all.len() > 1 {
            print(&format!("engine    {}\n", engine.path().display()))?;
        }
        print(&words(status))?;
    }
    Ok(())
}

fn words(status: &Status) -> String {
    let state = match (status.state, status.progress) {
        (State::Open { .. }, _) => "open".to_owned(),
        (State::Sealed, Some(Progress { have, need })) => {
            let lapse = humantime::format_duration(Duration::from_secs(status.lapse_seconds));
            format!("sealed, {have} of {need} cards shown (forgotten {lapse} after the last one)")
        }
        (State::Sealed, None) => "sealed".to_owned(),
        (State::Away, _) => "cannot be reached".to_owned(),
    };
    let root = match status.root {
        Some(root) => root.to_string(),
        None => "none yet: make one with `sealwire root init`".to_owned(),
    };
    let mut text =
        format!("state     {state}\nsince     {}\nroot key  {root}\n", time(status.since));
    if let Some(previous) = status.previous {
        text.push_str(&format!(
            "rotation  under way: root key {previous} is left behind (`sealwire root rotate --resume`)\n"
        ));
    }
    if let Some(set) = &status.set {
        text.push_str(&format!(
            "cards     {} of {} open it, set {}, since {}\n",
            set.threshold,
            set.cards,
            set.id,
            time(set.since)
        ));
    }
    text.push_str(&format!("chip      {}\n", status.chip));
    if let Some(problem) = &status.chip_problem {
        text.push_str(&format!("          IT FAILED: {problem}\n"));
    }
    text.push_str(match status.memory {
        Protection::MemfdSecret => "memory    memfd_secret: no other process reads the root key\n",
        Protection::Mlock => "memory    mlock: locked and not dumped; root could read it\n",
        Protection::Unprotected => {
            "memory    UNPROTECTED: for trying out a search of memory only\n"
        }
    });
    text
}

fn time(seconds: u64) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(at).to_string()
}
