//! The HTTP face: bodies of any content to every call, and bytes that are no HTTP. Nothing panics; nothing that a
//! client does is answered with 500; every answer to a request has the form that clients know; and whoever has no
//! token gets nothing done.
#![no_main]

mod world;

use std::net::Ipv4Addr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sealwire_gateway::http::{HttpLimits, HttpService, serve};
use sealwire_gateway::listener::Service;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use world::{RUNTIME, WORLD};

/// The calls that read a body, or a query.
const CALLS: [(&str, &str); 16] = [
    ("POST", "/v1/transit/encrypt/chat"),
    ("POST", "/v1/transit/decrypt/chat"),
    ("PUT", "/v1/transit/rewrap/chat"),
    ("POST", "/v1/transit/datakey/plaintext/chat"),
    ("POST", "/v1/transit/datakey/wrapped/chat"),
    ("POST", "/v1/transit/keys/another"),
    ("POST", "/v1/transit/keys/chat/config"),
    ("POST", "/v1/transit/keys/chat/rotate"),
    ("POST", "/v1/transit/keys/chat/trim"),
    ("DELETE", "/v1/transit/keys/chat"),
    ("POST", "/v1/auth/approle/login"),
    ("POST", "/v1/auth/token/renew-self"),
    ("GET", "/v1/transit/keys/chat"),
    ("LIST", "/v1/transit/keys?"),
    ("GET", "/v1/sys/health?"),
    ("GET", "/v1/"),
];

/// What every answer with data has.
const ENVELOPE: [&str; 8] = [
    "request_id",
    "lease_id",
    "renewable",
    "lease_duration",
    "data",
    "wrap_info",
    "warnings",
    "auth",
];

/// What an answer to ENC has in it.
const SEALED: &[u8] = b"\"ciphertext\":\"vault:";

/// Who asks: somebody else each time, since whoever guesses has to wait.
static SOURCE: AtomicU32 = AtomicU32::new(0x0a00_0000);

static FACE: LazyLock<HttpService> = LazyLock::new(|| {
    let service = Service::new(WORLD.gateway.clone(), None, false);
    let limits = HttpLimits {
        max_body: 64 * 1024,
        max_items: 100,
        body_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(5),
        token_ttl: Duration::from_secs(20 * 24 * 3600),
        token_max_ttl: Duration::from_secs(20 * 24 * 3600),
        max_tokens_per_app: 1000,
        max_buffered: 1024 * 1024,
    };
    HttpService::new(service, None, limits)
});

static TOKEN: LazyLock<String> = LazyLock::new(|| {
    let login =
        format!("{{\"role_id\":\"{}\",\"secret_id\":\"{}\"}}", WORLD.app_key, WORLD.http_secret);
    let request = request(("POST", "/v1/auth/approle/login"), "", login.as_bytes());
    let (status, body) = first(&converse(&request, false)).expect("an answer");
    assert_eq!(status, 200, "{body}");
    body["auth"]["client_token"].as_str().expect("a token").to_owned()
});

fuzz_target!(|input: &[u8]| {
    let Some((&which, content)) = input.split_first() else { return };
    if which >= 0x80 {
        // Whatever it is, it has no token, and most of it is no HTTP.
        let answer = converse(content, true);
        assert!(!answer.windows(SEALED.len()).any(|part| part == SEALED));
        return;
    }
    let (method, path) = CALLS[usize::from(which % 16)];
    let with_token = which & 0x40 == 0;
    let (mut path, mut body) = (path.to_owned(), content);
    if path.ends_with(['?', '/']) {
        // What no path has at all (RFC 3986, section 3.3) is refused before it gets here.
        let sound = |c: &char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:@?".contains(*c);
        path.extend(content.escape_ascii().map(char::from).filter(sound));
        // Of a longer head the library itself says that it is too long.
        path.truncate(8192);
        body = b"";
    }
    let token = if with_token { &TOKEN } else { "" };
    let answer = converse(&request((method, &path), token, body), false);
    let (status, body) = first(&answer).expect("an answer");
    assert!(
        (200..500).contains(&status) || status == 503 || path.contains("/health"),
        "{status} {body}"
    );
    let is_open = path.starts_with("/v1/sys/") || path.ends_with("/login");
    assert!(with_token || is_open || status >= 400, "{method} {path}: {status} without a token");
    match status {
        200 if !path.starts_with("/v1/sys/") => {
            assert!(ENVELOPE.iter().all(|name| body.get(name).is_some()), "{body}");
        }
        400.. if !path.contains("/health") => {
            assert!(body["errors"].is_array(), "{status} {body}");
        }
        _ => {}
    }
});

/// A request that is sound but for its body, the last of its connection.
fn request((method, path): (&str, &str), token: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: here\r\nX-Vault-Token: {token}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Everything that the server answers to these bytes, behind which the client `leaves`: then a request that is being
/// answered is given up.
fn converse(bytes: &[u8], leaves: bool) -> Vec<u8> {
    let face = &*FACE;
    RUNTIME.block_on(talk(face, bytes, leaves))
}

async fn talk(face: &HttpService, bytes: &[u8], leaves: bool) -> Vec<u8> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let stop = CancellationToken::new();
    let source = Ipv4Addr::from_bits(SOURCE.fetch_add(1, Ordering::Relaxed));
    let serving = serve(server, face, source.into(), &stop);
    let mut answer = Vec::new();
    let talking = async {
        let _ = client.write_all(bytes).await;
        if leaves {
            let _ = client.shutdown().await;
        }
        let _ = client.read_to_end(&mut answer).await;
    };
    tokio::join!(serving, talking);
    answer
}

/// The status of the first answer, and its body, if that is JSON.
fn first(answer: &[u8]) -> Option<(u16, Value)> {
    let answer = std::str::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or_default()))
}
