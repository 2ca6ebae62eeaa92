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
use sealwire_protocol::message::{AuthRequest, Failure};
use sealwire_protocol::{ErrorCode, Flags, Frame, limits};
use support::load::Load;
use support::{App, Server, auth_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// Where the flood comes from: others come from 127.0.0.1.
const STRANGER: &str = "127.0.0.2:0";

/// Wrong AUTHs a minute.
const RATE: u64 = 100_000;

/// What has become of them.
#[derive(Default)]
struct Sent {
    /// Refused, after their proof was looked at.
    refused: AtomicU64,
    /// Turned away before: the source had as many connections as it may have.
    turned_away: AtomicU64,
    /// Still on their way.
    open: AtomicU64,
}

fn seconds() -> u64 {
    std::env::var("SEALWIRE_TEST_FLOOD").map_or(4, |text| text.parse().expect("a number"))
}

/// A connection from the stranger's address, on which AUTH is refused, if it comes to that.
async fn wrong_auth(server: SocketAddr, frames: &[u8]) -> std::io::Result<bool> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(STRANGER.parse().expect("an address"))?;
    let mut stream = socket.connect(server).await?;
    stream.write_all(frames).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let mut answer = answer.as_slice();
    while let Ok(Some(frame)) = Frame::parse(answer, limits::PRE_AUTH_MAX_FRAME) {
        let failure =
            Failure::parse(frame.body).ok().filter(|_| frame.header.flags == Flags::FAILURE);
        if failure.is_some_and(|failure| failure.code == ErrorCode::AUTH_FAILED) {
            return Ok(true);
        }
        answer = &answer[frame.wire_len()..];
    }
    Ok(false)
}

/// Sends wrong AUTHs at the rate, whatever becomes of them, until told to stop.
fn flood(
    address: SocketAddr,
    app: &App,
    sent: Arc<Sent>,
    stop: Arc<AtomicBool>,
) -> tokio::task::JoinHandle<()> {
    let hello = AuthRequest::Hello { client_nonce: [9; 32], app_key: app.key.as_bytes() };
    let mut frames = auth_frame(1, &hello);
    frames.extend(auth_frame(2, &AuthRequest::Proof { proof: [7; 32] }));
    let frames: Arc<[u8]> = frames.into();
    tokio::spawn(async move {
        const BATCH: u64 = 10;
        let pause = Duration::from_secs(60 * BATCH) / u32::try_from(RATE).expect("small");
        let mut clock = tokio::time::interval(pause);
        while !stop.load(Ordering::Relaxed) {
            clock.tick().await;
            for _ in 0..BATCH {
                let (sent, frames) = (sent.clone(), frames.clone());
                sent.open.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let count = match wrong_auth(address, &frames).await {
                        Ok(true) => &sent.refused,
                        _ => &sent.turned_away,
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                    sent.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
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

    let (sent, stop) = (Arc::new(Sent::default()), Arc::new(AtomicBool::new(false)));
    let flooded = Instant::now();
    let sender = flood(server.address, &app, sent.clone(), stop.clone());
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
    sender.await.expect("sent");
    while sent.open.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // None may have failed.
    let tally = load.end().await;
    let (before, during) = (tally.p99(begun, flooded), tally.p99(flooded, ended));
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (refused, turned_away) = (count(&sent.refused), count(&sent.turned_away));
    let per_minute = (refused + turned_away) * 60 / seconds();
    println!(
        "{per_minute} wrong AUTHs a minute: {refused} refused, {turned_away} turned away; ENC and DEC {quiet} before and \
         {loud} meanwhile, p99 {before:?} and {during:?}; {made} keys made, in {managed:?} at most"
    );
    assert!(refused > 0 && turned_away > 0 && made > 0 && loud > 0);
    // One turn in 5 ms, after the first 64 and those that were on their way by then; and a line of the log for few.
    let took = u64::try_from(flooded.elapsed().as_millis()).expect("not long");
    assert!(refused <= 64 + 256 + took / 5, "{refused} refused in {took} ms");
    let lines = server.log().matches("AUTH refused").count();
    assert!((1..=64 + 256).contains(&lines), "{lines} lines");

    // Each that was refused is counted once; the first of its minute is a record by itself.
    let counted = counted(server, &app).await;
    assert_eq!(counted.0 + counted.1, refused);
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
