//! The life of a key's versions: which change is allowed when.
//!
//! ```text
//!   made --> active --close, rotate--> decrypt-only
//!              |  ^------enable (newest)----'  |
//!           disable                         disable, destroy
//!              v                               v
//!           disabled --enable--> active (newest), decrypt-only (older)
//!              |  ^
//!        destroy  '---cancel-destroy---.
//!              v                       |
//!        destroy-scheduled ------------'
//!              | when the waiting time is over
//!              v
//!          destroyed
//! ```

use sealwire_engine::document::{KeyDocument, KeyVersion, VersionState};
use sealwire_keystore::By;

use crate::changing::Draft;
use crate::keys::Which;
use crate::requests::check_bound;
use crate::{ChangeKey, KeyView, Manager, ManagerError};

/// A change of the state of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateChange {
    /// Seal no more, still open.
    Close,
    /// Neither seal nor open.
    Disable,
    /// Open again; the newest version also seals again.
    Enable,
    /// Destroy at this Unix time in seconds.
    Destroy(u64),
    /// Call a destruction off.
    CancelDestroy,
}

impl StateChange {
    /// What the audit calls it.
    const fn act(self) -> &'static str {
        match self {
            Self::Close => "key.close",
            Self::Disable => "key.disable",
            Self::Enable => "key.enable",
            Self::Destroy(_) => "key.schedule-destroy",
            Self::CancelDestroy => "key.cancel-destroy",
        }
    }

    /// The same, with what the audit says of it.
    fn deed(self, version: Option<u32>) -> (&'static str, String) {
        let which = version.map_or("every version".into(), |version| format!("version {version}"));
        match self {
            Self::Destroy(at) => (self.act(), format!("{which}, at {at}")),
            _ => (self.act(), which),
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Close => "closed",
            Self::Disable => "disabled",
            Self::Enable => "enabled",
            Self::Destroy(_) => "destroyed",
            Self::CancelDestroy => "kept from being destroyed",
        }
    }

    /// The state that a version has after the change, or why it cannot be made.
    fn apply(self, from: VersionState, newest: bool) -> Result<VersionState, &'static str> {
        use VersionState::{Active, DecryptOnly, DestroyScheduled, Destroyed, Disabled};
        match (self, from) {
            (_, Destroyed) => Err("its wrapped key was erased, for good"),
            (Self::CancelDestroy, DestroyScheduled) => Ok(Disabled),
            (Self::CancelDestroy, _) => Err("no destruction is scheduled"),
            (Self::Destroy(_), Active) => {
                Err("it seals messages: rotate the key, or disable the version first")
            }
            (Self::Destroy(_), _) => Ok(DestroyScheduled),
            (_, DestroyScheduled) => Err("call its destruction off first (`key cancel-destroy`)"),
            (Self::Close, Active | DecryptOnly) => Ok(DecryptOnly),
            (Self::Close, Disabled) => Err("enable it first"),
            (Self::Disable, _) => Ok(Disabled),
            (Self::Enable, Disabled | Active | DecryptOnly) if newest => Ok(Active),
            (Self::Enable, Disabled | DecryptOnly) => Ok(DecryptOnly),
            (Self::Enable, Active) => Ok(Active),
        }
    }

    /// Changes one version, or all that the change can be made to. Returns whether anything changes.
    pub(crate) fn apply_to(
        self,
        key: &mut KeyDocument,
        version: Option<u32>,
    ) -> Result<bool, ManagerError> {
        let newest = key.versions.len();
        let illegal = |number: u32, state: VersionState, why: &str| {
            let (name, verb) = (&key.name, self.verb());
            ManagerError::IllegalChange(format!(
                "version {number} of key `{name}` is {} and cannot be {verb}: {why}",
                state.name()
            ))
        };
        let mut next = Vec::with_capacity(newest);
        let mut refused = None;
        let mut applied = false;
        for (position, held) in (1..).zip(&key.versions) {
            let mut held = *held;
            // A destruction of everything leaves the times that were set before.
            let set =
                matches!(self, Self::Destroy(_)) && held.destroy_at.is_some() && version.is_none();
            applied |= set;
            if !set && version.is_none_or(|wanted| wanted == held.version) {
                match self.apply(held.state, position == newest) {
                    Ok(state) => {
                        applied = true;
                        // A time that was set stays, unless it is set anew.
                        if state != held.state || matches!(self, Self::Destroy(_)) {
                            held.destroy_at = match self {
                                Self::Destroy(at) => Some(at),
                                _ => None,
                            };
                        }
                        held.state = state;
                    }
                    // A version that seals keeps a whole key from being destroyed; other versions to
                    // which the change cannot be made are passed over.
                    Err(why) => {
                        let error = illegal(held.version, held.state, why);
                        let sealing =
                            matches!(self, Self::Destroy(_)) && held.state == VersionState::Active;
                        if version.is_some() || sealing {
                            return Err(error);
                        }
                        refused = Some(error);
                    }
                }
            }
            next.push(held);
        }
        if !applied {
            return Err(refused.unwrap_or_else(|| {
                let (name, version) = (&key.name, version.unwrap_or(0));
                ManagerError::IllegalChange(format!("key `{name}` has no version {version}"))
            }));
        }
        let changed = next != key.versions;
        key.versions = next;
        Ok(changed)
    }
}

