//! The HTTP face over TLS, as curl sees it: HTTP/2 and HTTP/1.1 on one port, nothing in clear.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};
use support::Server;
use support::face::HTTP;

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_are_spoken_over_tls_1_3_alone() {
    let tls = "tls_certificate = 'FOLDER/tls.pem'\ntls_key = 'FOLDER/tls.key'";
    let mut server = Server::start().await;
    server.key("chat").await;
    let app = server.http_app("im", &["enc:chat"]).await;
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
    let folder = server.folder.path().to_owned();
    std::fs::write(folder.join("tls.pem"), made.cert.pem()).expect("written");
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).expect("written");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(folder.join("tls.key"), mode).expect("set");
    let tls = tls.replace("FOLDER", &folder.display().to_string());
    server.reconfigure("[gateway]\n", &format!("[gateway]\n{tls}\n"));
    server.append(HTTP);
    server.restart();
    server.wait_for_site().await;
    server.await_log("gateway, HTTP on https://");
    let log = server.log();
    let url = log.lines().rev().find_map(|line| line.strip_prefix("sealwire: gateway, HTTP on "));
    let url = url.expect("in the log").to_owned();
    let curl = |args: &[&str]| {
        let ran = Command::new("curl")
            .args(["-sS", "--cacert"])
            .arg(folder.join("tls.pem"))
            .args(args)
            .output()
            .expect("curl runs");
        (ran.status.success(), String::from_utf8_lossy(&ran.stdout).into_owned())
    };
    let login = json!({ "role_id": app.app.key, "secret_id": app.http_secret }).to_string();
    let place = format!("{url}/v1/auth/approle/login");
    let (_, answer) = curl(&["-d", &login, &place]);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let token = answer["auth"]["client_token"].as_str().expect("a token");
    let header = format!("X-Vault-Token: {token}");
    let encrypt = format!("{url}/v1/transit/encrypt/chat");
    for (wish, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let show = "%{http_code} %{http_version}";
        let body = "{\"plaintext\": \"YQ==\"}";
        let args = [wish, "-o", "/dev/null", "-w", show, "-H", &header, "-d", body, &encrypt];
        let (ran, shown) = curl(&args);
        assert!(ran && shown == format!("200 {version}"), "{wish}: {shown}");
    }
    assert!(!curl(&["--tls-max", "1.2", &encrypt]).0, "TLS 1.2 is not spoken");
    assert!(!curl(&[&encrypt.replace("https://", "http://")]).0, "nothing is in clear");
}
