//! Root rotation with the engines apart: what is wrapped moves under a new root key while requests go on, and an
//! engine that was left out is brought along.

mod support;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::Ordering;
use std::time::Duration;

use support::cluster::Cluster;
use support::load::{Load, round_trip};
use support::officer::{Kept, Officers, Tokens};

/// The site's cards, as files in the officers' pockets.
fn pocket(site: &Cluster, officers: &Officers) -> Vec<Kept> {
    let kept = site.cards.iter().map(|card| {
        let uri = officers.place(&format!("first-{}", card.number));
        let folder = PathBuf::from(&uri["file:".len()..]);
        std::fs::write(folder.join("sealwire.card"), card.bytes().expect("a card"))
            .expect("written");
        let pin = folder.join("pin");
        std::fs::write(&pin, card.passphrase.as_bytes()).expect("written");
        Kept { uri, pin }
    });
    kept.collect()
}

/// What each engine says of itself: its root key, and the one from before while it holds that.
fn roots(officers: &Officers) -> Vec<(String, bool)> {
    let said = officers.ok(&["status", "--json"]);
    let engines: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let one = |engine: &serde_json::Value| {
        assert_eq!(engine["state"]["state"], "open", "{engine}");
        (engine["root"].as_str().expect("an id").to_owned(), !engine["previous"].is_null())
    };
    engines.as_array().expect("several").iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_moves_under_load_and_an_engine_that_was_left_out_is_brought_along() {
    let site = Cluster::start(3, 2).await;
    let officers = Officers::of_cluster(&site, Tokens::new(&[]));
    let cards = pocket(&site, &officers);
    let before = roots(&officers);
    let app = site.app(&["enc,dec,reenc,genkey:*"]).await;
    let mut keys = Vec::new();
    for number in 1..=40 {
        keys.push(site.key(&format!("key-{number}")).await.index);
    }
    let client = site.client(&app).connect().await.expect("connects");
    let sealed = client.enc(keys[0], b"aad", "旧".as_bytes()).await.expect("sealed");
    let load = Load::start_with_reenc(std::slice::from_ref(&client), &keys);

    // The ceremony names two engines of three: the manager does not begin.
    let sockets = site.engines.iter().map(|engine| engine.data().join("engine.sock"));
    let sockets: Vec<_> = sockets.map(|socket| socket.display().to_string()).collect();
    let two = ["--engine", sockets[0].as_str(), "--engine", sockets[1].as_str()];
    let old = officers.show(&cards[..2]);
    let args = [&["rotate", "--threshold", "2"], &two[..], &old].concat();
    let (mut rotate, new) =
        officers.making(&args, "--new-card", "--new-pin-file", &["n1", "n2", "n3"]);
    let cut = run(&mut rotate);
    assert_eq!(cut.status.code(), Some(1));
    let (shown, why) = (String::from_utf8_lossy(&cut.stdout), String::from_utf8_lossy(&cut.stderr));
    assert!(why.contains(&site.engines[2].address()) && why.contains("--resume"), "{why}");
    officers.keep_passphrases(&shown, &new);
    let meanwhile = roots(&officers);
    assert!(meanwhile[0].1 && meanwhile[0] == meanwhile[1], "two hold both: {meanwhile:?}");
    assert_eq!(meanwhile[2], before[2], "and the third what it held");
    // Whether under the one root key or the other, all three are of use.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let refused = run(&mut officers.command(&["rotate", "--resume"]));
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains(&site.engines[2].address()), "{why}");

    // It is brought along by a quorum of the old cards and one of the new ones.
    let new_shown = new[..2].iter().flat_map(|card| {
        let pin = card.pin.to_str().expect("text");
        ["--new-card", card.uri.as_str(), "--new-pin-file", pin]
    });
    let new_shown: Vec<_> = new_shown.collect();
    let third = ["--engine", sockets[2].as_str()];
    let join = [&["rotate", "--join"], &third[..], &old, &new_shown].concat();
    let joined = run(&mut officers.command(&join));
    assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
    let resumed = run(&mut officers.command(&["rotate", "--resume"]));
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    let said = String::from_utf8_lossy(&resumed.stdout);
    assert!(said.contains("the old root key is forgotten"), "{said}");

    let after = roots(&officers);
    assert!(after.iter().all(|(root, both)| *root == meanwhile[0].0 && !both), "{after:?}");
    assert_ne!(after[0].0, before[0].0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let tally = load.end().await;
    let unmade = tally.unmade.lock().expect("no panic").clone();
    let made = tally.made.lock().expect("no panic").clone();
    println!(
        "{} ENC, DEC and REENC and {} GENKEY meanwhile, none failed",
        tally.done.load(Ordering::Relaxed),
        made.len()
    );
    assert!(unmade.is_empty() && !made.is_empty(), "GENKEY: {unmade:?}");
    assert_eq!(client.dec(b"aad", &sealed).await.expect("opened"), "旧".as_bytes());
    for made in made {
        round_trip(&client, made.index).await.expect(&made.name);
    }
    // Nothing is left of the old root key, and the old cards open nothing.
    site.ceremony(0).seal().await.expect("sealed");
    let said = officers.refused(&[&["unseal"], &two[..2], &old].concat());
    assert!(said.contains("this engine is pinned to root key"), "{said}");
}

fn run(command: &mut Command) -> Output {
    // It waits for the manager, and for engines.
    tokio::task::block_in_place(|| command.output().expect("runs"))
}
