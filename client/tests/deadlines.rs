//! Deadlines: held whatever the servers do, set for one request or for all, and told with their reason.

mod support;

use std::error::Error as _;
use std::time::{Duration, Instant};

use sealwire_client::{Address, Client, raw};
use support::{Fake, LONG, Mode, SECRET, ask_many, client, credentials_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_held_when_all_servers_hang() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let deadline = Duration::from_millis(2500);
    let client = client(&[&a, &b], deadline).await;
    a.set(Mode::Hang);
    b.set(Mode::Hang);
    let begun = Instant::now();
    let error = ask_many(&client, 20).await.expect_err("nobody answers");
    let took = begun.elapsed();
    assert!(error.is_timeout() && error.is_retryable(), "{error}");
    assert!(took >= deadline && took < deadline + Duration::from_secs(5), "{took:?}");
    a.set(Mode::Answer);
    b.set(Mode::Answer);
    client.enc(1, b"", b"m").await.expect("both are well again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_held_while_no_server_is_there() {
    let server = Fake::start().await;
    let deadline = Duration::from_millis(500);
    let client = client(&[&server], deadline).await;
    let address = server.kill().await;
    let begun = Instant::now();
    let error = client.enc(1, b"", b"m").await.expect_err("nobody is there");
    assert!(error.is_timeout() && begun.elapsed() >= deadline, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let source = error.source().expect("why nobody is there").to_string();
    assert!(source.contains(&address.to_string()), "{source}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_for_one_request_leaves_the_others_alone() {
    let server = Fake::start().await;
    let client = client(&[&server], LONG).await;
    server.set(Mode::Hold);
    let brief = client.with_deadline(Duration::from_millis(100));
    let error = brief.enc(1, b"", b"m").await.expect_err("not answered");
    assert!(error.is_timeout() && error.source().is_none(), "{error}");
    server.set(Mode::Answer);
    client.enc(1, b"", b"m").await.expect("has its own deadline");
    brief.with_deadline(LONG).enc(1, b"", b"m").await.expect("has a longer one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_has_passed_is_told_as_one() {
    let server = Fake::start().await;
    let client = client(&[&server], LONG).await.with_deadline(Duration::ZERO);
    for _ in 0..1000 {
        let error = client.enc(1, b"", b"m").await.expect_err("too late");
        assert!(error.is_timeout(), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_time_is_too_long() {
    let server = Fake::start().await;
    let client = Client::builder(&server.url(), credentials_of(SECRET))
        .deadline(Duration::MAX)
        .connect_timeout(Duration::MAX)
        .idle_ping(Duration::MAX)
        .rebalance_after(Duration::MAX)
        .connect()
        .await
        .expect("connects");
    ask_many(&client, 10).await.expect("answered");
    ask_many(&client.with_deadline(Duration::MAX), 10).await.expect("answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_connection_is_not_waited_for_without_an_end() {
    let server = Fake::start().await;
    server.set(Mode::Hang);
    let address: Address = server.url().parse().expect("an address");
    let error = raw::connect(&address, &credentials_of(SECRET), None).await.err();
    assert!(error.expect("it hangs").is_timeout());
}
