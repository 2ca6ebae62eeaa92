//! `sealwire bench`: loads a running server and measures it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use sealwire_client::{Address, Binding, Credentials, DecRequest, EncRequest, ReencRequest, raw};
use sealwire_protocol::message::Failure;
use sealwire_protocol::{Flags, Frame, Header, Opcode, Suite, frame, limits};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ca_pem, client, credentials, key_index, print, print_json};
use crate::cli::{Bench, BenchOp};

/// Time before the measurement begins.
const WARM_UP: Duration = Duration::from_secs(1);

/// What a message is bound to: as long as an IM's tenant, conversation and message id.
const AAD: &[u8] = b"tenant-1/conversation-0001/message-00000001";

#[derive(Serialize)]
struct Report {
    op: &'static str,
    suite: String,
    connections: u32,
    depth: u32,
    size: u32,
    seconds: f64,
    operations: u64,
    ops_per_second: f64,
    mb_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

/// What a connection has measured.
struct Measured {
    operations: u64,
    /// From the beginning to the last reply that counts: longer than was asked for when requests were due that
    /// the server had yet to answer.
    time: Duration,
    /// Nanoseconds.
    latency: Histogram<u64>,
}

impl Measured {
    fn new(time: Duration) -> Result<Self> {
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 3).context("histogram")?;
        Ok(Self { operations: 0, time, latency })
    }
}

pub(super) async fn run(args: Bench) -> Result<()> {
    ensure!(args.keys == 1 || args.op == BenchOp::Enc, "--keys goes with --op enc");
    let connection = &args.connection;
    let addresses = Address::list(&connection.addr)?;
    let ca = ca_pem(connection)?;
    let client = client(connection).await?;
    let key = key_index(&client, &args.key).await?;
    drop(client);
    let mut streams = Vec::new();
    for _ in 0..args.connections {
        let credentials: Credentials = credentials(connection)?;
        let address = &addresses[streams.len() % addresses.len()];
        streams.push(raw::connect(address, &credentials, ca.as_deref()).await?);
    }
    let depth = usize::try_from(args.depth)?;
    let size = usize::try_from(args.size)?;
    let mut tasks = tokio::task::JoinSet::new();
    for (number, connection) in (0..).zip(streams) {
        let walk = Walk::new(key, args.keys, number, args.connections);
        let (op, suite, seconds) = (args.op, args.suite, args.seconds);
        let pause = args
            .rate
            .map(|rate| Duration::from_secs_f64(f64::from(args.connections) / f64::from(rate)));
        let plan = Plan { op, key, walk, suite, depth, size, seconds };
        tasks.spawn(async move {
            match pause {
                None => load(connection, plan).await,
                Some(pause) => pace(connection, plan, pause).await,
            }
        });
    }
    let mut all = Measured::new(Duration::from_secs(args.seconds))?;
    while let Some(measured) = tasks.join_next().await {
        let measured = measured??;
        all.operations += measured.operations;
        all.time = all.time.max(measured.time);
        all.latency.add(&measured.latency)?;
    }
    report(&args, &all)
}

/// What each connection does.
struct Plan {
    op: BenchOp,
    key: u32,
    walk: Option<Walk>,
    suite: Option<Suite>,
    depth: usize,
    size: usize,
    seconds: u64,
}

/// A walk over many keys that looks random, and comes to each once before it comes to any again: the
/// connections share it.
struct Walk {
    first: u32,
    keys: u64,
    step: u64,
    position: u64,
    connections: u64,
}

