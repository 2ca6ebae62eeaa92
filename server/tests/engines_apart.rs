//! Engines, manager and gateways as processes of their own.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rcgen::{CertificateParams, Issuer, KeyPair};
use sealwire_client::ErrorCode;
use sealwire_engine::wire::{MAX_FRAME, Role, word};
use sealwire_protocol::message::Failure;
use sealwire_protocol::{Flags, Frame, Header, Opcode, frame};
use support::cluster::{Cluster, tls_init};
use support::load::round_trip;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_the_whole_way_and_a_key_is_made_once() {
    let site = Cluster::start(2, 2).await;
    let app = site.app(&["enc,dec,reenc,genkey:*"]).await;
    let client = site.client(&app).connect().await.expect("connects");
    let made = client.genkey("chat", 0, &[]).await.expect("made");
    assert!(made.created);
    assert!(!client.genkey("chat", 0, &[]).await.expect("found").created);
    round_trip(&client, made.index).await.expect("there and back");
    let sealed = client.enc(made.index, b"aad", "你好".as_bytes()).await.expect("sealed");
    site.managing().rotate_key("chat").await.expect("rotated");
    let again = client.reenc(b"aad", &sealed).await.expect("sealed again");
    assert_eq!(client.dec(b"aad", &again).await.expect("opened"), "你好".as_bytes());
    assert_eq!(client.dec(b"aad", &sealed).await.expect("opened"), "你好".as_bytes());
    let wrong = client.dec(b"other", &sealed).await.expect_err("another AAD");
    assert_eq!(wrong.code(), Some(ErrorCode::OPEN_FAILED));
    let large = vec![7; 1_000_000];
    let sealed = client.enc(made.index, b"", &large).await.expect("sealed");
    assert_eq!(client.dec(b"", &sealed).await.expect("opened"), large);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_engine_gets_no_work_until_it_is_unsealed() {
    let site = Cluster::start(1, 1).await;
    let app = site.app(&["enc,dec:*"]).await;
    let key = site.key("chat").await.index;
    let client = site.client(&app).connect().await.expect("connects");
    round_trip(&client, key).await.expect("open");
    site.ceremony(0).seal().await.expect("sealed");
    let refused = loop {
        match client.enc(key, b"", b"m").await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.code(), Some(ErrorCode::SEALED));
    assert!(site.gateways[0].monitor("/readyz").starts_with("HTTP/1.1 503"));
    site.unseal(0).await;
    let unsealed = Instant::now();
    while client.enc(key, b"", b"m").await.is_err() {
        assert!(unsealed.elapsed() < Duration::from_secs(10), "{}", site.gateways[0].log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("work again {:?} after the unsealing", unsealed.elapsed());
    assert!(unsealed.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_refuses_who_is_not_of_its_site_or_whose_role_it_is_not() {
    let site = Cluster::start(1, 1).await;
    let engine = &site.engines[0];
    let (ours, foreign) = (site.folder.path().join("tls"), site.folder.path().join("foreign"));
    tls_init(&foreign, &[]);
    expired(&ours);
    let (engine, authority) = (engine.address(), ours.join("authority.pem"));
    // The handshake fails, or the connection ends without an answer.
    for (what, certificate) in [
        ("without a certificate", None),
        ("another authority's", Some(foreign.join("gateway"))),
        ("past its time", Some(ours.join("expired"))),
        ("an engine's", Some(ours.join("engine"))),
    ] {
        let said = say(&engine, &authority, certificate.as_deref(), Opcode::PING).await;
        assert_eq!(said, None, "{what}");
    }
    let good = |role| [Opcode::PING].map(|opcode| (role, opcode, Flags::RESPONSE));
    let bad = |role, words: &[Opcode]| -> Vec<_> {
        words.iter().map(|opcode| (role, *opcode, Flags::FAILURE)).collect()
    };
    let unknown = Opcode(0x3F);
    let of_gateways = [
        word::SESSION,
        word::CHALLENGE,
        word::AUTH_VERIFY,
        word::ENC,
        word::DEC,
        word::REENC,
        word::DATAKEY,
        word::LOGIN,
        word::TOKEN,
        unknown,
    ];
    let of_managers = [
        word::SIGN,
        word::MAKE_SITE,
        word::GENKEY,
        word::MAKE_SECRET,
        word::REWRAP,
        word::PREVIOUS,
        word::ADMIT,
        word::FORGET,
        word::PEPPER,
        word::WARRANT,
        word::AUDIT_CHECK,
        word::CEREMONIES,
        unknown,
    ];
    let (gateway, manager) = ("gateway", "manager");
    let said = [&good(gateway)[..], &good(manager), &bad(gateway, &of_managers)].concat();
    for (role, opcode, answer) in said.into_iter().chain(bad(manager, &of_gateways)) {
        let certificate = ours.join(role);
        let (flags, body) =
            say(&engine, &authority, Some(&certificate), opcode).await.expect("an answer");
        assert_eq!(flags, answer, "{role}, {opcode:?}");
        if flags == Flags::FAILURE {
            let code = Failure::parse(&body).expect("a failure").code;
            assert_eq!(code, ErrorCode::ROLE_DENIED, "{role}, {opcode:?}");
        }
    }
    // Without a session, a gateway gets nothing out of a key.
    let certificate = ours.join("gateway");
    let (_, body) =
        say(&engine, &authority, Some(&certificate), word::ENC).await.expect("an answer");
    let code = Failure::parse(&body).expect("a failure").code;
    assert_eq!(code, ErrorCode::MALFORMED_BODY);
    let log = site.engines[0].log();
    assert!(log.contains("a caller was refused"), "{log}");
    assert!(log.contains("a caller's role does not allow its word"), "{log}");
}

/// Says a word with an empty body, and gives what is answered; `None` when nothing is.
async fn say(
    engine: &str,
    authority: &Path,
    certificate: Option<&Path>,
    opcode: Opcode,
) -> Option<(Flags, Vec<u8>)> {
    let mut roots = RootCertStore::empty();
    for pem in CertificateDer::pem_file_iter(authority).expect("readable") {
        roots.add(pem.expect("a certificate")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let chain = CertificateDer::pem_file_iter(files.with_extension("pem"))
                .expect("readable")
                .collect::<Result<_, _>>()
                .expect("certificates");
            let key = PrivateKeyDer::from_pem_file(files.with_extension("key")).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("fits")
        }
    };
    config.alpn_protocols = vec![b"sealwire-engine/1".to_vec()];
    let stream = TcpStream::connect(engine).await.expect("connects");
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(Role::Engine.server_name(), stream).await.ok()?;
    let mut request = Vec::new();
    let header = Header { opcode, flags: Flags::REQUEST, request_id: 1 };
    frame::begin(&mut request, header).finish(&mut request);
    stream.write_all(&request).await.ok()?;
    let mut input = Vec::new();
    let read = async {
        while stream.read_buf(&mut input).await.ok()? > 0 {
            if let Some(frame) = Frame::parse(&input, MAX_FRAME).expect("a frame") {
                return Some((frame.header.flags, frame.body.to_vec()));
            }
        }
        None
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("an answer, or the end")
}

/// A gateway's certificate of the site's authority that was good until yesterday.
fn expired(dir: &Path) {
    let read = |file: &str| std::fs::read_to_string(dir.join(file)).expect(file);
    let key = KeyPair::from_pem(&read("authority.key")).expect("a key");
    let authority = Issuer::from_ca_cert_pem(&read("authority.pem"), key).expect("an authority");
    let names = [Role::Gateway.dns_name().to_owned()];
    let mut params = CertificateParams::new(names).expect("a name");
    let day = Duration::from_secs(24 * 3600);
    params.not_before = (SystemTime::now() - 10 * day).into();
    params.not_after = (SystemTime::now() - day).into();
    let pair = KeyPair::generate().expect("a key");
    let signed = params.signed_by(&pair, &authority).expect("signed");
    std::fs::write(dir.join("expired.pem"), signed.pem()).expect("written");
    std::fs::write(dir.join("expired.key"), pair.serialize_pem()).expect("written");
}
