//! The document of a request: what one operator has asked for, and another must approve.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::operator::{check_id, check_name, check_roles};
use super::{Document, DocumentKind, Grants, OperatorRole, PasswordHash};

/// What cannot be undone, or opens doors.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Act {
    /// Schedule the destruction of a version of a key, or of all.
    DestroyKey {
        /// The version; `None` for all.
        version: Option<u32>,
        /// Seconds from the approval until then.
        after_seconds: u64,
    },
    /// Schedule the destruction of the versions of a key below one.
    TrimKey {
        /// The lowest version that stays.
        below: u32,
        /// Seconds from the approval until then.
        after_seconds: u64,
    },
    /// Take a key's mark away, by which granting DEC on it takes two persons.
    UnmarkKey,
    /// Make an app with grants that open doors. Who has asked does it, once, and sees the secret.
    CreateApp {
        /// The name.
        name: String,
        /// Addresses that it may log in from.
        allow: Vec<IpNet>,
        /// What it may do.
        grants: Grants,
        /// Whether it may come over HTTP, with a secret of its own for that.
        #[serde(default, skip_serializing_if = "super::is_false")]
        http: bool,
    },
    /// Give an app with grants that open doors a new secret. Who has asked does it, once, and sees it.
    RotateSecret {
        /// Seconds for which the secret of before is still taken.
        overlap_seconds: u64,
        /// Whether a still older one is dropped at once.
        drop_older: bool,
        /// Whether it is the HTTP secret.
        #[serde(default, skip_serializing_if = "super::is_false")]
        http: bool,
    },
    /// Let an app do other things, or from elsewhere, where that opens doors.
    SetApp {
        /// Addresses that it may log in from.
        allow: Vec<IpNet>,
        /// What it may do.
        grants: Grants,
    },
    /// Let an operator sign in again.
    EnableOperator,
    /// Make an operator.
    CreateOperator {
        /// The id.
        id: String,
        /// The name.
        name: String,
        /// What they may do.
        roles: Vec<OperatorRole>,
        /// The password.
        password: PasswordHash,
    },
    /// Give an operator other roles.
    SetRoles {
        /// What they may do.
        roles: Vec<OperatorRole>,
    },
    /// Give an operator another password.
    ResetPassword {
        /// The password.
        password: PasswordHash,
    },
    /// Ask for two persons no longer, or let a destruction wait for less time.
    SetPolicy {
        /// Whether two persons are needed.
        two_persons: bool,
        /// The least seconds between the word that a version is to be destroyed, and its destruction.
        destroy_wait_seconds: u64,
    },
}

impl Act {
    /// The role that asks for it, and approves it; a root-officer approves everything.
    #[must_use]
    pub const fn role(&self) -> OperatorRole {
        match self {
            Self::DestroyKey { .. } | Self::TrimKey { .. } | Self::UnmarkKey => {
                OperatorRole::KeyAdmin
            }
            Self::CreateApp { .. } | Self::RotateSecret { .. } | Self::SetApp { .. } => {
                OperatorRole::AppAdmin
            }
            Self::CreateOperator { .. }
            | Self::EnableOperator
            | Self::SetRoles { .. }
            | Self::ResetPassword { .. }
            | Self::SetPolicy { .. } => OperatorRole::RootOfficer,
        }
    }

    /// Whether it shows a secret, so that who has asked for it does it when it is approved.
    #[must_use]
    pub const fn shows_a_secret(&self) -> bool {
        matches!(self, Self::CreateApp { .. } | Self::RotateSecret { .. })
    }

    /// Of what is to be destroyed, the version that it stays below.
    #[must_use]
    pub const fn below(&self) -> u32 {
        match self {
            Self::TrimKey { below, .. } => *below,
            _ => u32::MAX,
        }
    }

    /// Whether it is the same, whenever it is to be done.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::DestroyKey { version, .. }, Self::DestroyKey { version: others, .. }) => {
                version == others
            }
            (Self::TrimKey { below, .. }, Self::TrimKey { below: others, .. }) => below == others,
            (one, other) => one == other,
        }
    }

    /// Whether an app may ask for it.
    const fn may_come_from_an_app(&self) -> bool {
        matches!(self, Self::DestroyKey { .. } | Self::TrimKey { .. })
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::DestroyKey { .. }
            | Self::TrimKey { .. }
            | Self::UnmarkKey
            | Self::RotateSecret { .. }
            | Self::EnableOperator
            | Self::SetPolicy { .. } => Ok(()),
            Self::CreateApp { allow, .. } | Self::SetApp { allow, .. } => {
                match allow.iter().any(|net| net.trunc() != *net) {
                    true => Err("a network of the allow-list has host bits".into()),
                    false => Ok(()),
                }
            }
            Self::CreateOperator { id, name, roles, password } => {
                check_id(id, "op_")?;
                check_name(name)?;
                check_roles(roles)?;
                password.check()
            }
            Self::SetRoles { roles } => check_roles(roles),
            Self::ResetPassword { password } => password.check(),
        }
    }
}

/// What a request is about, as it was when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The id of its document.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The revision of its document: when that has changed, the request is for nothing.
    pub revision: u64,
}

/// An operator, or an app, as a record names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The id.
    pub id: String,
    /// The name at that time.
    pub name: String,
    /// Unix time in seconds.
    pub at: u64,
}

/// What has become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestState {
    /// Nobody has decided yet.
    Pending,
    /// Somebody else has approved it, and it is about to be done.
    Approved,
    /// It is done.
    Done,
    /// Somebody has refused it, or who has asked has taken it back.
    Refused,
}

/// The document of a request.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestDocument {
    /// Always [`DocumentKind::Request`].
    #[serde(rename = "type")]
    pub kind: DocumentKind,
    /// `rq_` and 24 hexadecimal digits: also its name.
    pub id: String,
    /// See [`Document::revision`].
    pub revision: u64,
    /// What has become of it.
    pub state: RequestState,
    /// What was asked for.
    pub act: Act,
    /// What it is about; `None` for what is yet to be made.
    pub target: Option<Target>,
    /// Who has asked.
    pub asked: Person,
    /// Unix time in seconds from which it can no longer be approved.
    pub expires: u64,
    /// Who has decided; `None` while it is pending.
    pub decided: Option<Person>,
}

impl Document for RequestDocument {
    const KIND: DocumentKind = DocumentKind::Request;

    fn kind(&self) -> DocumentKind {
        self.kind
    }

    fn id(&self) -> String {
        self.id.clone()
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn name(&self) -> &str {
        &self.id
    }

    fn number(&self) -> Option<u32> {
        None
    }

    fn due(&self) -> Option<u64> {
        None
    }

    fn check(&self) -> Result<(), String> {
        check_id(&self.id, "rq_")?;
        self.act.check()?;
        if !self.act.may_come_from_an_app() || check_id(&self.asked.id, "ak_").is_err() {
            check_id(&self.asked.id, "op_")?;
        }
        let Some(decided) = &self.decided else {
            return match self.state {
                RequestState::Pending => Ok(()),
                _ => Err("nobody has decided it".into()),
            };
        };
        check_id(&decided.id, "op_")?;
        match self.state {
            RequestState::Pending => Err("it is pending, and somebody has decided it".into()),
            RequestState::Approved | RequestState::Done if decided.id == self.asked.id => {
                Err("who has asked for it does not approve it".into())
            }
            RequestState::Approved | RequestState::Done if decided.at >= self.expires => {
                Err("it was approved when its time was over".into())
            }
            _ => Ok(()),
        }
    }
}
