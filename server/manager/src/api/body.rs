//! The body of a request, whole.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _, to_bytes};
use tokio::time::timeout;

use crate::ManagerError;

/// Time for a body.
const TIME: Duration = Duration::from_secs(10);

/// Takes a body of at most `longest` bytes. One that says itself that it is too long is not waited for.
///
/// # Errors
/// [`ManagerError::Invalid`].
pub(crate) async fn whole(body: Body, longest: usize) -> Result<Bytes, ManagerError> {
    let fits = body.size_hint().lower() <= u64::try_from(longest).unwrap_or(u64::MAX);
    let limit = if fits { longest } else { 0 };
    match timeout(TIME, to_bytes(body, limit)).await {
        Ok(Ok(body)) => Ok(body),
        _ => Err(ManagerError::Invalid(format!(
            "a body has at most {longest} bytes here, and arrives within {TIME:?}"
        ))),
    }
}
