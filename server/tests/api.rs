//! The API over a network, and its description: what it says of every answer is so.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use sealwire_engine::document::OperatorRole;
use sealwire_manager::api::calls::CALLS;
use sealwire_manager::{ClientError, ManagerClient};
use sealwire_protocol::ErrorCode;
use serde_json::{Value, json};
use support::operators::{make, make_first, number, sign_in};
use support::web::{over_tls, url};
use support::{SEALWIRE, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

const PASSWORD: &str = "amber canal spruce orbit";

/// Calls, and looks whether each answer is what the description says.
struct Caller {
    socket: std::path::PathBuf,
    description: Value,
    token: String,
    called: BTreeSet<(String, String)>,
}

impl Caller {
    /// Makes a call: `path` is the one of the table, `fill` stands for its variable parts, and what is behind it.
    async fn call(
        &mut self,
        (method, path): (&str, &str),
        (fill, query): (&[&str], &str),
        body: Value,
    ) -> (StatusCode, Value) {
        let mut parts = fill.iter();
        let filled: Vec<_> = path
            .split('/')
            .map(|part| if part.starts_with('{') { parts.next().expect(path) } else { part })
            .collect();
        let uri = format!("{}{query}", filled.join("/"));
        let (status, answer) = self.send(method, &uri, &body).await;
        let described = &self.description["paths"][path][method.to_lowercase()];
        let responses = &described["responses"];
        let response = match responses.get(status.as_str()) {
            Some(response) => response,
            None => &responses["default"],
        };
        self.check(&response["content"]["application/json"]["schema"], &answer, &uri);
        if status.is_success() {
            self.called.insert((method.to_owned(), path.to_owned()));
            // What was taken is what the description says is taken.
            if let Some(content) = described["requestBody"]["content"].get("application/json") {
                self.check(&content["schema"], &body, &uri);
            }
        }
        (status, answer)
    }

    fn check(&self, schema: &Value, value: &Value, what: &str) {
        assert!(schema["$ref"].is_string(), "{what}: {schema}");
        let whole = json!({
            "$ref": schema["$ref"],
            "components": self.description["components"],
        });
        let validator = jsonschema::validator_for(&whole).expect("a schema");
        let errors: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{what}: {errors:?}: {value}");
        // A schema that says nothing would say nothing wrong.
        let name = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next());
        let schema = &self.description["components"]["schemas"][name.expect("a name")];
        if let (Some(known), Some(value)) = (schema["properties"].as_object(), value.as_object()) {
            for field in value.keys() {
                assert!(known.contains_key(field), "{what}: `{field}` is not described");
            }
        }
    }

    async fn send(&self, method: &str, uri: &str, body: &Value) -> (StatusCode, Value) {
        let stream = UnixStream::connect(&self.socket).await.expect("connects");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).expect("a method"))
            .uri(uri)
            .header("host", "manager")
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn done(&mut self, call: (&str, &str), fill: &[&str], body: Value) -> Value {
        let (status, answer) = self.call(call, (fill, ""), body).await;
        assert!(status.is_success(), "{call:?}: {status} {answer}");
        answer
    }
}