impl Manager {
    /// Closes, disables or enables a version of a key, or all versions, or calls their destruction off.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchKey`], [`ManagerError::IllegalChange`].
    pub async fn change_state(
        &self,
        key: &str,
        version: Option<u32>,
        change: StateChange,
    ) -> Result<KeyView, ManagerError> {
        let apply = |key: &mut KeyDocument| change.apply_to(key, version);
        let changed = self.change_key(Which::Named(key), change.deed(version), apply).await?;
        tracing::info!(key = %changed.name, ?version, "versions {}", change.verb());
        if change == StateChange::Enable {
            self.withdraw_deletions(&changed).await?;
        }
        Ok(KeyView::new(&changed))
    }

    /// The same for a key by its uid, if its document has this revision.
    pub(crate) async fn change_state_of(
        &self,
        uid: &str,
        version: Option<u32>,
        change: StateChange,
        bound: Option<u64>,
    ) -> Result<KeyView, ManagerError> {
        let changed = self.change_key(Which::Uid(uid), change.deed(version), |key| {
            check_bound(bound, key.revision, &key.name)?;
            change.apply_to(key, version)
        });
        let changed = changed.await?;
        tracing::info!(key = %changed.name, ?version, "versions {}", change.verb());
        Ok(KeyView::new(&changed))
    }

    /// Schedules the destruction of a version of a key, or of all versions, after a waiting time in
    /// seconds: the site's unless given.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchKey`], [`ManagerError::IllegalChange`] also for less than the site's
    /// waiting time.
    pub async fn destroy_key(
        &self,
        key: &str,
        version: Option<u32>,
        after: Option<u64>,
    ) -> Result<KeyView, ManagerError> {
        let at = self.now().saturating_add(self.destroy_wait(after).await?);
        let view = self.change_state(key, version, StateChange::Destroy(at)).await?;
        Ok(KeyView { remains: Some(REMAINS.to_owned()), ..view })
    }

    /// Schedules the destruction of the versions below one that do nothing any more, if the key's document has this
    /// revision.
    pub(crate) async fn destroy_below(
        &self,
        uid: &str,
        (below, at): (u32, u64),
        bound: Option<u64>,
    ) -> Result<(), ManagerError> {
        let deed = ("key.schedule-destroy", format!("versions below {below}, at {at}"));
        let changed = self.change_key(Which::Uid(uid), deed, |key| {
            check_bound(bound, key.revision, &key.name)?;
            let mut versions = key.versions.iter().filter(|version| version.version < below);
            if versions.any(|version| version.state.is_usable()) {
                return Err(ManagerError::moved(&key.name));
            }
            let below = |version: &&mut KeyVersion| {
                version.version < below && version.state == VersionState::Disabled
            };
            let mut changed = false;
            for version in key.versions.iter_mut().filter(below) {
                version.state = VersionState::DestroyScheduled;
                version.destroy_at = Some(at);
                changed = true;
            }
            Ok(changed)
        });
        let changed = changed.await?;
        tracing::info!(key = %changed.name, below, "versions destroyed");
        Ok(())
    }

