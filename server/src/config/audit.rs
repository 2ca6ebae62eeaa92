//! The section `[audit]`.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use sealwire_keystore::audit::{AuditLimits, AuditSettings};
use serde::{Deserialize, Serialize};

/// The least room for notes, in bytes.
const LEAST: u64 = 64 * 1024;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AuditConfig {
    /// Where it is told how far the chains of records go; `DATA_DIR/audit.heads` unless set. It belongs on
    /// another machine.
    pub(crate) heads: Option<PathBuf>,
    /// Bytes of the data folder for what waits to be recorded, while the keystore is away.
    pub(crate) notes_bytes: u64,
    /// Bytes for logins that were refused, apart from the others.
    pub(crate) refusals_bytes: u64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        let AuditLimits { notes, refusals } = AuditLimits::default();
        Self { heads: None, notes_bytes: notes, refusals_bytes: refusals }
    }
}

impl AuditConfig {
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.notes_bytes >= LEAST && self.refusals_bytes >= LEAST,
            "audit: notes_bytes and refusals_bytes must be at least {LEAST}"
        );
        Ok(())
    }

    pub(crate) fn settings(&self, data_dir: &Path) -> AuditSettings {
        AuditSettings {
            folder: data_dir.to_owned(),
            heads: self.heads.clone().unwrap_or_else(|| data_dir.join("audit.heads")),
            limits: AuditLimits { notes: self.notes_bytes, refusals: self.refusals_bytes },
        }
    }
}
