//! Operators: make, show, list, disable, enable, change roles and passwords, and their tokens.

use std::time::Instant;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealwire_engine::document::{
    Act, DocumentKind, MAX_TOKENS, OperatorDocument, OperatorRole, OperatorState, OperatorToken,
    PasswordHash,
};
use sealwire_engine::{EngineError, Verified};
use sealwire_keystore::{By, KeystoreError, Taken};
use zeroize::Zeroizing;

use super::sessions::Holder;
use super::{Caller, Password, TOKEN_PREFIX, Who, sessions};
use crate::changing::Draft;
use crate::requests::{Outcome, check_bound};
use crate::{
    CreateOperator, CreateToken, CreatedToken, Manager, ManagerError, OperatorList, OperatorView,
};

/// Operators that are read at once.
const PAGE: u32 = 200;

/// The longest life of a token, in seconds: a year.
const LONGEST_LIFE: u64 = 366 * 24 * 3600;

impl Manager {
    /// Makes an operator. The first one must be able to make others.
    ///
    /// # Errors
    /// [`ManagerError::Conflict`] when another operator has the name; [`ManagerError::Invalid`];
    /// [`ManagerError::Busy`].
    pub async fn create_operator(
        &self,
        request: CreateOperator,
        by: &Caller,
    ) -> Result<Outcome<OperatorView>, ManagerError> {
        let CreateOperator { name, roles, password } = request;
        let roles = sorted(roles);
        if by.who == Who::Unclaimed && !roles.contains(&OperatorRole::RootOfficer) {
            return Err(ManagerError::Invalid(
                "the first operator must be a root-officer: only they make other operators".into(),
            ));
        }
        check_operator_name(&name)?;
        if self.read::<OperatorDocument>(By::Name(&name)).await?.is_some() {
            return Err(taken(&name));
        }
        let id = random_id("op_")?;
        let hash = self.hash_password((&id, &name), password).await?;
        // The first one makes himself.
        let password = PasswordHash { foreign: by.who != Who::Unclaimed, ..hash };
        if self.officers_take_two(by).await? {
            let act = Act::CreateOperator { id, name, roles, password };
            return self.ask(by, act, None).await.map(Outcome::Asked);
        }
        let first = by.who == Who::Unclaimed;
        let made = self.make_operator((id, name), roles, password, first).await?;
        tracing::info!(operator = %made.name, by = by.name(), "operator made");
        Ok(Outcome::Done(made))
    }

