//! PROXY protocol, version 2: where a connection comes from, in the word of a load balancer
//! (haproxy.org/download/3.0/doc/proxy-protocol.txt, section 2.2).
//!
//! Only a listener of its own reads such a header, only from load balancers that the configuration names,
//! and nothing goes on there without one: whoever could send a header to a listener that takes both could
//! choose the address that allow-lists are held against.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use proxy_protocol_rs::{Command, ParseError, TransportProtocol, Version, parse};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Signature, version and command, family, and the length of what follows.
const FIXED: usize = 16;

/// Longest header, in bytes: addresses, and what a load balancer may say besides (a certificate's name,
/// a cloud's identifiers), which is skipped.
const LONGEST: usize = 4096;

/// The load balancers that are believed.
#[derive(Debug, Clone)]
pub struct Upstreams {
    /// Where they connect from.
    pub from: Vec<IpNet>,
    /// Time for the header, from the connection's start.
    pub header_timeout: Duration,
}

impl Upstreams {
    /// Whether an address is one of theirs.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.from.iter().any(|network| network.contains(&address))
    }
}

/// Why a header is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The connection failed, or ended before the header did.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not a header of version 2, or not a sound one.
    #[error(transparent)]
    Header(#[from] ParseError),
    /// It is of version 1.
    #[error(
        "a header of version 1: the load balancer must send version 2 (HAProxy: send-proxy-v2)"
    )]
    Version,
    /// It is longer than 4 KiB.
    #[error("a header of {0} bytes; 4096 are taken")]
    Length(usize),
    /// It speaks of datagrams, or of a socket without an address.
    #[error("a header without the address of a TCP connection")]
    Address,
}

/// Reads the header, and not a byte more. Gives the address that it names; `None` when the load balancer
/// speaks for itself (LOCAL: it checks whether the server lives).
///
/// # Errors
/// [`ProxyError`].
pub async fn read_source<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Result<Option<IpAddr>, ProxyError> {
    let mut header = vec![0; FIXED];
    stream.read_exact(&mut header).await?;
    if header.starts_with(b"PROXY ") {
        return Err(ProxyError::Version);
    }
    match parse(&header) {
        Err(ParseError::Incomplete) | Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let length = FIXED + usize::from(u16::from_be_bytes([header[14], header[15]]));
    if length > LONGEST {
        return Err(ProxyError::Length(length));
    }
    header.resize(length, 0);
    stream.read_exact(&mut header[FIXED..]).await?;
    let (info, _) = parse(&header)?;
    let is_tcp = || info.transport.is_some_and(|t| t.protocol == TransportProtocol::Stream);
    match (info.version, info.command) {
        (Version::V2, Command::Local) => Ok(None),
        (Version::V2, Command::Proxy) if is_tcp() => {
            let source = info.source_inet().ok_or(ProxyError::Address)?;
            Ok(Some(SocketAddr::ip(&source).to_canonical()))
        }
        (Version::V2, _) => Err(ProxyError::Address),
        _ => Err(ProxyError::Version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    /// A header with its version and command, family, and what follows.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    fn tcp4(source: [u8; 4]) -> Vec<u8> {
        [&source[..], &[10, 0, 0, 9], &4242_u16.to_be_bytes(), &7700_u16.to_be_bytes()].concat()
    }

    async fn read(bytes: &[u8]) -> (Result<Option<IpAddr>, ProxyError>, Vec<u8>) {
        let mut left = bytes;
        let source = read_source(&mut left).await;
        (source, left.to_vec())
    }

    #[tokio::test]
    async fn the_source_is_read_and_what_follows_stays() {
        let v6: std::net::Ipv6Addr = "2001:db8::7".parse().expect("an address");
        let tcp6 = [&v6.octets()[..], &[0; 16], &[0; 4]].concat();
        let mapped: std::net::Ipv6Addr = "::ffff:192.0.2.7".parse().expect("an address");
        let mapped = [&mapped.octets()[..], &[0; 16], &[0; 4]].concat();
        let with_more = [&tcp4([192, 0, 2, 7])[..], &[0xEA, 0, 3, 1, 2, 3]].concat();
        for (header, source) in [
            (header(0x21, 0x11, &tcp4([192, 0, 2, 7])), Some("192.0.2.7")),
            (header(0x21, 0x11, &with_more), Some("192.0.2.7")),
            (header(0x21, 0x21, &tcp6), Some("2001:db8::7")),
            (header(0x21, 0x21, &mapped), Some("192.0.2.7")),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &tcp4([192, 0, 2, 7])), None),
        ] {
            let (read, left) = read(&[&header[..], b"frame"].concat()).await;
            assert_eq!(read.expect("sound"), source.map(|s| s.parse().expect("an address")));
            assert_eq!(left, b"frame");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let whole = header(0x21, 0x11, &tcp4([192, 0, 2, 7]));
        let mut long = header(0x21, 0x11, &[]);
        long[14..16].copy_from_slice(&60_000_u16.to_be_bytes());
        let mut other_signature = whole.clone();
        other_signature[11] ^= 1;
        for (name, bytes) in [
            ("cut short", whole[..whole.len() - 1].to_vec()),
            ("nothing", Vec::new()),
            ("version 1", b"PROXY TCP4 192.0.2.7 10.0.0.9 4242 7700\r\n".to_vec()),
            ("TLS", [&[0x16, 3, 1, 2, 0][..], &[0; 64]].concat()),
            ("another signature", other_signature),
            ("too long", long),
            ("another version", header(0x11, 0x11, &tcp4([1, 1, 1, 1]))),
            ("another command", header(0x22, 0x11, &tcp4([1, 1, 1, 1]))),
            ("no family", header(0x21, 0x00, &tcp4([1, 1, 1, 1]))),
            ("datagrams", header(0x21, 0x12, &tcp4([1, 1, 1, 1]))),
            ("a unix socket", header(0x21, 0x31, &[0; 216])),
            ("half an address", header(0x21, 0x11, &[1, 1])),
            ("half an IPv6 address", header(0x21, 0x21, &tcp4([1, 1, 1, 1]))),
        ] {
            assert!(read(&bytes).await.0.is_err(), "{name}");
        }
    }
}
