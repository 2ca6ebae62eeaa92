//! Takes what officers have done from the engines, and notes from time to time how far all chains go: so that one
//! that is cut off later is seen from the others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sealwire_engine::audit::{AuditEvent, AuditWriter, MAX_AUDIT_COUNTS};
use sealwire_engine::chain;
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
        let (mut noted, mut foreign) = (HashMap::new(), HashSet::new());
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
                match self.note_heads(&mut noted, &mut foreign).await {
                    Ok(()) => heads_due = Instant::now() + HEADS,
                    Err(error) if error.is_sealed() => tracing::debug!(%error, "heads"),
                    Err(error) => {
                        tracing::error!(error = chain(&error), "audit: how far the chains go");
                        heads_due = Instant::now() + PAUSE * 30;
                    }
                }
            }
        }
    }

    async fn take_ceremonies(
        &self,
        engine: usize,
        taken: &mut Option<(String, u64)>,
    ) -> Result<(), ManagerError> {
        let known = taken.as_ref().map(|(engine, number)| (engine.as_str(), *number));
        let Ceremonies { engine: id, entries } = self.rotation.ceremonies(engine, known).await?;
        let before = known.filter(|(engine, _)| *engine == id).map_or(0, |(_, number)| number);
        // The engine gives them again until it is told that they are written down.
        for entry in entries.into_iter().filter(|entry| entry.number > before) {
            let number = entry.number;
            self.auditor.note(AuditEvent::Ceremony { engine: id.clone(), entry }).await?;
            *taken = Some((id.clone(), number));
        }
        Ok(())
    }

    /// Those that have gone on since they were noted last.
    async fn note_heads(
        &self,
        noted: &mut HashMap<AuditWriter, u64>,
        foreign: &mut HashSet<(String, i64)>,
    ) -> Result<(), ManagerError> {
        let mut heads = self.genuine_heads(foreign).await?;
        heads.retain(|head| noted.get(&head.writer) != Some(&head.sequence));
        for heads in heads.chunks(MAX_AUDIT_COUNTS) {
            self.auditor.note(AuditEvent::Heads { heads: heads.to_vec() }).await?;
            noted.extend(heads.iter().map(|head| (head.writer, head.sequence)));
        }
        Ok(())
    }
}
