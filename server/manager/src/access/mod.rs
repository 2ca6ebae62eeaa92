//! Who calls, and what they may do.
//!
//! | module | what it does |
//! |---|---|
//! | `password` | Argon2id, at most two at once |
//! | `attempts` | wrong passwords: who sends them waits |
//! | `sessions` | who is signed in |
//! | `break_glass` | a quorum of key cards makes a root-officer |
//! | `claim` | whether the site has operators |
//! | `views` | what the API takes and shows of them |
//! | [`operators`](crate::Manager) | make and change operators and their tokens |

mod attempts;
mod break_glass;
mod claim;
mod operators;
mod password;
mod sessions;
mod views;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

pub use attempts::Source;
pub(crate) use operators::{random_id, sorted};
pub use password::Password;
use sealwire_engine::SignedDocument;
use sealwire_engine::audit::AuditEvent;
use sealwire_engine::document::{
    DocumentKind, MAX_OPERATOR_NAME, OperatorDocument, OperatorRole, OperatorState, OperatorToken,
    PasswordHash,
};
use sealwire_keystore::By;
pub use sessions::{SessionLimits, SessionToken};
use subtle::ConstantTimeEq;
pub use views::{
    BreakGlass, CallerView, ChangePassword, CreateOperator, CreateToken, CreatedToken, Done,
    OperatorList, OperatorView, ResetPassword, SetRoles, SignIn, SignedIn, Statement, TokenView,
    Warranted,
};

use crate::{Manager, ManagerError};
use attempts::Attempts;
use break_glass::Glass;
use claim::Claim;
use password::Passwords;
use sessions::{Holder, Sessions};

/// What a token of an operator begins with; a session's does not.
pub(crate) const TOKEN_PREFIX: &str = "swt_";

/// Whom an unknown name stands for.
const NOBODY: &str = "op_000000000000000000000000";

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub who: Who,
    /// Where the call comes from.
    pub source: Source,
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// The site has no operators yet, and the call comes over the manager's socket.
    Unclaimed,
    /// An operator.
    Operator {
        /// The id.
        id: String,
        /// The name.
        name: String,
        /// What they may do here: of a token, no more than was given to it.
        roles: Vec<OperatorRole>,
        /// The token that stands for them, by id; `None` when they have signed in themselves.
        token: Option<String>,
        /// Whether somebody else has chosen their password: they can do nothing before they have changed it.
        must_change_password: bool,
    },
}

impl Caller {
    /// The operator's name, for the log and the audit.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.who {
            Who::Unclaimed => "(the socket, before the first operator)",
            Who::Operator { name, .. } => name,
        }
    }

    /// Whether they have one of these roles. Before the first operator, whoever may open the socket has all.
    #[must_use]
    pub fn has(&self, wanted: &[OperatorRole]) -> bool {
        match &self.who {
            Who::Unclaimed => true,
            Who::Operator { roles, .. } => wanted.iter().any(|role| roles.contains(role)),
        }
    }

    /// Whether they must change their password before anything else.
    #[must_use]
    pub fn must_change_password(&self) -> bool {
        matches!(self.who, Who::Operator { must_change_password: true, .. })
    }

    /// Whether a person has signed in, rather than a program with a token.
    #[must_use]
    pub fn is_person(&self) -> bool {
        !matches!(self.who, Who::Operator { token: Some(_), .. })
    }
}

/// What the manager knows of those who call.
pub(crate) struct Access {
    passwords: Passwords,
    attempts: Attempts,
    sessions: Sessions,
    pub(crate) claim: Claim,
    glass: Glass,
    /// Documents that the engine has verified, by id: while it is sealed, who has signed in before can still see
    /// why nothing goes on. As many as there are operators.
    verified: Mutex<HashMap<String, SignedDocument>>,
}

impl Access {
    pub(crate) fn new(folder: PathBuf, limits: SessionLimits) -> Self {
        Self {
            passwords: Passwords::new(),
            attempts: Attempts::new(),
            sessions: Sessions::new(limits),
            claim: Claim::new(folder),
            glass: Glass::default(),
            verified: Mutex::default(),
        }
    }
}

