//! What a gateway counts, for its operators. A connection counts for itself, in memory of its own, and
//! adds what it has counted to the figures of the process twice a second: counting takes no lock, and
//! touches nothing that another connection touches.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Instant;

use prometheus::local::LocalHistogram;
use prometheus::{
    HistogramVec, IntCounter, IntCounterVec, IntGauge, register_histogram_vec,
    register_int_counter, register_int_counter_vec, register_int_gauge,
};
use sealwire_engine::Tag;
use sealwire_protocol::{ErrorCode, Opcode, Suite};

/// The figures of the process.
pub(crate) static FIGURES: LazyLock<Figures> =
    LazyLock::new(|| Figures::register().expect("each name is registered once"));

/// Seconds: from what a core does by itself to what a deadline ends.
const BUCKETS: [f64; 18] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// What stands for no suite.
const NO_SUITE: &str = "none";

/// What stands for success.
const OK: &str = "ok";

/// See [`FIGURES`].
pub(crate) struct Figures {
    requests: IntCounterVec,
    seconds: HistogramVec,
    pub(crate) connections: IntGauge,
    pub(crate) unauthenticated: IntGauge,
    in_flight: IntGauge,
    received: IntCounter,
    sent: IntCounter,
    hits: IntCounter,
    misses: IntCounter,
    pub(crate) key_loads: IntCounter,
    pub(crate) key_load_batches: IntCounter,
    pub(crate) message_blocks: IntCounter,
}

impl Figures {
    fn register() -> prometheus::Result<Self> {
        let requests = register_int_counter_vec!(
            "sealwire_requests_total",
            "requests that were answered: by what was asked, the suite, and `ok` or the error's name",
            &["op", "suite", "outcome"]
        )?;
        // What has not happened yet is 0, and not unknown.
        for op in BUSY {
            requests.with_label_values(&[op_name(op), NO_SUITE, OK]);
        }
        let lookups = register_int_counter_vec!(
            "sealwire_key_lookups_total",
            "keys that connections have looked up: kept here (hit), or to be read first (miss)",
            &["result"]
        )?;
        Ok(Self {
            requests,
            seconds: register_histogram_vec!(
                "sealwire_request_seconds",
                "from a request's arrival to its reply, of those that succeeded",
                &["op"],
                BUCKETS.to_vec()
            )?,
            connections: register_int_gauge!("sealwire_connections", "connections of clients")?,
            unauthenticated: register_int_gauge!(
                "sealwire_connections_unauthenticated",
                "connections that have not proven themselves yet"
            )?,
            in_flight: register_int_gauge!(
                "sealwire_requests_in_flight",
                "requests that wait for an engine, the keystore or a manager"
            )?,
            received: register_int_counter!(
                "sealwire_received_bytes_total",
                "bytes of frames from clients"
            )?,
            sent: register_int_counter!("sealwire_sent_bytes_total", "bytes of frames to clients")?,
            hits: lookups.with_label_values(&["hit"]),
            misses: lookups.with_label_values(&["miss"]),
            key_loads: register_int_counter!(
                "sealwire_key_loads_total",
                "keys that were read from the keystore"
            )?,
            key_load_batches: register_int_counter!(
                "sealwire_key_load_batches_total",
                "queries that read them"
            )?,
            message_blocks: register_int_counter!(
                "sealwire_message_blocks_total",
                "blocks of counted messages that were reserved"
            )?,
        })
    }

    /// Counts keys that were found here, and that were not.
    pub(crate) fn count_lookups(&self, (hits, misses): (u64, u64)) {
        self.hits.inc_by(hits);
        self.misses.inc_by(misses);
    }

    /// Counts what happens seldom.
    pub(crate) fn count(&self, op: &str, outcome: Result<(), ErrorCode>) {
        self.requests.with_label_values(&[op, NO_SUITE, outcome_name(outcome)]).inc();
    }
}

/// The operations that a connection counts without asking anybody.
const BUSY: [Opcode; 4] = [Opcode::ENC, Opcode::DEC, Opcode::REENC, Opcode::DATAKEY];

fn busy(opcode: Opcode) -> Option<usize> {
    BUSY.iter().position(|busy| *busy == opcode)
}

fn op_name(opcode: Opcode) -> &'static str {
    match opcode {
        Opcode::ENC => "enc",
        Opcode::DEC => "dec",
        Opcode::REENC => "reenc",
        Opcode::DATAKEY => "datakey",
        Opcode::GENKEY => "genkey",
        Opcode::KEYINFO => "keyinfo",
        Opcode::PING => "ping",
        Opcode::AUTH => "auth",
        _ => "other",
    }
}

fn outcome_name(outcome: Result<(), ErrorCode>) -> &'static str {
    outcome.map_or_else(ErrorCode::name, |()| OK)
}

/// Numbers of suites, and 0 for none.
const SUITES: usize = Suite::ALL.len() + 1;

/// What happened seldom on a connection: what was asked, the suite, the outcome, and how often.
type Seldom = (Opcode, Option<Suite>, Result<(), ErrorCode>, u64);

/// What a connection has counted since it told.
pub(crate) struct Tally {
    done: [[u64; SUITES]; BUSY.len()],
    /// Of those, the ones of the batch that is being worked on.
    batch: [u32; BUSY.len()],
    seconds: [LocalHistogram; BUSY.len()],
    seldom: Vec<Seldom>,
    used: Used,
    in_flight: i64,
}

