//! What goes on, at a glance.

use hyper::Method;

use super::{ClientError, ManagerClient, segment};
use crate::{AppLogins, AttentionView, SealView, StatusView, TrafficView};

impl ManagerClient {
    /// Whether the site can work. Everybody may ask.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn seal(&self) -> Result<SealView, ClientError> {
        self.call(Method::GET, "/v1/seal", None::<&()>).await
    }

    /// How the site's parts are.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<StatusView, ClientError> {
        self.call(Method::GET, "/v1/status", None::<&()>).await
    }

    /// What somebody should look at.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn attention(&self) -> Result<AttentionView, ClientError> {
        self.call(Method::GET, "/v1/attention", None::<&()>).await
    }

    /// Messages and refusals of the last `minutes`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn traffic(&self, minutes: u64) -> Result<TrafficView, ClientError> {
        self.call(Method::GET, &format!("/v1/traffic?minutes={minutes}"), None::<&()>).await
    }

    /// When an app was seen last, and from where.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn app_logins(&self, app: &str) -> Result<AppLogins, ClientError> {
        self.call(Method::GET, &format!("/v1/apps/{}/logins", segment(app)), None::<&()>).await
    }
}
