//! A connection whose frames the caller handles: for load generators, and for languages' bindings
//! that bring their own driver. Everything else is better served by [`crate::Client`].

use bytes::Bytes;
use sealwire_protocol::message::SessionLimits;

use crate::connect::{Connector, Opened, tls_connector};
pub use crate::connect::{ReadWrite, Stream};
use crate::{Address, Credentials, Error};

/// An authenticated stream and what the server allows on it.
pub struct RawConnection {
    /// The stream, behind [`RawConnection::surplus`].
    pub stream: Stream,
    /// What the server allows.
    pub limits: SessionLimits,
    /// What has arrived behind the last answer of AUTH: the first bytes of the stream.
    pub surplus: Bytes,
}

/// Connects to the first machine of the address that answers, and authenticates. `ca_pem` holds the authorities to trust under TLS; `None` trusts the
/// system's.
///
/// # Errors
/// [`Error`].
pub async fn connect(
    address: &Address,
    credentials: &Credentials,
    ca_pem: Option<&[u8]>,
) -> Result<RawConnection, Error> {
    let tls = address.tls.then(|| tls_connector(ca_pem)).transpose()?;
    let connector = Connector::new(address.clone(), tls.as_ref(), false)?;
    let mut last = Error::lost();
    for socket in connector.look_up().await? {
        match connector.connect(socket, credentials).await {
            Ok(Opened { stream, limits, surplus }) => {
                return Ok(RawConnection { stream, limits, surplus: surplus.freeze() });
            }
            Err(error) if error.is_io() => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
