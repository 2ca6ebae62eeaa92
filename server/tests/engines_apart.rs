//! Engines, manager and gateways as processes of their own.

mod support;

use std::time::{Duration, Instant};

use sealwire_client::ErrorCode;
use support::cluster::Cluster;
use support::load::round_trip;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_the_whole_way_and_a_key_is_made_once() {
    let site = Cluster::start(2, 2).await;
    let app = site.app(&["enc,dec,reenc,genkey:*"]).await;
    let client = site.client(&app).connect().await.expect("connects");
    let made = client.genkey("chat", 0, &[]).await.expect("made");
    assert!(made.created);
    assert!(!client.genkey("chat", 0, &[]).await.expect("found").created);
    round_trip(&client, made.index).await.expect("there and back");
    let sealed = client.enc(made.index, b"aad", "你好".as_bytes()).await.expect("sealed");
    site.managing().rotate_key("chat").await.expect("rotated");
    let again = client.reenc(b"aad", &sealed).await.expect("sealed again");
    assert_eq!(client.dec(b"aad", &again).await.expect("opened"), "你好".as_bytes());
    assert_eq!(client.dec(b"aad", &sealed).await.expect("opened"), "你好".as_bytes());
    let wrong = client.dec(b"other", &sealed).await.expect_err("another AAD");
    assert_eq!(wrong.code(), Some(ErrorCode::OPEN_FAILED));
    let large = vec![7; 1_000_000];
    let sealed = client.enc(made.index, b"", &large).await.expect("sealed");
    assert_eq!(client.dec(b"", &sealed).await.expect("opened"), large);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_engine_gets_no_work_until_it_is_unsealed() {
    let site = Cluster::start(1, 1).await;
    let app = site.app(&["enc,dec:*"]).await;
    let key = site.key("chat").await.index;
    let client = site.client(&app).connect().await.expect("connects");
    round_trip(&client, key).await.expect("open");
    site.ceremony(0).seal().await.expect("sealed");
    let refused = loop {
        match client.enc(key, b"", b"m").await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.code(), Some(ErrorCode::SEALED));
    assert!(site.gateways[0].monitor("/readyz").starts_with("HTTP/1.1 503"));
    site.unseal(0).await;
    let unsealed = Instant::now();
    while client.enc(key, b"", b"m").await.is_err() {
        assert!(unsealed.elapsed() < Duration::from_secs(10), "{}", site.gateways[0].log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("work again {:?} after the unsealing", unsealed.elapsed());
    assert!(unsealed.elapsed() < Duration::from_secs(2));
}
