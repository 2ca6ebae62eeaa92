//! TLS 1.3 and plain TCP on one port, and AUTH bound to the TLS connection.

mod support;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sealwire_client::Client;
use sealwire_engine::host;
use sealwire_protocol::ErrorCode;
use sealwire_protocol::auth::Channel;
use sealwire_protocol::message::{AuthRequest, AuthResponse};
use sealwire_protocol::{Frame, credential, limits};
use support::{App, Raw, Server, auth_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// With which its certificates end.
    year: i32,
}

impl Authority {
    fn new() -> Self {
        Self::until(2099)
    }

    fn until(year: i32) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("an authority"), year }
    }

    /// Certificate and key for 127.0.0.1, in PEM.
    fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("params");
        params.not_after = rcgen::date_time_ymd(self.year, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }
}

/// Puts a certificate and its key into a folder, in place of those that were there.
fn issue_into(folder: &Path, authority: &Authority) -> (PathBuf, PathBuf) {
    let (certificate, key) = authority.issue();
    let paths = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&paths.0, certificate).expect("written");
    std::fs::write(&paths.1, key).expect("written");
    std::fs::set_permissions(&paths.1, Permissions::from_mode(0o600)).expect("set");
    paths
}

/// A server with TLS, and the folder of its certificate.
async fn server(authority: &Authority) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = issue_into(folder.path(), authority);
    let (certificate, key) = (certificate.display(), key.display());
    let tls = format!("tls_certificate = '{certificate}'\ntls_key = '{key}'");
    (Server::start_with(&tls).await, folder)
}

