//! `herald-controller`: gives Services of type LoadBalancer their addresses.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use herald_controller::app;
use herald_controller::settings::Flags;

// musl's allocator is many times slower than glibc's.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// One thread: planning is fast, everything else waits for the API server, and idle threads cost memory.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Err(error) = herald_telemetry::log::begin(flags.log_level) {
        eprintln!("herald-controller: {error}");
        return ExitCode::FAILURE;
    }
    flags.warn_of_what_means_nothing();
    match app::run(flags.settings(), app::asked_to_stop()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "cannot go on");
            ExitCode::FAILURE
        }
    }
}
