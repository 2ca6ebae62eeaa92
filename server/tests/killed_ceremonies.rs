//! Ceremonies that are cut off: the old state is found, or the new one.

mod support;

use std::process::Stdio;
use std::time::Duration;

use support::Server;
use support::officer::{Kept, Officers, Tokens};

/// A server without a chip that waits for its officers.
fn sealed() -> Server {
    Server::with("chip = 'none'", "", Vec::new())
}

/// Starts a ceremony, waits until its transcript says that a number of cards were written, and a little
/// longer. Returns the child.
async fn until_written(
    officers: &Officers,
    args: &[&str],
    record: &std::path::Path,
    cards: usize,
    delay: u64,
) -> std::process::Child {
    let args = [args, &["--transcript", record.to_str().expect("text")]].concat();
    let mut command = officers.command(&args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    for _ in 0..2000 {
        let text = std::fs::read_to_string(record).unwrap_or_default();
        if text.matches("written and read back").count() >= cards {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tokio::time::sleep(Duration::from_millis(delay)).await;
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_is_killed_leaves_the_old_state_or_the_new_one() {
    let (mut old, mut new) = (0, 0);
    for delay in (0..).step_by(25).take(40) {
        let engine = "chip = 'software'\nchip_key_file = 'FOLDER/chip.key'";
        let mut server = Server::with(engine, "", Vec::new());
        let officers = Officers::of(&server, Tokens::new(&[]));
        let places = ["f1", "f2"].map(|name| officers.place(name));
        let init = ["init", "--card", &places[0], "--card", &places[1]];
        let record = officers.pockets.path().join("record");
        let child = until_written(&officers, &init, &record, 2, delay).await;
        server.kill();
        let output = child.wait_with_output().expect("ends");
        server.restart();
        let kept = places.clone().map(|uri| Kept { pin: format!("{}pin", &uri[5..]).into(), uri });
        officers.keep_passphrases(&String::from_utf8_lossy(&output.stdout), &kept);
        if officers.ok(&["status"]).contains("none yet") {
            assert!(!output.status.success(), "what was said to be in force is not");
            // Begun again, elsewhere: cards that may be in force are left where they are.
            officers.init("2", &["f3", "f4"]);
            assert!(officers.is_open(), "after {delay} ms");
            old += 1;
        } else {
            // In force, then: the chip has opened it, and so do the cards that were shown.
            assert!(officers.is_open(), "after {delay} ms: {}", server.log());
            officers.ok(&["seal"]);
            officers.unseal(&kept);
            assert!(officers.is_open(), "after {delay} ms");
            new += 1;
        }
        if old > 1 && new > 1 {
            return;
        }
    }
    panic!("only one of the two states was ever seen: {old} old, {new} new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reshare_that_is_killed_leaves_the_old_set_or_the_new_one_and_the_old_cards_good() {
    let (mut old_set, mut new_set) = (0, 0);
    for delay in (0..).step_by(25).take(40) {
        let mut server = sealed();
        let officers = Officers::of(&server, Tokens::new(&[]));
        let old = officers.init("2", &["f1", "f2"]);
        let new = ["f3", "f4", "f5"].map(|name| officers.place(name));
        let show = officers.show(&old);
        let places = new.iter().flat_map(|uri| ["--new-card", uri.as_str()]);
        let args: Vec<&str> =
            ["reshare", "--threshold", "2"].into_iter().chain(show).chain(places).collect();
        let record = officers.pockets.path().join("record");
        let child = until_written(&officers, &args, &record, 3, delay).await;
        server.kill();
        let output = child.wait_with_output().expect("ends");
        server.restart();
        let kept = new.map(|uri| Kept { pin: format!("{}pin", &uri[5..]).into(), uri });
        officers.keep_passphrases(&String::from_utf8_lossy(&output.stdout), &kept);
        let status = officers.ok(&["status"]);
        officers.unseal(&old);
        assert!(officers.is_open(), "after {delay} ms");
        if status.contains("2 of 3 open it") {
            officers.ok(&["seal"]);
            officers.unseal(&kept[1..]);
            assert!(officers.is_open(), "after {delay} ms");
            new_set += 1;
        } else {
            old_set += 1;
        }
        if old_set > 1 && new_set > 1 {
            return;
        }
    }
    panic!("only one of the two states was ever seen: {old_set} old, {new_set} new");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_officer_who_is_killed_leaves_the_engine_as_it_was() {
    for _ in 0..20 {
        let server = sealed();
        let officers = Officers::of(&server, Tokens::new(&[]));
        let places = ["f1", "f2"].map(|name| officers.place(name));
        let init = ["init", "--card", &places[0], "--card", &places[1]];
        let record = officers.pockets.path().join("record");
        let mut child = until_written(&officers, &init, &record, 1, 0).await;
        child.kill().expect("killed");
        child.wait().expect("gone");
        if !officers.ok(&["status"]).contains("none yet") {
            // It was faster than we were.
            continue;
        }
        // The card that was written is not overwritten; elsewhere it goes on at once.
        let said = officers.refused(&init);
        assert!(said.contains("it is not overwritten"), "{said}");
        officers.init("2", &["f3", "f4"]);
        assert!(officers.is_open());
        return;
    }
    panic!("never killed in time");
}