fn tls_url(server: &Server) -> String {
    format!("sealwire://{}", server.address)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_plain_tcp_share_a_port() {
    let authority = Authority::new();
    let (server, _folder) = server(&authority).await;
    let app = server.local_app(&["enc,dec:*"]).await;
    let key = server.key("chat").await.index;
    let tls = Client::builder(&tls_url(&server), app.credentials()).ca_pem(authority.pem());
    let tls = tls.connect().await.expect("connects over TLS");
    let plain = server.client(&app).await;
    let envelope = tls.enc(key, b"a", b"message").await.expect("seals");
    assert_eq!(plain.dec(b"a", &envelope).await.expect("opens"), b"message"[..]);
    let large = vec![5; 1_000_000];
    let envelope = plain.enc(key, b"", &large).await.expect("seals");
    assert!(tls.dec(b"", &envelope).await.expect("opens") == large);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_up_without_a_restart() {
    let (old, new) = (Authority::until(2098), Authority::until(2099));
    let (server, folder) = server(&old).await;
    let app = server.local_app(&["enc:*"]).await;
    let key = server.key("chat").await.index;
    let trusting = |authority: &Authority| {
        let client = Client::builder(&tls_url(&server), app.credentials());
        client.ca_pem(authority.pem()).connections(1)
    };
    let before = trusting(&old).connect().await.expect("trusts the old one");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let (certificate, private) = issue_into(elsewhere.path(), &new);
    let expiry = || {
        let metrics = server.monitor("/metrics");
        let name = "sealwire_certificate_expiry_seconds{file=\"gateway\"} ";
        let value = metrics.lines().find_map(|line| line.strip_prefix(name).map(ToOwned::to_owned));
        value.unwrap_or_else(|| panic!("{metrics}"))
    };
    let ends = expiry();
    // Half of it is written: the certificate and the key do not fit.
    std::fs::copy(certificate, folder.path().join("cert.pem")).expect("written");
    server.await_log("not renewed");
    assert!(trusting(&old).connect().await.is_ok(), "the old one stays until the new one fits");
    assert_eq!(expiry(), ends, "of the one in use, not of what lies on the disk");
    std::fs::copy(private, folder.path().join("key.pem")).expect("written");
    let begun = Instant::now();
    while trusting(&new).connect().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(trusting(&old).connect().await.is_err(), "the old one is out of use");
    assert_ne!(expiry(), ends);
    assert!(before.enc(key, b"", b"m").await.is_ok(), "what was open goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_everybody_may_read_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = issue_into(folder.path(), &Authority::new());
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("set");
    let refused =
        host::certificate::certificate("a test", (certificate, key), &[]).err().expect("refused");
    assert!(refused.to_string().contains("mode 644"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_authority_is_not_trusted() {
    let authority = Authority::new();
    let (server, _folder) = server(&authority).await;
    let app = server.local_app(&["enc:*"]).await;
    let other = Authority::new().pem();
    let client = Client::builder(&tls_url(&server), app.credentials()).ca_pem(other);
    let error = client.connect().await.expect_err("not trusted");
    assert_eq!(error.code(), None, "{error}");
}

/// A relay in the middle whose certificate the client trusts: it ends the client's TLS and speaks TLS
/// to the server itself. AUTH must fail, since the two connections have different exporters.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_the_client_trusts_cannot_pass_auth_on() {
    let authority = Authority::new();
    let (server, _folder) = server(&authority).await;
    let app = server.local_app(&["enc:*"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = issue_into(folder.path(), &authority);
    let acceptor = host::certificate::certificate("a test", (certificate, key), &[])
        .expect("fits")
        .current()
        .acceptor;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let relay = listener.local_addr().expect("bound");
    let (target, ca) = (server.address, authority.pem());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut inner = acceptor.accept(stream).await.expect("the client's TLS");
            let mut outer = raw_tls(target, &ca).await;
            let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
        }
    });
    let url = format!("sealwire://{relay}");
    let client = Client::builder(&url, app.credentials()).ca_pem(authority.pem());
    let error = client.connect().await.expect_err("bound to another connection");
    assert!(error.is_auth(), "{error}");
}

/// AUTH over TLS with the transcript of plain TCP: what a downgrade would look like.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_without_the_channel_binding_is_refused_under_tls() {
    let authority = Authority::new();
    let (server, _folder) = server(&authority).await;
    let app = server.local_app(&["enc:*"]).await;
    let mut stream = raw_tls(server.address, &authority.pem()).await;
    let refused = login(&mut stream, Channel::Tcp, &app).await;
    assert_eq!(refused, Some(ErrorCode::AUTH_FAILED));
    let mut stream = raw_tls(server.address, &authority.pem()).await;
    let channel = sealwire_gateway::tls::channel(stream.get_ref().1).expect("an exporter");
    assert_eq!(login(&mut stream, channel, &app).await, None, "with the binding it is accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_closes_on_a_tls_hello() {
    let server = Server::start().await;
    let mut raw = Raw::connect(server.address);
    raw.send(&hex::decode("160301020001000001fc0303").expect("hex"));
    assert_eq!(raw.next().expect("an answer").error(), Some(ErrorCode::FRAME_TOO_LARGE));
    assert_eq!(raw.next(), None);
}

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

async fn raw_tls(address: std::net::SocketAddr, ca: &str) -> Tls {
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto, version};
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM")).expect("a root");
    let config = ClientConfig::builder_with_provider(crypto::aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.expect("connects");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
        .connect(name, stream)
        .await
        .expect("the server's TLS")
}

async fn login(stream: &mut Tls, channel: Channel, app: &App) -> Option<ErrorCode> {
    let (client_nonce, app_key) = ([1; 32], app.key.as_bytes());
    stream
        .write_all(&auth_frame(1, &AuthRequest::Hello { client_nonce, app_key }))
        .await
        .expect("sent");
    let answer = next(stream).await;
    let AuthResponse::Challenge { server_nonce, limits } =
        AuthResponse::parse(&answer.1).expect("a challenge")
    else {
        panic!("no challenge")
    };
    let transcript = sealwire_protocol::auth::Transcript {
        channel,
        client_nonce,
        server_nonce,
        app_key,
        limits,
    };
    let secret = credential::decode_app_secret(&app.secret).expect("in its form");
    let proof = transcript.client_proof(secret.as_slice());
    stream.write_all(&auth_frame(2, &AuthRequest::Proof { proof })).await.expect("sent");
    let (failed, body) = next(stream).await;
    failed.then(|| sealwire_protocol::message::Failure::parse(&body).expect("a failure").code)
}

async fn next(stream: &mut Tls) -> (bool, Vec<u8>) {
    let mut input = Vec::new();
    loop {
        if let Some(frame) = Frame::parse(&input, limits::MAX_FRAME).expect("sound") {
            return (frame.header.flags.0 == 3, frame.body.to_vec());
        }
        assert!(stream.read_buf(&mut input).await.expect("reads") > 0, "closed");
    }
}