    /// Seconds until a destruction: the site's waiting time unless more is wished.
    pub(crate) async fn destroy_wait(&self, after: Option<u64>) -> Result<u64, ManagerError> {
        let least = self.policy().await?.destroy_wait_seconds;
        let after = after.unwrap_or(least);
        if after < least {
            return Err(ManagerError::IllegalChange(format!(
                "a version is destroyed {least} s after it was said at the earliest (the policy's waiting time, or \
                 manager.destroy_wait_seconds), not after {after} s"
            )));
        }
        at_most_a_century(after, "a destruction")
    }

    /// Changes what a key is set to.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchKey`], [`ManagerError::Invalid`], [`ManagerError::IllegalChange`].
    pub async fn set_key(&self, key: &str, wish: &ChangeKey) -> Result<KeyView, ManagerError> {
        let suites = match &wish.suites {
            Some(names) if names.is_empty() => {
                return Err(ManagerError::Invalid("a key needs a suite".into()));
            }
            Some(names) => Some(crate::keys::suites(names)?),
            None => None,
        };
        let changed = self
            .change_key(Which::Named(key), ("key.set", said(wish)), |key| {
                let before = key.clone();
                if let Some(suites) = &suites {
                    key.suites.clone_from(suites);
                }
                set_lowest(key, wish)?;
                let never = |value: u64| (value > 0).then_some(value);
                if let Some(after) = wish.renew_after_seconds {
                    key.renewal.after_seconds = never(at_most_a_century(after, "a renewal")?);
                }
                // To take it away is another thing: `requests`.
                key.sensitive |= wish.sensitive == Some(true);
                if let Some(allowed) = wish.deletion_allowed {
                    key.deletion_allowed = allowed;
                }
                if let Some(messages) = wish.renew_after_messages {
                    key.renewal.after_messages = never(messages);
                }
                Ok(*key != before)
            })
            .await?;
        tracing::info!(key = %changed.name, "key set");
        Ok(KeyView::new(&changed))
    }

