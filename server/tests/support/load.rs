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
    pub(crate) done: AtomicU64,
    /// Failures of ENC and DEC.
    pub(crate) failures: Mutex<Vec<String>>,
    pub(crate) made: Mutex<Vec<Made>>,
    /// Failures of GENKEY: the error's number, and whether it may be retried.
    pub(crate) unmade: Mutex<Vec<(Option<ErrorCode>, bool)>>,
}

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    pub(crate) tally: Arc<Tally>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// ENC and DEC over `keys` from four tasks, and GENKEY from one.
    pub(crate) fn start(client: &Client, keys: &[u32]) -> Self {
        let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Tally::default()));
        let mut tasks = Vec::new();
        for worker in 0..4_usize {
            let (client, keys) = (client.clone(), keys.to_vec());
            let (stop, tally) = (stop.clone(), tally.clone());
            tasks.push(tokio::spawn(async move {
                for turn in worker.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = keys[turn % keys.len()];
                    if let Err(failure) = round_trip(&client, key).await {
                        tally.failures.lock().expect("no panic").push(failure);
                    }
                    tally.done.fetch_add(2, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_micros(500)).await;
                }
            }));
        }
        let (client, stop_too, tally_too) = (client.clone(), stop.clone(), tally.clone());
        let prefix = LOADS.fetch_add(1, Ordering::Relaxed);
        tasks.push(tokio::spawn(async move {
            for turn in 0.. {
                if stop_too.load(Ordering::Relaxed) {
                    return;
                }
                let name = format!("under-load-{prefix}-{turn}");
                match client.genkey(&name, 0, &[]).await {
                    Ok(made) => {
                        let (index, at) = (made.index, Instant::now());
                        tally_too.made.lock().expect("no panic").push(Made { name, index, at });
                    }
                    Err(error) => {
                        let failure = (error.code(), error.is_retryable());
                        tally_too.unmade.lock().expect("no panic").push(failure);
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }));
        Self { stop, tally, tasks }
    }

    /// Ends the load. No ENC and no DEC may have failed.
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

pub(crate) async fn round_trip(client: &Client, key: u32) -> Result<(), String> {
    let sealed = client.enc(key, b"aad", b"message").await;
    let sealed = sealed.map_err(|error| format!("ENC under {key}: {error}"))?;
    let opened = client.dec(b"aad", &sealed).await;
    let opened = opened.map_err(|error| format!("DEC under {key}: {error}"))?;
    assert_eq!(opened.as_ref(), b"message");
    Ok(())
}
