//! Root rotation over several engines that share a database.

mod support;

use std::time::Duration;

use sealwire_client::Client;
use sealwire_manager::RotationStage;
use support::Server;
use support::officer::{Officers, Tokens};

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_was_left_out_is_brought_along_and_two_rotate_together() {
    let one = Server::with("chip = 'none'", "", Vec::new());
    let shared =
        format!("\n[keystore]\nurl = 'sqlite:{}'", one.data().join("keystore.db").display());
    let two = Server::with("chip = 'none'\ncached_ciphers = 16", &shared, Vec::new());
    let officers = Officers::of(&one, Tokens::new(&[]));
    let socket = |server: &Server| server.data().join("engine.sock").display().to_string();
    let (first, second) = (socket(&one), socket(&two));
    let both = ["--engine", first.as_str(), "--engine", second.as_str()];
    let cards = officers.make(
        &[&["init"], both.as_slice()].concat(),
        "--card",
        "--pin-file",
        &["f1", "f2"],
    );
    one.wait_for_site().await;
    let app = one.local_app(&["enc,dec,genkey:*"]).await;
    let client = one.client(&app).await;
    let mut envelopes = Vec::new();
    for number in 1..=40 {
        client.genkey(&format!("key-{number}"), 0, &[]).await.expect("a key");
        envelopes.push(client.enc(number, b"", b"both").await.expect("sealed"));
    }
    let opens_at = async |server: &Server| {
        let client = server.client(&app).await;
        for envelope in &envelopes {
            assert_eq!(client.dec(b"", envelope).await.expect("opened").as_ref(), b"both");
        }
    };
    opens_at(&two).await;
    let status = |socket: &str| -> serde_json::Value {
        let status = officers.ok(&["status", "--json", "--engine", socket]);
        serde_json::from_str(&status).expect("JSON")
    };

    // The second engine is forgotten.
    let args = [&["rotate", "--engine", first.as_str()], officers.show(&cards).as_slice()].concat();
    let new = officers.make(&args, "--new-card", "--new-pin-file", &["n1", "n2"]);
    assert_ne!(status(&first)["root"], status(&second)["root"]);
    // What has moved is under a root key that this engine does not hold, the app's secret too.
    assert!(Client::connect(&two.url(), app.credentials()).await.is_err());
    let mut join =
        [&["rotate", "--join", "--engine", second.as_str()], officers.show(&cards).as_slice()]
            .concat();
    for card in &new {
        join.extend(["--new-card", &card.uri, "--new-pin-file", card.pin.to_str().expect("text")]);
    }
    officers.ok(&join);
    for _ in 0..100 {
        if status(&second)["previous"] == serde_json::Value::Null {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status(&first)["root"], status(&second)["root"]);
    assert_eq!(status(&second)["previous"], serde_json::Value::Null, "{}", two.log());
    opens_at(&two).await;
    two.key("made-where-it-was-left-out").await;

    // Both at once.
    let args = [&["rotate"], both.as_slice(), officers.show(&new).as_slice()].concat();
    officers.make(&args, "--new-card", "--new-pin-file", &["m1", "m2"]);
    assert_eq!(status(&first)["root"], status(&second)["root"]);
    opens_at(&one).await;
    opens_at(&two).await;
    for server in [&one, &two] {
        server.key("made-afterwards").await;
        for _ in 0..100 {
            if server.manager().rotation().await.expect("asked").stage == RotationStage::Done {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let view = server.manager().rotation().await.expect("asked");
        assert_eq!(view.stage, RotationStage::Done, "{}", server.log());
        server.local_app(&[&format!("enc:port-{}", server.address.port())]).await;
    }
}
