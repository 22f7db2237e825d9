//! What a burst of Services costs in a real cluster, and how long its clients wait:
//! `cargo run --release -p herald-benches --bin burst -- --services 1000 --kind cluster`.
//!
//! It boots nodes around a real API server and nothing else of Kubernetes, and creates the Services by eight connections:
//! first without Herald, then with a controller and a speaker on each node. Then it watches them rest, adds a range to the
//! pool in use, and deletes everything. Endpoints are there before their Services, two on two nodes each. With
//! `--nodes 10` it shows that what the API server is asked for a Service does not grow with the nodes.
//!
//! What MetalLB needed for 1,000 Services in the same lab stands beside the targets where it was measured.
//!
//! Controllers that are killed in the middle of bursts are no figure but a test, that nothing is lost or doubled:
//! `cargo test --release -p herald-tests --test allocating -- --ignored twenty_deaths`.
//!
//! It runs the programs of `HERALD_BIN_DIR`, or of cargo's release folder, and needs root, as the tests of the whole do.
//! The API server and all that is measured share one machine with the bench: the last lines say what else ran on it.
#![forbid(unsafe_code)]

mod course;
mod leases;
mod load;
mod meter;
mod sight;
mod world;

use std::process::ExitCode;

use clap::Parser;
use herald_benches::table::Table;
use tokio::runtime;

use self::world::Kind;

/// A burst of Services in a real cluster, measured.
#[derive(Debug, Parser)]
struct Flags {
    /// How many Services.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=world::MOST))]
    services: u16,
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=10))]
    nodes: u8,
    /// Of which kind.
    #[arg(long, value_enum, default_value_t = Kind::Cluster)]
    kind: Kind,
    /// Fail if a target is missed.
    #[arg(long)]
    assert: bool,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("burst: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut table = Table::default();
    let outcome =
        runtime.block_on(course::run(flags.nodes, flags.services, flags.kind, &mut table));
    // A thread may still wait for its turn to have a lab.
    runtime.shutdown_background();
    match outcome {
        Ok(()) if table.all_met() || !flags.assert => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("burst: {error:#}");
            ExitCode::FAILURE
        }
    }
}
