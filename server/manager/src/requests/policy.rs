//! Whether two persons are needed, and how long a destruction waits.

use sealwire_engine::document::{
    Act, DocumentKind, OperatorDocument, OperatorRole, POLICY_ID, PolicyDocument, Target,
};
use sealwire_keystore::{By, KeystoreError};

use super::{Outcome, PolicyView, SetPolicy};
use crate::changing::Draft;
use crate::{Caller, Manager, ManagerError, Who};

/// Operators that are read at once.
const PAGE: u32 = 200;

/// A hundred years, in seconds.
const CENTURY: u64 = 100 * 365 * 24 * 3600;

impl Manager {
    /// The policy. Unless it was set: two persons, and the waiting time of the configuration.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn policy(&self) -> Result<PolicyView, ManagerError> {
        let set = self.read::<PolicyDocument>(By::Id(POLICY_ID)).await?;
        if set.is_none() && self.is_missing(DocumentKind::Policy).await? {
            return Err(KeystoreError::RolledBack("the policy was removed".into()).into());
        }
        let configured = self.settings.destroy_wait.as_secs();
        Ok(match set {
            Some(policy) => PolicyView {
                two_persons: policy.two_persons,
                destroy_wait_seconds: policy.destroy_wait_seconds.max(configured),
                revision: policy.revision,
            },
            None => PolicyView { two_persons: true, destroy_wait_seconds: configured, revision: 0 },
        })
    }

    /// Sets the policy. To ask for less care takes two persons.
    ///
    /// # Errors
    /// [`ManagerError::Invalid`].
    pub async fn set_policy(
        &self,
        wish: SetPolicy,
        by: &Caller,
    ) -> Result<Outcome<PolicyView>, ManagerError> {
        let now = self.policy().await?;
        let two_persons = wish.two_persons.unwrap_or(now.two_persons);
        let wait = wish.destroy_wait_seconds.unwrap_or(now.destroy_wait_seconds);
        if wait > CENTURY {
            return Err(ManagerError::Invalid("a destruction waits for a century at most".into()));
        }
        let less = (now.two_persons && !two_persons) || wait < now.destroy_wait_seconds;
        if less && self.officers_take_two(by).await? {
            let act = Act::SetPolicy { two_persons, destroy_wait_seconds: wait };
            let (id, name) = (POLICY_ID.to_owned(), POLICY_ID.to_owned());
            let target = Target { id, name, revision: now.revision };
            return Ok(Outcome::Asked(self.ask(by, act, Some(target)).await?));
        }
        self.write_policy(two_persons, wait, Some(now.revision)).await?;
        tracing::info!(by = by.name(), two_persons, wait, "policy set");
        self.policy().await.map(Outcome::Done)
    }

    /// Writes the policy; of this revision, if one is named.
    pub(super) async fn write_policy(
        &self,
        two_persons: bool,
        destroy_wait_seconds: u64,
        bound: Option<u64>,
    ) -> Result<(), ManagerError> {
        let mut change = self.begin().await?;
        loop {
            let revision = change.revision().await?;
            let known = self.read::<PolicyDocument>(By::Id(POLICY_ID)).await?;
            let known = known.map_or(0, |policy| policy.revision);
            if bound.is_some_and(|bound| bound != known) {
                return Err(ManagerError::moved(POLICY_ID));
            }
            let (kind, id) = (DocumentKind::Policy, POLICY_ID.to_owned());
            let document = PolicyDocument { kind, id, revision, two_persons, destroy_wait_seconds };
            let said = format!("two persons {two_persons}; destroy wait {destroy_wait_seconds} s");
            let deed = ("policy.set", said);
            if change.commit(Draft::of(document, deed)).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Whether an act of this caller that opens doors takes a second person.
    pub(crate) async fn takes_two(&self, by: &Caller) -> Result<bool, ManagerError> {
        match &by.who {
            Who::Unclaimed => Ok(false),
            Who::Operator { .. } => Ok(self.policy().await?.two_persons),
        }
    }

    /// Whether what root-officers do takes a second one: not while there has never been one, since nobody could
    /// approve it.
    pub(crate) async fn officers_take_two(&self, by: &Caller) -> Result<bool, ManagerError> {
        let Who::Operator { id, .. } = &by.who else { return Ok(false) };
        if !self.takes_two(by).await? {
            return Ok(false);
        }
        // Also when their rows are gone since.
        if self.access.claim.had_second()? || self.is_missing(DocumentKind::Operator).await? {
            return Ok(true);
        }
        let mut after = String::new();
        loop {
            let page = self.read_page::<OperatorDocument>(&after, PAGE).await?;
            // One who is disabled counts, and one whose row was tampered with: nobody rids himself of the second
            // person by that.
            let another = |other: &OperatorDocument| {
                other.id != *id && other.roles.contains(&OperatorRole::RootOfficer)
            };
            if page.documents.iter().any(|other| another(other)) {
                self.access.claim.note_second()?;
                return Ok(true);
            }
            if !page.unverified.is_empty() {
                return Ok(true);
            }
            match page.next {
                Some(next) => after = next,
                None => return Ok(false),
            }
        }
    }
}
