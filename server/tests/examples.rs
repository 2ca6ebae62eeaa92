//! The client's examples run against a real server.

mod support;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use support::Server;

/// Builds the examples, and gives the folder of their binaries.
fn examples() -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = Command::new(cargo)
        .args(["build", "--locked", "-p", "sealwire-client", "--examples"])
        .current_dir(root)
        .status()
        .expect("cargo runs");
    assert!(built.success());
    let target = PathBuf::from(support::SEALWIRE);
    target.parent().expect("a folder").join("examples")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_run() {
    let server = Server::start().await;
    let app = server.local_app(&["enc,dec,reenc:*"]).await;
    server.key("chat").await;
    let log = (0..500)
        .map(|seq| format!("{{\"conversation\":\"群聊\",\"seq\":{seq},\"sender\":\"x\",\"text\":\"消息 {seq} 👋\"}}\n"))
        .collect::<String>();
    let examples = examples();
    for (name, input, expected) in [
        ("encrypt", "", "你好 👋"),
        ("seal_chat_log", log.as_str(), "500 messages sealed and opened, 25000 bytes added"),
        ("reencrypt_history", "", "1000 rows moved; the last is `message 999`"),
    ] {
        let mut child = Command::new(examples.join(name))
            .env("SEALWIRE_ADDR", server.url())
            .env("SEALWIRE_APP_KEY", &app.key)
            .env("SEALWIRE_APP_SECRET", &app.secret)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
        let output = child.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains(expected), "{name}: {said}");
    }
}
