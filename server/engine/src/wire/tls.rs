//! TLS between the parts: 1.3, the site's own authority, certificates on both sides, always.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use super::Role;
use crate::host::followed::{Content, FileError, Followed};

/// The one application protocol (RFC 7301): a TLS client that means something else is refused.
const ALPN: &[u8] = b"sealwire-engine/1";

/// Time for the handshake of who connects.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Where a part's certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The site's own authority, PEM.
    pub authority: PathBuf,
    /// The certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// The certificate's key, PEM, mode 0600 or less.
    pub key: PathBuf,
}

/// Why a part has no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate names another role.
    #[error(
        "{path}: the certificate's role is not {role}: it must name the DNS name {dns_name}, and no other role's",
        dns_name = role.dns_name(), role = role.name()
    )]
    Role {
        /// The certificate.
        path: PathBuf,
        /// The role of this process.
        role: Role,
    },
}

/// What a part proves itself with, and knows others by. Follows its files: a certificate is renewed
/// without a restart.
pub struct Identity {
    role: Role,
    current: Arc<Followed<Current, TlsError>>,
}

#[derive(Clone)]
struct Current {
    own: CertificateDer<'static>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn read(files: TlsFiles, role: Role) -> Result<Arc<Self>, TlsError> {
        let paths = vec![files.authority, files.certificate, files.key];
        let make = move |contents: &[Content]| Current::make(contents, role);
        let current = Followed::read("the certificate between the parts", paths, make)?;
        Ok(Arc::new(Self { role, current }))
    }

    /// Whose it is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The certificate that is in use, without its chain.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.current.current().own
    }

    /// Accepts a peer that proves itself within five seconds, and has one of the roles that may call.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn accept(
        &self,
        stream: TcpStream,
        callers: &[Role],
    ) -> io::Result<(TlsStream<TcpStream>, Role)> {
        let acceptor = TlsAcceptor::from(self.current.current().server);
        let accepted = timeout(HANDSHAKE, acceptor.accept(stream)).await;
        let stream = accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        match certificate.and_then(Role::of) {
            Some(role) if callers.contains(&role) => Ok((stream, role)),
            Some(role) => {
                Err(io::Error::other(format!("the certificate's role is {}", role.name())))
            }
            None => Err(io::Error::other("the certificate names no role of Sealwire, or several")),
        }
    }

    /// Connects to peers that prove themselves.
    #[must_use]
    pub fn connector(&self) -> TlsConnector {
        TlsConnector::from(self.current.current().client)
    }

    /// Takes new files into use, until `stop`. Ones that cannot be used are logged, and the old ones stay.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        self.current.clone().follow(stop).await;
    }
}

impl Current {
    fn make(contents: &[Content], role: Role) -> Result<Self, TlsError> {
        let [authority, certificate, key] = contents else { unreachable!("three files") };
        let authorities = Arc::new(authorities(authority)?);
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&certificate.bytes)
                .collect::<Result<_, _>>()
                .map_err(|error| certificate.wrong(error.to_string()))?;
        let own = chain.first().ok_or_else(|| certificate.wrong("no certificate"))?.clone();
        if Role::of(&own) != Some(role) {
            return Err(TlsError::Role { path: certificate.path.clone(), role });
        }
        key.check_mode(0o077)?;
        let private = PrivateKeyDer::from_pem_slice(&key.bytes)
            .map_err(|error| key.wrong(error.to_string()))?;
        let unusable = |error: rustls::Error| certificate.wrong(error.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(authorities.clone(), provider.clone())
                .build()
                .map_err(|error| authority.wrong(error.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), private.clone_key())
            .map_err(unusable)?;
        // Each connection proves itself anew: an expired certificate opens none.
        server.send_tls13_tickets = 0;
        server.alpn_protocols = vec![ALPN.to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_root_certificates(authorities)
            .with_client_auth_cert(chain, private)
            .map_err(unusable)?;
        client.resumption = Resumption::disabled();
        client.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { own, server: Arc::new(server), client: Arc::new(client) })
    }
}

fn authorities(file: &Content) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&file.bytes) {
        let certificate = certificate.map_err(|error| file.wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| file.wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(file.wrong("no certificate").into()) } else { Ok(roots) }
}
