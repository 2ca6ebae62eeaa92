//! What takes two persons, and how it is done once it is approved.

use ipnet::IpNet;
use sealwire_engine::document::{
    Act, AppDocument, Grant, Grants, KeyDocument, Op, OperatorDocument, OperatorRole,
    OperatorState, PasswordHash, Pattern, PolicyDocument, RequestDocument, Target,
};
use sealwire_keystore::By;

use super::{Claimed, Outcome, is_app};
use crate::apps::check_networks;
use crate::keys::Which;
use crate::{
    AppView, Caller, ChangeApp, ChangeKey, CreateApp, CreatedApp, KeyView, Manager, ManagerError,
    OperatorView, Password, RotateSecret, StateChange,
};

impl Manager {
    /// Schedules the destruction of a version of a key, or of all, or asks for it.
    ///
    /// # Errors
    /// As [`Manager::destroy_key`].
    pub async fn ask_destroy_key(
        &self,
        key: &str,
        (version, after): (Option<u32>, Option<u64>),
        by: &Caller,
    ) -> Result<Outcome<KeyView>, ManagerError> {
        if !self.takes_two(by).await? {
            return self.destroy_key(key, version, after).await.map(Outcome::Done);
        }
        let after_seconds = self.destroy_wait(after).await?;
        let known = self.find(key).await?.into_inner();
        // What could not be done is refused now.
        let mut tried = known.clone();
        StateChange::Destroy(self.now().saturating_add(after_seconds))
            .apply_to(&mut tried, version)?;
        let act = Act::DestroyKey { version, after_seconds };
        self.ask(by, act, Some(target_of(&known))).await.map(Outcome::Asked)
    }

    /// Changes what a key is set to. To take its mark away takes two persons, and is asked for by itself.
    ///
    /// # Errors
    /// As [`Manager::set_key`].
    pub async fn ask_set_key(
        &self,
        key: &str,
        wish: &ChangeKey,
        by: &Caller,
    ) -> Result<Outcome<KeyView>, ManagerError> {
        if wish.sensitive != Some(false) {
            return self.set_key(key, wish).await.map(Outcome::Done);
        }
        if *wish != (ChangeKey { sensitive: Some(false), ..ChangeKey::default() }) {
            return Err(ManagerError::Invalid(
                "that a key is sensitive no longer is asked for by itself".into(),
            ));
        }
        self.ask_unmark_key(key, by).await
    }

    /// Takes a key's mark away, or asks for it.
    async fn ask_unmark_key(
        &self,
        key: &str,
        by: &Caller,
    ) -> Result<Outcome<KeyView>, ManagerError> {
        let known = self.find(key).await?.into_inner();
        if !known.sensitive {
            return Ok(Outcome::Done(KeyView::new(&known)));
        }
        if self.takes_two(by).await? {
            let asked = self.ask(by, Act::UnmarkKey, Some(target_of(&known))).await;
            return asked.map(Outcome::Asked);
        }
        let unmarked = self.mark_key(Which::Named(key), false, Some(known.revision));
        unmarked.await.map(Outcome::Done)
    }

    /// Marks a key as sensitive, or takes the mark away; if its document has this revision, when one is named.
    pub(crate) async fn mark_key(
        &self,
        which: Which<'_>,
        sensitive: bool,
        bound: Option<u64>,
    ) -> Result<KeyView, ManagerError> {
        let act = if sensitive { "key.mark" } else { "key.unmark" };
        let changed = self.change_key(which, (act, String::new()), |key| {
            check_bound(bound, key.revision, &key.name)?;
            Ok(std::mem::replace(&mut key.sensitive, sensitive) != sensitive)
        });
        let changed = changed.await?;
        tracing::info!(key = %changed.name, sensitive, "key marked");
        Ok(KeyView::new(&changed))
    }

