//! A whole site under load while its processes die, hang and are replaced: three engines, two gateways, a
//! manager and MariaDB, each a process, and two clients. No request fails, and none gets another's plaintext.
//!
//! `scripts/cluster` runs more rounds than the one that the tests run, and longer ones.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sealwire_client::Client;
use sealwire_manager::audit::AuditQuery;
use sealwire_manager::audit::verify;
use support::cluster::{Cluster, Process};
use support::load::Load;

/// How long the engine of a round hangs.
const HANG: Duration = Duration::from_secs(5);

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_hangs_or_is_replaced_no_request_fails() {
    let rounds = setting("SEALWIRE_TEST_ROUNDS", 1);
    let rest = Duration::from_millis(setting("SEALWIRE_TEST_REST_MS", 1000));
    let mut site = Cluster::start(3, 2).await;
    let app = site.app(&["enc,dec,reenc,genkey:*"]).await;
    let mut keys = Vec::new();
    for number in 1..=8 {
        keys.push(site.key(&format!("key-{number}")).await.index);
    }
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(site.client(&app).connections(4).connect().await.expect("connects"));
    }
    for round in 1..=rounds {
        let dies = usize::try_from(round).expect("small");
        let load = Load::start_with_reenc(&clients, &keys);
        spreads(&site, 3 * rest).await;
        hangs(&site.engines[dies % 3], &load, 3 * rest).await;
        site.engines[(dies + 1) % 3].kill();
        tokio::time::sleep(rest).await;
        site.gateways[dies % 2].kill();
        tokio::time::sleep(rest).await;
        site.engines[(dies + 1) % 3].run();
        site.gateways[dies % 2].run();
        tokio::time::sleep(rest).await;
        let Cluster { engines, manager, gateways, .. } = &mut site;
        for process in engines.iter_mut().chain([manager]).chain(gateways) {
            process.roll();
            tokio::time::sleep(rest).await;
        }
        let tally = load.end().await;
        let done = tally.done.load(Ordering::Relaxed);
        let made = tally.made.lock().expect("no panic").len();
        let unmade = tally.unmade.lock().expect("no panic").clone();
        println!("round {round}: {done} ENC, DEC and REENC and {made} GENKEY, none failed");
        assert!(done > 0 && made > 0 && unmade.is_empty(), "GENKEY: {unmade:?}");
        opens_what_was_made(&clients[0], &tally).await;
        is_on_record(&site).await;
    }
}

/// Every chain is whole, whichever process was killed in the midst of it; and each key that was made has its record.
async fn is_on_record(site: &Cluster) {
    let manager = site.managing();
    let report = verify::everything(&manager, &[], &|_, _| {}).await.expect("checked");
    assert_eq!(report.bad, []);
    let of = |kind| report.chains.keys().filter(|writer| writer.starts_with(kind)).count();
    assert_eq!((of("manager"), of("gateway")), (1, site.gateways.len()));
    let mut query = AuditQuery {
        event: Some("changed".into()),
        about: Some("key.create".into()),
        limit: Some(1000),
        ..AuditQuery::default()
    };
    let mut recorded = 0;
    loop {
        let page = manager.list_audit(&query).await.expect("a page");
        recorded += page.records.len();
        match page.next {
            Some(next) => query.before = Some(next),
            None => break,
        }
    }
    let made = manager.list_keys().await.expect("a list").keys.len();
    assert_eq!(recorded, made, "a key, a record");
    let query = AuditQuery { event: Some("ceremony".into()), ..AuditQuery::default() };
    let ceremonies = manager.list_audit(&query).await.expect("a page").records;
    let engines: BTreeSet<_> = ceremonies
        .iter()
        .filter_map(|record| record.text.split_once(": ").map(|(engine, _)| engine.to_owned()))
        .collect();
    assert_eq!(engines.len(), site.engines.len(), "{engines:?}");
}

/// How the work of some time spreads over the engines.
async fn spreads(site: &Cluster, time: Duration) {
    let figures = || -> Vec<f64> {
        let work = |engine: &Process| {
            let done = |op| {
                let name = format!(
                    "sealwire_engine_requests_total{{engine=\"{}\",op=\"{op}\"}}",
                    engine.address()
                );
                site.gateways[0].figure(&name).expect(&name)
            };
            ["enc", "dec", "reenc"].into_iter().map(done).sum()
        };
        site.engines.iter().map(work).collect()
    };
    // The engines are asked once a second.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let before = figures();
    tokio::time::sleep(time).await;
    let done: Vec<f64> =
        figures().iter().zip(before).map(|(after, before)| after - before).collect();
    let all: f64 = done.iter().sum();
    let shares: Vec<f64> = done.iter().map(|done| done / all * 3.0).collect();
    println!("shares of the work, of a third each: {shares:.2?}, of {all} requests");
    // Figures come once a second, each engine's at another moment; a longer time makes that little.
    let tolerance = if time >= LONG { 0.2 } else { 0.6 };
    assert!(shares.iter().all(|share| (share - 1.0).abs() < tolerance), "{shares:.2?}");
}

/// From this time on, figures are enough to be judged.
const LONG: Duration = Duration::from_secs(10);

/// An engine stands still for a while: nothing fails, and two seconds later clients do not notice any more.
/// A short run prints how much they do; a long one, of a campaign, holds it against the limit.
async fn hangs(engine: &Process, load: &Load, time: Duration) {
    let began = Instant::now();
    tokio::time::sleep(time).await;
    let stopped = Instant::now();
    engine.pause();
    tokio::time::sleep(HANG).await;
    engine.resume();
    let settled = stopped + Duration::from_secs(2);
    let (before, meanwhile) =
        (load.tally.p99(began, stopped), load.tally.p99(settled, Instant::now()));
    let at_first = load.tally.p99(stopped, settled);
    let times = meanwhile.as_secs_f64() / before.as_secs_f64();
    println!(
        "{} stood still: p99 {before:?} before, {at_first:?} in the first two seconds, {meanwhile:?} after them: \
         {times:.2} times",
        engine.name,
    );
    assert!(time < LONG || times < 2.0, "clients notice an engine that stands still");
}

/// Keys that were acknowledged are there.
async fn opens_what_was_made(client: &Client, tally: &support::load::Tally) {
    let made = tally.made.lock().expect("no panic").clone();
    for made in made {
        support::load::round_trip(client, made.index).await.expect(&made.name);
    }
}
