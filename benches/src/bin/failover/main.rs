//! How long an address is not answered when its owner fails, as a client on the segment sees it:
//! `cargo run --release -p herald-benches --bin failover -- --how power --nodes 3 --runs 50`.
//!
//! It boots nodes around a real API server and nothing else of Kubernetes, has a speaker on each, and inflicts the same
//! fault run by run, on whoever owns the address then; between two runs it waits until everything is as before. The
//! client asks for the address every 20 ms, and the times are the kernel's.
//!
//! It runs the programs of `HERALD_BIN_DIR`, or of cargo's release folder, and needs root, as the tests of the whole do.
//! All that is measured shares one machine with the bench: the last line says how busy that was.
#![forbid(unsafe_code)]

mod conflict;
mod histogram;
mod replaced;
mod rest;
mod scale;
mod stage;
mod writes;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use herald_benches::table::Table;
use herald_tests::lab::Lab;
use procfs::{Current, LoadAverage};
use tokio::runtime;

use self::replaced::Fault;

/// Owners that fail, run by run.
#[derive(Debug, Parser)]
struct Flags {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=20))]
    nodes: u8,
    /// How many times.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// What happens.
    #[arg(long, value_enum, default_value_t = How::Crash)]
    how: How,
    /// Services of `scale`.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=8000))]
    services: u16,
    /// Fail if a target is missed.
    #[arg(long)]
    assert: bool,
}

/// What happens to the owner, or is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum How {
    /// Its speaker is killed.
    Crash,
    /// Its node loses power.
    Power,
    /// Its port on the segment goes dead, and it does not notice.
    Port,
    /// Its speaker is suspended for 15 s, and goes on.
    Suspend,
    /// Its node loses power while the API server answers in 200 ms.
    ApiSlow,
    /// Its node loses power, and with it goes the API server that the others used.
    ApiDies,
    /// A node loses power that owns a share of very many addresses.
    Scale,
    /// A foreign host has the address before its Service comes.
    Conflict,
    /// Nothing: what is written and asked while all is well.
    Rest,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("failover: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut table = Table::default();
    let outcome = runtime.block_on(measure(&flags, &mut table));
    // A thread may still wait for its turn to have a lab.
    runtime.shutdown_background();
    match outcome {
        Ok(()) if table.all_met() || !flags.assert => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("failover: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(flags: &Flags, table: &mut Table) -> anyhow::Result<()> {
    let lab = Lab::boot_bare(flags.nodes).await?;
    let outcome = inflict(&lab, flags, table).await;
    if outcome.is_err() {
        lab.keep_folder();
    }
    outcome.with_context(|| lab.tails())?;
    let load = LoadAverage::current().context("read the load of the machine")?;
    table.remark(&format!("load of the machine at the end: {:.1}, {:.1}", load.one, load.five));
    Ok(())
}

async fn inflict(lab: &Lab, flags: &Flags, table: &mut Table) -> anyhow::Result<()> {
    let runs = flags.runs;
    let fault = match flags.how {
        How::Crash => Fault::Crash,
        How::Power => Fault::Power,
        How::Port => Fault::Port,
        How::Suspend => Fault::Suspend,
        How::ApiSlow => Fault::ApiSlow,
        How::ApiDies => Fault::ApiDies,
        How::Scale => return scale::run(lab, flags.services, runs, table).await,
        How::Conflict => return conflict::run(lab, runs, table).await,
        How::Rest => return rest::run(lab, table).await,
    };
    replaced::run(lab, fault, runs, table).await
}
