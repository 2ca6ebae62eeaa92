//! The manager: the site's keys, and one way to change a document.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sealwire_engine::document::{
    AppDocument, AppSecret, AppState, Document, DocumentKind, Grants, Renewal,
};
use sealwire_engine::{
    EngineError, ManagerRole, RotationRole, SignedDocument, Site, State, Verified,
};
use sealwire_keystore::audit::Auditor;
use sealwire_keystore::{By, DocumentRow, Keystore, KeystoreError, Marks, Newest, SiteRow, Taken};
use sealwire_protocol::Suite;
use tokio::sync::{Mutex, Notify, watch};

use crate::access::Access;
use crate::overview::Glances;
use crate::{ManagerError, RootPin, RotationView, SessionLimits};

/// Looks at a document that seems older than its mark.
const LOOKS: usize = 3;

/// How a site makes keys, and ends them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The indexes that keys get. Never 0.
    pub indexes: RangeInclusive<u32>,
    /// The suites of a key that names none, the first being its default.
    pub suites: Vec<Suite>,
    /// When new keys get a new version by themselves.
    pub renewal: Renewal,
    /// The least age at which a version is followed by another by itself: whatever is wished, a key does not
    /// use up its versions.
    pub renew_pause: Duration,
    /// The least time between the word that a version is to be destroyed, and its destruction.
    pub destroy_wait: Duration,
    /// How long operators stay signed in.
    pub sessions: SessionLimits,
}

impl Default for Settings {
    fn default() -> Self {
        let mut suites = vec![Suite::DEFAULT];
        suites.extend(Suite::ALL.into_iter().filter(|suite| *suite != Suite::DEFAULT));
        Self {
            indexes: 1..=i32::MAX.unsigned_abs(),
            suites,
            renewal: Renewal::default(),
            renew_pause: Duration::from_secs(60),
            destroy_wait: Duration::from_secs(7 * 24 * 3600),
            sessions: SessionLimits::default(),
        }
    }
}

/// The management service.
pub struct Manager {
    pub(crate) engine: ManagerRole,
    pub(crate) keystore: Arc<dyn Keystore>,
    pub(crate) marks: Arc<Marks>,
    pub(crate) auditor: Arc<Auditor>,
    pub(crate) settings: Settings,
    clock: fn() -> u64,
    /// The clock, and one that nobody sets, when this manager was made.
    begun: (u64, Instant),
    /// Where the next index was found last.
    pub(crate) next_index: AtomicU32,
    site: Mutex<Option<Arc<Site>>>,
    /// Whether the audit knows that the site is made here.
    site_noted: AtomicBool,
    pub(crate) rotation: RotationRole,
    pin: RootPin,
    pub(crate) access: Access,
    pub(crate) glances: Glances,
    pub(crate) rotated: watch::Sender<RotationView>,
    /// Wakes who leads rotations.
    pub(crate) rotation_begun: Notify,
    /// One change at a time, so that managers of one process do not race each other.
    pub(crate) changing: Mutex<()>,
}

