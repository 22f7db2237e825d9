//! A lab to play with: boots a cluster without Herald, says how to reach it, and ends it at Ctrl-C or SIGTERM.
//!
//! `cargo run -p herald-tests --bin lab -- <nodes>`; three nodes when nothing is said.
#![forbid(unsafe_code)]

use std::env;

use anyhow::Context;
use herald_tests::lab::Lab;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let nodes = match env::args().nth(1) {
        Some(count) => count.parse().with_context(|| format!("a number of nodes: {count}"))?,
        None => 3,
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let lab = Lab::boot(nodes).await?;
    println!("export KUBECONFIG={}", lab.kubeconfig().display());
    println!("{}", lab.name());
    eprintln!("lab: enter a node by `ip netns exec {}-node1 bash`; Ctrl-C ends it", lab.name());
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
