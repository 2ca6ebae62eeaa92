//! What the API takes and shows of operators.

use sealwire_engine::document::{OperatorDocument, OperatorRole, OperatorState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Caller, Password, SessionToken, Who};

/// Who signs in.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The name.
    pub name: String,
    /// The password.
    #[schema(value_type = String)]
    pub password: Password,
}

/// Who has signed in. The token is shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct SignedIn {
    /// The session's token, for `Authorization: Bearer`.
    #[schema(value_type = String)]
    pub token: SessionToken,
    /// Who it stands for.
    pub operator: CallerView,
}

/// Who calls, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallerView {
    /// The name; `None` before the first operator.
    pub name: Option<String>,
    /// What they may do.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<OperatorRole>,
    /// The token that stands for them, by id.
    pub token: Option<String>,
    /// Whether somebody else has chosen their password: they can do nothing before they have changed it.
    #[serde(default)]
    pub must_change_password: bool,
}

impl CallerView {
    pub(crate) fn new(caller: &Caller) -> Self {
        match &caller.who {
            Who::Unclaimed => Self {
                name: None,
                roles: OperatorRole::ALL.to_vec(),
                token: None,
                must_change_password: false,
            },
            Who::Operator { name, roles, token, must_change_password, .. } => Self {
                name: Some(name.clone()),
                roles: roles.clone(),
                token: token.clone(),
                must_change_password: *must_change_password,
            },
        }
    }
}

/// An operator to make.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateOperator {
    /// The name to sign in with: 1 to 64 bytes.
    pub name: String,
    /// What they may do.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<OperatorRole>,
    /// The password: at least 12 characters.
    #[schema(value_type = String)]
    pub password: Password,
}

/// Other roles for an operator.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRoles {
    /// What they may do from now on.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<OperatorRole>,
}

/// Another password for somebody else.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetPassword {
    /// The password.
    #[schema(value_type = String)]
    pub password: Password,
}

/// Another password for oneself.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The one of now.
    #[schema(value_type = String)]
    pub current: Password,
    /// The one from now on.
    #[schema(value_type = String)]
    pub new: Password,
}

/// A root-officer whom a quorum of key cards is to make.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// The name to sign in with: 1 to 64 bytes.
    pub name: String,
    /// The password: at least 12 characters.
    #[schema(value_type = String)]
    pub password: Password,
}

/// What a quorum of key cards must allow, in words.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The words.
    pub statement: String,
}

/// What a quorum of key cards has allowed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Warranted {
    /// The words.
    pub statement: String,
    /// What the engine has made over them, base64.
    pub warrant: String,
}

/// A token to make.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What it is for.
    pub name: String,
    /// What it may do: no more than its operator.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<OperatorRole>,
    /// Seconds until it is no longer taken: from a minute to a year.
    pub lifetime_seconds: u64,
}

/// A token, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Which one it is.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// What it may do, as far as its operator may.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<OperatorRole>,
    /// Unix time in seconds of its making.
    pub created: u64,
    /// Unix time in seconds from which it is no longer taken.
    pub expires: u64,
}

/// A token that was made. It is shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// What is known of it.
    #[serde(flatten)]
    pub view: TokenView,
    /// The token, for `Authorization: Bearer`.
    #[schema(value_type = String)]
    pub token: SessionToken,
}

/// An operator, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperatorView {
    /// The id.
    pub id: String,
    /// The name to sign in with.
    pub name: String,
    /// Whether they may sign in.
    #[schema(value_type = String)]
    pub state: OperatorState,
    /// What they may do.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<OperatorRole>,
    /// Unix time in seconds of their making.
    pub created: u64,
    /// Unix time in seconds at which the password was set.
    pub password_set: u64,
    /// Whether somebody else has chosen it, and it is yet to be changed.
    #[serde(default)]
    pub password_foreign: bool,
    /// Their tokens.
    pub tokens: Vec<TokenView>,
    /// From where they are signed in at this manager. Not in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<String>,
    /// The document's revision.
    pub revision: u64,
}

impl OperatorView {
    pub(crate) fn new(operator: &OperatorDocument) -> Self {
        let tokens = operator.tokens.iter().map(|token| TokenView {
            id: token.id.clone(),
            name: token.name.clone(),
            roles: token.roles.clone(),
            created: token.created,
            expires: token.expires,
        });
        Self {
            id: operator.id.clone(),
            name: operator.name.clone(),
            state: operator.state,
            roles: operator.roles.clone(),
            created: operator.created,
            password_set: operator.password.set,
            password_foreign: operator.password.foreign,
            tokens: tokens.collect(),
            sessions: Vec::new(),
            revision: operator.revision,
        }
    }
}

/// Every operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperatorList {
    /// The operators, by name.
    pub operators: Vec<OperatorView>,
    /// Names of rows that do not verify: somebody has changed the database.
    pub unverified: Vec<String>,
}

/// That something was done about which there is nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {}