impl Walk {
    /// `None` for a single key.
    fn new(first: u32, keys: u32, connection: u32, connections: u32) -> Option<Self> {
        if keys < 2 {
            return None;
        }
        let keys = u64::from(keys);
        let common = |mut a: u64, mut b: u64| {
            while b > 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        // Near the golden ratio, so that neighbours are far apart.
        let wish = keys * 618 / 1000;
        let step = (wish.max(1)..).find(|step| common(*step, keys) == 1).unwrap_or(1);
        let (position, connections) = (u64::from(connection), u64::from(connections));
        Some(Self { first, keys, step, position, connections })
    }

    fn next(&mut self) -> u32 {
        let key = self.position % self.keys * self.step % self.keys;
        self.position += self.connections;
        self.first + u32::try_from(key).unwrap_or(0)
    }
}

/// Appends a request; with a walk, for its next key, whose index stands first in the body of ENC.
fn send(output: &mut Vec<u8>, request: &[u8], walk: &mut Option<Walk>) {
    let body = output.len() + limits::HEADER_LEN;
    output.extend_from_slice(request);
    if let Some(walk) = walk {
        output[body..body + 4].copy_from_slice(&walk.next().to_be_bytes());
    }
}

/// Keeps `depth` requests in flight until the time is over. A request's id names its slot.
async fn load(mut connection: raw::RawConnection, mut plan: Plan) -> Result<Measured> {
    let mut input = Input::new(&connection.surplus);
    let requests = requests(&mut connection, &mut input, &plan).await?;
    let mut sent = vec![Instant::now(); requests.len()];
    let mut output = Vec::new();
    requests.iter().for_each(|request| send(&mut output, request, &mut plan.walk));
    let mut measured = Measured::new(Duration::from_secs(plan.seconds))?;
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs(plan.seconds);
    let mut in_flight = requests.len();
    while in_flight > 0 {
        connection.stream.write_all(&output).await?;
        connection.stream.flush().await?;
        output.clear();
        input.fill(&mut connection.stream).await?;
        let now = Instant::now();
        while let Some(frame) = input.next()? {
            let id = usize::try_from(frame.header.request_id)?;
            let slot = id.checked_sub(1).context("the server asks the clients to leave")?;
            if now >= begin && now < end {
                measured.operations += 1;
                let nanoseconds = now.duration_since(sent[slot]).as_nanos();
                measured.latency.saturating_record(u64::try_from(nanoseconds)?);
            }
            if now < end {
                send(&mut output, &requests[slot], &mut plan.walk);
                sent[slot] = now;
            } else {
                in_flight -= 1;
            }
        }
    }
    Ok(measured)
}

/// Sends a request each `pause`, whatever the server does, as far as the depth allows. A request's time counts from
/// when it was due, so that a server that stands still does not have the requests left out that it keeps waiting.
async fn pace(
    mut connection: raw::RawConnection,
    mut plan: Plan,
    pause: Duration,
) -> Result<Measured> {
    let mut input = Input::new(&connection.surplus);
    let requests = requests(&mut connection, &mut input, &plan).await?;
    let mut measured = Measured::new(Duration::from_secs(plan.seconds))?;
    let mut due = Instant::now();
    let mut sent = vec![due; requests.len()];
    let mut free: Vec<usize> = (0..requests.len()).collect();
    let mut output = Vec::new();
    let begin = due + WARM_UP;
    let end = begin + Duration::from_secs(plan.seconds);
    while due < end || free.len() < requests.len() {
        let now = Instant::now();
        while due <= now.min(end)
            && let Some(slot) = free.pop()
        {
            send(&mut output, &requests[slot], &mut plan.walk);
            sent[slot] = due;
            due += pause;
        }
        if !output.is_empty() {
            connection.stream.write_all(&output).await?;
            connection.stream.flush().await?;
            output.clear();
        }
        // A timer would be a millisecond late.
        tokio::select! {
            biased;
            filled = input.fill(&mut connection.stream) => filled?,
            () = tokio::task::yield_now() => continue,
        }
        let now = Instant::now();
        while let Some(frame) = input.next()? {
            let id = usize::try_from(frame.header.request_id)?;
            let slot = id.checked_sub(1).context("the server asks the clients to leave")?;
            if sent[slot] >= begin && sent[slot] < end {
                measured.operations += 1;
                measured.time = measured.time.max(now.duration_since(begin));
                let nanoseconds = now.duration_since(sent[slot]).as_nanos();
                measured.latency.saturating_record(u64::try_from(nanoseconds)?);
            }
            free.push(slot);
        }
    }
    Ok(measured)
}

/// The frames of the requests, one for each slot, ready to be sent again and again.
async fn requests(
    connection: &mut raw::RawConnection,
    input: &mut Input,
    plan: &Plan,
) -> Result<Vec<Vec<u8>>> {
    let message: Vec<u8> = (0..=u8::MAX).cycle().take(plan.size).collect();
    let binding = Binding::aad(AAD);
    let enc = EncRequest { key_index: plan.key, suite: plan.suite, binding, message: &message };
    let enc = (1..=plan.depth)
        .map(|slot| build(Opcode::ENC, slot, |out| enc.encode(out)))
        .collect::<Result<Vec<_>>>()?;
    if plan.op == BenchOp::Enc {
        return Ok(enc);
    }
    let mut requests = Vec::with_capacity(plan.depth);
    for (slot, request) in (1..).zip(enc) {
        connection.stream.write_all(&request).await?;
        connection.stream.flush().await?;
        let envelope = loop {
            input.fill(&mut connection.stream).await?;
            if let Some(frame) = input.next()? {
                break frame.body.to_vec();
            }
        };
        requests.push(match plan.op {
            BenchOp::Dec => {
                let request = DecRequest { binding, envelope: &envelope };
                build(Opcode::DEC, slot, |out| request.encode(out))?
            }
            _ => {
                let (target_index, suite, new_binding) = (0, plan.suite, None);
                let envelope = &envelope;
                let request = ReencRequest { target_index, suite, binding, new_binding, envelope };
                build(Opcode::REENC, slot, |out| request.encode(out))?
            }
        });
    }
    Ok(requests)
}

fn build(
    opcode: Opcode,
    slot: usize,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), sealwire_protocol::BodyError>,
) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let request_id = u64::try_from(slot)?;
    let open = frame::begin(&mut out, Header { opcode, flags: Flags::REQUEST, request_id });
    encode(&mut out)?;
    open.finish(&mut out);
    Ok(out)
}

