//! How the manager is reached: over its socket, over a network, or within its own process.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Extensions;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::service::Service as _;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use zeroize::Zeroizing;

use super::ClientError;

/// Longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Time for connecting, the TLS handshake included.
const CONNECT: Duration = Duration::from_secs(10);

/// A stream of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How the manager is reached.
#[derive(Clone)]
pub(super) enum Transport {
    /// Over its socket.
    Socket(PathBuf),
    /// In this process, past every socket: calls say themselves where they come from.
    Within(Router, Extensions),
    /// Over a network, or on this machine's loopback without TLS.
    Network {
        /// As it was said.
        url: String,
        host: String,
        port: u16,
        tls: Option<(TlsConnector, ServerName<'static>)>,
    },
}

impl Transport {
    /// To the manager of a URL: `https://HOST[:PORT]`, or `http://` on loopback. It is trusted when one of these
    /// authorities says who it is, PEM; the system's unless given.
    pub(super) fn to(url: &str, ca_pem: Option<&[u8]>) -> Result<Self, ClientError> {
        let wrong = |what: &str| ClientError::Url(url.to_owned(), what.to_owned());
        let parsed: Uri = url.parse().map_err(|_| wrong("it is not a URL"))?;
        let host = parsed.host().ok_or_else(|| wrong("it names no host"))?;
        if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() {
            return Err(wrong("it ends behind the port"));
        }
        let authority = parsed.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(wrong("it names no user: sign in instead"));
        }
        if parsed.port_u16().is_none() && authority != host {
            return Err(wrong("its port is none"));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match parsed.scheme_str() {
            Some("http") => None,
            Some("https") => {
                let name = ServerName::try_from(host.clone());
                let name = name.map_err(|_| wrong("its host is neither a name nor an address"))?;
                Some((connector(ca_pem).map_err(|what| wrong(&what))?, name))
            }
            _ => return Err(wrong("it begins with https://, or with http:// on this machine")),
        };
        let port = parsed.port_u16().unwrap_or(7702);
        Ok(Self::Network { url: url.to_owned(), host, port, tls })
    }

    /// What stands in the `Host` header.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Socket(_) | Self::Within(..) => "manager".into(),
            Self::Network { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Network { host, port, .. } => format!("{host}:{port}"),
        }
    }

    /// Sends a request, and takes the whole answer.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Zeroizing<Vec<u8>>), ClientError> {
        let stream = match self {
            Self::Within(routes, origin) => {
                let mut request = request;
                request.extensions_mut().extend(origin.clone());
                let answered = TowerToHyperService::new(routes.clone()).call(request).await;
                return whole(answered.unwrap_or_else(|never| match never {})).await;
            }
            Self::Socket(path) => {
                let stream = UnixStream::connect(path).await;
                let connect = |source| ClientError::Connect { path: path.clone(), source };
                Box::new(stream.map_err(connect)?)
            }
            Self::Network { url, host, port, tls } => {
                let connected = timeout(CONNECT, connect(host, *port, tls.as_ref())).await;
                let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                connected.map_err(|source| ClientError::Unreachable { url: url.clone(), source })?
            }
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        whole(sender.send_request(request).await?).await
    }
}

async fn whole<B>(
    response: hyper::Response<B>,
) -> Result<(StatusCode, Zeroizing<Vec<u8>>), ClientError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| ClientError::Answer(error.to_string()))?;
    Ok((status, Zeroizing::new(body.to_bytes().to_vec())))
}

async fn connect(
    host: &str,
    port: u16,
    tls: Option<&(TlsConnector, ServerName<'static>)>,
) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    match tls {
        Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), stream).await?)),
        None if stream.peer_addr()?.ip().to_canonical().is_loopback() => Ok(Box::new(stream)),
        None => Err(io::Error::other(
            "without TLS, passwords and tokens would go over the network in clear: use https://",
        )),
    }
}

/// TLS that trusts these authorities, or the system's.
fn connector(ca_pem: Option<&[u8]>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| error.to_string())?;
                roots.add(certificate).map_err(|error| error.to_string())?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("there is no certificate authority to trust: name a CA file".into());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
