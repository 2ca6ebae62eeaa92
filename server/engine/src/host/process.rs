//! What the process asks of its machine.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask,
};
use tracing_subscriber::EnvFilter;

/// Unix time in seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// No core dumps, no debugger of another user, and no file that others may read.
pub(crate) fn harden() -> io::Result<()> {
    umask(Mode::RWXG | Mode::RWXO);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Logs to stderr.
pub(crate) fn log(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .init();
}

/// Checks that the CPU has what this binary was built for: otherwise it would die of an illegal
/// instruction somewhere on its way, without a word.
pub(crate) fn check_cpu() -> Result<(), String> {
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
