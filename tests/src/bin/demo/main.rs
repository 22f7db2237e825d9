//! `make demo`: a cluster of three nodes on this machine, walked through from the installation to a node's loss.
//!
//! Everything in it is real but the kubelets: etcd, kube-apiserver, kube-proxy, ARP and NDP frames, HTTP, and Herald's
//! programs under the rights that `manifests/` give them. The demo plays the kubelets (it starts the programs and the
//! pods' servers), and the user. It ends with a table of what was seen; its exit status is 1 if any line is not as
//! expected. `KEEP=1` leaves the cluster up until Enter or Ctrl-C.
#![forbid(unsafe_code)]

mod faults;
mod install;
mod keep;
mod manifests;
mod screen;
mod stage;
mod table;
mod watch;

use std::env;
use std::process::ExitCode;

use herald_tests::lab::Lab;
use tokio::runtime;

use self::screen::Screen;
use self::stage::Stage;

/// Nodes of the cluster.
const NODES: u8 = 3;
/// The status of a process that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("demo: start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(&Screen::new()));
    // A thread may still wait for its turn to have a lab.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| {
        eprintln!("demo: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(screen: &Screen) -> anyhow::Result<ExitCode> {
    screen.page(
        "Herald in a cluster of three nodes on this machine. Times are since the beginning.\n",
    );
    let stage = tokio::select! {
        stage = walk(screen) => stage?,
        asked = keep::asked_to_end() => {
            asked?;
            screen.page("\nInterrupted; everything was ended.");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    let failed = stage.verdicts.borrow().failed();
    screen.page(&stage.verdicts.borrow().to_string());
    if failed > 0 {
        screen.page(&format!("{failed} not as expected.\n"));
        stage.lab.keep_folder();
    } else {
        screen.page("All as expected.\n");
    }
    if env::var("KEEP").is_ok_and(|keep| !keep.is_empty() && keep != "0") {
        keep::up(&stage).await?;
    }
    drop(stage);
    screen.page("Everything is ended.");
    Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Boots a cluster and walks through it. Whatever keeps the walk from going on is told among what was seen.
async fn walk(screen: &Screen) -> anyhow::Result<Stage<'_>> {
    screen.chapter("A cluster without Herald");
    let what = "etcd, kube-apiserver, three nodes with kube-proxy, and a client on their network";
    let stage = Stage::new(screen, screen.step(what, Lab::boot(NODES)).await?);
    if let Err(error) = story(&stage).await {
        let said = format!("{error:#}");
        stage.judge(false, screen.present_chapter(), "comes to its end", &said);
    }
    Ok(stage)
}

async fn story(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.show_kubectl(&["get", "nodes"]).await?;
    install::install(stage).await?;
    let vips = install::serve(stage).await?;
    install::reach(stage, &vips).await?;
    faults::power_loss(stage, &vips).await?;
    faults::drain(stage, &vips).await?;
    faults::controller_crash(stage).await?;
    faults::api_outage(stage, &vips).await?;
    faults::overall(stage).await
}
