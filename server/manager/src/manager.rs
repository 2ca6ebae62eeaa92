//! The manager: the site's keys, and one way to change a document.

use std::ops::RangeInclusive;
use std::sync::Arc;

use sealwire_engine::document::{AppDocument, AppSecret, AppState, Document, DocumentKind, Grants};
use sealwire_engine::{
    EngineError, ManagerRole, RotationRole, SignedDocument, Site, State, Verified,
};
use sealwire_keystore::{
    By, Change, DocumentRow, Keystore, KeystoreError, SiteRow, Taken, WrappedRow,
};
use sealwire_protocol::Suite;
use tokio::sync::{Mutex, MutexGuard, Notify, watch};

use crate::{ManagerError, RootPin, RotationView};

/// Times that a change is made anew when another manager was faster.
const TRIES: usize = 8;

/// How a site makes keys.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The indexes that keys get. Never 0.
    pub indexes: RangeInclusive<u32>,
    /// The suites of a key that names none, the first being its default.
    pub suites: Vec<Suite>,
}

impl Default for Settings {
    fn default() -> Self {
        let mut suites = vec![Suite::DEFAULT];
        suites.extend(Suite::ALL.into_iter().filter(|suite| *suite != Suite::DEFAULT));
        Self { indexes: 1..=i32::MAX.unsigned_abs(), suites }
    }
}

/// The management service.
pub struct Manager {
    pub(crate) engine: ManagerRole,
    pub(crate) keystore: Arc<dyn Keystore>,
    pub(crate) settings: Settings,
    clock: fn() -> u64,
    site: Mutex<Option<Arc<Site>>>,
    pub(crate) rotation: RotationRole,
    pin: RootPin,
    pub(crate) rotated: watch::Sender<RotationView>,
    /// Wakes who leads rotations.
    pub(crate) begun: Notify,
    /// One change at a time, so that managers of one process do not race each other.
    changing: Mutex<()>,
}

