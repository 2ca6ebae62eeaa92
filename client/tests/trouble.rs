//! Servers that die, hang, and ask to leave: what the caller sees of it is nothing, until a deadline.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sealwire_client::{Client, ErrorCode};
use sealwire_protocol::message::GoawayReason;
use support::{Fake, LONG, Mode, SECRET, ask_many, client, credentials_of, until};
use tokio::task::JoinHandle;

/// Requests in the background.
fn asking(client: &Client, count: usize) -> JoinHandle<Result<(), sealwire_client::Error>> {
    let client = client.clone();
    tokio::spawn(async move { ask_many(&client, count).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_has_not_answered_is_answered_by_another() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let client = client(&[&a, &b], LONG).await;
    a.set(Mode::Hold);
    let asked = asking(&client, 40);
    until(|| a.requests() > 0 && a.requests() + b.requests() == 40).await;
    a.kill().await;
    asked.await.expect("no panic").expect("no error");
    assert_eq!(b.requests(), 40);
    ask_many(&client, 40).await.expect("goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_the_only_server_to_come_back() {
    let server = Fake::start().await;
    let client = client(&[&server], LONG).await;
    server.set(Mode::Hold);
    let asked = asking(&client, 10);
    until(|| server.requests() == 10).await;
    let address = server.kill().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let back = Fake::start_at(address, SECRET).await;
    asked.await.expect("no panic").expect("no error");
    assert_eq!(back.requests(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_are_told_when_the_secret_is_not_taken_any_more() {
    let server = Fake::start().await;
    let client = client(&[&server], LONG).await;
    server.set(Mode::Hold);
    let asked = asking(&client, 3);
    until(|| server.requests() == 3).await;
    let begun = Instant::now();
    let address = server.kill().await;
    let _changed = Fake::start_at(address, [8; 32]).await;
    assert!(asked.await.expect("no panic").expect_err("refused").is_auth());
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn goaway_is_no_error_and_a_new_connection_takes_over() {
    for reason in [GoawayReason::SHUTDOWN, GoawayReason::SESSION_LIFETIME] {
        let (a, b) = (Fake::start().await, Fake::start().await);
        let client = client(&[&a, &b], LONG).await;
        a.set(Mode::Hold);
        let held = asking(&client, 20);
        until(|| a.requests() > 0 && a.requests() + b.requests() == 20).await;
        a.say_goaway(reason);
        until(|| a.logins() + b.logins() == 3).await;
        // What is in flight is still answered where it was sent, or sent again when the server ends.
        a.set(Mode::Answer);
        for _ in 0..20 {
            ask_many(&client, 20).await.expect("no error");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        held.await.expect("no panic").expect("no error");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn goaway_of_the_only_connection_of_the_only_server_is_no_error_either() {
    let server = Fake::start().await;
    let client = client(&[&server], LONG).await;
    for round in 1..4 {
        server.say_goaway(GoawayReason::SESSION_LIFETIME);
        for _ in 0..10 {
            ask_many(&client, 10).await.expect("no error");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        until(|| server.logins() > round).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_connection_is_no_error_for_its_requests() {
    for code in [ErrorCode::SHUTTING_DOWN, ErrorCode::SESSION_ENDED, ErrorCode(999)] {
        let (a, b) = (Fake::start().await, Fake::start().await);
        let client = client(&[&a, &b], LONG).await;
        a.set(Mode::End(code));
        let asked = asking(&client, 40);
        until(|| a.requests() > 0).await;
        a.set(Mode::Answer);
        asked.await.expect("no panic").expect("no error");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_at_one_server_is_answered_by_another_and_late_answers_are_dropped() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let client = client(&[&a, &b], LONG).await;
    a.set(Mode::Hang);
    let begun = Instant::now();
    ask_many(&client, 40).await.expect("no error");
    let took = begun.elapsed();
    eprintln!("answered after {took:?}");
    assert!(took >= Duration::from_millis(900), "some were to hang: {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    ask_many(&client, 40).await.expect("no error");
    assert_eq!((a.requests(), b.requests()), (0, 80), "the silent one is left alone");
    a.set(Mode::Answer);
    until(|| a.requests() > 0).await;
    for _ in 0..10 {
        ask_many(&client, 40).await.expect("each has its own answer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_one_connection_leaves_a_server_that_hangs_too() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let urls = support::urls(&[&a, &b]);
    let client = Client::builder(&urls, credentials_of(SECRET))
        .connections(1)
        .deadline(LONG)
        .connect()
        .await
        .expect("connects");
    let (hanging, other) = if a.logins() > 0 { (&a, &b) } else { (&b, &a) };
    hanging.set(Mode::Hang);
    let begun = Instant::now();
    ask_many(&client, 10).await.expect("no error");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!((other.logins(), other.requests()), (1, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_that_is_the_only_one_is_asked_once() {
    let server = Fake::start().await;
    let urls = server.url();
    let client = Client::builder(&urls, credentials_of(SECRET)).deadline(LONG).connect().await;
    let client = client.expect("connects");
    until(|| server.logins() == 2).await;
    server.set(Mode::Hang);
    let asked = asking(&client, 20);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    server.set(Mode::Answer);
    asked.await.expect("no panic").expect("no error");
    // A new connection to it may have come about at the same moment, and may have been given some.
    assert!((20..40).contains(&server.requests()), "{}", server.requests());
    assert!(server.logins() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_request_stays_where_ping_is_answered() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let client = client(&[&a, &b], Duration::from_secs(3)).await;
    a.set(Mode::Hold);
    b.set(Mode::Hold);
    let error = client.enc(1, b"", b"m").await.expect_err("never answered");
    assert!(error.is_timeout(), "{error}");
    assert_eq!(a.requests() + b.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_breaks_every_connection_is_given_up() {
    let server = Fake::start().await;
    let client = client(&[&server], LONG).await;
    server.set(Mode::Cut);
    let error = client.enc(1, b"", b"m").await.expect_err("given up");
    assert!(error.is_retryable() && !error.is_timeout(), "{error}");
    assert_eq!(server.requests(), 5);
    server.set(Mode::Answer);
    client.enc(1, b"", b"m").await.expect("the client goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_is_not_noticed() {
    let mut servers = vec![Fake::start().await, Fake::start().await, Fake::start().await];
    let client = client(&servers.iter().collect::<Vec<_>>(), LONG).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (client, stop) = (client.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    ask_many(&client, 8).await?;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok::<_, sealwire_client::Error>(())
            })
        })
        .collect();
    for round in 0..3 {
        for place in 0..3 {
            let server = &servers[place];
            match round {
                0 => server.say_goaway(GoawayReason::SHUTDOWN),
                1 => server.set(Mode::Hold),
                _ => server.set(Mode::Hang),
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
            let address = servers.remove(place).kill().await;
            servers.insert(place, Fake::start_at(address, SECRET).await);
            // What was sent again is answered before the next one goes: a request that sees one
            // connection after the other break is given up.
            client.enc(1, b"", b"m").await.expect("no error");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.expect("no panic").expect("no error");
    }
    assert!(servers.iter().any(|server| server.requests() > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_is_given_its_share_again() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let client = Client::builder(&support::urls(&[&a, &b]), credentials_of(SECRET))
        .connections(2)
        .deadline(LONG)
        .rebalance_after(Duration::from_millis(200))
        .connect()
        .await
        .expect("connects");
    until(|| (a.logins(), b.logins()) == (1, 1)).await;
    let address = a.kill().await;
    until(|| b.logins() == 2).await;
    let a = Fake::start_at(address, SECRET).await;
    until(|| a.logins() == 1).await;
    let begun = Instant::now();
    while a.requests() == 0 && begun.elapsed() < LONG {
        ask_many(&client, 100).await.expect("no error");
    }
    assert!(a.requests() > 0 && b.requests() > 0);
    assert_eq!((a.logins(), b.logins()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_busy_is_not_taken_for_one_that_hangs() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let client = Client::builder(&support::urls(&[&a, &b]), credentials_of(SECRET))
        .connections(1)
        .deadline(LONG)
        .connect()
        .await
        .expect("connects");
    let (busy, other) = if a.logins() > 0 { (&a, &b) } else { (&b, &a) };
    busy.set(Mode::Hold);
    let asked = asking(&client, 100);
    // Long enough for it to be asked whether it is there, several times.
    until(|| busy.pings() > 2).await;
    assert_eq!((busy.requests(), other.logins()), (63, 0));
    asked.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_came_together_with_the_last_one_of_auth_is_heard() {
    let server = Fake::start().await;
    server.set(Mode::Greet);
    let client = Client::builder(&server.url(), credentials_of(SECRET))
        .connections(1)
        .deadline(LONG)
        // An answer to a PING would bring it to light, too.
        .idle_ping(Duration::MAX)
        .connect()
        .await
        .expect("connects");
    until(|| server.logins() == 2).await;
    ask_many(&client, 20).await.expect("no error");
    assert_eq!(server.logins(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_something_else_is_not_taken_for_ours() {
    let (a, b) = (Fake::start().await, Fake::start().await);
    let client = client(&[&a, &b], LONG).await;
    a.set(Mode::Confuse);
    ask_many(&client, 40).await.expect("the other answers");
    assert!(a.requests() > 0);
    assert_eq!(b.requests(), 40);
}
