//! `sealwire serve`: all parts in one process.

use std::path::Path;

use anyhow::{Result, bail};
use sealwire_engine::State;
use sealwire_engine::custody::Chip;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::parts::Parts;

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(path: &Path) -> Result<()> {
    let config = Config::read(path)?;
    if let Chip::Software { key_file } = config.chip()? {
        tracing::warn!(key_file = %key_file.display(), "software chip: a stolen machine opens itself");
    }
    let parts = Parts::start(&config).await?;
    eprintln!("sealwire: health and metrics on {}", parts.health);
    eprintln!("sealwire: gateway on {}", parts.listen);
    eprintln!("sealwire: manager on {}", config.manager_socket().display());
    eprintln!("sealwire: ceremonies on {}", config.ceremony_socket().display());
    if let Some(problem) = &parts.chip_problem {
        eprintln!("sealwire: the chip did not open the root key: {problem}");
    }
    if parts.state() == State::Sealed {
        eprintln!(
            "sealwire: sealed; `sealwire root unseal --card …` opens it (`root init` makes a first \
             root key)"
        );
    } else {
        eprintln!("sealwire: open");
    }
    until_stopped(parts).await
}

/// Waits for SIGTERM or SIGINT, then stops the parts in order.
pub(super) async fn until_stopped(parts: Parts) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let failed = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = parts.failed() => true,
    };
    eprintln!("sealwire: stopping: finishing what is in flight");
    parts.stop().await;
    if failed {
        bail!("a part has failed");
    }
    eprintln!("sealwire: stopped");
    Ok(())
}