/// Has no schema let a field through that it does not describe. Of one that is a part of another, that one sees to it.
fn strict(schemas: &mut Value) {
    let schemas = schemas.as_object_mut().expect("schemas");
    let parts: BTreeSet<String> = schemas
        .values()
        .filter_map(|schema| schema["allOf"].as_array())
        .flatten()
        .filter_map(|part| part["$ref"].as_str()?.rsplit('/').next().map(str::to_owned))
        .collect();
    for (name, schema) in schemas {
        if schema.get("allOf").is_some() {
            schema["unevaluatedProperties"] = json!(false);
        } else if schema.get("properties").is_some() && !parts.contains(name) {
            schema["additionalProperties"] = json!(false);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_what_the_description_says() {
    let server = Server::start().await;
    let roles = OperatorRole::ALL;
    make_first(&server, "alice", &roles, PASSWORD).await;
    let alice = sign_in(&server, "alice", PASSWORD).await;
    make(&server, &alice, ("bob", &roles, PASSWORD)).await;
    let mut caller = Caller {
        socket: server.data().join("manager.sock"),
        description: Value::Null,
        token: String::new(),
        called: BTreeSet::new(),
    };
    let (status, description) = caller.send("GET", "/v1/openapi.json", &json!({})).await;
    assert_eq!(status, StatusCode::OK);
    caller.description = description;
    strict(&mut caller.description["components"]["schemas"]);
    assert!(caller.description["openapi"].as_str().expect("a version").starts_with("3.1"));
    let described = caller.description["paths"].as_object().expect("paths");
    let operations: usize =
        described.values().map(|path| path.as_object().map_or(0, |p| p.len())).sum();
    assert_eq!(operations, CALLS.len());

    let caller = &mut caller;
    caller.done(("GET", "/v1/openapi.json"), &[], json!({})).await;
    let session = ("POST", "/v1/session");
    let seal = caller.done(("GET", "/v1/seal"), &[], json!({})).await;
    assert_eq!(seal, json!({"state": "open", "missing": null}));
    let (status, _) =
        caller.call(session, (&[], ""), json!({"name": "alice", "password": "no"})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let mut tokens = Vec::new();
    for name in ["alice", "bob"] {
        let signed_in =
            caller.done(session, &[], json!({"name": name, "password": PASSWORD})).await;
        tokens.push(signed_in["token"].as_str().expect("a token").to_owned());
    }
    caller.token = tokens[0].clone();
    caller.done(("GET", "/v1/session"), &[], json!({})).await;
    let wish = json!({"name": "t", "roles": ["auditor"], "lifetime_seconds": 60});
    let token = caller.done(("POST", "/v1/session/tokens"), &[], wish.clone()).await;
    let id = token["id"].as_str().expect("an id").to_owned();
    caller.done(("GET", "/v1/operators"), &[], json!({})).await;
    let shown = caller.done(("GET", "/v1/operators/{operator}"), &["alice"], json!({})).await;
    assert_eq!(shown["tokens"][0]["id"], id.as_str());
    caller.done(("DELETE", "/v1/session/tokens/{token}"), &[&id], json!({})).await;
    let token = caller.done(("POST", "/v1/session/tokens"), &[], wish).await;
    let id = token["id"].as_str().expect("an id").to_owned();
    let revoke = ("DELETE", "/v1/operators/{operator}/tokens/{token}");
    caller.done(revoke, &["alice", &id], json!({})).await;

    // Keys, with one that is not there, and one that cannot be.
    let key = json!({"name": "聊天", "sensitive": true});
    caller.done(("POST", "/v1/keys"), &[], key).await;
    let (status, _) =
        caller.call(("POST", "/v1/keys"), (&[], ""), json!({"name": "", "x": 1})).await;
    assert!(status.is_client_error());
    let (status, _) = caller.call(("GET", "/v1/keys"), (&[], "?limit=x"), json!({})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, answer) = caller.send("PUT", "/v1/keys", &json!({})).await;
    assert_eq!(
        (status, &answer["name"]),
        (StatusCode::METHOD_NOT_ALLOWED, &json!("UNKNOWN_OPCODE"))
    );
    let missing = caller.call(("GET", "/v1/keys/{key}"), (&["none"], ""), json!({})).await;
    assert_eq!(missing.0, StatusCode::NOT_FOUND);
    let name = "%E8%81%8A%E5%A4%A9";
    caller.call(("GET", "/v1/keys"), (&[], "?limit=1"), json!({})).await;
    caller.done(("GET", "/v1/keys/{key}"), &[name], json!({})).await;
    caller.done(("POST", "/v1/keys/{key}/rotate"), &[name], json!({})).await;
    let set = json!({"renew_after_seconds": 1000});
    caller.done(("PATCH", "/v1/keys/{key}"), &[name], set).await;
    for change in ["close", "disable", "enable"] {
        let path = format!("/v1/keys/{{key}}/{change}");
        caller.done(("POST", &path), &[name], json!({"version": 1})).await;
    }
    // Two persons.
    let destroy = json!({"version": 1});
    let asked = caller.done(("POST", "/v1/keys/{key}/destroy"), &[name], destroy).await;
    let request = asked["id"].as_str().expect("a request").to_owned();
    caller.done(("GET", "/v1/requests"), &[], json!({})).await;
    caller.done(("GET", "/v1/requests/{request}"), &[&request], json!({})).await;
    caller.token = tokens[1].clone();
    caller.done(("POST", "/v1/requests/{request}/approve"), &[&request], json!({})).await;
    let attention = caller.done(("GET", "/v1/attention"), &[], json!({})).await;
    assert_eq!(attention["concerns"][0]["what"], "destroy-scheduled", "{attention}");
    let cancel = ("POST", "/v1/keys/{key}/cancel-destroy");
    caller.done(cancel, &[name], json!({"version": 1})).await;
    let unmark = json!({"sensitive": false});
    let asked = caller.done(("PATCH", "/v1/keys/{key}"), &[name], unmark).await;
    let request = asked["id"].as_str().expect("a request").to_owned();
    caller.done(("POST", "/v1/requests/{request}/refuse"), &[&request], json!({})).await;
    caller.done(("GET", "/v1/policy"), &[], json!({})).await;
    caller.done(("PATCH", "/v1/policy"), &[], json!({"two_persons": false})).await;

    // Apps.
    let app = json!({"name": "im", "allow": ["127.0.0.0/8"], "grants": ["enc:*"]});
    caller.done(("POST", "/v1/apps"), &[], app).await;
    caller.done(("GET", "/v1/apps"), &[], json!({})).await;
    caller.done(("GET", "/v1/apps/{app}"), &["im"], json!({})).await;
    let set = json!({"allow": ["127.0.0.0/8", "10.0.0.0/8"], "grants": ["enc:*"]});
    caller.done(("PATCH", "/v1/apps/{app}"), &["im"], set).await;
    let logins = caller.done(("GET", "/v1/apps/{app}/logins"), &["im"], json!({})).await;
    assert_eq!(logins, json!({"good": [], "refused": [], "cut": false, "refused_cut": false}));
    for change in ["disable", "enable"] {
        caller.done(("POST", &format!("/v1/apps/{{app}}/{change}")), &["im"], json!({})).await;
    }
    let wish = json!({"overlap_seconds": 1});
    caller.done(("POST", "/v1/apps/{app}/rotate-secret"), &["im"], wish).await;

    // At a glance.
    let status = caller.done(("GET", "/v1/status"), &[], json!({})).await;
    assert_eq!(status["engines"][0]["state"], "open", "{status}");
    caller.call(("GET", "/v1/traffic"), (&[], "?minutes=5"), json!({})).await;
    let (_, traffic) = caller.call(("GET", "/v1/traffic"), (&[], ""), json!({})).await;
    assert_eq!(traffic["minutes"].as_array().map(Vec::len), Some(60));

    // Operators. What makes or changes one is asked for.
    let eve =
        json!({"name": "eve", "roles": ["auditor"], "password": "copper meadow falcon ridge"});
    caller.done(("POST", "/v1/operators"), &[], eve).await;
    let roles = json!({"roles": ["auditor"]});
    caller.done(("POST", "/v1/operators/{operator}/roles"), &["alice"], roles).await;
    let password = json!({"password": "copper meadow falcon ridge"});
    caller.done(("POST", "/v1/operators/{operator}/password"), &["alice"], password).await;
    caller.done(("POST", "/v1/operators/{operator}/disable"), &["alice"], json!({})).await;
    caller.done(("POST", "/v1/operators/{operator}/enable"), &["alice"], json!({})).await;

    // The audit.
    let (_, page) = caller.call(("GET", "/v1/audit"), (&[], "?limit=1000"), json!({})).await;
    assert!(page["records"].as_array().expect("records").len() > 20);
    let chains = caller.done(("GET", "/v1/audit/chains"), &[], json!({})).await;
    let writer = chains["chains"][0]["writer"].as_str().expect("a writer").to_owned();
    caller.done(("GET", "/v1/audit/chains/{writer}"), &[&writer], json!({})).await;
    let check = ("POST", "/v1/audit/chains/{writer}/check");
    caller.done(check, &[&writer], json!({"sequence": 0, "hash": "0".repeat(64)})).await;
    let heads = json!({"signed": [], "known": []});
    caller.done(("POST", "/v1/audit/heads/check"), &[], heads).await;

    // The root.
    caller.done(("GET", "/v1/root/rotation"), &[], json!({})).await;
    for refused in ["/v1/root/rotation", "/v1/root/rotation/leave-behind"] {
        let (status, _) = caller.call(("POST", refused), (&[], ""), json!({})).await;
        assert!(status.is_client_error(), "{refused}: {status}");
    }
    let glass = json!({"name": "mallory", "password": "copper meadow falcon ridge"});
    let asked = caller.done(("POST", "/v1/break-glass"), &[], glass).await;
    let warrant = json!({"statement": asked["statement"], "warrant": "AAAA"});
    let (status, _) = caller.call(("POST", "/v1/break-glass/warrant"), (&[], ""), warrant).await;
    assert!(status.is_client_error());
    let change = json!({"current": PASSWORD, "new": "granite willow beacon lantern"});
    caller.done(("POST", "/v1/session/password"), &[], change).await;
    caller.done(("DELETE", "/v1/session"), &[], json!({})).await;

    // Every call was made, but for those that take a ceremony.
    let ceremonies = [
        ("POST", "/v1/root/rotation"),
        ("POST", "/v1/root/rotation/leave-behind"),
        ("POST", "/v1/break-glass/warrant"),
    ];
    for call in CALLS {
        let made = caller.called.contains(&(call.method.to_owned(), call.path.to_owned()));
        assert!(
            made || ceremonies.contains(&(call.method, call.path)),
            "{} {} was not tried",
            call.method,
            call.path
        );
    }
}

fn command(url: &str, authority: &Path, home: &Path, args: &[&str]) -> Output {
    Command::new(SEALWIRE)
        .args(args)
        .env("SEALWIRE_MANAGER", url)
        .env("SEALWIRE_MANAGER_CA", authority)
        .env("XDG_RUNTIME_DIR", home)
        .output()
        .expect("runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_work_over_tls_and_nothing_is_open_before_the_first_operator() {
    let (server, authority) = over_tls().await;
    let url = url(&server).replace("127.0.0.1", "localhost");
    assert!(url.starts_with("https://localhost:"), "{url}");
    let home = tempfile::tempdir().expect("a folder");
    let run = |args: &[&str]| command(&url, &authority, home.path(), args);
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    // Only the socket is open to everybody before the first operator.
    let refused = run(&["key", "list"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("SIGN_IN_NEEDED"), "{}", said(&refused));
    make_first(&server, "alice", &OperatorRole::ALL, PASSWORD).await;
    let password = home.path().join("password");
    std::fs::write(&password, PASSWORD).expect("written");
    let signed_in =
        run(&["sign-in", "alice", "--password-file", password.to_str().expect("a path")]);
    assert!(signed_in.status.success(), "{}", said(&signed_in));
    for args in [
        &["key", "create", "chat"][..],
        &["app", "create", "im", "--allow", "127.0.0.0/8", "--grant", "enc:*"],
        &["operator", "list"],
        &["audit", "verify"],
    ] {
        let done = run(args);
        assert!(done.status.success(), "{args:?}: {}", said(&done));
    }
    // Where it came from is on record.
    let listed = run(&["audit", "list", "--event", "changed", "--about", "key.create"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("alice, from 127.0.0.1: key.create `chat`"), "{listed}");
    assert!(run(&["sign-out"]).status.success());
    assert!(!run(&["key", "list"]).status.success());

    // A server whose certificate nobody vouches for, or plain HTTP where TLS is spoken.
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let other = home.path().join("other.pem");
    std::fs::write(&other, stranger.cert.pem()).expect("written");
    let refused = command(&url, &other, home.path(), &["key", "list"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("certificate"), "{}", said(&refused));
    let plain = ManagerClient::over(&url.replace("https", "http"), None).expect("a URL");
    assert!(plain.list_keys().await.is_err());
    // What stands on the command line comes before the environment.
    let socket = server.data().join("manager.sock");
    let here = run(&["key", "list", "--socket", socket.to_str().expect("a path")]);
    assert!(!said(&here).contains("https://"), "{}", said(&here));
    let both = run(&["key", "list", "--socket", "a", "--manager", "https://b"]);
    assert_eq!(both.status.code(), Some(2));
    for wrong in [
        "ftp://localhost",
        "https://",
        "https://localhost/v1",
        "localhost:7702",
        "https://user@localhost",
        "https://localhost:77o2",
        "https://localhost:99999",
    ] {
        assert!(matches!(ManagerClient::over(wrong, None), Err(ClientError::Url(..))), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_the_api_is_served_on_loopback_alone_and_takes_no_endless_request() {
    let mut server = Server::start().await;
    server.reconfigure("[gateway]", "[manager.http]\nlisten = '127.0.0.1:0'\n[gateway]");
    server.restart();
    server.wait_for_site().await;
    let url = url(&server);
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let client = ManagerClient::over(&url, None).expect("a URL");
    assert_eq!(number(client.list_keys().await), Some(ErrorCode::SIGN_IN_NEEDED.0));
    let address = url.trim_start_matches("http://");

    // A head, and a body, that are too long.
    let long = "x".repeat(64 * 1024);
    let answer =
        raw(address, &format!("GET /v1/keys HTTP/1.1\r\nhost: m\r\nx: {long}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
    let head = "POST /v1/session HTTP/1.1\r\nhost: m\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\n\r\n";
    let answer = raw(address, &format!("{head}{long}")).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    // Two lengths, as requests are smuggled.
    let two = "POST /v1/session HTTP/1.1\r\nhost: m\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/keys HTTP/1.1\r\nhost: m\r\n\r\n";
    let answer = raw(address, two).await;
    assert!(answer.matches("HTTP/1.1 ").count() <= 2, "{answer}");
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");

    // Beyond loopback it is refused when the configuration is read.
    let file = server.folder.path().join("sealwire.toml");
    let text = std::fs::read_to_string(&file).expect("read");
    let open = text
        .replace("[manager.http]\nlisten = '127.0.0.1:0'", "[manager.http]\nlisten = '0.0.0.0:0'");
    let other = server.folder.path().join("open.toml");
    std::fs::write(&other, open).expect("written");
    let checked = Command::new(SEALWIRE).args(["config", "check"]).arg(&other).output();
    let checked = checked.expect("runs");
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(said.contains("over TLS alone"), "{said}");
}

/// What is answered to these bytes, up to the end of the connection, or to a second's silence.
async fn raw(address: &str, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes.as_bytes()).await;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(Ok(length)) =
        tokio::time::timeout(Duration::from_secs(1), stream.read(&mut chunk)).await
    {
        if length == 0 {
            break;
        }
        answer.extend_from_slice(&chunk[..length]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}
