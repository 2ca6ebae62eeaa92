//! The commands of the audit.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ManagerSocket;

#[derive(Subcommand)]
pub(crate) enum Audit {
    /// Show records, the newest first.
    #[command(
        after_help = "Examples:\n  sealwire audit list\n  sealwire audit list --since 1h --event changed,done\n  \
                      sealwire audit list --about alice --limit 500 --json\n\n\
                      Events: started, lost, logged-in, login-refused, logins-refused, opened, used, changed,\n\
                      done, ceremony, heads."
    )]
    List(AuditList),
    /// Check that no record was changed, added, moved or removed, and that no chain was cut off.
    #[command(after_help = "Examples:\n  sealwire audit verify\n  \
                            sealwire audit verify --head /mnt/elsewhere/audit.heads\n\n\
                            Without --head, a chain whose end was cut off is seen as long as its writer, or another\n\
                            chain, remembers it.")]
    Verify {
        /// A file of heads, kept outside the database; may be repeated.
        #[arg(long = "head")]
        heads: Vec<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: ManagerSocket,
    },
    /// Print every record as it is stored, one JSON object a line: writer, sequence, body, mac.
    #[command(after_help = "Example:\n  sealwire audit export > audit.jsonl")]
    Export {
        #[command(flatten)]
        socket: ManagerSocket,
    },
}

#[derive(Args)]
pub(crate) struct AuditList {
    /// From when on: a time (2026-11-26T12:00:00Z), or how long ago (90m, 2days).
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// Until when: a time, or how long ago.
    #[arg(long)]
    pub(crate) until: Option<String>,
    /// Only these events, separated by commas.
    #[arg(long)]
    pub(crate) event: Option<String>,
    /// Only records of this writer.
    #[arg(long)]
    pub(crate) writer: Option<String>,
    /// Only records in which this text stands: a name, an id, an address.
    #[arg(long)]
    pub(crate) about: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
    /// Print JSON: an array of objects.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: ManagerSocket,
}