impl Manager {
    /// Signs an operator in. Unknown names take as long as wrong passwords.
    ///
    /// # Errors
    /// [`ManagerError::SignInRefused`], whatever is wrong; [`ManagerError::SlowDown`] after several of them;
    /// [`ManagerError::Busy`].
    pub async fn sign_in(
        &self,
        name: &str,
        password: Password,
        source: Source,
    ) -> Result<(SessionToken, Caller), ManagerError> {
        // Nobody is called so: it is not looked for, and not remembered.
        let name = if name.len() > MAX_OPERATOR_NAME { "" } else { name };
        let attempt = self.access.attempts.begin(name, source, Instant::now());
        let attempt = attempt.map_err(|wait| {
            // Who they are is not looked at any more; a password in the name's place must not be told.
            self.record_refused(
                "(a name that is not looked at)",
                source,
                "too many wrong passwords",
            );
            ManagerError::SlowDown(wait)
        })?;
        let found = match self.read::<OperatorDocument>(By::Name(name)).await {
            Err(error) if error.is_tampering() => {
                tracing::error!(%error, "a row of the keystore");
                None
            }
            found => found.inspect_err(|_| attempt.take_back())?,
        };
        let right = self.check_password(found.as_deref(), password).await;
        let right = right.inspect_err(|_| attempt.take_back())?;
        let known = found.is_some();
        let operator = found.filter(|operator| right && operator.state == OperatorState::Active);
        let Some(operator) = operator else {
            tracing::warn!(%source, "sign-in refused");
            let who = if known { name } else { "(no operator's name)" };
            self.record_refused(who, source, "wrong password, or disabled");
            return Err(ManagerError::SignInRefused);
        };
        attempt.was_right();
        let who = operator.name.clone();
        self.auditor.note(AuditEvent::LoggedIn { who, from: source.address() }).await?;
        let holder = Holder::of(&operator);
        let token = self.access.sessions.open(holder, source, Instant::now())?;
        let caller = Caller { who: self::who(&operator, None), source };
        tracing::info!(operator = %operator.name, %source, "signed in");
        Ok((token, caller))
    }

    /// Whether a password is the operator's; without one, no password is, and finding that out takes as long.
    async fn check_password(
        &self,
        operator: Option<&OperatorDocument>,
        password: Password,
    ) -> Result<bool, ManagerError> {
        let known = operator.map(|operator| &operator.password);
        let hash = self.access.passwords.hash_as(password, known).await?;
        let id = operator.map_or(NOBODY, |operator| &operator.id);
        let peppered = self.engine.pepper(&*self.site().await?, id, &hash).await?;
        let expected = known.and_then(PasswordHash::hash);
        let same = peppered.ct_eq(&expected.unwrap_or_default());
        Ok(expected.is_some() & bool::from(same))
    }

    /// What is stored of a new password.
    pub(crate) async fn hash_password(
        &self,
        (id, name): (&str, &str),
        password: Password,
    ) -> Result<PasswordHash, ManagerError> {
        let hashed = self.access.passwords.hash(password, name).await?;
        let peppered = self.engine.pepper(&*self.site().await?, id, &hashed.hash).await?;
        Ok(hashed.stored(&peppered, self.now()))
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`ManagerError::Audit`]: it is over all the same.
    pub async fn sign_out(&self, token: &str) -> Result<(), ManagerError> {
        self.access.sessions.close(token);
        self.record("session.end").await
    }

    /// Who calls, by what they prove it with: the token of a session, or one of an operator.
    ///
    /// # Errors
    /// [`ManagerError::SignInNeeded`] without one, or with one that is good for nothing.
    pub async fn caller(
        &self,
        proof: Option<&str>,
        source: Source,
    ) -> Result<Caller, ManagerError> {
        let who = match proof {
            Some(token) if token.starts_with(TOKEN_PREFIX) => self.by_token(token).await?,
            Some(token) => self.by_session(token).await?,
            None if source == Source::Socket && !self.is_claimed().await? => Who::Unclaimed,
            None => return Err(ManagerError::SignInNeeded),
        };
        Ok(Caller { who, source })
    }

