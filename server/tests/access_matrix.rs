//! Every call of the management API, by every role, with a session and with a token, and by nobody: allowed or
//! refused as the table of `docs/manager.md` says. The table is this test's source.

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use sealwire_engine::document::OperatorRole;
use sealwire_manager::api::calls::CALLS;
use sealwire_manager::{CreateToken, ManagerClient};
use support::Server;
use support::operators::{make, make_first, sign_in};
use tokio::net::UnixStream;

const PASSWORD: &str = "amber canal spruce orbit";

/// A row: the method, the path, and what the table says for each role and for nobody.
struct Row {
    method: String,
    path: String,
    says: Vec<String>,
}

fn table() -> Vec<Row> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/manager.md");
    let text = std::fs::read_to_string(file).expect("docs/manager.md");
    let rows = text.lines().filter_map(|line| {
        let (call, says) = line.strip_prefix("| `")?.split_once("` | ")?;
        let (method, path) = call.split_once(' ')?;
        let says: Vec<_> = says.trim_end_matches(" |").split(" | ").map(str::to_owned).collect();
        (says.len() == 5).then(|| Row { method: method.into(), path: path.into(), says })
    });
    rows.collect()
}

/// Makes a call with an empty object as its body, and gives the status: what is wrong with the body comes after
/// who may.
async fn call(socket: &Path, row: &Row, token: Option<&str>) -> StatusCode {
    let stream = UnixStream::connect(socket).await.expect("connects");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    let path = row.path.replace('{', "none-").replace('}', "");
    let request = Request::builder()
        .method(Method::from_bytes(row.method.as_bytes()).expect("a method"))
        .uri(path)
        .header("host", "manager")
        .header("content-type", "application/json");
    let request = match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request,
    };
    let request = request.body(Full::new(Bytes::from_static(b"{}"))).expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status();
    response.into_body().collect().await.expect("a body");
    status
}

#[test]
fn the_table_has_every_call_and_no_other() {
    let of = |(method, path): (&str, &str)| format!("{method} {path}");
    let said: BTreeSet<_> =
        table().iter().map(|row| of((row.method.as_str(), row.path.as_str()))).collect();
    let built: BTreeSet<_> = CALLS.iter().map(|call| of((call.method, call.path))).collect();
    assert_eq!(said, built);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_allowed_or_refused_as_the_table_says() {
    let server = Server::start().await;
    let socket = server.data().join("manager.sock");
    let nobody = ManagerClient::new(socket.clone());
    let first = OperatorRole::RootOfficer;
    make_first(&server, first.name(), &[first], PASSWORD).await;
    let officer = sign_in(&server, first.name(), PASSWORD).await;
    for role in OperatorRole::ALL.into_iter().filter(|role| *role != first) {
        make(&server, &officer, (role.name(), &[role], PASSWORD)).await;
    }
    let rows = table();
    assert!(rows.len() > 30, "the table was not found");
    for (column, role) in OperatorRole::ALL.into_iter().enumerate() {
        let name = role.name();
        let mut session = None;
        for row in &rows {
            if session.is_none() {
                let signed_in = nobody.sign_in(name, PASSWORD.to_owned().into()).await;
                session = Some(signed_in.expect(name).token);
            }
            let own = session.clone().expect("signed in");
            let person = nobody.clone().with_token(own.clone());
            let token = CreateToken { name: "t".into(), roles: vec![role], lifetime_seconds: 60 };
            let token = person.create_token(&token).await.expect("a token");
            let by_token = call(&socket, row, Some(&token.token)).await;
            let by_session = call(&socket, row, Some(&own)).await;
            let refused = [StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED];
            let allowed = |status| !refused.contains(&status);
            let what = format!("{} {} by {name}", row.method, row.path);
            match row.says[column].as_str() {
                "yes" => assert!(
                    allowed(by_session) && allowed(by_token),
                    "{what}: {by_session}, {by_token} with a token"
                ),
                "in person" => {
                    assert!(allowed(by_session), "{what}: {by_session}");
                    assert_eq!(by_token, StatusCode::FORBIDDEN, "{what} with a token");
                }
                "no" => {
                    assert_eq!(by_session, StatusCode::FORBIDDEN, "{what}");
                    assert_eq!(by_token, StatusCode::FORBIDDEN, "{what} with a token");
                }
                other => panic!("{what}: the table says `{other}`"),
            }
            // That one has ended it.
            if row.path == "/v1/session" && row.method == "DELETE" {
                session = None;
            } else {
                person.revoke_token(None, &token.view.id).await.expect("revoked");
            }
        }
    }
    for row in &rows {
        let what = format!("{} {} by nobody", row.method, row.path);
        let refused = [None, Some("no-such-token"), Some("swt_0_0_0")];
        for token in refused {
            let status = call(&socket, row, token).await;
            match row.says[4].as_str() {
                "yes" => assert_ne!(status, StatusCode::UNAUTHORIZED, "{what}"),
                _ => assert_eq!(status, StatusCode::UNAUTHORIZED, "{what} with {token:?}"),
            }
        }
    }
}
