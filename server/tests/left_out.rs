//! Engines that get no work: sealed ones, and those of another root key; and certificates that are renewed.

mod support;

use std::time::{Duration, Instant};

use sealwire_engine::custody::{CeremonyClient, CeremonyKind};
use support::cluster::{Cluster, Process, tls_init};
use support::load::round_trip;

/// What an engine has done since its start, as a gateway tells.
fn done(site: &Cluster, engine: &Process, op: &str) -> f64 {
    let address = engine.address();
    let name = format!("sealwire_engine_requests_total{{engine=\"{address}\",op=\"{op}\"}}");
    site.gateways[0].figure(&name).expect(&name)
}

/// A figure of an engine, as a gateway tells it.
fn of_engine(engine: &Process, name: &str) -> String {
    format!("sealwire_engine_{name}{{engine=\"{}\"}}", engine.address())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_engine_among_others_is_left_out_and_nobody_notices() {
    let site = Cluster::start(3, 1).await;
    let app = site.app(&["enc,dec:*"]).await;
    let key = site.key("chat").await.index;
    let client = site.client(&app).connect().await.expect("connects");
    let client = client.with_refusals_at_once();
    let going_on = tokio::spawn({
        let client = client.clone();
        async move {
            for _ in 0..2000 {
                round_trip(&client, key).await.expect("whatever is sealed");
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (sealed, gateway) = (&site.engines[1], &site.gateways[0]);
    site.ceremony(1).seal().await.expect("sealed");
    gateway.await_figure(&of_engine(sealed, "unsealed"), 0.0).await;
    gateway.await_figure(&of_engine(sealed, "links"), 0.0).await;
    going_on.await.expect("none has failed");
    // The engines are asked for their figures once a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let before = (done(&site, sealed, "enc"), done(&site, sealed, "refused"));
    for _ in 0..200 {
        round_trip(&client, key).await.expect("there are two others");
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!((done(&site, sealed, "enc"), done(&site, sealed, "refused")), before);
    site.unseal(1).await;
    gateway.await_figure(&of_engine(sealed, "links"), 4.0).await;
    for _ in 0..200 {
        round_trip(&client, key).await.expect("open");
    }
    let begun = Instant::now();
    while done(&site, sealed, "enc") <= before.0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", gateway.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_of_another_root_key_gets_no_message() {
    let mut site = Cluster::start(2, 1).await;
    let app = site.app(&["enc,dec:*"]).await;
    let key = site.key("chat").await.index;
    let client = site.client(&app).connect().await.expect("connects");
    let client = client.with_refusals_at_once();
    round_trip(&client, key).await.expect("both are good");
    // Somebody sets it up anew, with cards of his own, behind the same address and certificate.
    let other = &mut site.engines[1];
    other.kill();
    std::fs::remove_dir_all(other.data()).expect("removed");
    std::fs::remove_file(other.config().with_file_name("chip.key")).expect("removed");
    other.run();
    let ceremony = CeremonyClient::new(other.data().join("engine.sock"));
    let mut init = ceremony.begin(CeremonyKind::Init).await.expect("begun");
    for card in &init.make(2, vec![None; 2]).await.expect("a root key") {
        init.confirm(&card.bytes().expect("a card"), &card.passphrase).await.expect("confirmed");
    }
    init.install().await.expect("in force");
    let (other, gateway) = (&site.engines[1], &site.gateways[0]);
    gateway.await_figure(&of_engine(other, "foreign"), 1.0).await;
    gateway.await_figure(&of_engine(other, "links"), 0.0).await;
    assert!(gateway.log().contains("does not hold the site's root key"), "{}", gateway.log());
    for _ in 0..200 {
        round_trip(&client, key).await.expect("the other one is good");
    }
    // Also to a gateway that has just started, and knows neither.
    site.gateways[0].roll();
    for _ in 0..200 {
        let client = site.client(&app).connections(1).connect().await.expect("connects");
        round_trip(&client, key).await.expect("the other one is good");
    }
    let (other, gateway) = (&site.engines[1], &site.gateways[0]);
    gateway.await_figure(&of_engine(other, "foreign"), 1.0).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for op in ["enc", "dec", "auth"] {
        assert!(done(&site, other, op).abs() < 0.5, "{op}: it was given work");
    }
    // When the good one goes, there is none: nobody turns to the other one.
    site.engines[0].kill();
    let refused = loop {
        match client.enc(key, b"", b"m").await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => break error,
        }
    };
    assert!(refused.is_retryable(), "{refused}");
    assert!(done(&site, &site.engines[1], "enc").abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_between_the_parts_are_renewed_without_a_restart() {
    let mut site = Cluster::start(1, 1).await;
    let app = site.app(&["enc,dec,genkey:*"]).await;
    let client = site.client(&app).connect().await.expect("connects");
    let key = client.genkey("chat", 0, &[]).await.expect("made").index;
    let internal = "sealwire_certificate_expiry_seconds{file=\"internal\"}";
    let ends = |process: &Process| process.figure(internal).expect("a time");
    let before = [ends(&site.gateways[0]), ends(&site.manager)];
    tls_init(&site.folder.path().join("tls"), &["--days", "7"]);
    let renewed = "the certificate between the parts renewed";
    let begun = Instant::now();
    for process in [&site.engines[0], &site.manager, &site.gateways[0]] {
        while !process.log().contains(renewed) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", process.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let week = [ends(&site.gateways[0]), ends(&site.manager)];
    assert!(week.iter().zip(before).all(|(now, before)| *now < before), "{week:?}, {before:?}");
    round_trip(&client, key).await.expect("open connections stay");
    // Both sides prove themselves with the new ones.
    let of_engine = of_engine(&site.engines[0], "certificate_expiry_seconds");
    assert!(site.gateways[0].figure(&of_engine).expect("a time") > week[0] + 1.0);
    site.gateways[0].roll();
    site.manager.roll();
    let client = site.client(&app).connect().await.expect("connects");
    round_trip(&client, key).await.expect("over new connections");
    assert!(client.genkey("other", 0, &[]).await.expect("made").created);
    assert!(site.gateways[0].figure(&of_engine).expect("a time") <= week[0] + 1.0);
}
