//! What every process of Sealwire asks of its machine.

mod accept;
pub mod admission;
pub mod certificate;
pub mod data_dir;
pub mod followed;
pub mod process;

use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use futures_util::FutureExt;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

pub use accept::accept;

/// What the machine did not give.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct HostError {
    what: String,
    #[source]
    source: io::Error,
}

impl HostError {
    fn new(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { what: what.into(), source: source.into() }
    }
}

/// Binds a unix socket, mode 0600. One that another process left behind is removed.
///
/// # Errors
/// [`HostError`].
pub fn bind_socket(path: &Path) -> Result<UnixListener, HostError> {
    let bind = || -> io::Result<UnixListener> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bind().map_err(|error| HostError::new(format!("socket {}", path.display()), error))
}

/// Runs a part; when it fails, or panics, everything stops: half a server is worse than none.
pub async fn watched(
    name: &str,
    stop: CancellationToken,
    part: impl Future<Output = io::Result<()>>,
) {
    let problem = match AssertUnwindSafe(part).catch_unwind().await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it has panicked".to_owned(),
    };
    process::tell_failure("sealwire", &format!("{name}: {problem}"));
    stop.cancel();
}

/// A part that cannot fail but by a panic.
///
/// # Errors
/// Never.
pub async fn infallible(part: impl Future<Output = ()>) -> io::Result<()> {
    part.await;
    Ok(())
}
