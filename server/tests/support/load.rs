//! Load on a server: ENC and DEC without an end, and GENKEY, each counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sealwire_client::{Client, ErrorCode};
use tokio::task::JoinHandle;

/// Each load makes keys of its own.
static LOADS: AtomicU64 = AtomicU64::new(0);

/// A key that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) at: Instant,
}

/// What the load has come to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests, but for GENKEY.
    pub(crate) done: AtomicU64,
    /// When each turn of ENC and DEC began, and how long the slower of both took.
    pub(crate) turns: Mutex<Vec<(Instant, Duration)>>,
    /// Failures of ENC, DEC and REENC.
    pub(crate) failures: Mutex<Vec<String>>,
    pub(crate) made: Mutex<Vec<Made>>,
    /// Failures of GENKEY: the error's number, and whether it may be retried.
    pub(crate) unmade: Mutex<Vec<(Option<ErrorCode>, bool)>>,
}

impl Tally {
    /// The time that 99 of 100 turns took at most, of those that began between two moments.
    pub(crate) fn p99(&self, from: Instant, to: Instant) -> Duration {
        let turns = self.turns.lock().expect("no panic");
        let mut took: Vec<Duration> =
            turns.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, took)| *took).collect();
        took.sort_unstable();
        took.get(took.len() * 99 / 100).copied().expect("the load goes on")
    }
}

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    pub(crate) tally: Arc<Tally>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// ENC and DEC over `keys` from four tasks, and GENKEY from one.
    pub(crate) fn start(client: &Client, keys: &[u32]) -> Self {
        Self::start_on(std::slice::from_ref(client), keys, false)
    }

    /// The same from each of several clients, with REENC, too.
    pub(crate) fn start_with_reenc(clients: &[Client], keys: &[u32]) -> Self {
        Self::start_on(clients, keys, true)
    }

    fn start_on(clients: &[Client], keys: &[u32], reenc: bool) -> Self {
        let mut load = Self { stop: Arc::default(), tally: Arc::default(), tasks: Vec::new() };
        for client in clients {
            for worker in 0..4_usize {
                let (client, keys) = (client.clone(), keys.to_vec());
                let (stop, tally) = (load.stop.clone(), load.tally.clone());
                load.tasks.push(tokio::spawn(async move {
                    for turn in worker.. {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let key = keys[turn % keys.len()];
                        let began = Instant::now();
                        match take_turn(&client, key, turn, reenc && turn % 8 == worker).await {
                            Ok((requests, slowest)) => {
                                tally.done.fetch_add(requests, Ordering::Relaxed);
                                tally.turns.lock().expect("no panic").push((began, slowest));
                            }
                            Err(failure) => tally.failures.lock().expect("no panic").push(failure),
                        }
                        tokio::time::sleep(Duration::from_micros(500)).await;
                    }
                }));
            }
            load.make_keys(client);
        }
        load
    }

    fn make_keys(&mut self, client: &Client) {
        let (client, stop, tally) = (client.clone(), self.stop.clone(), self.tally.clone());
        let prefix = LOADS.fetch_add(1, Ordering::Relaxed);
        self.tasks.push(tokio::spawn(async move {
            for turn in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let name = format!("under-load-{prefix}-{turn}");
                match client.genkey(&name, 0, &[]).await {
                    Ok(made) => {
                        let (index, at) = (made.index, Instant::now());
                        tally.made.lock().expect("no panic").push(Made { name, index, at });
                    }
                    Err(error) => {
                        let failure = (error.code(), error.is_retryable());
                        tally.unmade.lock().expect("no panic").push(failure);
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }));
    }

    /// Ends the load. No ENC, DEC and REENC may have failed.
    pub(crate) async fn end(self) -> Arc<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no panic");
        }
        let failures = self.tally.failures.lock().expect("no panic");
        assert!(
            failures.is_empty(),
            "{} failures, the first: {:?}",
            failures.len(),
            failures.first()
        );
        drop(failures);
        self.tally
    }
}

/// ENC and DEC of a message that no other turn has, and now and then REENC before. Gives the number of requests,
/// and how long the slowest took.
async fn take_turn(
    client: &Client,
    key: u32,
    turn: usize,
    reenc: bool,
) -> Result<(u64, Duration), String> {
    let (message, aad) = (format!("message {turn} 你好"), format!("message-{turn}"));
    let (message, aad) = (message.as_bytes(), aad.as_bytes());
    let began = Instant::now();
    let sealed = client.enc(key, aad, message).await;
    let mut sealed = sealed.map_err(|error| format!("ENC under {key}: {error}"))?;
    let mut slowest = began.elapsed();
    if reenc {
        let again = client.reenc(aad, &sealed).await;
        let again = again.map_err(|error| format!("REENC under {key}: {error}"))?;
        if again == sealed {
            return Err(format!("REENC under {key}: the same envelope"));
        }
        sealed = again;
    }
    let began = Instant::now();
    let opened = client.dec(aad, &sealed).await;
    let opened = opened.map_err(|error| format!("DEC under {key}: {error}"))?;
    slowest = slowest.max(began.elapsed());
    if opened.as_ref() != message {
        return Err(format!("DEC under {key}: another message's plaintext"));
    }
    Ok((2 + u64::from(reenc), slowest))
}

pub(crate) async fn round_trip(client: &Client, key: u32) -> Result<(), String> {
    let sealed = client.enc(key, b"aad", b"message").await;
    let sealed = sealed.map_err(|error| format!("ENC under {key}: {error}"))?;
    let opened = client.dec(b"aad", &sealed).await;
    let opened = opened.map_err(|error| format!("DEC under {key}: {error}"))?;
    assert_eq!(opened.as_ref(), b"message");
    Ok(())
}
