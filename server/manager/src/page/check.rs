//! The check of all chains of audit records, which takes as long as there are records: it goes on by itself, one at a
//! time, and whoever looks at the audit sees how far it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::response::{IntoResponse, Redirect, Response};

use super::visit::Visitor;
use crate::Manager;
use crate::audit::verify::{Report, everything};

/// How far a check is.
#[derive(Clone, Default)]
pub(super) enum CheckState {
    /// None was run since the manager was started.
    #[default]
    Never,
    /// One runs.
    Running {
        /// Who has begun it.
        by: String,
        /// Records checked, and records there are.
        progress: Arc<(AtomicU64, AtomicU64)>,
    },
    /// It has found this.
    Found {
        /// Who had begun it.
        by: String,
        /// Unix time in seconds of its end.
        at: u64,
        report: Box<Report>,
    },
    /// It could not go on.
    Failed {
        /// Who had begun it.
        by: String,
        /// Unix time in seconds of its end.
        at: u64,
        why: String,
    },
}

impl CheckState {
    pub(super) fn checked(&self) -> u64 {
        match self {
            Self::Running { progress, .. } => progress.0.load(Ordering::Relaxed),
            _ => 0,
        }
    }

    pub(super) fn total(&self) -> u64 {
        match self {
            Self::Running { progress, .. } => progress.1.load(Ordering::Relaxed),
            _ => 0,
        }
    }
}

/// The check that runs, or was run last.
pub(super) struct ChainCheck {
    manager: Arc<Manager>,
    state: Arc<Mutex<CheckState>>,
}

impl ChainCheck {
    pub(super) fn new(manager: Arc<Manager>) -> Self {
        Self { manager, state: Arc::default() }
    }

    pub(super) fn state(&self) -> CheckState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins one, unless one runs.
    fn begin(&self, visitor: &Visitor) {
        let by = visitor.frame().name().to_owned();
        let progress = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*state, CheckState::Running { .. }) {
                return;
            }
            *state = CheckState::Running { by: by.clone(), progress: progress.clone() };
        }
        let ending = Ending { state: self.state.clone(), by, end: None };
        let manager = self.manager.clone();
        tokio::spawn(async move {
            let mut ending = ending;
            let told = |checked, total| {
                progress.0.store(checked, Ordering::Relaxed);
                progress.1.store(total, Ordering::Relaxed);
            };
            let found = everything(&*manager, &[], &told).await;
            ending.end = Some(found.map_err(|error| error.to_string()));
        });
    }
}

/// Says how a check has ended: also one that has panicked.
struct Ending {
    state: Arc<Mutex<CheckState>>,
    by: String,
    end: Option<Result<Report, String>>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let (by, at) = (std::mem::take(&mut self.by), since.map_or(0, |since| since.as_secs()));
        let ended = match self.end.take() {
            Some(Ok(report)) => CheckState::Found { by, at, report: Box::new(report) },
            Some(Err(why)) => CheckState::Failed { by, at, why },
            None => CheckState::Failed { by, at, why: "the check was cut off".into() },
        };
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = ended;
    }
}

pub(super) async fn begin(visitor: Visitor) -> Response {
    if visitor.frame().watches() {
        visitor.visit.front.check.begin(&visitor);
    }
    Redirect::to("/audit#check").into_response()
}
