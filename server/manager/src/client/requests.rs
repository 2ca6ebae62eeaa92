//! Requests that another operator must approve, and the policy.

use hyper::Method;

use super::{ClientError, ManagerClient, segment};
use crate::{PolicyView, RequestList, RequestView, SetPolicy};

impl ManagerClient {
    /// Every request that another operator must approve, and those that were decided.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_requests(&self) -> Result<RequestList, ClientError> {
        self.call(Method::GET, "/v1/requests", None::<&()>).await
    }

    /// A request.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn show_request(&self, request: &str) -> Result<RequestView, ClientError> {
        self.call(Method::GET, &format!("/v1/requests/{}", segment(request)), None::<&()>).await
    }

    /// Approves a request, or refuses it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn decide_request(
        &self,
        request: &str,
        approve: bool,
    ) -> Result<RequestView, ClientError> {
        let decision = if approve { "approve" } else { "refuse" };
        let path = format!("/v1/requests/{}/{decision}", segment(request));
        self.call(Method::POST, &path, None::<&()>).await
    }

    /// Whether two persons are needed, and how long a destruction waits.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn policy(&self) -> Result<PolicyView, ClientError> {
        self.call(Method::GET, "/v1/policy", None::<&()>).await
    }

    /// Sets the policy.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_policy(&self, wish: &SetPolicy) -> Result<PolicyView, ClientError> {
        self.call(Method::PATCH, "/v1/policy", Some(wish)).await
    }
}
