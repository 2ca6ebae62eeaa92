//! TLS 1.3, and what binds AUTH to it.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ConnectionCommon, ServerConfig, SideData};
use sealwire_protocol::auth::{Channel, TLS_EXPORTER_LABEL};
use tokio_rustls::TlsAcceptor;

/// Why no acceptor was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Certificate or key are not PEM.
    #[error("TLS certificate or key: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// Certificate and key do not fit, or are not usable.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// An acceptor of TLS 1.3, without session tickets' early data, from PEM texts.
///
/// # Errors
/// [`TlsError`].
pub fn acceptor(certificates: &[u8], key: &[u8]) -> Result<TlsAcceptor, TlsError> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(certificates).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The channel binding of a connection: `tls-exporter`, RFC 9266.
///
/// # Errors
/// When the handshake is not complete.
pub fn channel<S: SideData>(connection: &ConnectionCommon<S>) -> Result<Channel, rustls::Error> {
    let binding = connection.export_keying_material([0; 32], TLS_EXPORTER_LABEL, None)?;
    Ok(Channel::Tls(binding))
}
