//! Takes what officers have done from the engines, and notes from time to time how far all chains go: so that one
//! that is cut off later is seen from the others.

use std::sync::Arc;
use std::time::Duration;

use sealwire_engine::audit::{AuditEvent, MAX_AUDIT_COUNTS};
use sealwire_engine::custody::Ceremonies;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{Manager, ManagerError};

/// Time between two looks at the engines.
const PAUSE: Duration = Duration::from_secs(2);

/// Time between two notes of how far all chains go.
const HEADS: Duration = Duration::from_secs(600);

impl Manager {
    /// Watches until `stop`.
    pub async fn watch_audit(self: Arc<Self>, stop: CancellationToken) {
        let mut clock = tokio::time::interval(PAUSE);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What was taken of each engine's journal, and is written down here.
        let mut taken: Vec<Option<(String, u64)>> = vec![None; self.rotation.count()];
        let mut heads_due = Instant::now() + PAUSE;
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                () = stop.cancelled() => return,
            }
            for (engine, taken) in taken.iter_mut().enumerate() {
                // One that is away, or sealed, is asked again later: it keeps what it has.
                if let Err(error) = self.take_ceremonies(engine, taken).await {
                    tracing::debug!(%error, engine, "ceremonies");
                }
            }
            if Instant::now() >= heads_due {
                match self.note_heads().await {
                    Ok(()) => heads_due = Instant::now() + HEADS,
                    Err(error) => tracing::debug!(%error, "heads"),
                }
            }
        }
    }

    async fn take_ceremonies(
        &self,
        engine: usize,
        taken: &mut Option<(String, u64)>,
    ) -> Result<(), ManagerError> {
        loop {
            let known = taken.as_ref().map(|(engine, number)| (engine.as_str(), *number));
            let Ceremonies { engine: id, entries } =
                self.rotation.ceremonies(engine, known).await?;
            let Some(last) = entries.last().map(|entry| entry.number) else { return Ok(()) };
            // The engine gives them again until it is told that they are written down.
            for entry in entries {
                self.auditor.note(AuditEvent::Ceremony { engine: id.clone(), entry }).await?;
            }
            *taken = Some((id, last));
        }
    }

    async fn note_heads(&self) -> Result<(), ManagerError> {
        let heads = self.genuine_heads().await?;
        for heads in heads.chunks(MAX_AUDIT_COUNTS) {
            self.auditor.note(AuditEvent::Heads { heads: heads.to_vec() }).await?;
        }
        Ok(())
    }
}