    async fn by_session(&self, token: &str) -> Result<Who, ManagerError> {
        let found = self.access.sessions.find(token, Instant::now());
        let holder = found.ok_or(ManagerError::SignInNeeded)?;
        let operator = self.active_operator(&holder.operator).await?;
        // At whichever manager the password was changed, or the operator disabled meanwhile.
        if Holder::of(&operator) != holder {
            return Err(ManagerError::SignInNeeded);
        }
        Ok(who(&operator, None))
    }

    /// A token names its operator and itself, so that the hash to compare it with is found by what is no secret.
    async fn by_token(&self, token: &str) -> Result<Who, ManagerError> {
        let parts = token.strip_prefix(TOKEN_PREFIX).and_then(|rest| {
            let (operator, rest) = rest.split_once('_')?;
            let (id, secret) = rest.split_once('_')?;
            Some((format!("op_{operator}"), format!("tk_{id}"), secret))
        });
        let (operator, id, secret) = parts.ok_or(ManagerError::SignInNeeded)?;
        let operator = self.active_operator(&operator).await?;
        let token = operator.tokens.iter().find(|token| token.id == id);
        let digest = sessions::digest(secret);
        let good = token.filter(|token| {
            let known = token.digest().unwrap_or_default();
            bool::from(known.ct_eq(&digest)) && self.now() < token.expires
        });
        let token = good.ok_or(ManagerError::SignInNeeded)?;
        Ok(who(&operator, Some(token)))
    }

    /// An operator who may do something, by id, as the keystore says at this moment.
    async fn active_operator(&self, id: &str) -> Result<OperatorDocument, ManagerError> {
        let operator = match self.read_signed::<OperatorDocument>(By::Id(id)).await {
            Ok(found) => found.map(|(signed, verified)| {
                let mut known = self.access.verified.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(id.to_owned(), signed);
                verified.into_inner()
            }),
            Err(error) if error.is_sealed() => match self.verified_before(id).await? {
                Some(operator) => Some(operator),
                None => return Err(error),
            },
            Err(error) => return Err(error),
        };
        let operator = operator.filter(|operator| operator.state == OperatorState::Active);
        let operator = operator.ok_or(ManagerError::SignInNeeded)?;
        // From here on this machine knows that there are operators.
        self.access.claim.make()?;
        Ok(operator)
    }

    /// While the engine is sealed: a document that it has verified before, if the keystore still holds just that.
    async fn verified_before(&self, id: &str) -> Result<Option<OperatorDocument>, ManagerError> {
        let row = self.keystore.document(DocumentKind::Operator, By::Id(id)).await?;
        let known = self.access.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let same = row.filter(|row| known.get(id) == Some(&row.signed));
        Ok(same.and_then(|row| serde_json::from_slice(&row.signed.body).ok()))
    }

    /// Whether the site has operators: then the socket asks who calls, too.
    async fn is_claimed(&self) -> Result<bool, ManagerError> {
        if self.access.claim.is_made()? {
            return Ok(true);
        }
        // Also a row that does not verify is one: absence permits here, and must be beyond doubt.
        let listed = self.keystore.list(DocumentKind::Operator, "", 1).await?;
        let claimed = !listed.rows.is_empty() || !listed.broken.is_empty();
        if claimed {
            self.access.claim.make()?;
        }
        Ok(claimed)
    }
}

fn who(operator: &OperatorDocument, token: Option<&OperatorToken>) -> Who {
    let roles = operator.roles.iter().filter(|role| match token {
        Some(token) => token.roles.contains(role),
        None => true,
    });
    Who::Operator {
        id: operator.id.clone(),
        name: operator.name.clone(),
        roles: roles.copied().collect(),
        token: token.map(|token| token.id.clone()),
        must_change_password: operator.password.foreign,
    }
}
