//! Sealwire: server-side message encryption for IM systems. One binary holds the server, its
//! ceremonies, its management and a client.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod config;
mod health;
mod metrics;
mod parts;
mod storage;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use sealwire_engine::host::process;
use zeroizing_alloc::ZeroAlloc;

/// Wipes what it takes back: also what libraries copy, such as a string that grows while JSON is read.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    if let Err(problem) = process::check_cpu() {
        eprintln!("sealwire: {problem}");
        return ExitCode::FAILURE;
    }
    let cli = cli::Cli::parse();
    let filter = if cli.command.serves() { "info" } else { "warn" };
    process::log(cli.log.as_deref().unwrap_or(filter), cli.log_format);
    if let Err(error) = process::harden() {
        tell_failure(&format!("core dumps could not be switched off: {error}"));
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell_failure(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if commands::is_output_closed(&error) => ExitCode::SUCCESS,
        Err(error) if commands::is_asked(&error) => {
            eprintln!("sealwire: {error:#}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tell_failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn tell_failure(problem: &str) {
    process::tell_failure("sealwire", problem);
}
