//! A connection whose frames the caller handles: for load generators, and for languages' bindings
//! that bring their own driver. Everything else is better served by [`crate::Client`].

use bytes::Bytes;
use sealwire_protocol::message::SessionLimits;

use crate::connect::{Connector, Opened};
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
    let Opened { stream, limits, surplus } = connector.connect(credentials).await?;
    Ok(RawConnection { stream, limits, surplus: surplus.freeze() })
}
