//! How an app is let in, whatever it shows: its document or a decoy, what it shows against that, its allow-list, and
//! whether any of it has changed meanwhile. All refusals take the same way; the log and the audit tell them apart.

use std::net::IpAddr;

use sealwire_engine::audit::AuditEvent;
use sealwire_engine::document::{AppDocument, lets_in};
use sealwire_engine::{EngineError, GatewayRole, SignedDocument, Site, Verified};
use sealwire_protocol::{ErrorCode, credential};
use tokio::sync::watch;

use crate::directory::SiteEntry;
use crate::{Gateway, Refusal};

/// What an app shows.
pub(crate) trait Shown {
    /// What it gets for it.
    type Granted;

    /// What it is called in the log.
    const NAME: &'static str;

    /// Whether a login is on record, not only a refused one.
    const RECORDED: bool;

    /// Has the engine check it against a document of the app.
    async fn check(
        &self,
        engine: &GatewayRole,
        site: &Site,
        document: &SignedDocument,
    ) -> Result<Self::Granted, EngineError>;

    /// The app's document, of what it gets.
    fn app(granted: &Self::Granted) -> &Verified<AppDocument>;
}

/// An app that was let in.
pub(crate) struct LetIn<T> {
    pub(crate) granted: T,
    /// Moves when what the app may do changes.
    pub(crate) watch: watch::Receiver<[u8; 32]>,
    pub(crate) site: std::sync::Arc<SiteEntry>,
}

/// Lets an app in, or not.
///
/// # Errors
/// `AUTH_FAILED` for whatever it did wrong; `SESSION_ENDED` when it was changed meanwhile; `SEALED`, `UNAVAILABLE`.
pub(crate) async fn admit<S: Shown>(
    gateway: &Gateway,
    from: IpAddr,
    app_key: &str,
    shown: &S,
) -> Result<LetIn<S::Granted>, Refusal> {
    let refuse = |reason: &str| {
        let named = named(app_key);
        if gateway.guesses.refused(from) {
            tracing::warn!(app = named, reason, "{} refused", S::NAME);
        }
        gateway.auditor.tell_refused(named, Some(from), reason);
        Refusal::from(ErrorCode::AUTH_FAILED)
    };
    let directory = &gateway.directory;
    let mut document = directory.app(app_key).await?;
    let mut site = directory.site().await?;
    let mut checked = shown.check(&gateway.engine, &site.site, &document).await;
    if let Err(EngineError::OtherRoot { .. }) = checked {
        // A root rotation has ended between reading and opening.
        directory.doubt_site().await;
        document = directory.app(app_key).await?;
        site = directory.site().await?;
        checked = shown.check(&gateway.engine, &site.site, &document).await;
    }
    let granted = checked.map_err(|error| match error {
        EngineError::Sealed | EngineError::Away(_) => error.into(),
        EngineError::AuthFailed => refuse("unknown AppKey, wrong proof, or disabled"),
        other => refuse(&other.to_string()),
    })?;
    let app = S::app(&granted);
    if !lets_in(&app.allow, from) {
        return Err(refuse("the address is not on the app's allow-list"));
    }
    let watch = directory.watch(app);
    let Some(again) = directory.still(app).await? else {
        return Err(ErrorCode::SESSION_ENDED.into());
    };
    directory.remember(again);
    if watch.has_changed().unwrap_or(true) {
        directory.forget(app_key);
        return Err(ErrorCode::SESSION_ENDED.into());
    }
    if S::RECORDED {
        tracing::info!(app = app_key, "{} accepted", S::NAME);
        let who = app.id.clone();
        gateway.auditor.tell(AuditEvent::LoggedIn { who, from: Some(from) });
    }
    Ok(LetIn { granted, watch, site })
}

/// Whoever has taken one thing for the other finds his secret in no log.
fn named(app_key: &str) -> &str {
    if app_key.starts_with(credential::APP_SECRET_PREFIX) {
        "(an AppSecret, in place of an AppKey)"
    } else if app_key.starts_with(credential::HTTP_SECRET_PREFIX) {
        "(an HTTP secret, in place of an AppKey)"
    } else {
        app_key
    }
}
