//! The quickstart: exits 0, and refuses three thieves.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::SEALWIRE;

#[test]
fn the_quickstart_shows_the_whole_way_and_three_refusals() {
    let output = Command::new(SEALWIRE).arg("quickstart").output().expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for word in [
        "3 of 3 cards open it",
        "opened by the chip",
        "2 of 3",
        "你好, Sealwire 👋",
        "ciphertext",
        "re-encrypted under version 2",
        "Not there: the message",
        "OPEN_FAILED (49)",
        "SEALED (80)",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(said.matches("decrypted  你好, Sealwire 👋").count(), 2);
}

#[test]
fn it_writes_down_what_clients_need_for_nobody_else_to_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = folder.path().join("demo");
    // At the addresses that people expect: nothing else may be there.
    struct Serving(Child);
    impl Drop for Serving {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let serving = Command::new(SEALWIRE)
        .args(["quickstart", "--stay", "--dir"])
        .arg(&demo)
        .stdout(Stdio::null())
        .spawn();
    let mut serving = Serving(serving.expect("runs"));
    let file = demo.join("client.env");
    let begun = Instant::now();
    let is_written = || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("SECRET_ID"));
    while !is_written() {
        assert!(serving.0.try_wait().expect("known").is_none(), "it has ended");
        assert!(begun.elapsed() < Duration::from_secs(60), "no client.env");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(serving);
    let mode = std::fs::metadata(&file).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(file).expect("text");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("export {name}='")));
        line.unwrap_or_else(|| panic!("{name}: {text}")).trim_end_matches('\'').to_owned()
    };
    assert!(value("SEALWIRE_ADDR").starts_with("sealwire+tcp://127.0.0.1:"));
    assert!(value("SEALWIRE_APP_SECRET").starts_with("sws1_"));
    assert!(value("VAULT_ADDR").starts_with("http://127.0.0.1:"));
    assert_eq!(value("VAULT_ROLE_ID"), value("SEALWIRE_APP_KEY"));
    assert!(value("VAULT_SECRET_ID").starts_with("swh1_"));
}

#[test]
fn a_folder_that_holds_a_quickstart_is_not_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("client.env"), "").expect("written");
    let output = Command::new(SEALWIRE)
        .args(["quickstart", "--dir"])
        .arg(folder.path())
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("holds a quickstart already"));
}