    /// Changes a key's document, if `change` says that it has changed.
    pub(crate) async fn change_key(
        &self,
        which: Which<'_>,
        (act, said): (&'static str, String),
        change: impl Fn(&mut KeyDocument) -> Result<bool, ManagerError>,
    ) -> Result<KeyDocument, ManagerError> {
        let mut changing = self.begin().await?;
        loop {
            let revision = changing.revision().await?;
            let mut document = self.find_which(which).await?.into_inner();
            if !change(&mut document)? {
                return Ok(document);
            }
            document.revision = revision;
            let deed = (act, said.clone());
            if let Some(changed) = changing.commit(Draft::of(document, deed)).await? {
                return Ok(changed);
            }
        }
    }

    /// Destroys what is due in a key: its wrapped key is overwritten and erased.
    pub(crate) async fn destroy_due(&self, uid: &str) -> Result<(), ManagerError> {
        let mut changing = self.begin().await?;
        loop {
            let revision = changing.revision().await?;
            let Some(found) = self.read::<KeyDocument>(By::Id(uid)).await? else { return Ok(()) };
            if !self.clock_is_steady() {
                return Err(ManagerError::Clock);
            }
            let (mut document, now) = (found.into_inner(), self.now());
            let mut erased = Vec::new();
            for version in &mut document.versions {
                if version.destroy_at.is_some_and(|at| at <= now) {
                    version.state = VersionState::Destroyed;
                    version.destroy_at = None;
                    erased.push(version.version);
                }
            }
            if erased.is_empty() {
                return Ok(());
            }
            document.revision = revision;
            let versions: Vec<_> = erased.iter().map(ToString::to_string).collect();
            let deed = ("key.destroy", format!("versions {}", versions.join(" "))).into();
            let draft = Draft { document, wrapped: None, erased: erased.clone(), deed };
            if let Some(key) = changing.commit(draft).await? {
                tracing::info!(key = %key.name, versions = ?erased, "destroyed");
                return Ok(());
            }
        }
    }
}

/// What a destroyed key may still be in.
const REMAINS: &str = "backups of the database, exports, replicas and binary logs; what the database, the file \
                       system or the disk keeps of overwritten pages; opened, the memory of a gateway until it is \
                       evicted there: it is gone for good when none of them holds it any more";

/// A time that is still one for people, and for every part that reckons with it.
fn at_most_a_century(seconds: u64, what: &str) -> Result<u64, ManagerError> {
    const CENTURY: u64 = 100 * 365 * 24 * 3600;
    if seconds > CENTURY {
        return Err(ManagerError::Invalid(format!("{what} is at most a century ahead")));
    }
    Ok(seconds)
}

/// What is wished of a key, for the audit.
fn said(wish: &ChangeKey) -> String {
    serde_json::to_string(wish).unwrap_or_default()
}

/// Sets the lowest versions that seal and open.
fn set_lowest(key: &mut KeyDocument, wish: &ChangeKey) -> Result<(), ManagerError> {
    let newest = u32::try_from(key.versions.len()).unwrap_or(u32::MAX);
    for (version, of) in [(wish.min_enc, "ENC"), (wish.min_dec, "DEC")] {
        if version.is_some_and(|version| !(1..=newest).contains(&version)) {
            return Err(ManagerError::IllegalChange(format!(
                "key `{}` has versions 1 to {newest}: one of them is the lowest for {of}",
                key.name
            )));
        }
    }
    key.min_dec = wish.min_dec.unwrap_or(key.min_dec);
    key.min_enc = wish.min_enc.unwrap_or(key.min_enc.max(key.min_dec));
    if key.min_enc < key.min_dec {
        return Err(ManagerError::IllegalChange(format!(
            "key `{}`: what version {} seals, no version below {} opens: the lowest for ENC is not below \
             that for DEC",
            key.name, key.min_enc, key.min_dec
        )));
    }
    Ok(())
}

/// Gives a key a new active version; the one that was active still opens. The wrapped key is yet to be
/// made.
pub(crate) fn push_version(key: &mut KeyDocument, now: u64) -> Result<u32, ManagerError> {
    /// So that a document stays small enough to be read with every load.
    const MAX_VERSIONS: usize = 10_000;
    if key.versions.len() >= MAX_VERSIONS {
        return Err(ManagerError::IllegalChange(format!(
            "key `{}` has {MAX_VERSIONS} versions, as many as a key may have: make another key",
            key.name
        )));
    }
    for version in &mut key.versions {
        if version.state == VersionState::Active {
            version.state = VersionState::DecryptOnly;
        }
    }
    let version = u32::try_from(key.versions.len() + 1).expect("versions are few");
    let state = VersionState::Active;
    key.versions.push(KeyVersion { version, state, created: now, destroy_at: None });
    Ok(version)
}

#[cfg(test)]
mod tests {
    use sealwire_engine::Uid;
    use sealwire_engine::document::{DocumentKind, Renewal};
    use sealwire_protocol::Suite;

    use super::*;
    use VersionState::{Active, DecryptOnly, DestroyScheduled, Destroyed, Disabled};

    const ALL: [VersionState; 5] = [Active, DecryptOnly, Disabled, DestroyScheduled, Destroyed];

    fn key(states: &[VersionState]) -> KeyDocument {
        let versions = (1..).zip(states).map(|(version, state)| KeyVersion {
            version,
            state: *state,
            created: 0,
            destroy_at: (*state == DestroyScheduled).then_some(99),
        });
        KeyDocument {
            kind: DocumentKind::Key,
            uid: Uid::generate().expect("random"),
            revision: 1,
            name: "chat".into(),
            index: 1,
            suites: vec![Suite::DEFAULT],
            min_enc: 1,
            min_dec: 1,
            renewal: Renewal::default(),
            sensitive: false,
            context_required: false,
            deletion_allowed: false,
            versions: versions.collect(),
        }
    }

    fn states(key: &KeyDocument) -> Vec<VersionState> {
        key.versions.iter().map(|version| version.state).collect()
    }

