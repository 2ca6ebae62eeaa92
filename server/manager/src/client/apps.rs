//! Apps.

use hyper::Method;

use super::{ClientError, ManagerClient, segment};
use crate::{AppList, AppView, ChangeApp, CreateApp, CreatedApp, RotateSecret};

impl ManagerClient {
    /// An app, by AppKey or name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn show_app(&self, app: &str) -> Result<AppView, ClientError> {
        self.call(Method::GET, &format!("/v1/apps/{}", segment(app)), None::<&()>).await
    }

    /// Sets what an app may do, and from where.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_app(&self, app: &str, wish: &ChangeApp) -> Result<AppView, ClientError> {
        self.call(Method::PATCH, &format!("/v1/apps/{}", segment(app)), Some(wish)).await
    }

    /// Keeps an app from logging in, and ends its sessions; or lets it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn enable_app(&self, app: &str, enable: bool) -> Result<AppView, ClientError> {
        let change = if enable { "enable" } else { "disable" };
        self.call(Method::POST, &format!("/v1/apps/{}/{change}", segment(app)), None::<&()>).await
    }

    /// Gives an app a new secret. The answer has it, this once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate_app_secret(
        &self,
        app: &str,
        wish: RotateSecret,
    ) -> Result<CreatedApp, ClientError> {
        let path = format!("/v1/apps/{}/rotate-secret", segment(app));
        self.call(Method::POST, &path, Some(&wish)).await
    }

    /// Makes an app. The answer has its secret, this once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_app(&self, app: &CreateApp) -> Result<CreatedApp, ClientError> {
        self.call(Method::POST, "/v1/apps", Some(app)).await
    }

    /// Every app.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_apps(&self) -> Result<AppList, ClientError> {
        self.call(Method::GET, "/v1/apps", None::<&()>).await
    }
}
