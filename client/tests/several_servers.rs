//! Several servers: requests are spread, and what one refuses for now another is asked for.

mod support;

use std::time::{Duration, Instant};

use sealwire_client::{Client, ErrorCode};
use support::{Fake, LONG, Mode, SECRET, ask_many, client, credentials_of, until, urls};

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_requests_are_spread_over_the_servers() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let builder = Client::builder(&a.url(), credentials_of(SECRET)).address(&b.url());
    let client = builder.connections(4).deadline(LONG).connect().await.expect("connects");
    until(|| a.logins() + b.logins() == 4).await;
    assert_eq!((a.logins(), b.logins()), (2, 2));
    for _ in 0..10 {
        ask_many(&client, 50).await.expect("answered");
    }
    assert_eq!(a.requests() + b.requests(), 500);
    assert!(a.requests() > 50 && b.requests() > 50, "{} and {}", a.requests(), b.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_has_two_connections_unless_set_and_serves_through_both() {
    let server = Fake::start().await;
    let client = Client::connect(&server.url(), credentials_of(SECRET)).await.expect("connects");
    until(|| server.logins() == 2).await;
    ask_many(&client, 1000).await.expect("answered");
    drop(client);
    assert_eq!((server.logins(), server.requests()), (2, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_now_is_tried_once_at_each_other_server() {
    let (a, b, c) = (Fake::start().await, Fake::start().await, Fake::start().await);
    let client = client(&[&a, &b, &c], LONG).await;
    a.set(Mode::Refuse(ErrorCode::SEALED));
    b.set(Mode::Refuse(ErrorCode::UNAVAILABLE));
    ask_many(&client, 40).await.expect("the third answers");
    assert_eq!(c.requests(), 40);
    assert!(a.requests() > 0 && b.requests() > 0);

    let before = [&a, &b, &c].map(Fake::requests);
    c.set(Mode::Refuse(ErrorCode::SEALED));
    let error = client.enc(1, b"", b"m").await.expect_err("all refuse");
    assert!(error.is_retryable() && error.code().is_some(), "{error}");
    assert_eq!([&a, &b, &c].map(Fake::requests), before.map(|count| count + 1));

    c.set(Mode::Refuse(ErrorCode::KEY_NOT_FOUND));
    let error = client.enc(1, b"", b"m").await.expect_err("for good");
    assert_eq!(error.code(), Some(ErrorCode::KEY_NOT_FOUND));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_server_is_asked_once_whatever_it_refuses() {
    let server = Fake::start().await;
    let client = Client::connect(&server.url(), credentials_of(SECRET)).await.expect("connects");
    until(|| server.logins() == 2).await;
    server.set(Mode::Refuse(ErrorCode::SEALED));
    let error = client.enc(1, b"", b"m").await.expect_err("sealed");
    assert_eq!((error.code(), server.requests()), (Some(ErrorCode::SEALED), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_dead_from_the_start_costs_no_more_than_its_share() {
    let (hanging, good) = (Fake::start().await, Fake::start().await);
    hanging.set(Mode::Hang);
    let gone = Fake::start().await.kill().await;
    let all = format!("{}, sealwire+tcp://{gone}", urls(&[&hanging, &good]));
    for connections in [1, 3] {
        let timeout = Duration::from_secs(6);
        let begun = Instant::now();
        let client = Client::builder(&all, credentials_of(SECRET))
            .connections(connections)
            .connect_timeout(timeout)
            .connect()
            .await
            .expect("the good one takes us");
        assert!(begun.elapsed() < timeout, "{:?}", begun.elapsed());
        ask_many(&client, 20).await.expect("answered");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_told_at_once_and_tried_once() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let timeout = Duration::from_secs(20);
    let begun = Instant::now();
    let refused = Client::builder(&urls(&[&a, &b]), credentials_of([8; 32]))
        .connect_timeout(timeout)
        .connect()
        .await;
    assert!(refused.expect_err("refused").is_auth());
    assert!(begun.elapsed() < timeout / 2, "{:?}", begun.elapsed());
    assert_eq!(a.logins() + b.logins(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_told_clearly_and_so_is_nonsense() {
    let gone = Fake::start().await.kill().await;
    let nobody = Client::connect(&format!("sealwire+tcp://{gone}"), credentials_of(SECRET)).await;
    let error = nobody.expect_err("nobody listens");
    assert!(error.is_retryable() && error.to_string().contains(&gone.to_string()), "{error}");
    for bad in ["", ",", "sealwire+tcp://127.0.0.1,", "sealwire+tcp://127.0.0.1 nonsense"] {
        let refused = Client::connect(bad, credentials_of(SECRET)).await;
        assert!(!refused.expect_err("nonsense").is_retryable(), "{bad}");
    }
}
