//! Keys: make, rotate, show, list.

use std::sync::atomic::Ordering;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealwire_engine::audit::AuditActor;
use sealwire_engine::document::{DocumentKind, KeyDocument};
use sealwire_engine::{Uid, Verified};
use sealwire_keystore::{By, KeystoreError, Taken, WrappedRow};
use sealwire_protocol::{Suite, credential};

use crate::audit::acting;
use crate::changing::Draft;
use crate::lifecycle::push_version;
use crate::{CreateKey, KeyPage, KeyView, Manager, ManagerError};

/// Most keys on a page.
const MAX_PAGE: u32 = 1000;

/// A key that was made, or found under the same name.
pub struct MadeKey {
    /// The key.
    pub key: KeyDocument,
    /// Whether this request made it.
    pub created: bool,
}

/// What a key is made with, besides its name, its index and its suites.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KeyFlags {
    /// See [`KeyDocument::sensitive`].
    pub(crate) sensitive: bool,
    /// See [`KeyDocument::context_required`].
    pub(crate) context_required: bool,
}

/// Which key is meant.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'a> {
    /// By its name or its index, as people write it.
    Named(&'a str),
    /// By its uid.
    Uid(&'a str),
}

impl Manager {
    /// GENKEY: makes a key, or finds the one that was made before under the same name and index. On
    /// disk when it returns.
    ///
    /// # Errors
    /// [`ManagerError::Conflict`] when another key has the name or the index;
    /// [`ManagerError::IndexRange`], [`ManagerError::IndexesUsedUp`], [`ManagerError::Invalid`].
    pub async fn genkey(
        &self,
        name: &str,
        index: Option<u32>,
        suites: &[Suite],
    ) -> Result<MadeKey, ManagerError> {
        self.find_or_make((name, index), suites, KeyFlags::default()).await
    }

    /// The same, for an app.
    ///
    /// # Errors
    /// As [`Manager::genkey`].
    pub async fn genkey_for(
        &self,
        app: &str,
        name: &str,
        index: Option<u32>,
        suites: &[Suite],
    ) -> Result<MadeKey, ManagerError> {
        let actor = AuditActor::App { id: app.to_owned() };
        acting(actor, self.genkey(name, index, suites)).await
    }

    pub(crate) async fn find_or_make(
        &self,
        (name, index): (&str, Option<u32>),
        suites: &[Suite],
        flags: KeyFlags,
    ) -> Result<MadeKey, ManagerError> {
        let name = credential::key_name(name.as_bytes())
            .map_err(|error| ManagerError::Invalid(error.to_string()))?;
        let (first, last) = (*self.settings.indexes.start(), *self.settings.indexes.end());
        if let Some(index) = index.filter(|index| !self.settings.indexes.contains(index)) {
            return Err(ManagerError::IndexRange { index, first, last });
        }
        if let Some(found) = self.made_before(name, index).await? {
            return Ok(found);
        }
        let suites = if suites.is_empty() { &self.settings.suites } else { suites };
        let made = self.make_key((name, index), suites, flags).await;
        match made {
            Ok(key) => {
                tracing::info!(key = %key.name, index = key.index, "key made");
                Ok(MadeKey { key, created: true })
            }
            Err(ManagerError::Keystore(KeystoreError::Taken(Taken::Name | Taken::Number))) => {
                let found = self.made_before(name, index).await?;
                found.ok_or_else(|| ManagerError::Conflict(conflict(name, index)))
            }
            Err(error) => Err(error),
        }
    }

    async fn make_key(
        &self,
        (name, index): (&str, Option<u32>),
        suites: &[Suite],
        KeyFlags { sensitive, context_required }: KeyFlags,
    ) -> Result<KeyDocument, ManagerError> {
        let (first, last) = (*self.settings.indexes.start(), *self.settings.indexes.end());
        let mut change = self.begin().await?;
        loop {
            let revision = change.revision().await?;
            let free = match index {
                Some(index) => Some(index),
                None => self.free_index().await?,
            };
            let key = KeyDocument {
                kind: DocumentKind::Key,
                uid: Uid::generate()?,
                revision,
                name: name.to_owned(),
                index: free.ok_or(ManagerError::IndexesUsedUp(first, last))?,
                suites: suites.to_vec(),
                min_enc: 1,
                min_dec: 1,
                renewal: self.settings.renewal,
                sensitive,
                context_required,
                deletion_allowed: false,
                versions: Vec::new(),
            };
            let draft = self.next_version(key, revision, "key.create").await?;
            if let Some(key) = change.commit(draft).await? {
                return Ok(key);
            }
        }
    }

    /// A free index: the one behind that which was found last, if it is, so that it need not be looked for.
    async fn free_index(&self) -> Result<Option<u32>, ManagerError> {
        let hint = self.next_index.load(Ordering::Relaxed);
        let known = self.settings.indexes.contains(&hint)
            && self.keystore.document(DocumentKind::Key, By::Number(hint)).await?.is_none();
        let free = match known {
            true => Some(hint),
            false => {
                let (first, last) = (*self.settings.indexes.start(), *self.settings.indexes.end());
                self.keystore.free_index(first, last).await?
            }
        };
        self.next_index.store(free.map_or(0, |free| free.saturating_add(1)), Ordering::Relaxed);
        Ok(free)
    }

    async fn made_before(
        &self,
        name: &str,
        index: Option<u32>,
    ) -> Result<Option<MadeKey>, ManagerError> {
        if let Some(key) = self.read::<KeyDocument>(By::Name(name)).await? {
            if index.is_some_and(|index| index != key.index) {
                return Err(ManagerError::Conflict(format!(
                    "key `{name}` exists already, with index {}",
                    key.index
                )));
            }
            return Ok(Some(MadeKey { key: key.into_inner(), created: false }));
        }
        if let Some(index) = index
            && let Some(key) = self.read::<KeyDocument>(By::Number(index)).await?
        {
            let other = &key.name;
            return Err(ManagerError::Conflict(format!("index {index} is key `{other}` already")));
        }
        Ok(None)
    }

    /// Adds a version to a key. ENC uses it from now on; older versions still open.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchKey`]; [`ManagerError::IllegalChange`] when it has as many as it may have.
    pub async fn rotate_key(&self, key: &str) -> Result<KeyView, ManagerError> {
        self.rotate_key_if(key, |_| Ok(())).await
    }

    /// The same, when that may be done with the key as it is.
    pub(crate) async fn rotate_key_if(
        &self,
        key: &str,
        may: impl Fn(&KeyDocument) -> Result<(), ManagerError>,
    ) -> Result<KeyView, ManagerError> {
        let mut change = self.begin().await?;
        let rotated = loop {
            let revision = change.revision().await?;
            let found = self.find(key).await?.into_inner();
            may(&found)?;
            let draft = self.next_version(found, revision, "key.rotate").await?;
            if let Some(rotated) = change.commit(draft).await? {
                break rotated;
            }
        };
        tracing::info!(key = %rotated.name, version = rotated.versions.len(), "key rotated");
        Ok(KeyView::new(&rotated))
    }

    /// A key with its wrapped versions. `key` is a name or an index.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchKey`].
    pub async fn show_key(&self, key: &str) -> Result<KeyView, ManagerError> {
        let document = self.find(key).await?;
        let mut view = KeyView::new(&document);
        for row in self.keystore.wrapped(&[&view.uid]).await? {
            if let Some(version) = view.version_mut(row.version) {
                version.wrapped = Some(STANDARD.encode(&row.blob));
            }
        }
        for row in self.keystore.usage(&view.uid).await? {
            let suite = Suite::from_id(row.suite).map_or("unknown", Suite::name);
            if let Some(version) = view.version_mut(row.version) {
                version.reserved.insert(suite.to_owned(), row.reserved);
            }
        }
        Ok(view)
    }

    /// A page of keys by name, behind the name `after`.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn list_keys(&self, after: &str, limit: u32) -> Result<KeyPage, ManagerError> {
        let limit = limit.clamp(1, MAX_PAGE);
        let page = self.read_page::<KeyDocument>(after, limit).await?;
        let keys = page.documents.iter().map(|key| KeyView::new(key)).collect();
        Ok(KeyPage { keys, unverified: page.unverified, next: page.next })
    }

    /// Makes a key as the API asks for it.
    ///
    /// # Errors
    /// As [`Manager::genkey`].
    pub async fn create_key(&self, request: &CreateKey) -> Result<KeyView, ManagerError> {
        let suites = suites(&request.suites)?;
        let wanted = (request.name.as_str(), request.index);
        let (sensitive, context_required) = (request.sensitive, request.context_required);
        let flags = KeyFlags { sensitive, context_required };
        let made = self.find_or_make(wanted, &suites, flags).await?;
        // Also one that was there: a mark takes one person.
        if request.sensitive && !made.key.sensitive {
            return self.mark_key(Which::Uid(&made.key.uid.to_string()), true, None).await;
        }
        Ok(KeyView { created: made.created, ..KeyView::new(&made.key) })
    }

    pub(crate) async fn find(&self, key: &str) -> Result<Verified<KeyDocument>, ManagerError> {
        // Digits alone are an index: `+5` is a name.
        let is_index = key.bytes().all(|byte| byte.is_ascii_digit());
        let index = key.parse().ok().filter(|_| is_index);
        let by = index.map_or(By::Name(key), By::Number);
        self.read(by).await?.ok_or_else(|| ManagerError::NoSuchKey(key.to_owned()))
    }

    pub(crate) async fn find_which(
        &self,
        which: Which<'_>,
    ) -> Result<Verified<KeyDocument>, ManagerError> {
        match which {
            Which::Named(key) => self.find(key).await,
            Which::Uid(uid) => {
                let found = self.read(By::Id(uid)).await?;
                found.ok_or_else(|| ManagerError::NoSuchKey(uid.to_owned()))
            }
        }
    }

    /// A key with its next version, which the engine makes.
    pub(crate) async fn next_version(
        &self,
        mut document: KeyDocument,
        revision: u64,
        act: &'static str,
    ) -> Result<Draft<KeyDocument>, ManagerError> {
        document.revision = revision;
        let version = push_version(&mut document, self.now())?;
        let wrapped = self.engine.genkey(document.binding(version)).await?;
        let (uid, blob) = (document.uid.to_string(), wrapped.blob().to_vec());
        let wrapped = Some(WrappedRow { uid, version, blob });
        let deed = (act, format!("version {version}")).into();
        Ok(Draft { document, wrapped, erased: Vec::new(), deed })
    }
}

/// Suites by their names, each once.
pub(crate) fn suites(names: &[String]) -> Result<Vec<Suite>, ManagerError> {
    let mut suites = Vec::with_capacity(names.len());
    for name in names {
        let suite: Suite =
            name.parse().map_err(|error: sealwire_protocol::suite::UnknownSuite| {
                ManagerError::Invalid(error.to_string())
            })?;
        if suites.contains(&suite) {
            return Err(ManagerError::Invalid(format!("suite {suite} is listed twice")));
        }
        suites.push(suite);
    }
    Ok(suites)
}

fn conflict(name: &str, index: Option<u32>) -> String {
    match index {
        Some(index) => format!("name `{name}` or index {index} is in use by another key"),
        None => format!("name `{name}` is in use by another key"),
    }
}