/// Replies as they arrive.
struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// Begins with what has already arrived.
    fn new(surplus: &[u8]) -> Self {
        let mut bytes = vec![0; 256 * 1024];
        bytes[..surplus.len()].copy_from_slice(surplus);
        Self { bytes, start: 0, end: surplus.len() }
    }

    async fn fill(&mut self, stream: &mut raw::Stream) -> Result<()> {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.bytes.len() {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
        let length = stream.read(&mut self.bytes[self.end..]).await?;
        if length == 0 {
            bail!("the server has closed the connection");
        }
        self.end += length;
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Frame<'_>>> {
        let bytes = &self.bytes[self.start..self.end];
        let Some(frame) = Frame::parse(bytes, limits::MAX_FRAME)? else { return Ok(None) };
        self.start += frame.wire_len();
        if frame.header.flags != Flags::RESPONSE {
            let failure = Failure::parse(frame.body)?;
            bail!("the server refuses: {} {}", failure.code, failure.detail);
        }
        Ok(Some(frame))
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn report(args: &Bench, all: &Measured) -> Result<()> {
    let seconds = all.time.as_secs_f64();
    let ops_per_second = all.operations as f64 / seconds;
    let microseconds = |quantile| all.latency.value_at_quantile(quantile) as f64 / 1000.0;
    let report = Report {
        op: match args.op {
            BenchOp::Enc => "enc",
            BenchOp::Dec => "dec",
            BenchOp::Reenc => "reenc",
        },
        suite: args.suite.map_or_else(|| "the key's default".into(), |suite| suite.to_string()),
        connections: args.connections,
        depth: args.depth,
        size: args.size,
        seconds,
        operations: all.operations,
        ops_per_second,
        mb_per_second: ops_per_second * f64::from(args.size) / 1e6,
        p50_us: microseconds(0.5),
        p99_us: microseconds(0.99),
        p999_us: microseconds(0.999),
        max_us: all.latency.max() as f64 / 1000.0,
    };
    if args.json {
        return print_json(&report);
    }
    print(&format!(
        "{} of {} B, {}, {} connections, depth {}\n{:>14.0} ops/s\n{:>14.1} MB/s\n{:>14.1} us p50\n\
         {:>14.1} us p99\n{:>14.1} us p99.9\n{:>14.1} us max\n",
        report.op,
        report.size,
        report.suite,
        report.connections,
        report.depth,
        report.ops_per_second,
        report.mb_per_second,
        report.p50_us,
        report.p99_us,
        report.p999_us,
        report.max_us,
    ))
}
