//! What a record tells of.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{AuditHead, AuditWriterKind};
use crate::custody::CeremonyEntry;

/// Most counts in one record.
pub const MAX_AUDIT_COUNTS: usize = 256;

/// Longest text in a record, in bytes: whatever a stranger has sent is cut to it.
pub const MAX_AUDIT_TEXT: usize = 128;

/// Longest text that the server itself has put together.
const MAX_DETAIL: usize = 2048;

/// What a record tells of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AuditEvent {
    /// The writer has started.
    Started {
        /// Its version.
        version: String,
    },
    /// Notes were lost: the place for them was full, or they could not be written down.
    Lost {
        /// How many.
        notes: u64,
    },
    /// An app has logged in, or an operator has signed in.
    LoggedIn {
        /// The AppKey, or the operator's name.
        who: String,
        /// From which address; `None` for the manager's socket.
        from: Option<IpAddr>,
    },
    /// A login was refused, or something that an operator may not do: the first one of this app or operator, from this
    /// address, for this reason, in its minute.
    LoginRefused {
        /// The AppKey, or the operator's name, as it was said.
        who: String,
        /// From which address; `None` for the manager's socket.
        from: Option<IpAddr>,
        /// Why.
        why: String,
    },
    /// How many logins were refused.
    LoginsRefused {
        /// In which minute: Unix time in seconds.
        minute: u64,
        /// How many of whom.
        counts: Vec<AuditRefusals>,
        /// How many of others, who were too many to be named.
        others: u64,
    },
    /// A message of a key that is marked as sensitive was opened.
    Opened {
        /// The AppKey.
        who: String,
        /// From which address.
        from: IpAddr,
        /// The key's index.
        key: u32,
        /// The key's version.
        version: u32,
        /// The first 12 bytes of its nonce, which no other message has: hex.
        message: String,
    },
    /// What apps have done.
    Used {
        /// In which minute: Unix time in seconds.
        minute: u64,
        /// What, by app and key.
        counts: Vec<AuditUse>,
    },
    /// Somebody, or the manager by itself, has changed a document.
    Changed {
        /// Who.
        by: AuditActor,
        /// What they have done: `key.rotate`.
        act: String,
        /// To which document.
        on: AuditSubject,
        /// What else there is to say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// Something was done that changes no document.
    Done {
        /// Who.
        by: AuditActor,
        /// What they have done: `root.rotate`.
        act: String,
        /// What else there is to say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// An officer has done something at an engine.
    Ceremony {
        /// Which engine: the id that its data folder keeps.
        engine: String,
        /// What, and when.
        entry: CeremonyEntry,
    },
    /// How far the chains of all writers went then.
    Heads {
        /// Each one's head.
        heads: Vec<AuditHead>,
    },
}

/// Who has done something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "actor", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AuditActor {
    /// An operator.
    Operator {
        /// The id.
        id: String,
        /// The name at that time.
        name: String,
        /// The token that stood for them, by id; `None` when they had signed in themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// From which address; `None` for the manager's socket.
        from: Option<IpAddr>,
    },
    /// Whoever could open the manager's socket, before the first operator was made.
    Socket,
    /// An app, by GENKEY.
    App {
        /// The AppKey.
        id: String,
    },
    /// A quorum of key cards.
    Quorum,
    /// The manager by itself.
    Manager,
}

/// A document, as a change has left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditSubject {
    /// Its kind.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its revision.
    pub revision: u64,
    /// SHA-256 of its bytes, hex.
    pub digest: String,
}

/// Refused logins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRefusals {
    /// The AppKey, or the operator's name, as it was said.
    pub who: String,
    /// From which address; `None` for the manager's socket.
    pub from: Option<IpAddr>,
    /// How many.
    pub count: u64,
}

/// What an app has done with a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditUse {
    /// The AppKey.
    pub who: String,
    /// The key's index: of REENC, that of the key that has opened.
    pub key: u32,
    /// Messages sealed.
    pub enc: u64,
    /// Messages opened.
    pub dec: u64,
    /// Messages sealed again.
    pub reenc: u64,
    /// Data keys made.
    #[serde(default, skip_serializing_if = "is_none")]
    pub datakey: u64,
}

impl AuditEvent {
    /// The name, as it stands in the record.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Lost { .. } => "lost",
            Self::LoggedIn { .. } => "logged-in",
            Self::LoginRefused { .. } => "login-refused",
            Self::LoginsRefused { .. } => "logins-refused",
            Self::Opened { .. } => "opened",
            Self::Used { .. } => "used",
            Self::Changed { .. } => "changed",
            Self::Done { .. } => "done",
            Self::Ceremony { .. } => "ceremony",
            Self::Heads { .. } => "heads",
        }
    }

    /// Whether it comes from strangers, who may send as much of it as they like.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::LoginRefused { .. } | Self::LoginsRefused { .. })
    }

    /// Whether a process of this kind may tell of it.
    #[must_use]
    pub const fn may_come_from(&self, kind: AuditWriterKind) -> bool {
        match self {
            Self::Started { .. }
            | Self::Lost { .. }
            | Self::LoggedIn { .. }
            | Self::LoginRefused { .. }
            | Self::LoginsRefused { .. }
            | Self::Heads { .. } => true,
            Self::Opened { .. } | Self::Used { .. } => matches!(kind, AuditWriterKind::Gateway),
            Self::Changed { .. } | Self::Done { .. } | Self::Ceremony { .. } => {
                matches!(kind, AuditWriterKind::Manager)
            }
        }
    }

    /// Whether it says only what a record may say.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Started { version } => short(version),
            Self::Lost { .. } => Ok(()),
            Self::LoggedIn { who, .. } => short(who),
            Self::LoginRefused { who, why, .. } => short(who).and_then(|()| short(why)),
            Self::LoginsRefused { counts, .. } => {
                few(counts.len())?;
                counts.iter().try_for_each(|count| short(&count.who))
            }
            Self::Opened { who, message, .. } => short(who).and_then(|()| short(message)),
            Self::Used { counts, .. } => {
                few(counts.len())?;
                counts.iter().try_for_each(|count| short(&count.who))
            }
            Self::Changed { by, act, on, detail } => {
                by.check()?;
                let AuditSubject { kind, id, name, digest, .. } = on;
                [act, kind, id, name, digest].into_iter().try_for_each(|text| short(text))?;
                bounded(detail)
            }
            Self::Done { by, act, detail } => {
                by.check()?;
                short(act)?;
                bounded(detail)
            }
            Self::Ceremony { engine, entry } => short(engine).and_then(|()| entry.check()),
            Self::Heads { heads } => few(heads.len()),
        }
    }
}

impl AuditActor {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Operator { id, name, token, .. } => {
                short(id)?;
                short(name)?;
                token.as_deref().map_or(Ok(()), short)
            }
            Self::App { id } => short(id),
            Self::Socket | Self::Quorum | Self::Manager => Ok(()),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

fn few(count: usize) -> Result<(), String> {
    match count > MAX_AUDIT_COUNTS {
        true => Err(format!("more than {MAX_AUDIT_COUNTS} counts")),
        false => Ok(()),
    }
}

fn short(text: &str) -> Result<(), String> {
    match text.len() > MAX_AUDIT_TEXT {
        true => Err(format!("a text of more than {MAX_AUDIT_TEXT} bytes")),
        false => Ok(()),
    }
}

fn bounded(detail: &Option<String>) -> Result<(), String> {
    match detail.as_ref().is_some_and(|detail| detail.len() > MAX_DETAIL) {
        true => Err(format!("a detail of more than {MAX_DETAIL} bytes")),
        false => Ok(()),
    }
}