    /// Makes an app, or asks for it when its grants open doors.
    ///
    /// # Errors
    /// As [`Manager::create_app`].
    pub async fn ask_create_app(
        &self,
        request: &CreateApp,
        by: &Caller,
    ) -> Result<Outcome<CreatedApp>, ManagerError> {
        if !self.takes_two(by).await? || !self.opens_doors(&request.grants).await? {
            return self.create_app(request).await.map(Outcome::Done);
        }
        self.check_app(request).await?;
        let act = Act::CreateApp {
            name: request.name.trim().to_owned(),
            allow: request.allow.iter().map(IpNet::trunc).collect(),
            grants: Grants(request.grants.clone()),
            http: request.http,
        };
        match self.claim_or_ask(by, act, None).await? {
            Claimed::Asked(request) => Ok(Outcome::Asked(request)),
            // First the note: then it is done by one call alone, and nobody refuses it any more.
            Claimed::Approved(id) => {
                self.check_app(request).await?;
                self.note_done(&id).await?;
                self.create_app(request).await.map(Outcome::Done)
            }
        }
    }

    /// Gives an app a new secret, or asks for it when its grants open doors: whoever sees it may do what the app may.
    ///
    /// # Errors
    /// As [`Manager::rotate_app_secret`].
    pub async fn ask_rotate_secret(
        &self,
        app: &str,
        wish: RotateSecret,
        by: &Caller,
    ) -> Result<Outcome<CreatedApp>, ManagerError> {
        let known = self.find_app(app).await?;
        if !self.takes_two(by).await? || !self.opens_doors(&known.grants.0).await? {
            return self.rotate_app_secret(app, wish).await.map(Outcome::Done);
        }
        let RotateSecret { overlap_seconds, drop_older, http } = wish;
        let act = Act::RotateSecret { overlap_seconds, drop_older, http };
        let (id, name, revision) = (known.id.clone(), known.name.clone(), known.revision);
        match self.claim_or_ask(by, act, Some(Target { id, name, revision })).await? {
            Claimed::Asked(request) => Ok(Outcome::Asked(request)),
            Claimed::Approved(id) => {
                self.note_done(&id).await?;
                let made = self.rotate_secret_of(&known.id, wish, Some(revision)).await;
                made.map(Outcome::Done)
            }
        }
    }

    /// Lets an app do other things, or from elsewhere, or asks for it when that opens doors. What only takes something
    /// away opens none.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchApp`], [`ManagerError::Invalid`]; [`ManagerError::IllegalChange`] when it has changed.
    pub async fn ask_set_app(
        &self,
        app: &str,
        wish: &ChangeApp,
        by: &Caller,
    ) -> Result<Outcome<AppView>, ManagerError> {
        if wish.http.is_some() {
            if *wish != (ChangeApp { http: Some(false), ..ChangeApp::default() }) {
                return Err(ManagerError::Invalid(
                    "that an app may come over HTTP no longer is set by itself; a first HTTP secret lets it".into(),
                ));
            }
            return self.drop_http(app).await.map(Outcome::Done);
        }
        let known = self.find_app(app).await?;
        let allow = wish.allow.as_ref().unwrap_or(&known.allow);
        check_networks(allow)?;
        let allow: Vec<_> = allow.iter().map(IpNet::trunc).collect();
        let grants = wish.grants.clone().map_or_else(|| known.grants.clone(), Grants);
        let within = |network: &IpNet| known.allow.iter().any(|held| held.contains(network));
        let restricts =
            allow.iter().all(within) && grants.0.iter().all(|grant| known.grants.0.contains(grant));
        if restricts || !self.takes_two(by).await? || !self.opens_doors(&grants.0).await? {
            let set = self.set_app(&known.id, (&allow, &grants), Some(known.revision)).await;
            return set.map(Outcome::Done);
        }
        let (id, name, revision) = (known.id.clone(), known.name.clone(), known.revision);
        let target = Target { id, name, revision };
        self.ask(by, Act::SetApp { allow, grants }, Some(target)).await.map(Outcome::Asked)
    }

