//! TLS between the parts: 1.3, the site's own authority, certificates on both sides, always.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::Role;

/// The one application protocol (RFC 7301): a TLS client that means something else is refused.
const ALPN: &[u8] = b"sealwire-engine/1";

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

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
    /// A file cannot be read.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The certificate names another role.
    #[error(
        "{path}: the certificate is not {role}'s: it must name the DNS name {dns_name}, and no other role's",
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
    files: TlsFiles,
    role: Role,
    current: RwLock<Current>,
}

#[derive(Clone)]
struct Current {
    digest: [u8; 32],
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn read(files: TlsFiles, role: Role) -> Result<Arc<Self>, TlsError> {
        let current = RwLock::new(read(&files, role)?);
        Ok(Arc::new(Self { files, role, current }))
    }

    /// Whose it is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Accepts peers that prove themselves; which role they have is for the caller to ask.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current().server)
    }

    /// Connects to peers that prove themselves.
    #[must_use]
    pub fn connector(&self) -> TlsConnector {
        TlsConnector::from(self.current().client)
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes new files into use, until `stop`. Ones that cannot be used are logged, and the old ones stay.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut told = self.current().digest;
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            let Ok(digest) = digest(&self.files) else { continue };
            if digest == self.current().digest || digest == told {
                continue;
            }
            told = digest;
            match read(&self.files, self.role) {
                Ok(current) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
                    tracing::info!(certificate = %self.files.certificate.display(), "certificate renewed");
                }
                Err(error) => {
                    let problem = crate::chain(&error);
                    tracing::error!(problem, "the new certificate is not used; the old one stays");
                }
            }
        }
    }
}

fn read(files: &TlsFiles, role: Role) -> Result<Current, TlsError> {
    let bad = |path: &Path, problem: &dyn std::fmt::Display| TlsError::Content {
        path: path.to_owned(),
        problem: problem.to_string(),
    };
    // The digest first: a file that changes in between is read again.
    let digest = digest(files)?;
    let authorities = Arc::new(authorities(&files.authority)?);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&bytes(&files.certificate)?)
            .collect::<Result<_, _>>()
            .map_err(|error| bad(&files.certificate, &error))?;
    let own = chain.first().ok_or_else(|| bad(&files.certificate, &"no certificate"))?;
    if Role::of(own) != Some(role) {
        return Err(TlsError::Role { path: files.certificate.clone(), role });
    }
    let key = PrivateKeyDer::from_pem_slice(&private(&files.key)?)
        .map_err(|error| bad(&files.key, &error))?;
    let unusable = |error: &dyn std::fmt::Display| bad(&files.certificate, error);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(authorities.clone(), provider.clone())
            .build()
            .map_err(|error| bad(&files.authority, &error))?;
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(|error| unusable(&error))?;
    // Each connection proves itself anew: an expired certificate opens none.
    server.send_tls13_tickets = 0;
    server.alpn_protocols = vec![ALPN.to_vec()];
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&error))?
        .with_root_certificates(authorities)
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable(&error))?;
    client.resumption = Resumption::disabled();
    client.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Current { digest, server: Arc::new(server), client: Arc::new(client) })
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let bad = |problem: String| TlsError::Content { path: path.to_owned(), problem };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes(path)?) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() { Err(bad("no certificate".into())) } else { Ok(roots) }
}

/// SHA-256 over the three files.
fn digest(files: &TlsFiles) -> Result<[u8; 32], TlsError> {
    let mut digest = Sha256::new();
    for path in [&files.authority, &files.certificate, &files.key] {
        let bytes = bytes(path)?;
        digest.update(bytes.len().to_be_bytes());
        digest.update(&*bytes);
    }
    Ok(digest.finalize().into())
}

fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let read = std::fs::read(path);
    read.map(Zeroizing::new).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

/// A file that nobody else may read.
fn private(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let meta = std::fs::metadata(path);
    let mode = meta.map_err(|source| TlsError::File { path: path.to_owned(), source })?;
    let mode = mode.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let problem = format!("open to others (mode {mode:o}): chmod 600");
        return Err(TlsError::Content { path: path.to_owned(), problem });
    }
    bytes(path)
}
