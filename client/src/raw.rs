//! A connection whose frames the caller handles: for load generators, and for languages' bindings
//! that bring their own driver. Everything else is better served by [`crate::Client`].

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::connect::{Connector, Opened, tls_connector};
pub use crate::connect::{ReadWrite, Stream};
use crate::names::look_up;
use crate::{Address, Credentials, Error, SessionLimits};

/// Time for the connection, over all machines that are tried for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An authenticated stream and what the server allows on it.
pub struct RawConnection {
    /// The stream, behind [`RawConnection::surplus`].
    pub stream: Stream,
    /// What the server allows.
    pub limits: SessionLimits,
    /// What has arrived behind the last answer of AUTH: the first bytes of the stream.
    pub surplus: Bytes,
}

/// Connects to the first machine of the address that answers, and authenticates. `ca_pem` holds the
/// authorities to trust under TLS; `None` trusts the system's. Looking up the name, TLS and AUTH
/// included, it takes no longer than 5 seconds.
///
/// # Errors
/// [`Error`]; see [`Error::is_timeout`].
pub async fn connect(
    address: &Address,
    credentials: &Credentials,
    ca_pem: Option<&[u8]>,
) -> Result<RawConnection, Error> {
    let tls = address.tls.then(|| tls_connector(ca_pem)).transpose()?;
    let connector = Connector::new(address.clone(), tls.as_ref(), false)?;
    let connecting = async {
        let mut last = Error::lost();
        for socket in look_up(address).await? {
            match connector.connect(socket, credentials).await {
                Err(error) if error.is_io() => last = error,
                told => return told,
            }
        }
        Err(last)
    };
    let connected = timeout(CONNECT_TIMEOUT, connecting).await;
    let Opened { stream, limits, surplus } =
        connected.unwrap_or_else(|_| Err(Error::deadline(None)))?;
    Ok(RawConnection { stream, limits, surplus: surplus.freeze() })
}