    /// Whether grants open one key to another's readers, or DEC on anything but keys that are named, are there, and
    /// are not marked: what a pattern will cover one day, nobody knows.
    async fn opens_doors(&self, grants: &[Grant]) -> Result<bool, ManagerError> {
        for grant in grants {
            let name = match grant {
                Grant::Cross { .. } => return Ok(true),
                Grant::Keys { ops, .. } if !ops.contains(Op::Dec) => continue,
                Grant::Keys { keys: Pattern::Prefix(_), .. } => return Ok(true),
                Grant::Keys { keys: Pattern::Name(name), .. } => name,
            };
            match self.read::<KeyDocument>(By::Name(name)).await {
                Ok(Some(key)) if !key.sensitive => {}
                Ok(_) => return Ok(true),
                Err(error) if error.is_tampering() => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Lets an operator sign in again, or asks for it.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchOperator`].
    pub async fn ask_enable_operator(
        &self,
        operator: &str,
        by: &Caller,
    ) -> Result<Outcome<OperatorView>, ManagerError> {
        let known = self.find_operator(operator).await?;
        let state = OperatorState::Active;
        if known.state == state {
            return Ok(Outcome::Done(OperatorView::new(&known)));
        }
        if !self.officers_take_two(by).await? {
            let enabled = self.set_operator_state(&known.id, state, Some(known.revision)).await;
            return enabled.map(Outcome::Done);
        }
        let target = target_of_operator(&known);
        self.ask(by, Act::EnableOperator, Some(target)).await.map(Outcome::Asked)
    }

    /// Gives an operator other roles, or asks for it.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchOperator`], [`ManagerError::IllegalChange`].
    pub async fn ask_set_roles(
        &self,
        operator: &str,
        roles: Vec<OperatorRole>,
        by: &Caller,
    ) -> Result<Outcome<OperatorView>, ManagerError> {
        if !self.officers_take_two(by).await? {
            return self.set_operator_roles(operator, roles, None).await.map(Outcome::Done);
        }
        let known = self.find_operator(operator).await?;
        let act = Act::SetRoles { roles: crate::access::sorted(roles) };
        self.ask(by, act, Some(target_of_operator(&known))).await.map(Outcome::Asked)
    }

    /// Gives an operator another password, or asks for it.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchOperator`], [`ManagerError::Invalid`], [`ManagerError::Busy`].
    pub async fn ask_reset_password(
        &self,
        operator: &str,
        password: Password,
        by: &Caller,
    ) -> Result<Outcome<OperatorView>, ManagerError> {
        let known = self.find_operator(operator).await?;
        let hash = self.hash_password((&known.id, &known.name), password).await?;
        let hash = PasswordHash { foreign: true, ..hash };
        if !self.officers_take_two(by).await? {
            return self.set_operator_password(&known.id, hash, None).await.map(Outcome::Done);
        }
        let act = Act::ResetPassword { password: hash };
        self.ask(by, act, Some(target_of_operator(&known))).await.map(Outcome::Asked)
    }

    /// Whether what a request is about is as it was when it was asked.
    pub(super) async fn check_target(&self, request: &RequestDocument) -> Result<(), ManagerError> {
        let Some(target) = &request.target else { return Ok(()) };
        let by = By::Id(&target.id);
        if is_app(&request.asked.id) {
            return self.check_still_deleted(request, target).await;
        }
        let revision = match &request.act {
            Act::DestroyKey { .. } | Act::TrimKey { .. } | Act::UnmarkKey => {
                self.read::<KeyDocument>(by).await?.map(|key| key.revision)
            }
            Act::RotateSecret { .. } | Act::SetApp { .. } => {
                self.read::<AppDocument>(by).await?.map(|app| app.revision)
            }
            Act::SetRoles { .. } | Act::ResetPassword { .. } | Act::EnableOperator => {
                self.read::<OperatorDocument>(by).await?.map(|operator| operator.revision)
            }
            Act::SetPolicy { .. } => {
                let policy = self.read::<PolicyDocument>(by).await?;
                Some(policy.map_or(0, |policy| policy.revision))
            }
            Act::CreateApp { .. } | Act::CreateOperator { .. } => Some(target.revision),
        };
        if revision == Some(target.revision) {
            Ok(())
        } else {
            Err(ManagerError::moved(&target.name))
        }
    }

    /// Whether the versions whose destruction an app has asked for still do nothing. The key may have changed
    /// otherwise: one that was trimmed is in use.
    async fn check_still_deleted(
        &self,
        request: &RequestDocument,
        target: &Target,
    ) -> Result<(), ManagerError> {
        let below = request.act.below();
        let key = self.read::<KeyDocument>(By::Id(&target.id)).await?;
        let is_back = key.is_none_or(|key| {
            let mut versions = key.versions.iter().filter(|version| version.version < below);
            versions.any(|version| version.state.is_usable())
        });
        if is_back { Err(ManagerError::moved(&target.name)) } else { Ok(()) }
    }

    /// Does what a request asks for, if what it is about is still as it was.
    pub(super) async fn carry_out(&self, request: &RequestDocument) -> Result<(), ManagerError> {
        let bound = request.target.as_ref().map(|target| target.revision);
        let bound = bound.filter(|_| !is_app(&request.asked.id));
        let id = request.target.as_ref().map_or("", |target| target.id.as_str());
        match request.act.clone() {
            Act::DestroyKey { version, after_seconds } => {
                // The policy may ask for more by now.
                let least = self.policy().await?.destroy_wait_seconds;
                let at = self.now().saturating_add(after_seconds.max(least));
                if is_app(&request.asked.id) {
                    return self.destroy_below(id, (u32::MAX, at), None).await;
                }
                self.change_state_of(id, version, StateChange::Destroy(at), bound).await.map(drop)
            }
            Act::TrimKey { below, after_seconds } => {
                let least = self.policy().await?.destroy_wait_seconds;
                let at = self.now().saturating_add(after_seconds.max(least));
                self.destroy_below(id, (below, at), bound).await
            }
            Act::UnmarkKey => self.mark_key(Which::Uid(id), false, bound).await.map(drop),
            // Who has asked does it, and sees the secret.
            Act::CreateApp { .. } | Act::RotateSecret { .. } => Ok(()),
            Act::SetApp { allow, grants } => {
                self.set_app(id, (&allow, &grants), bound).await.map(drop)
            }
            Act::EnableOperator => {
                self.set_operator_state(id, OperatorState::Active, bound).await.map(drop)
            }
            // It may have been made by the one who approved before, and was cut off.
            Act::CreateOperator { id, .. }
                if self.read::<OperatorDocument>(By::Id(&id)).await?.is_some() =>
            {
                Ok(())
            }
            Act::CreateOperator { id, name, roles, password } => {
                self.make_operator((id, name), roles, password, false).await.map(drop)
            }
            Act::SetRoles { roles } => self.set_operator_roles(id, roles, bound).await.map(drop),
            Act::ResetPassword { password } => {
                self.set_operator_password(id, password, bound).await.map(drop)
            }
            Act::SetPolicy { two_persons, destroy_wait_seconds } => {
                self.write_policy(two_persons, destroy_wait_seconds, bound).await
            }
        }
    }
}

/// Refuses what has changed since it was asked for.
pub(crate) fn check_bound(
    bound: Option<u64>,
    revision: u64,
    name: &str,
) -> Result<(), ManagerError> {
    match bound {
        Some(bound) if bound != revision => Err(ManagerError::moved(name)),
        _ => Ok(()),
    }
}

fn target_of(key: &KeyDocument) -> Target {
    Target { id: key.uid.to_string(), name: key.name.clone(), revision: key.revision }
}

fn target_of_operator(operator: &OperatorDocument) -> Target {
    Target { id: operator.id.clone(), name: operator.name.clone(), revision: operator.revision }
}
