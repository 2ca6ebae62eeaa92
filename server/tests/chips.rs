//! Restarts with each chip: opened by itself, or sealed with the reason, and the cards always suffice.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use support::Server;
use support::officer::{Kept, Officers, SOFTHSM, Tokens};

/// A server whose chip is a key in the token `chip`.
fn with_token(tokens: &Tokens) -> Server {
    let engine = format!(
        "chip = 'pkcs11'\nchip_token = 'pkcs11:token=chip'\nchip_module = '{SOFTHSM}'\n\
         chip_pin_file = '{}'",
        pin_file(tokens).display()
    );
    Server::with(&engine, "", tokens.env())
}

/// The PIN of the token `chip`, in a file that nobody else may read.
fn pin_file(tokens: &Tokens) -> PathBuf {
    let file = tokens.conf().with_file_name("chip.pin");
    if !file.exists() {
        write_pin(&file, "pin-chip");
    }
    file
}

fn write_pin(file: &PathBuf, pin: &str) {
    std::fs::write(file, format!("{pin}\n")).expect("written");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("changed");
}

/// The server is sealed, says why, and the cards open it.
fn assert_sealed_because(officers: &Officers, server: &Server, why: &str, cards: &[Kept]) {
    let status = officers.ok(&["status"]);
    assert!(status.starts_with("state     sealed"), "{status}");
    assert!(status.contains("IT FAILED") && status.contains(why), "{status}");
    assert!(server.log().contains(why), "{}", server.log());
    officers.unseal(cards);
    assert!(officers.is_open());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_chip_every_start_waits_for_the_cards() {
    let mut server = Server::with("chip = 'none'", "", Vec::new());
    let officers = Officers::of(&server, Tokens::new(&[]));
    let cards = officers.init("2", &["f1", "f2"]);
    assert!(officers.is_open());
    server.restart();
    let status = officers.ok(&["status"]);
    assert!(status.starts_with("state     sealed") && !status.contains("FAILED"), "{status}");
    assert!(!server.data().join("root.sealed").exists());
    officers.unseal(&cards);
    assert!(officers.is_open());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_opens_the_engine_at_a_restart_and_the_cards_without_it() {
    let tokens = Tokens::new(&["chip", "t1"]);
    let mut server = with_token(&tokens);
    let pin = pin_file(&tokens);
    let officers = Officers::of(&server, tokens);
    let cards = officers.init("2", &["f1", "t1", "f3"]);
    for _ in 0..2 {
        server.restart();
        assert!(officers.is_open(), "opened by the token: {}", server.log());
    }

    officers.tokens.unplug();
    server.restart();
    let files = [cards[0].clone(), cards[2].clone()];
    assert_sealed_because(&officers, &server, "token pkcs11:token=chip is not there", &files);
    officers.tokens.plug_in();
    server.restart();
    assert!(officers.is_open());

    write_pin(&pin, "wrong-pin");
    server.restart();
    assert_sealed_because(&officers, &server, "wrong PIN", &files);
    write_pin(&pin, "pin-chip");
    std::fs::set_permissions(&pin, std::fs::Permissions::from_mode(0o644)).expect("changed");
    server.restart();
    assert_sealed_because(&officers, &server, "others may read it: chmod 600", &files);
    std::fs::remove_file(&pin).expect("removed");
    server.restart();
    assert_sealed_because(&officers, &server, "PIN file", &files);
    write_pin(&pin, "pin-chip");

    server.reconfigure(SOFTHSM, "/no/such/library.so");
    server.restart();
    assert_sealed_because(&officers, &server, "/no/such/library.so", &files);
    server.reconfigure("/no/such/library.so", SOFTHSM);
    server.restart();
    assert!(officers.is_open());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_s_token_does_not_open_and_the_next_unsealing_seals_for_it() {
    let (ours, theirs) = (Tokens::new(&["chip"]), Tokens::new(&["chip"]));
    let mut server = with_token(&ours);
    let officers = Officers::of(&server, ours);
    let cards = officers.init("2", &["f1", "f2"]);
    let sealed = std::fs::read(server.data().join("root.sealed")).expect("sealed");
    server.env = theirs.env();
    server.restart();
    assert_sealed_because(&officers, &server, "holds no key of this chip", &cards);
    // The cards have sealed it for the new token.
    assert_ne!(std::fs::read(server.data().join("root.sealed")).expect("sealed"), sealed);
    server.restart();
    assert!(officers.is_open());
    // The old seal, put back, is of a key that this token does not have.
    std::fs::write(server.data().join("root.sealed"), &sealed).expect("written");
    server.restart();
    assert_sealed_because(
        &officers,
        &server,
        "it is another key, or root.sealed was changed",
        &cards,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_could_leave_the_token_is_refused() {
    let tokens = Tokens::new(&["chip"]);
    let mut server = with_token(&tokens);
    // An extractable key under the chip's label, as somebody careless or malicious would import one.
    let key = tokens.conf().with_file_name("key");
    std::fs::write(&key, [7; 32]).expect("written");
    let mut import = std::process::Command::new("pkcs11-tool");
    import
        .args(["--module", SOFTHSM, "--token-label", "chip", "--login", "--pin", "pin-chip"])
        .args(["--write-object", key.to_str().expect("text"), "--type", "secrkey"])
        .args(["--key-type", "AES:32", "--label", "sealwire chip", "--extractable"])
        .env("SOFTHSM2_CONF", tokens.conf());
    let done = import.output().expect("pkcs11-tool: ./scripts/test installs opensc");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let officers = Officers::of(&server, tokens);
    let (one, two) = (officers.place("f1"), officers.place("f2"));
    let said = officers.refused(&["init", "--card", &one, "--card", &two]);
    assert!(said.contains("made outside it"), "{said}");
    assert!(officers.ok(&["status"]).contains("none yet"));
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_root_key_is_sealed_by_the_token_too() {
    let tokens = Tokens::new(&["chip", "t1", "t2"]);
    let mut server = with_token(&tokens);
    let officers = Officers::of(&server, tokens);
    let old = officers.init("2", &["f1", "t1"]);
    server.wait_for_site().await;
    server.key("chat").await;
    let args = [&["rotate", "--threshold", "2"], officers.show(&old).as_slice()].concat();
    let new = officers.make(&args, "--new-card", "--new-pin-file", &["f2", "t2", "f3"]);
    server.restart();
    assert!(officers.is_open(), "opened by the token: {}", server.log());
    officers.ok(&["seal"]);
    let said = officers.refused(&[&["unseal"], officers.show(&old).as_slice()].concat());
    assert!(said.contains("pinned to root key"), "{said}");
    officers.unseal(&new[1..]);
    assert!(officers.is_open());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_software_chip_says_what_it_is_worth() {
    let server = Server::start().await;
    assert!(server.log().contains("a stolen machine opens itself"), "{}", server.log());
}
