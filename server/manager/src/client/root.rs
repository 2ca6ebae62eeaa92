//! Root rotations.

use hyper::Method;

use super::{ClientError, ManagerClient};
use crate::RotationView;

impl ManagerClient {
    /// How far a root rotation has come.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotation(&self) -> Result<RotationView, ClientError> {
        self.call(Method::GET, "/v1/root/rotation", None::<&()>).await
    }

    /// Begins to move what is wrapped under the root key of before.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn begin_rotation(&self) -> Result<RotationView, ClientError> {
        self.call(Method::POST, "/v1/root/rotation", None::<&()>).await
    }

    /// Ends a root rotation although some rows could not be moved.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn leave_behind(&self) -> Result<RotationView, ClientError> {
        self.call(Method::POST, "/v1/root/rotation/leave-behind", None::<&()>).await
    }
}
