//! A server's HTTP face, as a client without a library sees it.

use http_body_util::{BodyExt, Full};
use hyper::HeaderMap;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use sealwire_manager::{CreateApp, ManagerClient};
use serde_json::{Value, json};

use super::{App, Server};

/// What has a server serve HTTP.
pub(crate) const HTTP: &str = "[gateway.http]\nlisten = '127.0.0.1:0'";

/// An app that may come over HTTP.
pub(crate) struct HttpApp {
    pub(crate) app: App,
    pub(crate) http_secret: String,
}

impl Server {
    /// A server with its HTTP face, opened, and more lines of TOML for it.
    pub(crate) async fn with_face(more: &str) -> Self {
        Self::start_with(&format!("{HTTP}\n{more}")).await
    }

    /// Where it serves HTTP: `http://HOST:PORT`.
    pub(crate) fn face_url(&self) -> String {
        format!("http://{}", self.stranger().host)
    }

    pub(crate) async fn http_app(&self, name: &str, grants: &[&str]) -> HttpApp {
        HttpApp::make(&self.manager(), name, grants).await
    }

    /// Its face, to somebody without a token.
    pub(crate) fn stranger(&self) -> Face {
        Face::said_in(&self.log())
    }

    /// Its face, to an app that has logged in.
    pub(crate) async fn face(&self, app: &HttpApp) -> Face {
        self.stranger().logged_in(app).await
    }
}

impl HttpApp {
    pub(crate) async fn make(manager: &ManagerClient, name: &str, grants: &[&str]) -> Self {
        let request = CreateApp {
            name: name.into(),
            allow: vec!["127.0.0.0/8".parse().expect("a network")],
            grants: grants.iter().map(|text| text.parse().expect(text)).collect(),
            http: true,
        };
        let made = manager.create_app(&request).await.expect("an app");
        let shown = |secret: Option<zeroize::Zeroizing<String>>| secret.expect("made").to_string();
        let app = App { key: made.app.app_key, secret: shown(made.app_secret) };
        Self { app, http_secret: shown(made.http_secret) }
    }
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Face {
    pub(crate) host: String,
    pub(crate) token: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The data of an answer that must be 200.
    pub(crate) fn data(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body["data"].clone()
    }

    /// What is wrong, of an answer with this status.
    pub(crate) fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        self.body["errors"][0].as_str().unwrap_or_default().to_owned()
    }
}

impl Face {
    /// That which a server has said in its log.
    pub(crate) fn said_in(log: &str) -> Self {
        let place = "sealwire: gateway, HTTP on http://";
        let host = log.lines().rev().find_map(|line| line.strip_prefix(place));
        Self { host: host.expect("in the log").to_owned(), token: String::new() }
    }

    pub(crate) async fn login(&self, app_key: &str, secret: &str) -> Answer {
        let login = json!({ "role_id": app_key, "secret_id": secret });
        self.post("/v1/auth/approle/login", &login).await
    }

    /// The same, to an app that has logged in.
    pub(crate) async fn logged_in(&self, app: &HttpApp) -> Self {
        let answer = self.login(&app.app.key, &app.http_secret).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let token = answer.body["auth"]["client_token"].as_str().expect("a token").to_owned();
        Self { token, ..self.clone() }
    }

    pub(crate) async fn send(
        &self,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let stream = tokio::net::TcpStream::connect(&self.host).await.expect("connects");
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.expect("HTTP");
        tokio::spawn(connection);
        let mut request =
            hyper::Request::builder().method(method).uri(path).header("host", &self.host);
        if !self.token.is_empty() {
            request = request.header("x-vault-token", &self.token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let body = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body).expect("JSON"),
        };
        Answer { status, headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(("GET", path), &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(("POST", path), &[], body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(("DELETE", path), &[], "").await
    }

    /// The ciphertext of a base64 plaintext.
    pub(crate) async fn encrypt(&self, key: &str, plaintext: &str) -> String {
        let path = format!("/v1/transit/encrypt/{key}");
        let data = self.post(&path, &json!({ "plaintext": plaintext })).await.data();
        data["ciphertext"].as_str().expect("a ciphertext").to_owned()
    }
}
