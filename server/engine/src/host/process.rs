//! What the process asks of its machine.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// How to log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line, for machines.
    Json,
}

/// Unix time in seconds.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// No core dumps, no debugger of another user, and no file that others may read.
///
/// # Errors
/// When the machine does not take it.
pub fn harden() -> io::Result<()> {
    umask(Mode::RWXG | Mode::RWXO);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Logs to stderr.
pub fn log(filter: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        LogFormat::Json => {
            IN_JSON.store(true, Ordering::Relaxed);
            log.json().flatten_event(true).init();
        }
    }
}

/// Whether stderr is for machines.
static IN_JSON: AtomicBool = AtomicBool::new(false);

/// Says on stderr what becomes of the process, whatever is logged: a line for people; where the log is JSON, an
/// object of it.
pub fn tell(program: &str, text: &str) {
    if IN_JSON.load(Ordering::Relaxed) {
        tracing::info!(program, "{text}");
    } else {
        eprintln!("{program}: {text}");
    }
}

/// Says on stderr what has failed, as [`tell`] does.
pub fn tell_failure(program: &str, problem: &str) {
    if IN_JSON.load(Ordering::Relaxed) {
        tracing::error!(program, "{problem}");
    } else {
        eprintln!("{program}: {problem}");
    }
}

/// Tells systemd that the process serves, when it was started by it.
pub fn ready() {
    notify(sd_notify::NotifyState::Ready);
}

/// Tells systemd that the process is stopping.
pub fn stopping() {
    notify(sd_notify::NotifyState::Stopping);
}

fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "sd_notify");
    }
}

/// Waits for SIGTERM or SIGINT, or until `stop`: then a part has failed.
///
/// # Errors
/// When signals cannot be had.
pub async fn until_stopped(stop: &CancellationToken) -> io::Result<bool> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = stop.cancelled() => true,
    })
}

/// Checks that the CPU has what this binary was built for: otherwise it would die of an illegal
/// instruction somewhere on its way, without a word.
///
/// # Errors
/// What is missing, in words.
pub fn check_cpu() -> Result<(), String> {
    let missing = missing_features();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "this CPU lacks {}, which this binary was built for; see \"Generic builds\" in \
         CONTRIBUTING.md for one that runs here",
        missing.join(", ")
    ))
}

/// The features of the build that the CPU lacks. Asks CPUID itself: the standard library's macro
/// answers `true` for whatever the build assumes.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
fn missing_features() -> Vec<&'static str> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let (one, seven, extended) = (__cpuid(1), __cpuid_count(7, 0), __cpuid(0x8000_0001));
    let bit = |register: u32, bit: u32| register >> bit & 1 == 1;
    [
        ("SSE4.2", bit(one.ecx, 20)),
        ("POPCNT", bit(one.ecx, 23)),
        ("PCLMULQDQ", bit(one.ecx, 1)),
        ("AES", bit(one.ecx, 25)),
        ("FMA", bit(one.ecx, 12)),
        ("MOVBE", bit(one.ecx, 22)),
        (
            "AVX (or an operating system that saves its registers)",
            bit(one.ecx, 27) && bit(one.ecx, 28),
        ),
        ("F16C", bit(one.ecx, 29)),
        ("BMI1", bit(seven.ebx, 3)),
        ("AVX2", bit(seven.ebx, 5)),
        ("BMI2", bit(seven.ebx, 8)),
        ("LZCNT", bit(extended.ecx, 5)),
    ]
    .into_iter()
    .filter_map(|(name, there)| (!there).then_some(name))
    .collect()
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
fn missing_features() -> Vec<&'static str> {
    Vec::new()
}
