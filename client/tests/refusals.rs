//! What a server refuses for now: others are asked, then all again, until the deadline.

mod support;

use std::time::{Duration, Instant};

use sealwire_client::{Client, ErrorCode};
use support::{Fake, LONG, Mode, SECRET, ask_many, client, credentials_of, until, urls};

const BRIEF: Duration = Duration::from_millis(1200);

#[tokio::test(flavor = "multi_thread")]
async fn others_answer_what_some_refuse_and_are_given_the_connections() {
    let (a, b, c) = (Fake::start().await, Fake::start().await, Fake::start().await);
    let client = client(&[&a, &b, &c], LONG).await;
    a.set(Mode::Refuse(ErrorCode::SEALED));
    b.set(Mode::Refuse(ErrorCode::UNAVAILABLE));
    ask_many(&client, 40).await.expect("the third answers");
    assert_eq!(c.requests(), 40);
    assert!(a.requests() > 0 && b.requests() > 0);

    let before = [&a, &b].map(Fake::requests);
    until(|| c.logins() == 3).await;
    for _ in 0..10 {
        ask_many(&client, 20).await.expect("the third answers");
    }
    assert_eq!([&a, &b].map(Fake::requests), before, "who refuses attracts nothing");

    c.set(Mode::Refuse(ErrorCode::KEY_NOT_FOUND));
    let error = client.enc(1, b"", b"m").await.expect_err("for good");
    assert_eq!(error.code(), Some(ErrorCode::KEY_NOT_FOUND));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_connection_is_asked_too() {
    for code in [ErrorCode::SEALED, ErrorCode::UNAVAILABLE] {
        let (a, b) = (Fake::start().await, Fake::start().await);
        let client = Client::builder(&urls(&[&a, &b]), credentials_of(SECRET))
            .connections(1)
            .deadline(LONG)
            .connect()
            .await
            .expect("connects");
        let (refusing, other) = if a.logins() > 0 { (&a, &b) } else { (&b, &a) };
        refusing.set(Mode::Refuse(code));
        ask_many(&client, 10).await.expect("the other answers");
        assert_eq!((other.logins(), other.requests()), (1, 10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_passes_is_not_noticed() {
    for code in [ErrorCode::UNAVAILABLE, ErrorCode::KEY_EXHAUSTED] {
        let server = Fake::start().await;
        let client = client(&[&server], LONG).await;
        server.set(Mode::Refuse(code));
        let asked = tokio::spawn(async move { ask_many(&client, 10).await });
        until(|| server.requests() >= 30).await;
        server.set(Mode::Answer);
        asked.await.expect("no panic").expect("no error");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_stays_is_told_at_the_deadline() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let client = client(&[&a, &b], BRIEF).await;
    for mode in [Mode::Refuse(ErrorCode::UNAVAILABLE), Mode::Refuse(ErrorCode::KEY_EXHAUSTED)] {
        a.set(mode);
        b.set(mode);
        let begun = Instant::now();
        let error = client.enc(1, b"", b"m").await.expect_err("all refuse");
        assert!(error.is_retryable() && error.code().is_some(), "{error}");
        assert!(begun.elapsed() >= BRIEF);
    }
    assert!(a.requests() + b.requests() >= 4);
    a.set(Mode::Answer);
    client.with_deadline(LONG).enc(1, b"", b"m").await.expect("one is well again");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_will_not_wait_is_told_a_refusal_once_all_are_asked() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let client = client(&[&a, &b], LONG).await.with_refusals_at_once();
    a.set(Mode::Refuse(ErrorCode::KEY_EXHAUSTED));
    b.set(Mode::Refuse(ErrorCode::KEY_EXHAUSTED));
    let error = client.enc(1, b"", b"m").await.expect_err("both refuse");
    assert_eq!(error.code(), Some(ErrorCode::KEY_EXHAUSTED));
    assert_eq!((a.requests(), b.requests()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_are_sealed_that_is_told_at_once() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let gone = Fake::start().await.kill().await;
    for servers in [vec![&a], vec![&a, &b]] {
        // Where nobody listens, nobody will open anything either.
        let all = format!("{}, sealwire+tcp://{gone}", urls(&servers));
        let client = Client::builder(&all, credentials_of(SECRET))
            .connections(3)
            .deadline(2 * LONG)
            .connect()
            .await
            .expect("connects");
        until(|| servers.iter().all(|server| server.logins() > 0)).await;
        servers.iter().for_each(|server| server.set(Mode::Refuse(ErrorCode::SEALED)));
        let begun = Instant::now();
        let error = client.enc(1, b"", b"m").await.expect_err("sealed");
        assert_eq!(error.code(), Some(ErrorCode::SEALED));
        assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
        servers.iter().for_each(|server| server.set(Mode::Answer));
        client.enc(1, b"", b"m").await.expect("opened");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_server_that_is_sealed_is_asked_once_on_each_connection() {
    let server = Fake::start().await;
    let client = Client::connect(&server.url(), credentials_of(SECRET)).await.expect("connects");
    until(|| server.logins() == 2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.set(Mode::Refuse(ErrorCode::SEALED));
    let error = client.enc(1, b"", b"m").await.expect_err("sealed");
    assert_eq!((error.code(), server.requests()), (Some(ErrorCode::SEALED), 2));
    let error = client.enc(1, b"", b"m").await.expect_err("sealed");
    assert_eq!(error.code(), Some(ErrorCode::SEALED));
}
