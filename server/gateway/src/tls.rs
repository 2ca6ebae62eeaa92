//! What binds AUTH to TLS.

use rustls::{ConnectionCommon, SideData};
use sealwire_protocol::auth::{Channel, TLS_EXPORTER_LABEL};

/// The channel binding of a connection: `tls-exporter`, RFC 9266.
///
/// # Errors
/// When the handshake is not complete.
pub fn channel<S: SideData>(connection: &ConnectionCommon<S>) -> Result<Channel, rustls::Error> {
    let binding = connection.export_keying_material([0; 32], TLS_EXPORTER_LABEL, None)?;
    Ok(Channel::Tls(binding))
}
