//! What the API takes and shows of requests.

use ipnet::IpNet;
use sealwire_engine::document::{
    Act, Grant, Grants, OperatorRole, Person, RequestDocument, RequestState,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::audit::plain;

/// What has become of a call that may take a second person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It is done.
    Done(T),
    /// It is asked for, and another operator must approve it.
    Asked(Box<RequestView>),
}

/// A request, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestView {
    /// The id.
    pub id: String,
    /// `pending`, `approved`, `done`, `refused`, `expired`.
    pub state: String,
    /// What is asked for, in words, with what follows from it.
    pub what: String,
    /// The same for programs: but for passwords.
    pub wish: Wish,
    /// The name of the key, app or operator that it is about; `None` of what is to be made, and of the policy.
    pub target: Option<String>,
    /// The role that approves it, beside root-officers.
    #[schema(value_type = String)]
    pub role: OperatorRole,
    /// Who has asked, and when.
    #[schema(value_type = Object)]
    pub asked: Person,
    /// Unix time in seconds from which it can no longer be approved.
    pub expires: u64,
    /// Who has decided, and when.
    #[schema(value_type = Option<Object>)]
    pub decided: Option<Person>,
}

impl RequestView {
    pub(crate) fn new(request: &RequestDocument, now: u64) -> Self {
        let state = match request.state {
            RequestState::Pending | RequestState::Approved if now >= request.expires => "expired",
            RequestState::Pending => "pending",
            RequestState::Approved => "approved",
            RequestState::Done => "done",
            RequestState::Refused => "refused",
        };
        Self {
            id: request.id.clone(),
            state: state.to_owned(),
            what: words(request),
            wish: Wish::of(&request.act),
            target: request.target.as_ref().map(|target| target.name.clone()),
            role: request.act.role(),
            asked: request.asked.clone(),
            expires: request.expires,
            decided: request.decided.clone(),
        }
    }
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Wish {
    /// The destruction of a version of a key, or of all.
    DestroyKey {
        /// The version; `None` for all.
        version: Option<u32>,
        /// Seconds from the approval until then.
        after_seconds: u64,
    },
    /// The destruction of the versions of a key below one.
    TrimKey {
        /// The lowest version that stays.
        below: u32,
        /// Seconds from the approval until then.
        after_seconds: u64,
    },
    /// That a key is sensitive no longer.
    UnmarkKey,
    /// An app.
    CreateApp {
        /// The name.
        name: String,
        /// Addresses that it may log in from.
        #[schema(value_type = Vec<String>)]
        allow: Vec<IpNet>,
        /// What it may do.
        #[schema(value_type = Vec<String>)]
        grants: Vec<Grant>,
        /// Whether it may come over HTTP.
        #[serde(default)]
        http: bool,
    },
    /// A new secret for an app.
    RotateSecret {
        /// Seconds for which the secret of before is still taken.
        overlap_seconds: u64,
        /// Whether a still older one is dropped at once.
        drop_older: bool,
        /// Whether it is the HTTP secret.
        #[serde(default)]
        http: bool,
    },
    /// That an app may do other things, or from elsewhere.
    SetApp {
        /// Addresses that it may log in from.
        #[schema(value_type = Vec<String>)]
        allow: Vec<IpNet>,
        /// What it may do.
        #[schema(value_type = Vec<String>)]
        grants: Vec<Grant>,
    },
    /// That an operator may sign in again.
    EnableOperator,
    /// An operator.
    CreateOperator {
        /// The name.
        name: String,
        /// What they may do.
        #[schema(value_type = Vec<String>)]
        roles: Vec<OperatorRole>,
    },
    /// Other roles for an operator.
    SetRoles {
        /// What they may do.
        #[schema(value_type = Vec<String>)]
        roles: Vec<OperatorRole>,
    },
    /// Another password for an operator.
    ResetPassword,
    /// Another policy.
    SetPolicy {
        /// Whether two persons are needed.
        two_persons: bool,
        /// The least seconds between the word that a version is to be destroyed, and its destruction.
        destroy_wait_seconds: u64,
    },
}

impl Wish {
    fn of(act: &Act) -> Self {
        match act.clone() {
            Act::DestroyKey { version, after_seconds } => {
                Self::DestroyKey { version, after_seconds }
            }
            Act::TrimKey { below, after_seconds } => Self::TrimKey { below, after_seconds },
            Act::UnmarkKey => Self::UnmarkKey,
            Act::CreateApp { name, allow, grants, http } => {
                Self::CreateApp { name, allow, grants: grants.0, http }
            }
            Act::RotateSecret { overlap_seconds, drop_older, http } => {
                Self::RotateSecret { overlap_seconds, drop_older, http }
            }
            Act::SetApp { allow, grants } => Self::SetApp { allow, grants: grants.0 },
            Act::EnableOperator => Self::EnableOperator,
            Act::CreateOperator { name, roles, .. } => Self::CreateOperator { name, roles },
            Act::SetRoles { roles } => Self::SetRoles { roles },
            Act::ResetPassword { .. } => Self::ResetPassword,
            Act::SetPolicy { two_persons, destroy_wait_seconds } => {
                Self::SetPolicy { two_persons, destroy_wait_seconds }
            }
        }
    }
}

/// What a request asks for, in words. What operators have named cannot make other words of it: neither a terminal's
/// commands nor letters that turn the direction of text are left.
pub(super) fn words(request: &RequestDocument) -> String {
    plain(&raw_words(request))
}

fn raw_words(request: &RequestDocument) -> String {
    let name = request.target.as_ref().map_or("", |target| target.name.as_str());
    let list = |roles: &[OperatorRole]| {
        let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
        names.join(", ")
    };
    match &request.act {
        Act::DestroyKey { version, after_seconds } => {
            let what = match version {
                Some(version) => format!("version {version} of key `{name}`"),
                None => format!("every version of key `{name}`"),
            };
            format!(
                "destroy {what}, {after_seconds} s after the approval: what it has sealed never opens again"
            )
        }
        Act::TrimKey { below, after_seconds } => format!(
            "destroy the versions below {below} of key `{name}`, {after_seconds} s after the approval: what they have \
             sealed never opens again"
        ),
        Act::UnmarkKey => {
            format!("key `{name}` is sensitive no longer: one person may then grant DEC on it")
        }
        Act::CreateApp { name, allow, grants, http } => {
            let over = if *http { ", also over HTTP" } else { "" };
            format!("make app `{name}` with {}{over}", from_where(grants, allow))
        }
        Act::SetApp { allow, grants } => {
            format!("app `{name}` has from now on {}", from_where(grants, allow))
        }
        Act::CreateOperator { name, roles, .. } => format!(
            "make operator `{name}`: {}; who has asked knows the password: be sure that there is such a person",
            list(roles)
        ),
        Act::EnableOperator => format!("operator `{name}` may sign in again"),
        Act::RotateSecret { overlap_seconds, http, .. } => format!(
            "app `{name}` gets a new {}, which who has asked sees; the one of before is taken for {overlap_seconds} s",
            if *http { "HTTP secret" } else { "secret" }
        ),
        Act::SetRoles { roles } => format!("operator `{name}` has from now on: {}", list(roles)),
        Act::ResetPassword { .. } => {
            format!("operator `{name}` gets another password, which who has asked knows")
        }
        Act::SetPolicy { two_persons, destroy_wait_seconds } => {
            let two = if *two_persons { "needed" } else { "needed no longer" };
            format!("two persons are {two}; a destruction waits {destroy_wait_seconds} s")
        }
    }
}

fn from_where(grants: &Grants, allow: &[IpNet]) -> String {
    let allow: Vec<_> = allow.iter().map(ToString::to_string).collect();
    let grants: Vec<_> = grants.0.iter().map(ToString::to_string).collect();
    let grants = if grants.is_empty() { "no grant".to_owned() } else { grants.join(" ") };
    let allow = if allow.is_empty() { "nowhere".to_owned() } else { allow.join(", ") };
    format!("{grants} from {allow}")
}

/// Every request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestList {
    /// The requests, the newest first.
    pub requests: Vec<RequestView>,
    /// Names of rows that do not verify: somebody has changed the database.
    pub unverified: Vec<String>,
}

/// The policy, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// Whether what cannot be undone, or opens doors, takes two persons.
    pub two_persons: bool,
    /// The least seconds between the word that a version is to be destroyed, and its destruction.
    pub destroy_wait_seconds: u64,
    /// The document's revision; 0 while it was never set.
    pub revision: u64,
}

/// What to set the policy to. What is not given stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPolicy {
    /// Whether two persons are needed.
    #[serde(default)]
    pub two_persons: Option<bool>,
    /// The least seconds between the word that a version is to be destroyed, and its destruction.
    #[serde(default)]
    pub destroy_wait_seconds: Option<u64>,
}
