//! Connecting: TCP, TLS, AUTH.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sealwire_protocol::auth::{Channel, TLS_EXPORTER_LABEL, Transcript};
use sealwire_protocol::message::{AuthRequest, AuthResponse, Failure, SessionLimits};
use sealwire_protocol::{Flags, Frame, Header, Opcode, frame, limits};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Address, Credentials, Error};

/// A stream of bytes, plain or TLS.
pub trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

/// A stream of bytes, plain or TLS.
pub type Stream = Box<dyn ReadWrite>;

/// An authenticated connection.
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) limits: SessionLimits,
    /// What has arrived behind the last answer of AUTH.
    pub(crate) surplus: BytesMut,
}

/// Makes connections to the machines behind one address.
pub(crate) struct Connector {
    address: Address,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    plain_everywhere: bool,
}

impl Connector {
    /// `tls` is what [`tls_connector`] has made; only an address with TLS needs it.
    pub(crate) fn new(
        address: Address,
        tls: Option<&TlsConnector>,
        plain_everywhere: bool,
    ) -> Result<Self, Error> {
        let tls = match tls {
            Some(tls) if address.tls => {
                let server = ServerName::try_from(address.host.clone()).map_err(|_| {
                    Error::usage(format!("`{}` is not a host's name", address.host))
                })?;
                Some((tls.clone(), server))
            }
            _ if address.tls => return Err(Error::usage("TLS without authorities to trust")),
            _ => None,
        };
        let connector = Self { address, tls, plain_everywhere };
        // What is written out can be told before anything is tried; names wait for their records.
        if let Ok(ip) = connector.address.host.parse::<IpAddr>() {
            connector.check_plain(SocketAddr::new(ip, connector.address.port))?;
        }
        Ok(connector)
    }

    /// Connects to one of the records, and authenticates.
    pub(crate) async fn connect(
        &self,
        socket: SocketAddr,
        credentials: &Credentials,
    ) -> Result<Opened, Error> {
        self.check_plain(socket)?;
        let name = self.name(socket);
        let failed = |error| Error::io(&name, error);
        let tcp = TcpStream::connect(socket).await.map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        let (mut stream, channel): (Stream, Channel) = match &self.tls {
            None => (Box::new(tcp), Channel::Tcp),
            Some((connector, server)) => {
                let tls = connector.connect(server.clone(), tcp).await.map_err(failed)?;
                let binding = tls
                    .get_ref()
                    .1
                    .export_keying_material([0; 32], TLS_EXPORTER_LABEL, None)
                    .map_err(|error| Error::protocol(error.to_string()))?;
                (Box::new(tls), Channel::Tls(binding))
            }
        };
        let mut input = BytesMut::with_capacity(1024);
        let limits = authenticate(&mut stream, &mut input, channel, credentials, &name).await?;
        Ok(Opened { stream, limits, surplus: input })
    }

    /// How errors and logs name a record: the host, and which of its machines.
    pub(crate) fn name(&self, socket: SocketAddr) -> String {
        let Address { host, port, .. } = &self.address;
        if host.parse::<IpAddr>().is_ok() {
            socket.to_string()
        } else {
            format!("{host}:{port} ({})", socket.ip())
        }
    }

    fn check_plain(&self, socket: SocketAddr) -> Result<(), Error> {
        let safe = self.tls.is_some() || socket.ip().to_canonical().is_loopback();
        if safe || self.plain_everywhere {
            return Ok(());
        }
        Err(Error::usage(format!(
            "plain TCP to {socket} would send messages in clear beyond this machine: use \
             sealwire:// (TLS), or allow it by `Builder::plain_beyond_loopback`"
        )))
    }
}

/// TLS that trusts these authorities, in PEM, or the system's.
pub(crate) fn tls_connector(ca_pem: Option<&[u8]>) -> Result<TlsConnector, Error> {
    let usage = |error: &dyn std::fmt::Display| Error::usage(format!("certificates: {error}"));
    let mut roots = RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate.map_err(|e| usage(&e))?).map_err(|e| usage(&e))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(Error::usage("there is no certificate authority to trust: name a CA file"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| usage(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// AUTH, as spec.md has it. The server's proof is checked, too.
async fn authenticate(
    stream: &mut Stream,
    input: &mut BytesMut,
    channel: Channel,
    credentials: &Credentials,
    name: &str,
) -> Result<SessionLimits, Error> {
    let mut client_nonce = [0; limits::AUTH_NONCE_LEN];
    getrandom::fill(&mut client_nonce).map_err(|error| Error::usage(error.to_string()))?;
    let app_key = credentials.app_key.as_bytes();
    let secret = credentials.secret.as_slice();
    let hello = AuthRequest::Hello { client_nonce, app_key };
    let AuthResponse::Challenge { server_nonce, limits } =
        ask(stream, input, 1, &hello, name).await?
    else {
        return Err(Error::protocol("AUTH was answered out of order"));
    };
    let transcript = Transcript { channel, client_nonce, server_nonce, app_key, limits };
    let proof = transcript.client_proof(secret);
    let request = AuthRequest::Proof { proof };
    let AuthResponse::Accepted { proof: server } = ask(stream, input, 2, &request, name).await?
    else {
        return Err(Error::protocol("AUTH was answered out of order"));
    };
    if transcript.verify_server_proof(secret, &proof, &server) {
        Ok(limits)
    } else {
        Err(Error::protocol("the server does not know the AppSecret: it is not the one it claims"))
    }
}

async fn ask(
    stream: &mut Stream,
    input: &mut BytesMut,
    request_id: u64,
    request: &AuthRequest<'_>,
    name: &str,
) -> Result<AuthResponse, Error> {
    let failed = |error| Error::io(name, error);
    let mut out = Vec::new();
    let header = Header { opcode: Opcode::AUTH, flags: Flags::REQUEST, request_id };
    let open = frame::begin(&mut out, header);
    request.encode(&mut out)?;
    open.finish(&mut out);
    stream.write_all(&out).await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
    loop {
        if let Some((low, high)) = frame::parse_version_answer(input) {
            return Err(Error::protocol(format!("the server speaks versions {low} to {high}")));
        }
        let parsed = Frame::parse(input, limits::PRE_AUTH_MAX_FRAME + limits::MAX_DETAIL);
        match parsed.map_err(|error| Error::protocol(error.to_string()))? {
            Some(frame) => {
                let (answer, length) = (read_answer(&frame, header)?, frame.wire_len());
                input.advance(length);
                return Ok(answer);
            }
            None => {
                if stream.read_buf(input).await.map_err(failed)? == 0 {
                    return Err(failed(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
    }
}

fn read_answer(frame: &Frame<'_>, asked: Header) -> Result<AuthResponse, Error> {
    let broken = |error: sealwire_protocol::BodyError| Error::protocol(error.to_string());
    if frame.header.flags == Flags::FAILURE {
        let failure = Failure::parse(frame.body).map_err(broken)?;
        return Err(Error::refused(failure.code, failure.detail));
    }
    if frame.header != (Header { flags: Flags::RESPONSE, ..asked }) {
        return Err(Error::protocol("AUTH was answered by another frame"));
    }
    AuthResponse::parse(frame.body).map_err(broken)
}
