//! REENC in bulk: it says that it may wait, and takes no more than its part of a connection.

mod support;

use std::time::Duration;

use support::{Fake, LONG, Mode, ask_many, client, until};
use tokio::task::JoinSet;

/// A quarter of what the fake server allows in flight.
const PART: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn bulk_never_stands_in_the_way_of_live_requests() {
    let server = Fake::start().await;
    let client = client(&[&server], LONG).await;
    server.set(Mode::HoldBulk);
    let mut waiting = JoinSet::new();
    for _ in 0..2000 {
        let client = client.clone();
        waiting.spawn(async move { client.reenc_bulk(b"", b"envelope").await });
    }
    until(|| server.bulk() == PART).await;
    ask_many(&client, 500).await.expect("answered");
    client.reenc(b"", b"envelope").await.expect("a live one, answered");
    assert_eq!((server.bulk(), server.requests()), (PART, PART + 501));
    waiting.abort_all();
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_is_done_when_there_is_nothing_else_and_stays_bulk_when_sent_again() {
    let server = Fake::start().await;
    let client = client(&[&server], LONG).await;
    let mut asked = JoinSet::new();
    for _ in 0..500 {
        let client = client.clone();
        asked.spawn(async move { client.reenc_bulk(b"", b"envelope").await });
    }
    asked.join_all().await.into_iter().for_each(|answer| drop(answer.expect("answered")));
    assert_eq!((server.bulk(), server.requests()), (500, 500));

    server.set(Mode::Cut);
    let brief = client.with_deadline(Duration::from_secs(20));
    let error = brief.reenc_bulk(b"", b"envelope").await.expect_err("given up");
    assert!(error.is_retryable(), "{error}");
    assert_eq!((server.bulk(), server.requests()), (505, 505));
}
