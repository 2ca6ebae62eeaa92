//! A server that serves management over a network.

use std::path::PathBuf;

use super::Server;

/// Where a server says that it serves management over a network.
pub(crate) fn url(server: &Server) -> String {
    let log = server.log();
    let said = log.lines().rev().find_map(|line| line.strip_prefix("sealwire: management on "));
    said.expect("in the log").to_owned()
}

/// One that serves it in clear, on loopback.
pub(crate) async fn plain() -> Server {
    Server::start_with("[manager.http]\nlisten = '127.0.0.1:0'").await
}

/// One that serves it over TLS, and the authority of its certificate.
pub(crate) async fn over_tls() -> (Server, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let made = made.expect("a certificate");
    let tls = "[manager.http]\nlisten = '127.0.0.1:0'\ntls_certificate = 'FOLDER/tls.pem'\ntls_key = 'FOLDER/tls.key'";
    let mut server = Server::start().await;
    let folder = server.folder.path().to_owned();
    let authority = folder.join("tls.pem");
    std::fs::write(&authority, made.cert.pem()).expect("written");
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(folder.join("tls.key"), mode).expect("set");
    let tls = tls.replace("FOLDER", &folder.display().to_string());
    server.reconfigure("[gateway]", &format!("{tls}\n[gateway]"));
    server.restart();
    server.wait_for_site().await;
    (server, authority)
}

/// A browser without a picture: requests by hand, and cookies kept.
pub(crate) struct Visitor {
    host: String,
    pub(crate) cookies: std::collections::BTreeMap<String, String>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: hyper::StatusCode,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

impl Visitor {
    pub(crate) fn new(server: &Server) -> Self {
        let host = url(server).strip_prefix("http://").expect("in clear").to_owned();
        Self { host, cookies: std::collections::BTreeMap::new() }
    }

    /// Sends a request with more headers, and keeps the cookies that come back.
    pub(crate) async fn send(
        &mut self,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let stream = tokio::net::TcpStream::connect(&self.host).await.expect("connects");
        let stream = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.expect("HTTP");
        tokio::spawn(connection);
        let mut request =
            hyper::Request::builder().method(method).uri(path).header("host", &self.host);
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = http_body_util::Full::new(hyper::body::Bytes::from(body.to_owned()));
        let response =
            sender.send_request(request.body(body).expect("a request")).await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        for cookie in headers.get_all("set-cookie") {
            let cookie = cookie.to_str().expect("text").split(';').next().expect("a cookie");
            let (name, value) = cookie.split_once('=').expect("a cookie");
            match value {
                "" => drop(self.cookies.remove(name)),
                value => drop(self.cookies.insert(name.to_owned(), value.to_owned())),
            }
        }
        let body = http_body_util::BodyExt::collect(response.into_body()).await.expect("a body");
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Answer { status, headers, body }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(("GET", path), &[], "").await
    }

    /// Sends a form as a browser does, with what proves it to be one of a page.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf().await;
        let fields: Vec<_> = [("csrf", csrf.as_str())].into_iter().chain(fields.to_vec()).collect();
        self.send(("POST", path), FORM, &form(&fields)).await
    }

    /// What forms of this visitor's pages prove themselves with.
    pub(crate) async fn csrf(&mut self) -> String {
        let page = self.get("/sign-in").await.body;
        let (_, rest) = page.split_once("name=\"csrf\" value=\"").expect("a form");
        rest[..64].to_owned()
    }

    pub(crate) async fn sign_in(&mut self, name: &str, password: &str) -> Answer {
        self.post("/sign-in", &[("name", name), ("password", password)]).await
    }
}

/// What a browser says that it sends.
pub(crate) const FORM: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded")];

/// The body of a form.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let pairs: Vec<_> =
        fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

/// Every page that needs no more than a key `chat`, an app and an operator `alice`.
pub(crate) const PAGES: &[&str] = &[
    "/",
    "/account",
    "/keys",
    "/keys?search=ch",
    "/new/key",
    "/keys/chat",
    "/keys/chat/close?version=1",
    "/keys/chat/disable",
    "/keys/chat/destroy?version=1",
    "/apps",
    "/apps?search=im",
    "/new/app",
    "/apps/im",
    "/apps/im?address=10.1.2.3",
    "/apps/im/disable",
    "/apps/im/set",
    "/apps/im/rotate-secret",
    "/requests",
    "/audit",
    "/audit?event=changed&about=chat&from=2026-01-01&until=2099-01-01",
    "/operators",
    "/operators/alice",
    "/new/operator",
    "/root",
];