    /// Makes an operator whose password is hashed: the first one, or a further one.
    pub(crate) async fn make_operator(
        &self,
        (id, name): (String, String),
        roles: Vec<OperatorRole>,
        password: PasswordHash,
        first: bool,
    ) -> Result<OperatorView, ManagerError> {
        let mut change = self.begin().await?;
        loop {
            let revision = change.revision().await?;
            // Two who are the first at once, at two managers: one of them is not.
            if first && self.is_claimed().await? {
                return Err(ManagerError::SignInNeeded);
            }
            // Whom a request has made already it does not make again.
            if self.read::<OperatorDocument>(By::Id(&id)).await?.is_some() {
                return Err(taken(&name));
            }
            let document = OperatorDocument {
                kind: DocumentKind::Operator,
                id: id.clone(),
                revision,
                name: name.clone(),
                state: OperatorState::Active,
                created: self.now(),
                roles: roles.clone(),
                password: password.clone(),
                epoch: 0,
                tokens: Vec::new(),
            };
            let roles: Vec<_> = document.roles.iter().map(ToString::to_string).collect();
            let deed = ("operator.create", format!("roles {}", roles.join(" ")));
            match change.commit(Draft::of(document, deed)).await {
                Ok(None) => {}
                Ok(Some(operator)) => {
                    self.access.claim.make()?;
                    return Ok(OperatorView::new(&operator));
                }
                Err(ManagerError::Keystore(KeystoreError::Taken(Taken::Name))) => {
                    return Err(taken(&name));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// An operator, by name or id.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchOperator`].
    pub async fn show_operator(&self, operator: &str) -> Result<OperatorView, ManagerError> {
        let mut view = OperatorView::new(&*self.find_operator(operator).await?);
        let sources = self.access.sessions.of(&view.id, Instant::now());
        view.sessions = sources.iter().map(ToString::to_string).collect();
        Ok(view)
    }

    /// Every operator, by name.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn list_operators(&self) -> Result<OperatorList, ManagerError> {
        let mut list = OperatorList { operators: Vec::new(), unverified: Vec::new() };
        let mut after = String::new();
        loop {
            let page = self.read_page::<OperatorDocument>(&after, PAGE).await?;
            list.operators.extend(page.documents.iter().map(|one| OperatorView::new(one)));
            list.unverified.extend(page.unverified);
            match page.next {
                Some(next) => after = next,
                None => return Ok(list),
            }
        }
    }

    /// Lets an operator sign in, or not, if their document has this revision, when one is named: their sessions end then, and their tokens are good for nothing.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchOperator`]; [`ManagerError::IllegalChange`] when nobody could make operators then.
    pub async fn set_operator_state(
        &self,
        operator: &str,
        state: OperatorState,
        bound: Option<u64>,
    ) -> Result<OperatorView, ManagerError> {
        let act = match state {
            OperatorState::Active => "operator.enable",
            OperatorState::Disabled => "operator.disable",
        };
        let set = |document: &mut OperatorDocument| set_state(document, state);
        let changed = self.change_operator((operator, bound), act, set).await?;
        if state == OperatorState::Disabled {
            self.access.sessions.close_all(&changed.id, None);
        }
        tracing::info!(operator = %changed.name, ?state, "operator changed");
        Ok(OperatorView::new(&changed))
    }

    /// Gives an operator other roles, if their document has this revision, when one is named. Tokens keep no role that
    /// their operator has lost.
    pub(crate) async fn set_operator_roles(
        &self,
        operator: &str,
        roles: Vec<OperatorRole>,
        bound: Option<u64>,
    ) -> Result<OperatorView, ManagerError> {
        let roles = sorted(roles);
        let set = |document: &mut OperatorDocument| document.roles.clone_from(&roles);
        let changed = self.change_operator((operator, bound), "operator.set-roles", set).await?;
        tracing::info!(operator = %changed.name, ?roles, "operator changed");
        Ok(OperatorView::new(&changed))
    }

    /// Gives an operator another password, because they have forgotten theirs, if their document has this revision,
    /// when one is named. Their sessions end, and their
    /// tokens are gone.
    pub(crate) async fn set_operator_password(
        &self,
        operator: &str,
        hash: PasswordHash,
        bound: Option<u64>,
    ) -> Result<OperatorView, ManagerError> {
        // Who has forgotten the password may have lost the tokens with it.
        let set = |document: &mut OperatorDocument| {
            document.password = hash.clone();
            document.tokens.clear();
        };
        let act = "operator.reset-password";
        let changed = self.change_operator((operator, bound), act, set).await?;
        self.access.sessions.close_all(&changed.id, None);
        tracing::info!(operator = %changed.name, "password reset");
        Ok(OperatorView::new(&changed))
    }

    /// Changes the caller's own password. Their other sessions end; `session` is the one that stays.
    ///
    /// # Errors
    /// [`ManagerError::SignInRefused`] when the current one is wrong, [`ManagerError::SlowDown`];
    /// [`ManagerError::Invalid`]; [`ManagerError::Busy`].
    pub async fn change_password(
        &self,
        by: &Caller,
        (current, new): (Password, Password),
        session: &str,
    ) -> Result<(), ManagerError> {
        let Who::Operator { id, name, .. } = &by.who else {
            return Err(ManagerError::SignInNeeded);
        };
        let attempt = self.access.attempts.begin(name, by.source, Instant::now());
        let attempt = attempt.map_err(ManagerError::SlowDown)?;
        let operator = self.find_operator(id).await.inspect_err(|_| attempt.take_back())?;
        let right = self.check_password(Some(&operator), current).await;
        if !right.inspect_err(|_| attempt.take_back())? {
            return Err(ManagerError::SignInRefused);
        }
        attempt.was_right();
        if self.check_password(Some(&operator), new.clone()).await? {
            return Err(ManagerError::Invalid("the new password is the current one".into()));
        }
        let hash = self.hash_password((id, name), new).await?;
        let set = |document: &mut OperatorDocument| document.password = hash.clone();
        // A reset that has come in between stays.
        let bound = Some(operator.revision);
        let changed = self.change_operator((id, bound), "operator.change-password", set).await?;
        self.access.sessions.close_all(id, Some(session));
        self.access.sessions.carry_over(session, Holder::of(&changed));
        tracing::info!(operator = %name, "password changed");
        Ok(())
    }

    /// Makes a token for a program of the caller's. It may do no more than the caller, and is shown this once.
    ///
    /// # Errors
    /// [`ManagerError::Invalid`].
    pub async fn create_token(
        &self,
        by: &Caller,
        request: &CreateToken,
    ) -> Result<CreatedToken, ManagerError> {
        let Who::Operator { id: operator, roles, .. } = &by.who else {
            return Err(ManagerError::SignInNeeded);
        };
        let wanted = sorted(request.roles.clone());
        if wanted.is_empty() || !wanted.iter().all(|role| roles.contains(role)) {
            return Err(ManagerError::Invalid(
                "a token has at least one role, and none that its operator has not".into(),
            ));
        }
        if !(60..=LONGEST_LIFE).contains(&request.lifetime_seconds) {
            return Err(ManagerError::Invalid(
                "a token lives for a minute at least, and a year at most".into(),
            ));
        }
        check_operator_name(&request.name)?;
        let (secret, digest) = sessions::token()?;
        let (id, now) = (random_id("tk_")?, self.now());
        let made = OperatorToken {
            id: id.clone(),
            name: request.name.clone(),
            digest: STANDARD.encode(digest),
            roles: wanted,
            created: now,
            expires: now.saturating_add(request.lifetime_seconds),
        };
        let add = |document: &mut OperatorDocument| {
            document.tokens.retain(|token| now < token.expires);
            document.tokens.push(made.clone());
        };
        let changed = self.change_operator((operator, None), "operator.create-token", add).await?;
        tracing::info!(operator = %changed.name, token = %id, "token made");
        let text = format!("{TOKEN_PREFIX}{}_{}_{}", &operator[3..], &id[3..], &*secret);
        let token = Zeroizing::new(text);
        let view = OperatorView::new(&changed).tokens.into_iter().find(|view| view.id == id);
        let view = view.ok_or_else(|| ManagerError::Invalid("the token is gone".into()))?;
        Ok(CreatedToken { view, token })
    }

    /// Revokes a token of an operator, at once.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchOperator`], of the token, too.
    pub async fn revoke_token(&self, operator: &str, token: &str) -> Result<(), ManagerError> {
        let known = self.find_operator(operator).await?;
        if !known.tokens.iter().any(|known| known.id == token) {
            return Err(ManagerError::NoSuchOperator(token.to_owned()));
        }
        let remove =
            |document: &mut OperatorDocument| document.tokens.retain(|known| known.id != token);
        let who = (known.id.as_str(), None);
        let changed = self.change_operator(who, "operator.revoke-token", remove).await?;
        tracing::info!(operator = %changed.name, token, "token revoked");
        Ok(())
    }

    /// Changes an operator's document. Somebody who may make operators must be left.
    async fn change_operator(
        &self,
        (operator, bound): (&str, Option<u64>),
        act: &'static str,
        set: impl Fn(&mut OperatorDocument),
    ) -> Result<OperatorDocument, ManagerError> {
        let mut change = self.begin().await?;
        loop {
            let revision = change.revision().await?;
            let before = self.find_operator(operator).await?.into_inner();
            check_bound(bound, before.revision, &before.name)?;
            let mut document = before.clone();
            set(&mut document);
            if document == before {
                return Ok(before);
            }
            if document.tokens.len() > MAX_TOKENS {
                return Err(ManagerError::Invalid(format!(
                    "an operator has at most {MAX_TOKENS} tokens: revoke one"
                )));
            }
            if leads(&before) && !leads(&document) && !self.others_lead(&before.id).await? {
                return Err(ManagerError::IllegalChange(format!(
                    "`{}` is the last root-officer who may sign in: nobody could make operators any more",
                    before.name
                )));
            }
            document.revision = revision;
            if let Some(document) = change.commit(Draft::of(document, act)).await? {
                return Ok(document);
            }
        }
    }

    /// Whether somebody else may make operators.
    async fn others_lead(&self, id: &str) -> Result<bool, ManagerError> {
        let mut after = String::new();
        loop {
            let page = self.read_page::<OperatorDocument>(&after, PAGE).await?;
            if page.documents.iter().any(|other| other.id != id && leads(other)) {
                return Ok(true);
            }
            match page.next {
                Some(next) => after = next,
                None => return Ok(false),
            }
        }
    }

    pub(crate) async fn find_operator(
        &self,
        operator: &str,
    ) -> Result<Verified<OperatorDocument>, ManagerError> {
        if let Some(found) = self.read(By::Id(operator)).await? {
            return Ok(found);
        }
        let found = self.read(By::Name(operator)).await?;
        found.ok_or_else(|| ManagerError::NoSuchOperator(operator.to_owned()))
    }
}

/// Whether an operator could be called so.
pub(super) fn check_operator_name(name: &str) -> Result<(), ManagerError> {
    sealwire_engine::document::check_operator_name(name).map_err(ManagerError::Invalid)
}

pub(super) fn taken(name: &str) -> ManagerError {
    ManagerError::Conflict(format!("an operator called `{name}` exists already"))
}

/// Whether an operator may make others.
fn leads(operator: &OperatorDocument) -> bool {
    operator.state == OperatorState::Active && operator.roles.contains(&OperatorRole::RootOfficer)
}

/// Roles as they stand in a document.
pub(crate) fn sorted(mut roles: Vec<OperatorRole>) -> Vec<OperatorRole> {
    roles.sort_unstable();
    roles.dedup();
    roles
}

pub(crate) fn random_id(prefix: &str) -> Result<String, ManagerError> {
    let mut random = [0; 12];
    getrandom::fill(&mut random).map_err(EngineError::from)?;
    Ok(format!("{prefix}{}", hex::encode(random)))
}

fn set_state(document: &mut OperatorDocument, state: OperatorState) {
    if document.state == OperatorState::Active && state == OperatorState::Disabled {
        document.epoch = document.epoch.saturating_add(1);
    }
    document.state = state;
}
