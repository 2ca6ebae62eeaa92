//! A connection whose frames the caller handles: for load generators, and for languages' bindings
//! that bring their own driver. Everything else is better served by [`crate::Client`].

use sealwire_protocol::message::SessionLimits;

use crate::connect::Connector;
pub use crate::connect::{ReadWrite, Stream};
use crate::{Address, Credentials, Error};

/// An authenticated stream and what the server allows on it.
pub struct RawConnection {
    /// The stream, at the beginning of the first frame after AUTH.
    pub stream: Stream,
    /// What the server allows.
    pub limits: SessionLimits,
}

/// Connects and authenticates. `ca_pem` holds the authorities to trust under TLS; `None` trusts the
/// system's.
///
/// # Errors
/// [`Error`].
pub async fn connect(
    address: &Address,
    credentials: &Credentials,
    ca_pem: Option<&[u8]>,
) -> Result<RawConnection, Error> {
    let connector = Connector::new(address.clone(), ca_pem, false)?;
    let (stream, limits) = connector.connect(credentials).await?;
    Ok(RawConnection { stream, limits })
}