impl Manager {
    /// A manager. `clock` gives Unix time in seconds.
    #[must_use]
    pub fn new(
        engine: ManagerRole,
        rotation: RotationRole,
        pin: RootPin,
        keystore: Arc<dyn Keystore>,
        settings: Settings,
        clock: fn() -> u64,
    ) -> Self {
        Self {
            pin,
            engine,
            keystore,
            settings,
            clock,
            site: Mutex::default(),
            rotation,
            rotated: watch::Sender::default(),
            begun: Notify::new(),
            changing: Mutex::new(()),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        (self.clock)()
    }

    /// The site's own keys. An empty keystore gets them, as soon as the engine is open. They are read
    /// once, and again while they are not under the engine's root key, as a root rotation moves them.
    ///
    /// # Errors
    /// [`ManagerError`], [`EngineError::Sealed`] among them.
    pub async fn site(&self) -> Result<Arc<Site>, ManagerError> {
        let mut known = self.site.lock().await;
        if let Some(site) = known.as_ref() {
            match self.engine.state() {
                State::Open { root } if root != site.root() => {}
                _ => return Ok(site.clone()),
            }
        }
        let State::Open { root } = self.engine.state() else {
            return Err(EngineError::Sealed.into());
        };
        let previous = self.rotation.roots().and_then(|(_, previous)| previous);
        self.pin.check(root, previous)?;
        let site = Arc::new(self.read_or_make_site().await?);
        *known = Some(site.clone());
        Ok(site)
    }

    async fn read_or_make_site(&self) -> Result<Site, ManagerError> {
        if let Some(row) = self.keystore.site().await? {
            return Ok(Site::from_bytes(&row.keys)?);
        }
        let (site, row) = self.make_site()?;
        match self.keystore.init_site(&row).await {
            Ok(()) => {
                tracing::info!("a new site: its keys were made and wrapped");
                Ok(site)
            }
            Err(KeystoreError::Taken(Taken::Id)) => {
                let row = self.keystore.site().await?;
                let row = row.ok_or(KeystoreError::Taken(Taken::Id))?;
                Ok(Site::from_bytes(&row.keys)?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The keys of a new site.
    fn make_site(&self) -> Result<(Site, SiteRow), ManagerError> {
        let site = self.engine.make_site()?;
        let row = SiteRow { keys: site.to_bytes(), decoy: self.make_decoy(&site)? };
        Ok((site, row))
    }

    /// The decoy that unknown AppKeys are checked against: an app whose secret nobody was shown.
    pub(crate) fn make_decoy(&self, site: &Site) -> Result<SignedDocument, ManagerError> {
        let id = app_key()?;
        let (wrapped, _) = self.engine.make_app_secret(&id, 1)?;
        let decoy = AppDocument {
            kind: DocumentKind::App,
            id,
            revision: 0,
            name: "decoy".into(),
            state: AppState::Disabled,
            created: self.now(),
            allow: Vec::new(),
            grants: Grants::default(),
            secrets: vec![AppSecret::new(&wrapped, None)],
        };
        Ok(self.engine.sign(site, &decoy)?)
    }

    /// Reads a document and has the engine verify it.
    pub(crate) async fn read<D: Document>(
        &self,
        by: By<'_>,
    ) -> Result<Option<Verified<D>>, ManagerError> {
        let Some(row) = self.keystore.document(D::KIND, by).await? else { return Ok(None) };
        self.verify(&*self.site().await?, &row).map(Some)
    }

    /// Reads a page of documents and has the engine verify each. One that does not verify is left
    /// out of the page, and named beside it.
    pub(crate) async fn read_page<D: Document>(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Page<D>, ManagerError> {
        let rows = self.keystore.list(D::KIND, after, limit).await?;
        let site = self.site().await?;
        let full = rows.len() == usize::try_from(limit).unwrap_or(usize::MAX);
        let next = rows.last().filter(|_| full).map(|last| last.name.clone());
        let mut page = Page { documents: Vec::new(), unverified: Vec::new(), next };
        for row in rows {
            match self.verify(&site, &row) {
                Ok(document) => page.documents.push(document),
                Err(ManagerError::Engine(EngineError::Sealed)) => {
                    return Err(EngineError::Sealed.into());
                }
                Err(error) => {
                    tracing::error!(%error, "a row of the keystore");
                    page.unverified.push(row.name);
                }
            }
        }
        Ok(page)
    }

    pub(crate) fn verify<D: Document>(
        &self,
        site: &Site,
        row: &DocumentRow,
    ) -> Result<Verified<D>, ManagerError> {
        let document = self.engine.verify(site, &row.signed)?;
        row.check::<D>(&document)?;
        Ok(document)
    }

    /// Begins a change of a document; other changes in this process wait for its end.
    pub(crate) async fn begin(&self) -> Result<Changing<'_>, ManagerError> {
        let site = self.site().await?;
        let one_at_a_time = self.changing.lock().await;
        Ok(Changing { manager: self, site, upon: 0, tries: 0, _one_at_a_time: one_at_a_time })
    }
}

/// A change of a document on its way: ask for the [revision](Changing::revision), make the document,
/// [commit](Changing::commit) it, and begin anew when another manager was faster.
pub(crate) struct Changing<'a> {
    manager: &'a Manager,
    site: Arc<Site>,
    upon: u64,
    tries: usize,
    _one_at_a_time: MutexGuard<'a, ()>,
}

impl Changing<'_> {
    /// The revision that the document will have.
    pub(crate) async fn revision(&mut self) -> Result<u64, ManagerError> {
        self.upon = self.manager.keystore.revision().await?;
        Ok(self.upon + 1)
    }

    /// Signs the document and writes it: on disk when this returns it; `None` when another manager
    /// was faster.
    pub(crate) async fn commit<D: Document>(
        &mut self,
        draft: Draft<D>,
    ) -> Result<Option<D>, ManagerError> {
        let Draft { document, wrapped } = draft;
        let signed = self.manager.engine.sign(&self.site, &document)?;
        let document_row = DocumentRow::new(&document, signed);
        let change = Change { upon: self.upon, document: document_row, wrapped };
        self.tries += 1;
        match self.manager.keystore.commit(&change).await {
            Ok(()) => Ok(Some(document)),
            Err(KeystoreError::Moved(_)) if self.tries < TRIES => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A page of documents.
pub(crate) struct Page<D> {
    pub(crate) documents: Vec<Verified<D>>,
    /// Names of rows that do not verify.
    pub(crate) unverified: Vec<String>,
    /// The name to go on behind; `None` on the last page.
    pub(crate) next: Option<String>,
}

/// A document to be signed and written.
pub(crate) struct Draft<D> {
    pub(crate) document: D,
    pub(crate) wrapped: Option<WrappedRow>,
}

/// A fresh AppKey.
pub(crate) fn app_key() -> Result<String, ManagerError> {
    let mut random = [0; 12];
    getrandom::fill(&mut random).map_err(EngineError::from)?;
    Ok(format!("ak_{}", hex::encode(random)))
}
