//! What apps want done to keys that they may manage, handed on by their gateways. The manager looks for itself whether
//! an app may. What cannot be undone is asked for in the app's name: an operator approves it, or enables the key again.

use sealwire_engine::audit::AuditActor;
use sealwire_engine::document::{
    Act, AppDocument, AppState, KeyDocument, Op, Person, Target, VersionState,
};
use sealwire_engine::wire::manage::{ManageAct, ManageOrder};
use sealwire_keystore::By;
use sealwire_protocol::credential::key_name;

use crate::audit::acting;
use crate::keys::{KeyFlags, Which};
use crate::{ChangeKey, Manager, ManagerError, StateChange};

/// Time within which what an app has asked for is approved, in seconds.
const LIFETIME: u64 = 30 * 24 * 3600;

/// What was deleted comes back by an operator alone.
fn check_in_use(key: &KeyDocument) -> Result<(), ManagerError> {
    if key.versions.iter().any(|version| version.state.is_usable()) {
        return Ok(());
    }
    Err(ManagerError::IllegalChange(format!(
        "key {} was deleted, or disabled: an operator enables it again, or its destruction goes on",
        key.name
    )))
}

impl Manager {
    /// Does something to a key for an app. On disk when it returns.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchKey`] when there is none, or the app may not manage it; [`ManagerError::IllegalChange`],
    /// [`ManagerError::Invalid`], as operators have it.
    pub async fn manage_for(&self, order: ManageOrder) -> Result<(), ManagerError> {
        let ManageOrder { app, key, act } = order;
        // A number would be taken for an index, and grants are on names.
        key_name(key.as_bytes()).map_err(|error| ManagerError::Invalid(error.to_string()))?;
        let document = self.read::<AppDocument>(By::Id(&app)).await?;
        let may = |app: &AppDocument| {
            app.state == AppState::Active && app.grants.allows(Op::Manage, &key)
        };
        let document = document.filter(|app| may(app));
        let document = document.ok_or_else(|| ManagerError::NoSuchKey(key.clone()))?;
        let name = document.name.clone();
        let actor = AuditActor::App { id: app.clone() };
        acting(actor, self.manage((&app, &name), &key, act)).await
    }

    async fn manage(
        &self,
        app: (&str, &str),
        key: &str,
        act: ManageAct,
    ) -> Result<(), ManagerError> {
        match act {
            ManageAct::Create { suites, context_required, renew_after_seconds } => {
                let flags = KeyFlags { context_required, ..KeyFlags::default() };
                self.create_for_app(key, &suites, flags, renew_after_seconds).await
            }
            ManageAct::Rotate => self.rotate_key_if(key, check_in_use).await.map(drop),
            ManageAct::Set { min_dec, min_enc, deletion_allowed, renew_after_seconds } => {
                let wish = ChangeKey {
                    min_dec,
                    min_enc,
                    deletion_allowed,
                    renew_after_seconds,
                    ..ChangeKey::default()
                };
                check_in_use(&*self.find(key).await?)?;
                self.set_key(key, &wish).await.map(drop)
            }
            ManageAct::Trim { below } => self.trim(app, key, below).await,
            ManageAct::Delete => self.delete(app, key).await,
        }
    }

    async fn create_for_app(
        &self,
        key: &str,
        suites: &[String],
        flags: KeyFlags,
        renew_after_seconds: Option<u64>,
    ) -> Result<(), ManagerError> {
        let suites = crate::keys::suites(suites)?;
        let made = self.find_or_make((key, None), &suites, flags).await?;
        // Also when an order that has made it was cut off before this.
        let is_new = made.created || made.key.versions.len() == 1;
        if is_new && renew_after_seconds.is_some() {
            let wish = ChangeKey { renew_after_seconds, ..ChangeKey::default() };
            self.set_key(key, &wish).await?;
        }
        Ok(())
    }

    /// Disables the versions below one, and asks for their destruction.
    async fn trim(&self, app: (&str, &str), key: &str, below: u32) -> Result<(), ManagerError> {
        self.check_room(app.0).await?;
        let deed = ("key.trim", format!("versions below {below}"));
        let trimmed = self.change_key(Which::Named(key), deed, |key| {
            if below > key.min_dec {
                return Err(ManagerError::IllegalChange(format!(
                    "minimum available version cannot be greater than minimum decryption version, which is {}",
                    key.min_dec
                )));
            }
            let mut changed = false;
            for version in key.versions.iter_mut().filter(|version| version.version < below) {
                if version.state.is_usable() {
                    version.state = VersionState::Disabled;
                    changed = true;
                }
            }
            Ok(changed)
        });
        let trimmed = trimmed.await?;
        let open = |state| matches!(state, VersionState::Disabled);
        if trimmed.versions.iter().any(|version| version.version < below && open(version.state)) {
            let after_seconds = self.destroy_wait(None).await?;
            self.ask_for(app, &trimmed, Act::TrimKey { below, after_seconds }).await?;
        }
        Ok(())
    }

    /// Disables every version, and asks for their destruction.
    async fn delete(&self, app: (&str, &str), key: &str) -> Result<(), ManagerError> {
        self.check_room(app.0).await?;
        let deed = ("key.delete", "every version is disabled".to_owned());
        let deleted = self.change_key(Which::Named(key), deed, |key| {
            if !key.deletion_allowed {
                return Err(ManagerError::IllegalChange(
                    "deletion is not allowed for this key".into(),
                ));
            }
            let gone =
                |state| matches!(state, VersionState::Destroyed | VersionState::DestroyScheduled);
            match key.versions.iter().all(|version| gone(version.state)) {
                true => Ok(false),
                false => StateChange::Disable.apply_to(key, None),
            }
        });
        let deleted = deleted.await?;
        if deleted.versions.iter().any(|version| version.state == VersionState::Disabled) {
            let after_seconds = self.destroy_wait(None).await?;
            let act = Act::DestroyKey { version: None, after_seconds };
            self.ask_for(app, &deleted, act).await?;
        }
        Ok(())
    }

    async fn ask_for(
        &self,
        (id, name): (&str, &str),
        key: &KeyDocument,
        act: Act,
    ) -> Result<(), ManagerError> {
        let asked = Person { id: id.to_owned(), name: name.to_owned(), at: self.now() };
        let (uid, revision) = (key.uid.to_string(), key.revision);
        let target = Target { id: uid, name: key.name.clone(), revision };
        self.ask_as((asked, LIFETIME), act, Some(target)).await.map(drop)
    }
}
