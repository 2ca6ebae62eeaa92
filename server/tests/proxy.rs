//! The listener for load balancers: a real HAProxy in front, and those who would like to be one.

mod support;

use std::net::SocketAddr;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use sealwire_client::Client;
use sealwire_protocol::ErrorCode;
use support::cluster::free_port;
use support::{Raw, Server};
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// Where the load balancer connects from.
const BALANCER: &str = "127.0.0.9";

/// A header of version 2 for a TCP connection from an IPv4 address.
fn header(source: [u8; 4]) -> Vec<u8> {
    let ports = [4242_u16.to_be_bytes(), 7700_u16.to_be_bytes()].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &source[..], &[127, 0, 0, 1], &ports].concat()
}

/// A server with a second listener that believes the load balancer alone.
async fn server() -> (Server, SocketAddr) {
    let behind = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let proxy = format!(
        "[gateway.proxy]\nlisten = '{behind}'\nfrom = ['{BALANCER}/32']\nheader_timeout_seconds = 1"
    );
    (Server::start_with(&proxy).await, behind)
}

/// A connection from an address of one's choice.
async fn connect_from(source: &str, to: SocketAddr) -> Raw {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{source}:0").parse().expect("an address")).expect("bound");
    let stream = socket.connect(to).await.expect("connects").into_std().expect("a stream");
    Raw::over(stream)
}

/// HAProxy, which ends with the test.
struct Haproxy {
    child: Child,
    _folder: TempDir,
}

impl Haproxy {
    /// Passes connections to `listen` on to `behind`, from its own address, with a header.
    fn start(listen: SocketAddr, behind: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!(
            "defaults\n mode tcp\n timeout connect 2s\n timeout client 60s\n timeout server 60s\n\
             listen sealwire\n bind {listen}\n source {BALANCER}\n server gateway {behind} send-proxy-v2\n"
        );
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, config).expect("written");
        let child = Command::new("haproxy").args(["-q", "-db", "-f"]).arg(&file).spawn();
        let started =
            Self { child: child.expect("haproxy: ./scripts/test installs it"), _folder: folder };
        let begun = Instant::now();
        while std::net::TcpStream::connect(listen).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "HAProxy does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        started
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_haproxy_the_allow_list_sees_the_client() {
    let (server, behind) = server().await;
    let front = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let _haproxy = Haproxy::start(front, behind);
    let key = server.key("chat").await.index;
    let url = format!("sealwire+tcp://{front}");
    let app = server.app(&["127.0.0.1/32"], &["enc,dec:*"]).await;
    let client =
        Client::connect(&url, app.credentials()).await.expect("the client's address counts");
    let envelope = client.enc(key, b"a", &vec![7; 300_000]).await.expect("seals");
    assert_eq!(client.dec(b"a", &envelope).await.expect("opens").len(), 300_000);
    let balancers = server.app(&[&format!("{BALANCER}/32")], &["enc:*"]).await;
    let refused = Client::connect(&url, balancers.credentials()).await;
    assert!(refused.expect_err("the load balancer's does not").is_auth());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_load_balancer_is_believed() {
    let (server, behind) = server().await;
    // The listener for everybody takes a header for what it is not: a frame.
    let mut raw = connect_from(BALANCER, server.address).await;
    raw.send(&header([192, 0, 2, 7]));
    assert_eq!(raw.next().expect("an answer").error(), Some(ErrorCode::FRAME_TOO_LARGE));
    assert_eq!(raw.next(), None);
    // Who is not the load balancer gets no word, whatever it sends.
    let mut raw = connect_from("127.0.0.8", behind).await;
    raw.send(&header([192, 0, 2, 7]));
    assert_eq!(raw.next(), None);
    server.await_log("not one of the load balancers");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_balancer_must_send_a_sound_header_in_time() {
    let (server, behind) = server().await;
    for (name, bytes) in [
        ("version 1", &b"PROXY TCP4 127.0.0.1 127.0.0.1 4242 7700\r\n"[..]),
        ("a frame", &[0, 0, 0, 14, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0][..]),
        ("datagrams", &[&header([127, 0, 0, 1])[..13], b"\x12\0\x0c", &[0; 12]].concat()),
        ("too long", &[&header([127, 0, 0, 1])[..14], b"\xff\xff", &[0; 64]].concat()),
    ] {
        let mut raw = connect_from(BALANCER, behind).await;
        raw.send(bytes);
        assert_eq!(raw.next(), None, "{name}");
    }
    server.await_log("PROXY header refused");
    let begun = Instant::now();
    let mut raw = connect_from(BALANCER, behind).await;
    raw.send(&header([127, 0, 0, 1])[..20]);
    assert_eq!(raw.next(), None);
    assert!(begun.elapsed() >= Duration::from_millis(900), "it had its second");
    server.await_log("no PROXY header in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_is_read_once_and_its_word_is_held_against_the_allow_list() {
    let (server, behind) = server().await;
    let app = server.app(&["127.0.0.5/32"], &["enc:*"]).await;
    let mut raw = connect_from(BALANCER, behind).await;
    raw.send(&header([127, 0, 0, 5]));
    raw.log_in(&app);
    let mut raw = connect_from(BALANCER, behind).await;
    raw.send(&header([127, 0, 0, 6]));
    assert_eq!(raw.try_log_in(&app), Some(ErrorCode::AUTH_FAILED));
    // A client that sends a second header behind the load balancer's own changes nothing by it.
    let mut raw = connect_from(BALANCER, behind).await;
    raw.send(&[header([127, 0, 0, 6]), header([127, 0, 0, 5])].concat());
    assert_eq!(raw.next().expect("an answer").error(), Some(ErrorCode::FRAME_TOO_LARGE));
    // From afar, nothing is taken in clear.
    let mut raw = connect_from(BALANCER, behind).await;
    raw.send(&header([192, 0, 2, 7]));
    raw.send(&[0]);
    assert_eq!(raw.next().expect("an answer").error(), Some(ErrorCode::TLS_REQUIRED));
}
