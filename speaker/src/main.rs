//! `herald-speaker`: takes part in deciding which node answers for which address, and answers.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use herald_speaker::app;
use herald_speaker::settings::Flags;

// musl's allocator is many times slower than glibc's.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// Two threads: an answer on the wire must not wait until a large list is parsed.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let settings = flags
        .settings()
        .unwrap_or_else(|error| Flags::command().error(ErrorKind::ValueValidation, error).exit());
    if let Err(error) = herald_telemetry::log::begin(flags.log_level) {
        eprintln!("herald-speaker: {error}");
        return ExitCode::FAILURE;
    }
    flags.warn_of_what_means_nothing();
    match app::run(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "cannot go on");
            ExitCode::FAILURE
        }
    }
}
