//! The ceremonies as officers hold them: with cards in files, on real tokens, and mixed.

mod support;

use std::process::Stdio;
use std::time::Duration;

use sealwire_engine::custody::CeremonyKind;
use support::officer::{Kept, Officers, SOFTHSM, Tokens, card_bytes};
use support::{App, Server};

const MESSAGE: &[u8] = "你好 👋".as_bytes();

/// A server without a chip that waits for its officers.
fn sealed() -> Server {
    Server::with("chip = 'none'", "", Vec::new())
}

fn tokens() -> Tokens {
    Tokens::new(&["t1", "t2", "t3", "t4", "t5"])
}

/// A key, an app, and a message there and back.
async fn first_message(server: &Server) -> (App, Vec<u8>) {
    server.wait_for_site().await;
    let key = server.key("chat").await;
    let app = server.local_app(&["enc,dec,reenc:*"]).await;
    let client = server.client(&app).await;
    let envelope = client.enc(key.index, b"", MESSAGE).await.expect("sealed");
    assert_eq!(client.dec(b"", &envelope).await.expect("opened"), MESSAGE);
    (app, envelope.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn from_ceremony_to_first_message_with_files_with_tokens_and_mixed() {
    for names in [["f1", "f2", "f3"], ["t1", "t2", "t3"], ["f1", "t2", "f3"]] {
        let server = sealed();
        let officers = Officers::of(&server, tokens());
        let cards = officers.init("2", &names);
        let (app, envelope) = first_message(&server).await;
        // Each quorum opens, each card alone does not.
        for (one, other) in [(0, 1), (1, 2), (2, 0)] {
            officers.ok(&["seal"]);
            let said = officers.unseal(&cards[one..=one]);
            assert_eq!(said, format!("card {}: 1 of 2\n", one + 1), "{names:?}");
            assert!(!officers.is_open());
            let said = officers.unseal(&cards[other..=other]);
            assert!(said.contains("open, root key"), "{names:?}: {said}");
        }
        let opened = server.client(&app).await.dec(b"", &envelope).await.expect("opened");
        assert_eq!(opened, MESSAGE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_quorum_of_token_cards_opens_and_nothing_less() {
    let server = sealed();
    let officers = Officers::of(&server, tokens());
    let cards = officers.init("3", &["t1", "t2", "t3", "t4"]);
    for chosen in 1_u32..16 {
        let shown: Vec<Kept> =
            (0..4).filter(|card| chosen >> card & 1 == 1).map(|card| cards[card].clone()).collect();
        if shown.len() > 3 {
            continue;
        }
        officers.ok(&["seal"]);
        officers.unseal(&shown);
        assert_eq!(officers.is_open(), shown.len() == 3, "{chosen:b}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_token_card_is_named_and_the_progress_kept() {
    let server = sealed();
    let officers = Officers::of(&server, tokens());
    let cards = officers.init("2", &["t1", "t2"]);
    officers.ok(&["seal"]);
    officers.unseal(&cards[..1]);
    let pin = |text: &str| {
        let file = officers.pockets.path().join("typed");
        std::fs::write(&file, text).expect("written");
        file.display().to_string()
    };
    let unseal = |uri: &str, typed: &str| {
        officers.refused(&["unseal", "--card", uri, "--pin-file", &pin(typed)])
    };
    let said = unseal("pkcs11:token=t2", "wrong");
    assert!(said.contains("token=t2: wrong PIN"), "{said}");
    let said = unseal("pkcs11:token=t9", "pin-t9");
    assert!(said.contains("token=t9 is not there: plug it in"), "{said}");
    let said = unseal("pkcs11:token=t3", "pin-t3");
    assert!(said.contains("token=t3 holds no Sealwire card"), "{said}");
    let said = unseal("pkcs11:token=t1", "pin-t1");
    assert!(said.contains("card 1 was already shown"), "{said}");
    let said = unseal("pkcs11:token=t2?pin-value=t2-secret", "pin-t2");
    assert!(
        said.contains("a PIN does not stand in a URI") && !said.contains("t2-secret"),
        "{said}"
    );
    let said = officers.command(&["unseal", "--card", "pkcs11:token=t2"]);
    let said = { said }.env_remove("SEALWIRE_PKCS11_MODULE").output().expect("runs");
    assert!(!said.status.success());
    let said = officers.refused(&[
        "unseal",
        "--card",
        "pkcs11:token=t2?module-path=/no/such.so",
        "--pin-file",
        &pin("pin-t2"),
    ]);
    assert!(said.contains("/no/such.so"), "{said}");
    // RFC 7512 names library and PIN file in the URI itself.
    let uri = format!("pkcs11:token=t2?module-path={SOFTHSM}&pin-source=file:{}", pin("pin-t2"));
    let output = officers.command(&["unseal", "--card", &uri]);
    let output = { output }.env_remove("SEALWIRE_PKCS11_MODULE").output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(officers.is_open());
    // A token that holds a card does not get another one, unless it is called otherwise.
    let (one, two) = (pin("pin-t1"), officers.pockets.path().join("two").display().to_string());
    std::fs::write(&two, "pin-t2").expect("written");
    let reshare = |first: &'static str, second: &'static str| {
        let new = ["--new-card", first, "--new-pin-file", &one, "--new-card", second];
        let new = [new.as_slice(), &["--new-pin-file", &two]].concat();
        officers.root(&[&["reshare"], officers.show(&cards).as_slice(), &new].concat())
    };
    let refused = reshare("pkcs11:token=t1", "pkcs11:token=t2");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("holds a card under this name already"), "{said}");
    let made = reshare("pkcs11:token=t1;object=card%202", "pkcs11:token=t2;object=card%202");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_shown_lapse_after_the_set_time() {
    let server = Server::with("chip = 'none'\nunseal_lapse_seconds = 1", "", Vec::new());
    let officers = Officers::of(&server, Tokens::new(&[]));
    let cards = officers.init("2", &["f1", "f2"]);
    officers.ok(&["seal"]);
    officers.unseal(&cards[..1]);
    assert!(officers.ok(&["status"]).contains("1 of 2 cards shown"));
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(!officers.ok(&["status"]).contains("cards shown"));
    assert!(server.log().contains("the cards shown have lapsed"));
    assert_eq!(officers.unseal(&cards[1..]), "card 2: 1 of 2\n");

    // A ceremony that nobody goes on with ends, and says so to who comes back.
    let mut verify = server.ceremony().begin(CeremonyKind::Verify).await.expect("begun");
    let passphrase = std::fs::read_to_string(&cards[0].pin).expect("a passphrase");
    let card = card_bytes(&cards[0]);
    verify.show(&card, &passphrase).await.expect("taken");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let late = verify.show(&card, &passphrase).await.expect_err("late");
    assert!(late.to_string().contains("has lapsed"), "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_ceremony_serves_several_engines_and_adopt_adds_one() {
    let (one, two, three) = (sealed(), sealed(), sealed());
    let officers = Officers::of(&one, tokens());
    let socket = |server: &Server| server.data().join("engine.sock").display().to_string();
    let (first, second, third) = (socket(&one), socket(&two), socket(&three));
    let both = ["--engine", first.as_str(), "--engine", second.as_str()];
    let init = [&["init", "--threshold", "2"], both.as_slice()].concat();
    let cards = officers.make(&init, "--card", "--pin-file", &["f1", "t2", "f3"]);
    let status = |socket: &str| {
        let status = officers.ok(&["status", "--json", "--engine", socket]);
        serde_json::from_str::<serde_json::Value>(&status).expect("JSON")
    };
    assert_eq!(status(&first)["root"], status(&second)["root"]);
    assert_eq!(status(&second)["state"]["state"], "open");

    officers.ok(&[&["seal"], both.as_slice()].concat());
    let shown = officers.show(&cards[..2]);
    let said = officers.ok(&[&["unseal"], both.as_slice(), shown.as_slice()].concat());
    assert_eq!(said.lines().filter(|line| line.contains("open, root key")).count(), 2, "{said}");

    let adopt = [&["adopt", "--engine", third.as_str()], shown.as_slice()].concat();
    officers.ok(&adopt);
    assert_eq!(status(&third)["root"], status(&first)["root"]);
    assert_eq!(status(&third)["set"]["id"], status(&first)["set"]["id"]);
    assert!(officers.refused(&adopt).contains("exists already"));
    let all = officers.ok(&["status", "--engine", &first, "--engine", &third]);
    assert!(all.contains(&first) && all.contains(&third), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_proves_cards_and_changes_nothing() {
    let server = sealed();
    let officers = Officers::of(&server, tokens());
    let cards = officers.init("2", &["f1", "t2", "f3"]);
    officers.ok(&["seal"]);
    let said = officers.ok(&[&["verify"], officers.show(&cards).as_slice()].concat());
    assert!(said.starts_with("cards 1, 2, 3 of set "), "{said}");
    assert!(!officers.is_open());
    let said = officers.refused(&[&["verify"], officers.show(&cards[..1]).as_slice()].concat());
    assert!(
        said.contains("1 of 2 cards were shown") && said.contains("nothing was proven"),
        "{said}"
    );
    // A card with another's passphrase is named; the others are proven all the same.
    let swapped = [
        cards[0].clone(),
        cards[1].clone(),
        Kept { pin: cards[0].pin.clone(), ..cards[2].clone() },
    ];
    let said = officers.refused(&[&["verify"], officers.show(&swapped).as_slice()].concat());
    assert!(said.contains("wrong passphrase for card 3 of 3"), "{said}");
    // Another site's cards are not ours.
    let other = sealed();
    let strangers = Officers::of(&other, tokens());
    let foreign = strangers.init("2", &["f1", "f2"]);
    let said = officers.refused(&[&["verify"], officers.show(&foreign).as_slice()].concat());
    assert!(said.contains("this engine is pinned to root key"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reshare_gives_new_cards_and_says_that_the_old_ones_still_open() {
    let server = sealed();
    let officers = Officers::of(&server, tokens());
    let old = officers.init("2", &["f1", "f2"]);
    let (app, envelope) = first_message(&server).await;
    let one = [&["reshare", "--threshold", "3"], officers.show(&old[..1]).as_slice()].concat();
    let places = ["f3", "f4", "f5"].map(|name| officers.place(name));
    let new_cards = places.iter().flat_map(|uri| ["--new-card", uri.as_str()]);
    let said = officers.refused(&one.iter().copied().chain(new_cards).collect::<Vec<_>>());
    assert!(
        said.contains("1 of 2 cards were shown") && said.contains("nothing has changed"),
        "{said}"
    );

    // A card that is refused costs nothing when another one is named.
    let third = Kept { pin: old[1].pin.clone(), ..old[0].clone() };
    let said = officers.refused(
        &[
            &["reshare"],
            officers.show(&[third, old[0].clone()]).as_slice(),
            &["--new-card", &places[0], "--new-card", &places[1]],
        ]
        .concat(),
    );
    assert!(
        said.contains("wrong passphrase for card 1") && said.contains("1 of 2 cards were shown"),
        "{said}"
    );

    let record = officers.pockets.path().join("reshare.txt");
    let args = [
        &["reshare", "--threshold", "3", "--transcript", record.to_str().expect("text")],
        officers.show(&old).as_slice(),
    ]
    .concat();
    let new = officers.make(&args, "--new-card", "--new-pin-file", &["f3", "t1", "f5", "t2"]);
    let text = std::fs::read_to_string(&record).expect("a transcript");
    assert!(
        text.contains("3 of 4 cards") && text.contains("signature") && text.contains("SHA-256")
    );
    for card in old.iter().chain(&new) {
        let secret = std::fs::read_to_string(&card.pin).expect("a secret");
        assert!(!text.contains(secret.trim()), "{text}");
    }
    for cards in [&new[1..], &old[..]] {
        officers.ok(&["seal"]);
        officers.unseal(cards);
        assert!(officers.is_open());
    }
    let opened = server.client(&app).await.dec(b"", &envelope).await.expect("opened");
    assert_eq!(opened, MESSAGE);
    let status = officers.ok(&["status"]);
    assert!(status.contains("3 of 4 open it"), "{status}");
    // The transcript is never overwritten.
    let said = officers.refused(&["seal", "--transcript", record.to_str().expect("text")]);
    assert!(said.contains("it must be a new file") && officers.is_open(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_of_ones_own_comes_with_the_hours_it_would_stand() {
    let server = sealed();
    let officers = Officers::of(&server, Tokens::new(&[]));
    let pin = |name: &str, text: &str| {
        let file = officers.pockets.path().join(name);
        std::fs::write(&file, text).expect("written");
        file.display().to_string()
    };
    let (one, two) = (officers.place("f1"), officers.place("f2"));
    let init = |first: &str, second: &str| {
        officers.root(&[
            "init",
            "--weak-pin",
            "--card",
            &one,
            "--pin-file",
            &pin("a", first),
            "--card",
            &two,
            "--pin-file",
            &pin("b", second),
        ])
    };
    let refused = init("123", "31415926");
    assert_eq!(refused.status.code(), Some(1));
    assert!(!officers.ok(&["status"]).contains("open"));
    let made = init("314159", "31415926\n");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    assert!(
        said.contains("WEAK") && said.contains("within minutes") && said.contains("eight GPUs"),
        "{said}"
    );
    let shown = String::from_utf8_lossy(&made.stdout);
    assert!(shown.contains("under its own PIN") && !shown.contains("314159"), "{shown}");
    officers.ok(&["seal"]);
    let cards = [("f1", "a"), ("f2", "b")].map(|(place, pin)| Kept {
        uri: officers.place(place),
        pin: officers.pockets.path().join(pin),
    });
    officers.unseal(&cards);
    assert!(officers.is_open());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_whose_card_cannot_be_written_leaves_nothing_behind() {
    let server = sealed();
    let officers = Officers::of(&server, tokens());
    let (good, full) = (officers.place("f1"), "file:/dev/full/");
    let said = officers.refused(&["init", "--card", &good, "--card", full]);
    assert!(said.contains("/dev/full"), "{said}");
    assert!(!std::path::Path::new(&good[5..]).join("sealwire.card").exists());
    assert!(officers.ok(&["status"]).contains("none yet"));
    for twice in [["--card", &good, "--card", &good], ["--card", &good, "--card", &good[5..]]] {
        let said = officers.refused(&[&["init"], twice.as_slice()].concat());
        assert!(said.contains("named twice"), "{said}");
    }
    let said = officers.refused(&["init", "--card", &good, "--card", "/no/such/stick/card"]);
    assert!(said.contains("is the stick mounted?"), "{said}");
    officers.init("2", &["f1", "f2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_is_there_by_then_is_neither_overwritten_nor_removed() {
    let server = sealed();
    let officers = Officers::of(&server, Tokens::new(&[]));
    let (one, two) = (officers.place("f1"), officers.place("f2"));
    let pipe = officers.pockets.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let first = officers.pockets.path().join("first");
    std::fs::write(&first, "first-pin").expect("written");
    // The places have been looked at when the second PIN is asked for.
    let (first, pipe) = (first.to_str().expect("text"), pipe.to_str().expect("text"));
    let args = [
        "init",
        "--weak-pin",
        "--card",
        &one,
        "--pin-file",
        first,
        "--card",
        &two,
        "--pin-file",
        pipe,
    ];
    let mut init = officers.command(&args);
    let child = init.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let valuable = std::path::Path::new(&one[5..]).join("sealwire.card");
    std::fs::write(&valuable, "another stick is in by now").expect("written");
    std::fs::write(pipe, "second-pin").expect("written");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read(&valuable).expect("there"), b"another stick is in by now");
    assert!(officers.ok(&["status"]).contains("none yet"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_whose_output_nobody_reads_is_not_a_success() {
    let server = sealed();
    let officers = Officers::of(&server, Tokens::new(&[]));
    let (one, two) = (officers.place("f1"), officers.place("f2"));
    let mut init = officers.command(&["init", "--card", &one, "--card", &two]);
    let mut child = init.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nobody reads the output"), "{said}");
    assert!(!std::path::Path::new(&one[5..]).join("sealwire.card").exists());
    assert!(officers.ok(&["status"]).contains("none yet"));
}
