//! One address that stands for several servers, of which one stops: no other address tells them apart.

mod support;

use std::time::Duration;

use sealwire_client::{Client, ErrorCode};
use support::{Fake, Mode, SECRET, ask_many, credentials_of, until};

/// Longer than anything here takes, and shorter than a connection is kept that says nothing.
const DEADLINE: Duration = Duration::from_secs(20);

async fn client(server: &Fake, connections: usize) -> Client {
    let client = Client::builder(&server.url(), credentials_of(SECRET))
        .connections(connections)
        .deadline(DEADLINE)
        .idle_ping(Duration::from_millis(200))
        .connect()
        .await
        .expect("connects");
    until(|| server.logins() == connections).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_on_one_connection_is_answered_on_another_to_the_same_address() {
    let server = Fake::start().await;
    let client = client(&server, 2).await;
    server.set(Mode::HangBefore(1));
    ask_many(&client, 40).await.expect("the other connection answers");
    assert_eq!(server.requests(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_to_the_same_address_takes_over_from_the_only_one() {
    let server = Fake::start().await;
    let client = client(&server, 1).await;
    server.set(Mode::HangBefore(1));
    ask_many(&client, 10).await.expect("the new connection answers");
    assert_eq!((server.logins(), server.requests()), (2, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_cut_is_found_before_a_request_is_sent() {
    let server = Fake::start().await;
    let client = client(&server, 1).await;
    until(|| server.pings() > 2).await;
    server.set(Mode::HangBefore(1));
    until(|| server.logins() == 2).await;
    ask_many(&client, 10).await.expect("answered");
    assert_eq!((server.logins(), server.requests()), (2, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_is_tried_when_a_server_goes_on_refusing() {
    let server = Fake::start().await;
    let client = client(&server, 1).await;
    server.set(Mode::Refuse(ErrorCode::UNAVAILABLE));
    let asked = tokio::spawn(async move { ask_many(&client, 10).await });
    until(|| server.logins() >= 2).await;
    server.set(Mode::Answer);
    asked.await.expect("no panic").expect("no error");
}
