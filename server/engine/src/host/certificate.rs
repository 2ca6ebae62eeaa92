//! A server's certificate, and its key: followed, so that renewed files are taken into use.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::followed::{Content, FileError, Followed};

/// What clients know a server by, as its files are now.
pub type Certificate = Followed<Certified, FileError>;

/// A certificate in use.
#[derive(Clone)]
pub struct Certified {
    /// The certificate itself, without its chain.
    pub own: CertificateDer<'static>,
    /// Accepts clients with it, over TLS 1.3.
    pub acceptor: TlsAcceptor,
}

/// Reads the certificate with its chain, and its key, both PEM. The key must not be open to everybody. `what` names
/// it in the log; `protocols` are those of ALPN (RFC 7301), none for none.
///
/// # Errors
/// [`FileError`].
pub fn certificate(
    what: &'static str,
    (certificate, key): (PathBuf, PathBuf),
    protocols: &'static [&'static [u8]],
) -> Result<Arc<Certificate>, FileError> {
    Followed::read(what, vec![certificate, key], |contents| certified(contents, protocols))
}

/// An acceptor of TLS 1.3, without session tickets' early data.
fn certified(contents: &[Content], protocols: &[&[u8]]) -> Result<Certified, FileError> {
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
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unusable)?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Certified { own, acceptor: TlsAcceptor::from(Arc::new(config)) })
}
