//! Apps: make, show, list, disable, enable, and give a new secret.

use ipnet::IpNet;
use sealwire_engine::Verified;
use sealwire_engine::document::{AppDocument, AppSecret, AppState, DocumentKind, Grants};
use sealwire_keystore::{By, KeystoreError, Taken};

use crate::changing::Draft;
use crate::manager::app_key;
use crate::requests::check_bound;
use crate::{AppList, AppView, CreateApp, CreatedApp, Manager, ManagerError, RotateSecret};

/// Longest name of an app, in bytes.
const MAX_NAME: usize = 128;

/// Apps that are read at once.
const PAGE: u32 = 1000;

/// Whether a network lies in ::ffff:0:0/96: peers from there are compared as IPv4.
fn is_mapped(network: &IpNet) -> bool {
    match network {
        IpNet::V4(_) => false,
        IpNet::V6(v6) => v6.prefix_len() >= 96 && v6.network().to_ipv4_mapped().is_some(),
    }
}

/// What an app may do, and from where, for the audit.
fn said(app: &AppDocument) -> String {
    let grants: Vec<_> = app.grants.0.iter().map(ToString::to_string).collect();
    let allow: Vec<_> = app.allow.iter().map(ToString::to_string).collect();
    format!("grants {}; allowed from {}", grants.join(" "), allow.join(" "))
}

pub(crate) fn check_networks(allow: &[IpNet]) -> Result<(), ManagerError> {
    match allow.iter().find(|network| is_mapped(network)) {
        None => Ok(()),
        Some(network) => Err(ManagerError::Invalid(format!(
            "{network} is an IPv4 network in IPv6 form, which no peer has: write it as IPv4"
        ))),
    }
}

fn taken(name: &str) -> ManagerError {
    ManagerError::Conflict(format!("an app called `{name}` exists already"))
}

impl Manager {
    /// Makes an app. Its secret is in the answer, and nowhere else in clear.
    ///
    /// # Errors
    /// [`ManagerError::Conflict`] when another app has the name; [`ManagerError::Invalid`].
    pub async fn create_app(&self, request: &CreateApp) -> Result<CreatedApp, ManagerError> {
        self.check_app(request).await?;
        let name = request.name.trim();
        let id = app_key()?;
        let mut change = self.begin().await?;
        let made = loop {
            let revision = change.revision().await?;
            // Within the change, and anew for each try: a root rotation may go on, or have ended.
            let (wrapped, app_secret) = self.engine.make_app_secret(&id, 1).await?;
            let http = match request.http {
                true => Some(self.engine.make_http_secret(&id, 1).await?),
                false => None,
            };
            let (http, http_secret) = http.unzip();
            let document = AppDocument {
                kind: DocumentKind::App,
                id: id.clone(),
                revision,
                name: name.to_owned(),
                state: AppState::Active,
                created: self.now(),
                allow: request.allow.iter().map(IpNet::trunc).collect(),
                grants: Grants(request.grants.clone()),
                secrets: vec![AppSecret::new(&wrapped, None)],
                http_secrets: http.iter().map(|http| AppSecret::new(http, None)).collect(),
                disabled_by: None,
            };
            let deed = ("app.create", said(&document));
            match change.commit(Draft::of(document, deed)).await {
                Ok(None) => {}
                Ok(Some(app)) => break Ok((app, app_secret, http_secret)),
                Err(error) => break Err(error),
            }
        };
        match made {
            Ok((app, app_secret, http_secret)) => {
                tracing::info!(app = %app.id, name = %app.name, "app made");
                let app_secret = Some(app_secret);
                Ok(CreatedApp { app: AppView::new(&app), app_secret, http_secret })
            }
            Err(ManagerError::Keystore(KeystoreError::Taken(Taken::Name))) => Err(taken(name)),
            Err(error) => Err(error),
        }
    }