    #[test]
    fn every_change_from_every_state_is_made_or_refused_by_name() {
        use StateChange::{CancelDestroy, Close, Destroy, Disable, Enable};
        let expect = |change, newest| {
            ALL.map(|state| match (change, state, newest) {
                (Close, Active | DecryptOnly, _) => Some(DecryptOnly),
                (Disable, Active | DecryptOnly | Disabled, _) => Some(Disabled),
                (Enable, Active | DecryptOnly | Disabled, true) => Some(Active),
                (Enable, DecryptOnly | Disabled, false) => Some(DecryptOnly),
                (Enable, Active, false) => Some(Active),
                (Destroy(_), DecryptOnly | Disabled | DestroyScheduled, _) => {
                    Some(DestroyScheduled)
                }
                (CancelDestroy, DestroyScheduled, _) => Some(Disabled),
                _ => None,
            })
        };
        for change in [Close, Disable, Enable, Destroy(5), CancelDestroy] {
            for newest in [true, false] {
                for (state, expected) in ALL.into_iter().zip(expect(change, newest)) {
                    let pair = if newest { [Active, state] } else { [state, Disabled] };
                    let mut key = key(&pair);
                    let version = if newest { 2 } else { 1 };
                    let position = version as usize - 1;
                    match (change.apply_to(&mut key, Some(version)), expected) {
                        (Ok(_), Some(expected)) => {
                            assert_eq!(states(&key)[position], expected, "{change:?} {state:?}");
                            let at = key.versions[position].destroy_at;
                            assert_eq!(at.is_some(), expected == DestroyScheduled);
                        }
                        (Err(ManagerError::IllegalChange(said)), None) => {
                            assert!(
                                said.contains(state.name()) && said.contains("`chat`"),
                                "{said}"
                            );
                        }
                        (made, expected) => panic!("{change:?} {state:?}: {made:?}, {expected:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn a_whole_key_is_changed_where_it_can_be() {
        let mut all = key(&[Destroyed, DestroyScheduled, Disabled, DecryptOnly, Active]);
        assert!(StateChange::Destroy(1).apply_to(&mut all.clone(), None).is_err(), "it seals");
        assert!(StateChange::Disable.apply_to(&mut all, None).expect("made"));
        assert_eq!(states(&all), [Destroyed, DestroyScheduled, Disabled, Disabled, Disabled]);
        assert!(!StateChange::Disable.apply_to(&mut all, None).expect("nothing to do"));
        assert!(StateChange::Enable.apply_to(&mut all, None).expect("made"));
        assert_eq!(states(&all), [Destroyed, DestroyScheduled, DecryptOnly, DecryptOnly, Active]);
        assert!(StateChange::CancelDestroy.apply_to(&mut all, None).expect("made"));
        assert_eq!(states(&all)[1], Disabled);
        let mut gone = key(&[Destroyed, Destroyed]);
        assert!(StateChange::Enable.apply_to(&mut gone, None).is_err());
        assert!(StateChange::Disable.apply_to(&mut gone, Some(3)).is_err(), "no such version");
        assert_eq!(push_version(&mut gone, 7).expect("a new one"), 3);
        assert_eq!(states(&gone), [Destroyed, Destroyed, Active]);
    }

    #[test]
    fn the_lowest_versions_are_versions_and_what_is_sealed_opens() {
        let wish = |min_enc, min_dec| ChangeKey { min_enc, min_dec, ..ChangeKey::default() };
        let mut key = key(&[DecryptOnly, DecryptOnly, Active]);
        set_lowest(&mut key, &wish(None, Some(2))).expect("set");
        assert_eq!((key.min_enc, key.min_dec), (2, 2), "ENC is raised with DEC");
        for (enc, dec) in [(Some(0), None), (Some(4), None), (None, Some(4)), (Some(1), None)] {
            assert!(set_lowest(&mut key, &wish(enc, dec)).is_err(), "{enc:?} {dec:?}");
            (key.min_enc, key.min_dec) = (2, 2);
        }
        assert!(key.may_open(2) && !key.may_open(1) && key.may_seal(3));
    }
}
