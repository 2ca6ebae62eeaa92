//! The architecture's invariants: what must not depend on what.

use std::path::PathBuf;
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn tree(args: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--prefix", "none"])
        .args(args)
        .current_dir(root())
        .output()
        .expect("cargo tree runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn crates(tree: &str) -> Vec<&str> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

#[test]
fn the_engine_knows_no_sql_no_http_and_no_other_part() {
    let tree = tree(&["-p", "sealwire-engine", "-e", "normal"]);
    let crates = crates(&tree);
    assert!(crates.contains(&"aes-gcm"), "{tree}");
    for absent in [
        "sqlx",
        "axum",
        "hyper",
        "http",
        "sealwire-keystore",
        "sealwire-gateway",
        "sealwire-manager",
    ] {
        assert!(!crates.contains(&absent), "{absent} is in the engine's tree");
    }
}

#[test]
fn the_protocol_knows_no_runtime() {
    let plain = tree(&["-p", "sealwire-protocol", "-e", "normal"]);
    assert!(!crates(&plain).contains(&"tokio"), "{plain}");
    let features = tree(&["-p", "sealwire-protocol", "--all-features", "-e", "features"]);
    for feature in ["rt", "rt-multi-thread", "net", "full"] {
        assert!(!features.contains(&format!("tokio feature \"{feature}\"")), "{features}");
    }
}

#[test]
fn the_client_knows_nothing_of_the_server() {
    let tree = tree(&["-p", "sealwire-client", "-e", "normal"]);
    let ours: Vec<_> =
        crates(&tree).into_iter().filter(|name| name.starts_with("sealwire-")).collect();
    assert!(
        ours.iter().all(|name| ["sealwire-client", "sealwire-protocol"].contains(name)),
        "{ours:?}"
    );
}

#[test]
fn the_gateway_and_the_manager_do_not_know_each_other() {
    for (one, other) in
        [("sealwire-gateway", "sealwire-manager"), ("sealwire-manager", "sealwire-gateway")]
    {
        let tree = tree(&["-p", one, "-e", "normal"]);
        assert!(!crates(&tree).contains(&other), "{one} knows {other}");
    }
}

#[test]
fn the_server_is_built_without_hazmat() {
    let tree = tree(&["-p", "sealwire-server", "-e", "features,no-dev"]);
    assert!(tree.contains("sealwire-engine"), "{tree}");
    assert!(
        !tree.contains("hazmat\" (") && !tree.contains("sealwire-engine feature \"hazmat\""),
        "{tree}"
    );
}

#[test]
fn every_crate_forbids_unsafe_code_but_the_engine_s_pages() {
    for file in [
        "protocol/src/lib.rs",
        "client/src/lib.rs",
        "server/src/main.rs",
        "server/keystore/src/lib.rs",
        "server/gateway/src/lib.rs",
        "server/manager/src/lib.rs",
    ] {
        let text = std::fs::read_to_string(root().join(file)).expect(file);
        assert!(text.contains("#![forbid(unsafe_code)]"), "{file}");
    }
    let engine = root().join("server/engine/src");
    let text = std::fs::read_to_string(engine.join("lib.rs")).expect("lib.rs");
    assert!(text.contains("#![deny(unsafe_code)]"));
    let mut allowed = Vec::new();
    let mut folders = vec![engine.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("text");
            if text.contains("allow(unsafe_code") || text.contains("expect(unsafe_code") {
                let blocks = text.matches("unsafe {").count() + text.matches("unsafe impl").count();
                assert_eq!(
                    blocks,
                    text.matches("// SAFETY: ").count(),
                    "each block has its reason"
                );
                allowed.push(path.strip_prefix(&engine).expect("inside").to_owned());
            }
        }
    }
    assert_eq!(allowed, [PathBuf::from("memory/pages.rs")]);
}

#[test]
fn each_crate_is_listed_by_name() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    let members = manifest.split("members = [").nth(1).and_then(|text| text.split(']').next());
    assert!(!members.expect("members").contains('*'));
}
