//! TLS 1.3, and what binds AUTH to it.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ConnectionCommon, ServerConfig, SideData};
use sealwire_engine::host::followed::{Content, FileError, Followed};
use sealwire_protocol::auth::{Channel, TLS_EXPORTER_LABEL};
use tokio_rustls::TlsAcceptor;

/// What clients know the gateway by, as its files are now.
pub type Certificate = Followed<Certified, FileError>;

/// A certificate in use.
#[derive(Clone)]
pub struct Certified {
    /// The certificate itself, without its chain.
    pub own: CertificateDer<'static>,
    /// Accepts clients with it.
    pub acceptor: TlsAcceptor,
}

/// Reads the certificate with its chain, and its key, both PEM. The key must not be open to everybody.
///
/// # Errors
/// [`FileError`].
pub fn certificate(certificate: PathBuf, key: PathBuf) -> Result<Arc<Certificate>, FileError> {
    Followed::read("the gateway's certificate", vec![certificate, key], certified)
}

/// An acceptor of TLS 1.3, without session tickets' early data.
fn certified(contents: &[Content]) -> Result<Certified, FileError> {
    let [certificate, key] = contents else { unreachable!("two files") };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&certificate.bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| certificate.wrong(error.to_string()))?;
    let own = chain.first().ok_or_else(|| certificate.wrong("no certificate"))?.clone();
    key.check_mode(0o007)?;
    let private =
        PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|error| key.wrong(error.to_string()))?;
    let unusable = |error: rustls::Error| certificate.wrong(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unusable)?;
    Ok(Certified { own, acceptor: TlsAcceptor::from(Arc::new(config)) })
}

/// The channel binding of a connection: `tls-exporter`, RFC 9266.
///
/// # Errors
/// When the handshake is not complete.
pub fn channel<S: SideData>(connection: &ConnectionCommon<S>) -> Result<Channel, rustls::Error> {
    let binding = connection.export_keying_material([0; 32], TLS_EXPORTER_LABEL, None)?;
    Ok(Channel::Tls(binding))
}
