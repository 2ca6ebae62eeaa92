//! The quickstart: exits 0, and refuses three thieves.

mod support;

use std::process::Command;

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
