//! When no operator can do what must be done, since they have lost their passwords or left: a quorum of key cards
//! makes a root-officer.
//!
//! The manager says in words what would be done, with a number that it takes once; the officers show their cards to
//! an engine, which makes a warrant over these words; the manager has an engine look at the warrant, and does it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sealwire_engine::audit::AuditActor;
use sealwire_engine::document::{OperatorDocument, OperatorRole, PasswordHash};
use sealwire_engine::{EngineError, Warrant};
use sealwire_keystore::By;

use super::operators::{check_operator_name, random_id, taken};
use crate::audit::acting;
use crate::{BreakGlass, Manager, ManagerError, OperatorView, Source};

/// Time for the ceremony.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Ceremonies at once.
const MOST: usize = 16;

/// An operator who would be made.
struct Waiting {
    id: String,
    name: String,
    password: PasswordHash,
    since: Instant,
}

/// Who waits for a warrant, by what that must say.
#[derive(Default)]
pub(crate) struct Glass(Mutex<HashMap<String, Waiting>>);

impl Glass {
    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, one| one.since.elapsed() < LIFETIME);
        waiting
    }
}

impl Manager {
    /// Says what a quorum of key cards must allow, so that a root-officer is made.
    ///
    /// # Errors
    /// [`ManagerError::Invalid`], [`ManagerError::Conflict`], [`ManagerError::Busy`];
    /// [`ManagerError::SignInNeeded`] from elsewhere than the socket.
    pub async fn ask_break_glass(
        &self,
        request: BreakGlass,
        source: Source,
    ) -> Result<String, ManagerError> {
        let BreakGlass { name, password } = request;
        if source != Source::Socket {
            return Err(ManagerError::SignInNeeded);
        }
        check_operator_name(&name)?;
        if self.read::<OperatorDocument>(By::Name(&name)).await?.is_some() {
            return Err(taken(&name));
        }
        let (id, number) = (random_id("op_")?, random_id("")?);
        let password = self.hash_password((&id, &name), password).await?;
        let site = self.site().await?.uid();
        let statement = format!(
            "Sealwire site {site}, break-glass {number}:\nmake the root-officer \"{name}\", {id}.\n"
        );
        self.record(("operator.ask-break-glass", statement.clone())).await?;
        let mut waiting = self.access.glass.waiting();
        if waiting.len() >= MOST {
            return Err(ManagerError::Busy);
        }
        let since = Instant::now();
        waiting.insert(statement.clone(), Waiting { id, name, password, since });
        tracing::warn!(statement, "break-glass: a quorum of key cards is asked for");
        Ok(statement)
    }

    /// Makes the root-officer whom a quorum of key cards has allowed.
    ///
    /// # Errors
    /// [`ManagerError::Invalid`] when nobody has asked for that, or too long ago; [`EngineError::Warrant`].
    pub async fn break_glass(
        &self,
        statement: &str,
        warrant: &Warrant,
        source: Source,
    ) -> Result<OperatorView, ManagerError> {
        if source != Source::Socket {
            return Err(ManagerError::SignInNeeded);
        }
        // Under the pin: an engine of another root key has nothing to say here.
        self.site().await?;
        match self.engine.check_warrant(statement, warrant).await {
            Err(EngineError::Document(_)) => return Err(EngineError::Warrant.into()),
            checked => checked?,
        }
        let found = self.access.glass.waiting().remove(statement);
        let unknown = "nobody has asked for this here, or it was an hour ago: begin again";
        let found = found.ok_or_else(|| ManagerError::Invalid(unknown.into()))?;
        let Waiting { id, name, password, .. } = found;
        let roles = vec![OperatorRole::RootOfficer];
        let make = self.make_operator((id, name), roles, password, false);
        let made = acting(AuditActor::Quorum, make).await?;
        tracing::warn!(operator = %made.name, "break-glass: root-officer made by a quorum of key cards");
        Ok(made)
    }
}
