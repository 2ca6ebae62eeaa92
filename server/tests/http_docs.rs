//! The lines of docs/http.md, run as they stand there.

mod support;

use std::process::Command;

use support::Server;

const DOCUMENT: &str = include_str!("../../docs/http.md");

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_the_documentation_does_what_it_says() {
    let mut script = "set -euo pipefail\n".to_owned();
    let blocks = DOCUMENT.split("<!-- run by a test -->\n```sh\n").skip(1);
    for block in blocks {
        script += block.split("```").next().expect("a block");
    }
    assert!(script.matches("curl ").count() > 25);
    let server = Server::with_face("").await;
    server.key("chat").await;
    let app = server.http_app("im", &["enc,dec,reenc,datakey,manage:*"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let ran = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .env("VAULT_ADDR", server.face_url())
        .env("VAULT_ROLE_ID", &app.app.key)
        .env("VAULT_SECRET_ID", &app.http_secret)
        .output()
        .expect("runs");
    let (said, trouble) =
        (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}\n{trouble}");
    assert!(said.contains("你好 👋"), "{said}");
}
