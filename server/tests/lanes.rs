//! What may wait, and what may not, each in a lane of its own, and each within its limits.

mod support;

use std::time::Duration;

use sealwire_engine::wire::message::Lane;
use sealwire_engine::{Done, EngineError, Session};
use sealwire_protocol::{Binding, Envelope, Flags, Opcode, Suite};
use support::cluster::Cluster;
use support::gateway::{MAX_WAITING, OwnGateway, dec, enc, tag};

/// Waits until `count` answers have come; gives how many of them were refusals, and why one was.
async fn collect(session: &mut Session, count: usize) -> (usize, Option<EngineError>) {
    let (mut answered, mut refused, mut why) = (0, 0, None);
    while answered < count {
        let answers = session.answers().await;
        answered += answers.count();
        refused += answers.refused.len();
        why = answers.refused.into_iter().next().map(|refused| refused.error).or(why);
    }
    (refused, why)
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_in_bulk_is_refused_and_keeps_no_live_request_out() {
    let cluster = Cluster::start(1, 1).await;
    let app = cluster.app(&["enc,dec,reenc:chat"]).await;
    cluster.key("chat").await;
    let engines = vec![cluster.engines[0].address()];
    let gateway = Box::pin(OwnGateway::start(&cluster, engines)).await;
    let (mut bulk, mut live) = (gateway.log_in(&app).await, gateway.log_in(&app).await);
    let chat = gateway.key("chat", "chat").await;
    let sealed = enc(&mut live, &chat, b"old").await.expect("sealed");
    let envelope = Envelope::parse(&sealed).expect("an envelope");
    let none = Binding::default();
    cluster.engines[0].pause();
    let batch = MAX_WAITING / 2;
    for _ in 0..3 {
        for _ in 0..batch {
            let mut tag = tag(Opcode::REENC);
            tag.header.flags = Flags::BULK;
            let (from, to) = ((&chat, &envelope, &none), (&chat, Suite::Xaes256Gcm, &none));
            let put = bulk.reenc((tag, Lane::Bulk), from, to, &mut Vec::new()).expect("put");
            assert_eq!(put, Done::Sent);
        }
        bulk.send();
    }
    // What is over the limit is refused at once, while the engine stands still.
    let (refused, why) = collect(&mut bulk, batch).await;
    assert_eq!(refused, batch);
    assert!(matches!(why, Some(EngineError::Away(_))), "{why:?}");
    assert_eq!(bulk.waiting().0, MAX_WAITING);
    let sealing = enc(&mut live, &chat, b"new");
    let mut sealing = Box::pin(sealing);
    let waits = tokio::time::timeout(Duration::from_millis(200), &mut sealing).await;
    assert!(waits.is_err(), "it waits for the engine, and is not refused");
    cluster.engines[0].resume();
    let sealed = sealing.as_mut().await.expect("sealed");
    drop(sealing);
    assert_eq!(dec(&mut live, &chat, &sealed).await.expect("opened"), b"new");
    let (refused, why) = collect(&mut bulk, MAX_WAITING).await;
    assert_eq!(refused, 0, "{why:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_in_bulk_arrive_beside_live_traffic() {
    let site = Cluster::start(2, 1).await;
    let app = site.app(&["enc,dec,reenc:*"]).await;
    let key = site.key("chat").await.index;
    let client = site.client(&app).connect().await.expect("connects");
    let mut old = Vec::new();
    for number in 0..200 {
        let text = format!("旧 {number}");
        old.push(client.enc(key, b"aad", text.as_bytes()).await.expect("sealed"));
    }
    site.managing().rotate_key("chat").await.expect("rotated");
    let filling = tokio::spawn({
        let client = client.clone();
        async move {
            let mut new = Vec::new();
            for _ in 0..20 {
                new.clear();
                for envelope in &old {
                    new.push(client.reenc_bulk(b"aad", envelope).await.expect("sealed again"));
                }
            }
            new
        }
    });
    let mut live = 0;
    while !filling.is_finished() {
        support::load::round_trip(&client, key).await.expect("live");
        live += 1;
    }
    let new = filling.await.expect("no panic");
    assert!(live > 10, "{live} live messages beside the others");
    for (number, envelope) in new.iter().enumerate() {
        let header = Envelope::parse(envelope).expect("an envelope").header;
        assert_eq!(header.key_version, 2);
        let opened = client.dec(b"aad", envelope).await.expect("opened");
        assert_eq!(opened, format!("旧 {number}").as_bytes());
    }
}
