//! Several servers: connections and requests are spread over them, and one that is not well from the
//! start does no harm.

mod support;

use std::time::{Duration, Instant};

use sealwire_client::Client;
use support::{Fake, LONG, Mode, SECRET, ask_many, credentials_of, until, urls};

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
async fn every_server_has_a_connection_unless_set_up_to_eight() {
    for (servers, connections) in [(3, 3), (10, 8)] {
        let mut fakes = Vec::new();
        for _ in 0..servers {
            fakes.push(Fake::start().await);
        }
        let all = urls(&fakes.iter().collect::<Vec<_>>());
        let client = Client::connect(&all, credentials_of(SECRET)).await.expect("connects");
        let logins = || fakes.iter().map(Fake::logins).sum::<usize>();
        until(|| logins() == connections).await;
        ask_many(&client, 50).await.expect("answered");
        assert_eq!(logins(), connections);
        assert!(fakes.iter().all(|fake| fake.logins() <= 1));
    }
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
async fn one_server_that_does_not_know_us_yet_does_no_harm() {
    let a = Fake::start_at("127.0.0.1:0".parse().expect("an address"), [8; 32]).await;
    let b = Fake::start().await;
    for connections in [1, 2] {
        let client = Client::builder(&urls(&[&a, &b]), credentials_of(SECRET))
            .connections(connections)
            .deadline(LONG)
            .connect()
            .await
            .expect("the other knows us");
        ask_many(&client, 20).await.expect("answered");
    }
    assert_eq!((a.requests(), b.requests()), (0, 40));
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
