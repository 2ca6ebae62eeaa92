//! Wrong AUTHs without an end from one address: others' ENC and DEC go on, management works, and what is recorded of it
//! is bounded and exact.
//!
//! `scripts/flood` runs it for a minute, in a release build: 100,000 of them.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sealwire_engine::audit::AuditEvent;
use sealwire_manager::audit::AuditQuery;
use sealwire_protocol::ErrorCode;
use sealwire_protocol::message::AuthRequest;
use support::load::Load;
use support::{App, Raw, Server, auth_frame};
use tokio::net::TcpSocket;

/// Where the flood comes from: others come from 127.0.0.1.
const STRANGER: &str = "127.0.0.2:0";

/// Wrong AUTHs a minute.
const RATE: u64 = 100_000;

/// Threads that send them.
const SENDERS: u64 = 32;

fn seconds() -> u64 {
    std::env::var("SEALWIRE_TEST_FLOOD").map_or(4, |text| text.parse().expect("a number"))
}

/// A connection from the stranger's address, on which AUTH is refused.
async fn wrong_auth(server: SocketAddr, app: &App) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("set");
    socket.bind(STRANGER.parse().expect("an address")).expect("bound");
    let stream = socket.connect(server).await.expect("connects");
    let app = app.clone();
    let refused = tokio::task::block_in_place(|| {
        let mut raw = Raw::over(stream.into_std().expect("a stream"));
        raw.hello(&app.key);
        raw.send(&auth_frame(2, &AuthRequest::Proof { proof: [7; 32] }));
        raw.next().and_then(|answer| answer.error())
    });
    assert_eq!(refused, Some(ErrorCode::AUTH_FAILED));
}

/// Sends wrong AUTHs at the rate, until told to stop.
fn flood(
    server: &Server,
    app: &App,
    sent: &Arc<AtomicU64>,
    stop: &Arc<AtomicBool>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let pause = Duration::from_secs(60 * SENDERS) / u32::try_from(RATE).expect("small");
    let sender = |_| {
        let (address, app, sent, stop) = (server.address, app.clone(), sent.clone(), stop.clone());
        tokio::spawn(async move {
            let mut clock = tokio::time::interval(pause);
            while !stop.load(Ordering::Relaxed) {
                clock.tick().await;
                wrong_auth(address, &app).await;
                sent.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    (0..SENDERS).map(sender).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 40)]
async fn a_flood_of_wrong_auths_stops_nobody_else() {
    let server = Server::start().await;
    let app = server.local_app(&["enc,dec,genkey:*"]).await;
    let mut keys = Vec::new();
    for number in 1..=4 {
        keys.push(server.key(&format!("key-{number}")).await.index);
    }
    let client = server.client(&app).await;
    let load = Load::start(&client, &keys);
    let time = Duration::from_secs(seconds());
    let begun = Instant::now();
    tokio::time::sleep(time).await;
    let quiet = load.tally.done.load(Ordering::Relaxed);

    let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let flooded = Instant::now();
    let senders = flood(&server, &app, &sent, &stop);
    let mut managed = Duration::ZERO;
    let mut made = 0;
    while flooded.elapsed() < time {
        let asked = Instant::now();
        server.key(&format!("meanwhile-{made}")).await;
        managed = managed.max(asked.elapsed());
        made += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let ended = Instant::now();
    let loud = load.tally.done.load(Ordering::Relaxed) - quiet;
    stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.expect("every one was refused");
    }
    // None may have failed.
    let tally = load.end().await;
    let (before, during) = (tally.p99(begun, flooded), tally.p99(flooded, ended));
    let sent = sent.load(Ordering::Relaxed);
    let per_minute = sent * 60 / seconds();
    println!(
        "{sent} wrong AUTHs, {per_minute} a minute; ENC and DEC {quiet} before and {loud} meanwhile, p99 {before:?} and \
         {during:?}; {made} keys made, in {managed:?} at most"
    );
    assert!(sent > 0 && made > 0 && loud > 0);

    // Each of them is counted once; the first of its minute is a record by itself.
    let counted = counted(server, &app).await;
    assert_eq!(counted.0 + counted.1, sent);
    assert!(counted.1 <= seconds() / 60 + 2, "{counted:?}");
}

/// Refused logins, as records tell: in counts, and by themselves.
async fn counted(mut server: Server, app: &App) -> (u64, u64) {
    // What is counted in a minute that is not over is recorded when the server stops.
    assert_eq!(server.terminate(), Some(0));
    server.restart();
    server.wait_for_site().await;
    let query = AuditQuery {
        event: Some("login-refused,logins-refused".into()),
        limit: Some(1000),
        ..AuditQuery::default()
    };
    let (mut counts, mut firsts, mut named) = (0, 0, 0);
    for record in server.manager().list_audit(&query).await.expect("a page").records {
        assert!(record.genuine);
        match record.record.map(|record| record.event) {
            Some(AuditEvent::LoginRefused { who, from, .. }) => {
                assert_eq!((who.as_str(), from), (&*app.key, "127.0.0.2".parse().ok()));
                firsts += 1;
            }
            Some(AuditEvent::LoginsRefused { counts: some, others, .. }) => {
                assert_eq!(others, 0);
                counts += some.iter().map(|one| one.count).sum::<u64>();
                named += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    // The first one of a minute is in its count, when there were more.
    (counts, firsts - named)
}