/// Keys whose counts a connection keeps at a fixed place.
const USED: usize = 16;

/// ENC, DEC, REENC and DATAKEY by key, for the audit.
#[derive(Default)]
struct Used {
    /// By the rest of the index; 0 for none yet.
    places: [(u32, [u64; BUSY.len()]); USED],
    /// Those that had to leave their place.
    left: HashMap<u32, [u64; BUSY.len()]>,
}

impl Used {
    #[inline]
    fn count(&mut self, key: u32, op: usize) {
        let place = &mut self.places[usize::try_from(key).unwrap_or(0) % USED];
        if place.0 != key {
            let (before, counts) = std::mem::replace(place, (key, Default::default()));
            if before != 0 {
                let left = self.left.entry(before).or_default();
                left.iter_mut().zip(counts).for_each(|(left, count)| *left += count);
            }
        }
        place.1[op] += 1;
    }
}

impl Tally {
    pub(crate) fn new() -> Self {
        let local = |op| FIGURES.seconds.with_label_values(&[op_name(op)]).local();
        Self {
            done: Default::default(),
            batch: Default::default(),
            seconds: BUSY.map(local),
            seldom: Vec::new(),
            used: Used::default(),
            in_flight: 0,
        }
    }

    /// A request of the batch that is being worked on has succeeded.
    #[inline]
    pub(crate) fn done(&mut self, tag: &Tag) {
        let Tag { header, suite, key, .. } = *tag;
        match busy(header.opcode) {
            Some(op) => {
                self.done[op][usize::from(suite.map_or(0, Suite::id))] += 1;
                self.batch[op] += 1;
                self.used.count(key, op);
            }
            None => self.seldom(header.opcode, suite, Ok(())),
        }
    }

    /// The replies to a batch that has begun to be worked on then are ready.
    #[inline]
    pub(crate) fn end_batch(&mut self, began: Instant) {
        if self.batch == [0; BUSY.len()] {
            return;
        }
        let seconds = began.elapsed().as_secs_f64();
        for (count, histogram) in self.batch.iter_mut().zip(&self.seconds) {
            for _ in 0..std::mem::take(count) {
                histogram.observe(seconds);
            }
        }
    }

    /// A request that was answered beside the connection, or by another process, has succeeded.
    pub(crate) fn answered(&mut self, tag: &Tag, seconds: f64) {
        let Tag { header, suite, key, .. } = *tag;
        match busy(header.opcode) {
            Some(op) => {
                self.done[op][usize::from(suite.map_or(0, Suite::id))] += 1;
                self.seconds[op].observe(seconds);
                self.used.count(key, op);
            }
            None => self.seldom(header.opcode, suite, Ok(())),
        }
    }

    /// What was done with which key since the last time; `None` for nothing.
    pub(crate) fn take_used(&mut self) -> Option<impl Iterator<Item = (u32, [u64; BUSY.len()])>> {
        let used = std::mem::take(&mut self.used);
        let held = used.places.into_iter().filter(|(key, _)| *key != 0);
        let mut all = used.left.into_iter().chain(held).peekable();
        all.peek().is_some().then_some(all)
    }

    /// A request was refused.
    #[cold]
    pub(crate) fn refused(&mut self, opcode: Opcode, suite: Option<Suite>, code: ErrorCode) {
        self.seldom(opcode, suite, Err(code));
    }

    fn seldom(&mut self, opcode: Opcode, suite: Option<Suite>, outcome: Result<(), ErrorCode>) {
        let same =
            |seldom: &&mut Seldom| (seldom.0, seldom.1, seldom.2) == (opcode, suite, outcome);
        match self.seldom.iter_mut().find(same) {
            Some(seldom) => seldom.3 += 1,
            None => self.seldom.push((opcode, suite, outcome, 1)),
        }
    }

    /// Adds everything to the figures of the process: what was counted here, bytes received and sent, keys
    /// that were found and that were not; and how many requests wait now.
    pub(crate) fn tell(&mut self, bytes: (u64, u64), lookups: (u64, u64), in_flight: usize) {
        let figures = &*FIGURES;
        for (op, suites) in self.done.iter_mut().enumerate() {
            for (suite, count) in suites.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
                let suite = u8::try_from(suite).ok().and_then(Suite::from_id);
                let labels = [op_name(BUSY[op]), suite.map_or(NO_SUITE, Suite::name), OK];
                figures.requests.with_label_values(&labels).inc_by(std::mem::take(count));
            }
            self.seconds[op].flush();
        }
        for (opcode, suite, outcome, count) in self.seldom.drain(..) {
            let suite = suite.map_or(NO_SUITE, Suite::name);
            let labels = [op_name(opcode), suite, outcome_name(outcome)];
            figures.requests.with_label_values(&labels).inc_by(count);
        }
        if bytes != (0, 0) {
            figures.received.inc_by(bytes.0);
            figures.sent.inc_by(bytes.1);
        }
        if lookups != (0, 0) {
            figures.count_lookups(lookups);
        }
        let in_flight = i64::try_from(in_flight).unwrap_or(i64::MAX);
        if in_flight != self.in_flight {
            figures.in_flight.add(in_flight - std::mem::replace(&mut self.in_flight, in_flight));
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        FIGURES.in_flight.sub(self.in_flight);
    }
}
