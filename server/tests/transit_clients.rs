//! The HTTP face as those see it who have a client already: hvac, node-vault and vaultrs, unmodified, as their
//! registries have them. `./scripts/test` installs the first two.

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::Server;
use support::face::HttpApp;

/// What each client does, in this order.
const STEPS: [&str; 13] = [
    "login",
    "create",
    "encrypt unicode",
    "decrypt",
    "wrong context",
    "associated data",
    "batch with one bad item",
    "rotate",
    "rewrap",
    "minimum version",
    "datakey",
    "refused delete",
    "logout",
];

fn clients() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// What `./scripts/test` has installed.
fn installed(variable: &str, beside: &str) -> PathBuf {
    let target = PathBuf::from(support::SEALWIRE);
    let target = target.ancestors().nth(2).expect("the target folder").join(beside);
    let place = std::env::var_os(variable).map_or(target, PathBuf::from);
    assert!(place.exists(), "{} is not there: run ./scripts/test", place.display());
    place
}

/// Runs a client against a server, as an app that may do everything.
async fn run(mut command: Command) {
    let server = Server::with_face("").await;
    let app: HttpApp = server.http_app("im", &["enc,dec,reenc,datakey,manage:*"]).await;
    let ran = command
        .env("VAULT_ADDR", server.face_url())
        .env("VAULT_ROLE_ID", &app.app.key)
        .env("VAULT_SECRET_ID", &app.http_secret)
        .env_remove("VAULT_TOKEN")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&ran.stdout);
    let trouble = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}\n{trouble}\n{}", server.log());
    let steps: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("ok: ")).collect();
    assert_eq!(steps, STEPS);
}

#[tokio::test(flavor = "multi_thread")]
async fn hvac_works_unchanged() {
    let mut python = Command::new(installed("SEALWIRE_TEST_PYTHON", "test-python/bin/python"));
    python.arg(clients().join("hvac/run.py"));
    run(python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_vault_works_unchanged() {
    let modules = installed("SEALWIRE_TEST_NODE", "test-node");
    let mut node = Command::new("node");
    node.arg(clients().join("node-vault/run.js")).env("SEALWIRE_TEST_NODE", modules);
    run(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vaultrs_works_unchanged() {
    let target = PathBuf::from(support::SEALWIRE);
    let target = target.ancestors().nth(2).expect("the target folder").join("test-vaultrs");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut program = Command::new(cargo);
    program
        .args(["run", "--locked", "--quiet", "--manifest-path"])
        .arg(clients().join("vaultrs/Cargo.toml"))
        .arg("--target-dir")
        .arg(target);
    run(program).await;
}