impl Manager {
    /// A manager. `clock` gives Unix time in seconds.
    #[must_use]
    pub fn new(
        engine: ManagerRole,
        rotation: RotationRole,
        pin: RootPin,
        (keystore, marks, auditor): (Arc<dyn Keystore>, Arc<Marks>, Arc<Auditor>),
        settings: Settings,
        clock: fn() -> u64,
    ) -> Self {
        Self {
            access: Access::new(pin.folder().to_owned(), settings.sessions),
            glances: Glances::default(),
            pin,
            engine,
            keystore,
            marks,
            auditor,
            settings,
            clock,
            begun: (clock(), Instant::now()),
            next_index: AtomicU32::new(0),
            site: Mutex::default(),
            site_noted: AtomicBool::new(false),
            rotation,
            rotated: watch::Sender::default(),
            rotation_begun: Notify::new(),
            changing: Mutex::new(()),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Whether the clock has gone on, since this manager was made, as one that nobody sets: within minutes.
    pub(crate) fn clock_is_steady(&self) -> bool {
        const TOLERANCE: u64 = 300;
        let (wall, steady) = self.begun;
        let expected = wall.saturating_add(steady.elapsed().as_secs());
        self.now().abs_diff(expected) <= TOLERANCE
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
        let row = match self.keystore.site().await? {
            Some(row) => row,
            None => self.make_site().await?,
        };
        let site = Site::from_bytes(&row.keys)?;
        self.engine.set_site(&site, &row.decoy);
        Ok(site)
    }

    /// Makes the site's keys, unless another manager is faster.
    async fn make_site(&self) -> Result<SiteRow, ManagerError> {
        // Before it is done, like all that is done beside a change of a document.
        if !self.site_noted.swap(true, Ordering::Relaxed) {
            self.record("site.create").await?;
        }
        let site = self.engine.make_site().await?;
        let row = SiteRow { keys: site.to_bytes(), decoy: self.make_decoy(&site).await? };
        match self.keystore.init_site(&row).await {
            Ok(()) => {
                tracing::info!("a new site: its keys were made and wrapped");
                Ok(row)
            }
            Err(KeystoreError::Taken(Taken::Id)) => {
                let row = self.keystore.site().await?;
                Ok(row.ok_or(KeystoreError::Taken(Taken::Id))?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The decoy that unknown AppKeys are checked against: an app whose secret nobody was shown.
    pub(crate) async fn make_decoy(&self, site: &Site) -> Result<SignedDocument, ManagerError> {
        let id = app_key()?;
        let (wrapped, _) = self.engine.make_app_secret(&id, 1).await?;
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
            http_secrets: Vec::new(),
            disabled_by: None,
        };
        Ok(self.engine.sign(site, &decoy).await?)
    }

    /// Reads a document and has the engine verify it.
    pub(crate) async fn read<D: Document>(
        &self,
        by: By<'_>,
    ) -> Result<Option<Verified<D>>, ManagerError> {
        Ok(self.read_signed(by).await?.map(|(_, document)| document))
    }

    /// The same, with the document as it is stored.
    pub(crate) async fn read_signed<D: Document>(
        &self,
        by: By<'_>,
    ) -> Result<Option<(SignedDocument, Verified<D>)>, ManagerError> {
        let mut tries = LOOKS;
        loop {
            let Some(row) = self.keystore.document(D::KIND, by).await? else { return Ok(None) };
            let document = self.verify(&*self.site().await?, &row).await?;
            if !self.marks.check(&[&row.signed]).await?[0] {
                return Ok(Some((row.signed, document)));
            }
            // It may have changed between the look at it and that at its mark.
            tries -= 1;
            if tries == 0 {
                return Err(KeystoreError::rolled_back(&row.signed).into());
            }
        }
    }

    /// Whether a document of a kind that is never removed was seen here before, and is not there any more.
    pub(crate) async fn is_missing(&self, kind: DocumentKind) -> Result<bool, ManagerError> {
        for id in self.marks.ids(kind).await? {
            if self.keystore.document(kind, By::Id(&id)).await?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads a page of documents and has the engine verify each. One that does not verify is left
    /// out of the page, and named beside it.
    pub(crate) async fn read_page<D: Document>(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Page<D>, ManagerError> {
        let listed = self.keystore.list(D::KIND, after, limit).await?;
        let (rows, site) = (listed.rows, self.site().await?);
        let (unverified, next) = (listed.broken, listed.next);
        let mut page = Page { documents: Vec::new(), unverified, next };
        let mut verified = Vec::with_capacity(rows.len());
        for row in &rows {
            match self.verify(&site, row).await {
                Ok(document) => verified.push((row, document)),
                Err(error @ ManagerError::Engine(EngineError::Sealed | EngineError::Away(_))) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::error!(%error, "a row of the keystore");
                    page.unverified.push(row.name.clone());
                }
            }
        }
        let signed: Vec<_> = verified.iter().map(|(row, _)| &row.signed).collect();
        let old = self.marks.check(&signed).await?;
        for ((row, document), old) in verified.into_iter().zip(old) {
            // One that seems old may have changed since the page was read.
            let document = match old {
                false => Some(document),
                true => match self.read::<D>(By::Id(&row.signed.id)).await {
                    Err(error @ ManagerError::Keystore(KeystoreError::RolledBack(_))) => {
                        tracing::error!(%error, "a row of the keystore");
                        None
                    }
                    read => read?,
                },
            };
            match document {
                Some(document) => page.documents.push(document),
                None => page.unverified.push(row.name.clone()),
            }
        }
        Ok(page)
    }

    pub(crate) async fn verify<D: Document>(
        &self,
        site: &Site,
        row: &DocumentRow,
    ) -> Result<Verified<D>, ManagerError> {
        let document = self.engine.verify(site, &row.signed).await?;
        row.check::<D>(&document)?;
        Ok(document)
    }

    /// Notes a document that was written here.
    pub(crate) async fn mark(&self, site: &Site, signed: &SignedDocument) {
        if let Err(error) = self.marks.check(&[signed]).await {
            tracing::warn!(%error, "marks");
        }
        let (site, revision, mac) = (site.uid().to_string(), signed.revision, signed.mac);
        self.marks.note_newest(&Newest { site, revision, mac }).await;
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

/// A fresh AppKey.
pub(crate) fn app_key() -> Result<String, ManagerError> {
    let mut random = [0; 12];
    getrandom::fill(&mut random).map_err(EngineError::from)?;
    Ok(format!("ak_{}", hex::encode(random)))
}
