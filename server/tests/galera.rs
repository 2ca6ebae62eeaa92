//! A cluster of three MariaDB nodes with Galera: one is killed under load.
//!
//! `scripts/galera` is the full form: longer, and all three nodes after each other.

mod support;

use std::time::{Duration, Instant};

use sealwire_client::ErrorCode;
use support::Server;
use support::load::{Load, round_trip};
use support::mariadb::{Mariadb, free_port};

/// Nodes that are killed, one after the other.
fn kills() -> usize {
    std::env::var("SEALWIRE_TEST_NODES").map_or(1, |text| text.parse().expect("a number"))
}

struct Cluster(Vec<Mariadb>);

impl Cluster {
    /// Three nodes, in step.
    fn start() -> Self {
        let ports: Vec<[u16; 4]> = (0..3).map(|_| std::array::from_fn(|_| free_port())).collect();
        let group: Vec<String> =
            ports.iter().map(|[_, group, ..]| format!("127.0.0.1:{group}")).collect();
        let options = |[_, group_port, state, increment]: [u16; 4]| {
            vec![
                "--binlog-format=ROW".to_owned(),
                "--innodb-autoinc-lock-mode=2".to_owned(),
                "--innodb-buffer-pool-size=64M".to_owned(),
                "--wsrep-on=ON".to_owned(),
                "--wsrep-provider=/usr/lib/galera/libgalera_smm.so".to_owned(),
                format!("--wsrep-cluster-address=gcomm://{}", group.join(",")),
                format!("--wsrep-node-address=127.0.0.1:{group_port}"),
                "--wsrep-sst-method=rsync".to_owned(),
                format!("--wsrep-sst-receive-address=127.0.0.1:{state}"),
                format!(
                    "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{group_port};\
                     ist.recv_addr=127.0.0.1:{increment};ist.recv_bind=127.0.0.1:{increment};\
                     pc.recovery=FALSE;gcache.size=16M"
                ),
            ]
        };
        let mut nodes = Vec::new();
        for (position, ports) in ports.into_iter().enumerate() {
            let mut node = Mariadb::prepared(ports[0], &options(ports));
            let first = ["--wsrep-new-cluster".to_owned()];
            node.launch(if position == 0 { &first } else { &[] });
            node.wait();
            nodes.push(node);
        }
        let cluster = Self(nodes);
        cluster.wait_for(3);
        cluster
    }

    /// Waits until so many nodes are in step.
    fn wait_for(&self, size: usize) {
        let begun = Instant::now();
        let in_step = |node: &Mariadb| {
            let status = node
                .sql("SHOW STATUS WHERE Variable_name IN ('wsrep_cluster_size', 'wsrep_ready')");
            status.contains(&format!("wsrep_cluster_size\t{size}"))
                && status.contains("wsrep_ready\tON")
        };
        while !self.0.iter().filter(|node| node.runs()).all(in_step) {
            assert!(begun.elapsed() < Duration::from_secs(90), "the cluster is not in step");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A database, reached over the nodes in an order that begins with this one.
    fn url(&self, first: usize) -> String {
        let hosts: Vec<String> =
            (0..3).map(|step| format!("127.0.0.1:{}", self.0[(first + step) % 3].port)).collect();
        format!("mysql://ks@{}/ks", hosts.join(","))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_killed_under_load_and_nothing_that_was_acknowledged_is_lost() {
    let mut cluster = Cluster::start();
    cluster.0[0].database("ks");
    let one = Server::on(&cluster.url(0), "").await;
    // Another server of the site, on another node.
    let mut two = one.twin().await;
    two.reconfigure(&cluster.url(0), &cluster.url(1));
    two.restart();
    two.wait_for_site().await;
    let app = one.local_app(&["enc,dec,genkey:*"]).await;
    let (here, there) = (one.client(&app).await, two.client(&app).await);
    let mut keys = Vec::new();
    for turn in 0..60 {
        let (maker, user) = if turn % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let made = maker.genkey(&format!("key-{turn}"), 0, &[]).await.expect("made");
        round_trip(user, made.index).await.expect("usable at once, on another node");
        round_trip(maker, made.index).await.expect("usable at once");
        keys.push(made.index);
    }
    for turn in 0..kills() {
        let load = Load::start(&here, &keys);
        tokio::time::sleep(Duration::from_secs(2)).await;
        // The node that the first server uses.
        cluster.0[turn % 3].kill();
        let killed = Instant::now();
        tokio::time::sleep(Duration::from_secs(20)).await;
        let tally = load.end().await;
        let made = tally.made.lock().expect("no panic").clone();
        let again = made.iter().find(|made| made.at > killed).expect("GENKEY is back").at - killed;
        let longest =
            made.windows(2).map(|pair| pair[1].at - pair[0].at).max().expect("keys were made");
        let unmade = tally.unmade.lock().expect("no panic").clone();
        println!(
            "node {} killed: {} ENC and DEC, 0 failed; {} keys made, {} refused; GENKEY again after {again:?}, \
             longest pause {longest:?}",
            turn % 3 + 1,
            tally.done.load(std::sync::atomic::Ordering::Relaxed),
            made.len(),
            unmade.len(),
        );
        assert!(longest < Duration::from_secs(15), "GENKEY was away for {longest:?}");
        assert!(
            unmade.iter().all(|failure| *failure == (Some(ErrorCode::UNAVAILABLE), true)),
            "{unmade:?}"
        );
        for made in &made {
            let found = there.genkey(&made.name, 0, &[]).await.expect("found");
            assert_eq!((found.index, found.created), (made.index, false), "acknowledged, and lost");
            round_trip(&there, made.index).await.expect("usable");
        }
        cluster.0[turn % 3].run();
        cluster.wait_for(3);
    }
}