    /// Whether an app could be made.
    pub(crate) async fn check_app(&self, request: &CreateApp) -> Result<(), ManagerError> {
        let name = request.name.trim();
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(ManagerError::Invalid(
                "an app's name has 1 to 128 bytes and no control characters".into(),
            ));
        }
        check_networks(&request.allow)?;
        match self.read::<AppDocument>(By::Name(name)).await? {
            Some(_) => Err(taken(name)),
            None => Ok(()),
        }
    }

    /// An app, by AppKey or name.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchApp`].
    pub async fn show_app(&self, app: &str) -> Result<AppView, ManagerError> {
        Ok(AppView::new(&*self.find_app(app).await?))
    }

    /// Lets an app log in, or not: its sessions end then.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchApp`].
    pub async fn set_app_state(&self, app: &str, state: AppState) -> Result<AppView, ManagerError> {
        let mut change = self.begin().await?;
        loop {
            let revision = change.revision().await?;
            let found = self.find_app(app).await?;
            if found.state == state {
                return Ok(AppView::new(&found));
            }
            let disabled_by = match state {
                AppState::Active => found.disabled_by,
                AppState::Disabled => Some(revision),
            };
            let document = AppDocument { revision, state, disabled_by, ..found.into_inner() };
            let act = match state {
                AppState::Active => "app.enable",
                AppState::Disabled => "app.disable",
            };
            if let Some(app) = change.commit(Draft::of(document, act)).await? {
                tracing::info!(app = %app.id, ?state, "app changed");
                return Ok(AppView::new(&app));
            }
        }
    }

    /// Lets an app do other things, or from elsewhere, if its document has this revision. Its sessions end, and it logs
    /// in again.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchApp`]; [`ManagerError::IllegalChange`] when it has changed.
    pub(crate) async fn set_app(
        &self,
        app: &str,
        (allow, grants): (&[IpNet], &Grants),
        bound: Option<u64>,
    ) -> Result<AppView, ManagerError> {
        let mut change = self.begin().await?;
        loop {
            let revision = change.revision().await?;
            let mut document = self.find_app(app).await?.into_inner();
            check_bound(bound, document.revision, &document.name)?;
            if document.allow == allow && document.grants == *grants {
                return Ok(AppView::new(&document));
            }
            document.revision = revision;
            document.allow = allow.to_vec();
            document.grants = grants.clone();
            let deed = ("app.set", said(&document));
            if let Some(app) = change.commit(Draft::of(document, deed)).await? {
                tracing::info!(app = %app.id, "app set");
                return Ok(AppView::new(&app));
            }
        }
    }

    /// Has an app come over HTTP no longer: its tokens end.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchApp`].
    pub(crate) async fn drop_http(&self, app: &str) -> Result<AppView, ManagerError> {
        let mut change = self.begin().await?;
        loop {
            let revision = change.revision().await?;
            let found = self.find_app(app).await?;
            if found.http_secrets.is_empty() {
                return Ok(AppView::new(&found));
            }
            let http_secrets = Vec::new();
            let document = AppDocument { revision, http_secrets, ..found.into_inner() };
            if let Some(app) = change.commit(Draft::of(document, "app.drop-http")).await? {
                tracing::info!(app = %app.id, "app may come over HTTP no longer");
                return Ok(AppView::new(&app));
            }
        }
    }

    /// Gives an app a new secret. The one of before is taken for a while. Its sessions end, and it logs in
    /// again; tokens go on for as long as the HTTP secret that they were got with is taken.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchApp`]; [`ManagerError::IllegalChange`] while an older secret is still taken: the
    /// app may not know the newer one yet.
    pub async fn rotate_app_secret(
        &self,
        app: &str,
        wish: RotateSecret,
    ) -> Result<CreatedApp, ManagerError> {
        self.rotate_secret_of(app, wish, None).await
    }

    /// The same, if the app's document has this revision, when one is named.
    pub(crate) async fn rotate_secret_of(
        &self,
        app: &str,
        wish: RotateSecret,
        bound: Option<u64>,
    ) -> Result<CreatedApp, ManagerError> {
        let mut change = self.begin().await?;
        loop {
            let revision = change.revision().await?;
            let mut document = self.find_app(app).await?.into_inner();
            check_bound(bound, document.revision, &document.name)?;
            document.revision = revision;
            let now = self.now();
            let id = document.id.clone();
            let secrets = match wish.http {
                true => &mut document.http_secrets,
                false => &mut document.secrets,
            };
            let running = secrets.iter().filter_map(|secret| secret.until).max();
            if let Some(until) = running.filter(|until| *until > now && !wish.drop_older) {
                return Err(ManagerError::IllegalChange(format!(
                    "app `{}` has a new secret already, and the one of before is taken for {} s more: give it the \
                     new one first, or drop the older at once (--drop-older)",
                    document.name,
                    until - now
                )));
            }
            let newest = secrets.iter().map(|secret| secret.version).max().unwrap_or(0);
            secrets.retain(|secret| secret.version == newest);
            for secret in secrets.iter_mut() {
                secret.until = Some(now.saturating_add(wish.overlap_seconds));
            }
            let (wrapped, secret) = match wish.http {
                true => self.engine.make_http_secret(&id, newest + 1).await?,
                false => self.engine.make_app_secret(&id, newest + 1).await?,
            };
            secrets.push(AppSecret::new(&wrapped, None));
            let said = format!("the secret of before is taken for {} s", wish.overlap_seconds);
            let act = if wish.http { "app.rotate-http-secret" } else { "app.rotate-secret" };
            let deed = (act, said);
            if let Some(app) = change.commit(Draft::of(document, deed)).await? {
                tracing::info!(app = %app.id, overlap = wish.overlap_seconds, "app has a new secret");
                let (app_secret, http_secret) = match wish.http {
                    true => (None, Some(secret)),
                    false => (Some(secret), None),
                };
                return Ok(CreatedApp { app: AppView::new(&app), app_secret, http_secret });
            }
        }
    }

    pub(crate) async fn find_app(&self, app: &str) -> Result<Verified<AppDocument>, ManagerError> {
        if let Some(found) = self.read(By::Id(app)).await? {
            return Ok(found);
        }
        self.read(By::Name(app)).await?.ok_or_else(|| ManagerError::NoSuchApp(app.to_owned()))
    }

    /// Every app, by name.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn list_apps(&self) -> Result<AppList, ManagerError> {
        let mut list = AppList { apps: Vec::new(), unverified: Vec::new() };
        let mut after = String::new();
        loop {
            let page = self.read_page::<AppDocument>(&after, PAGE).await?;
            list.apps.extend(page.documents.iter().map(|app| AppView::new(app)));
            list.unverified.extend(page.unverified);
            match page.next {
                Some(next) => after = next,
                None => return Ok(list),
            }
        }
    }
}
