//! Keys.

use hyper::Method;

use super::{ClientError, ManagerClient, PAGE, segment};
use crate::{ChangeKey, CreateKey, DestroyKey, KeyPage, KeyView, Versions};

impl ManagerClient {
    /// Makes a key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_key(&self, key: &CreateKey) -> Result<KeyView, ClientError> {
        self.call(Method::POST, "/v1/keys", Some(key)).await
    }

    /// Adds a version to a key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate_key(&self, key: &str) -> Result<KeyView, ClientError> {
        self.call(Method::POST, &format!("/v1/keys/{}/rotate", segment(key)), None::<&()>).await
    }

    /// A key with its wrapped versions.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn show_key(&self, key: &str) -> Result<KeyView, ClientError> {
        self.call(Method::GET, &format!("/v1/keys/{}", segment(key)), None::<&()>).await
    }

    /// Changes the state of a key's versions: `close`, `disable`, `enable`, `cancel-destroy`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_key(
        &self,
        key: &str,
        change: &str,
        versions: Versions,
    ) -> Result<KeyView, ClientError> {
        let path = format!("/v1/keys/{}/{change}", segment(key));
        self.call(Method::POST, &path, Some(&versions)).await
    }

    /// Schedules the destruction of a key's versions.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn destroy_key(&self, key: &str, wish: DestroyKey) -> Result<KeyView, ClientError> {
        self.call(Method::POST, &format!("/v1/keys/{}/destroy", segment(key)), Some(&wish)).await
    }

    /// Sets what a key is set to.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_key(&self, key: &str, wish: &ChangeKey) -> Result<KeyView, ClientError> {
        self.call(Method::PATCH, &format!("/v1/keys/{}", segment(key)), Some(wish)).await
    }

    /// A page of keys by name, behind the name `after`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_page(&self, after: &str, limit: u32) -> Result<KeyPage, ClientError> {
        let path = format!("/v1/keys?after={}&limit={limit}", segment(after));
        self.call(Method::GET, &path, None::<&()>).await
    }

    /// Every key, page by page.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_keys(&self) -> Result<KeyPage, ClientError> {
        let mut all = KeyPage { keys: Vec::new(), unverified: Vec::new(), next: None };
        let mut after = String::new();
        loop {
            let page = self.list_page(&after, PAGE).await?;
            all.keys.extend(page.keys);
            all.unverified.extend(page.unverified);
            match page.next {
                Some(next) => after = next,
                None => return Ok(all),
            }
        }
    }
}
