//! What a cluster costs in which nothing happens: questions on the segment, and writes of Leases.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::ensure;
use herald_benches::table::{Table, Target};
use herald_tests::lab::Lab;
use tokio::time::{Instant, sleep};

use crate::stage::{SETTLE, Stage};
use crate::writes::Writes;

/// Services, so many that every node owns some.
const SERVICES: u8 = 30;
/// Until the announcements of the beginning are over.
const QUIET: Duration = Duration::from_secs(8);
/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(20);
/// Seconds between two probes, and between two renewals of a session.
const PROBE: f64 = 0.150;
const RENEWAL: f64 = 2.0;

pub(crate) async fn run(lab: &Lab, table: &mut Table) -> anyhow::Result<()> {
    let stage = Stage::set(lab).await?;
    let writes = Writes::watch(lab.client(), "herald-system");
    stage.speak()?;
    stage.sessions_open().await?;
    for number in 1..=SERVICES {
        let vip = IpAddr::from(Ipv4Addr::new(192, 168, 112, number));
        stage.serve(&format!("s{number}"), &[vip]).await?;
    }
    lab.await_condition("every address is owned", SETTLE, async || {
        let owned = lab.claims().await?.len();
        ensure!(owned == usize::from(SERVICES), "{owned} are");
        ensure!(writes.ready(), "the watch has not begun");
        Ok(())
    })
    .await?;
    sleep(QUIET).await;
    let mut count = lab.count_frames().await?;
    let began = Instant::now();
    writes.forget();
    sleep(WATCHED).await;
    let (frames, renewals) = (count.so_far().await?, writes.count(|_| true));
    let seconds = began.elapsed().as_secs_f64();
    ensure!(frames.lost == 0, "{} frames were not counted", frames.lost);
    let nodes = lab.nodes().len() as f64;
    table.remark(&format!("at rest, {nodes} nodes, {SERVICES} addresses, {seconds:.0} s"));
    let questions = frames.questions as f64 / seconds;
    let most = (2.0 * nodes / PROBE).ceil();
    table.judged("questions to one host, a second", questions, "/s", Target::Most(most));
    table.told("answers to one host, a second", frames.answers as f64 / seconds, "/s");
    let broadcasts = frames.broadcasts as f64;
    table.judged("frames to everybody", broadcasts, "", Target::Most(0.0));
    // One renewal of each may fall on either edge.
    let due = (nodes / RENEWAL).mul_add(seconds, nodes);
    table.judged("writes of Leases", renewals as f64, "", Target::Most(due.ceil()));
    table.told("  a second", renewals as f64 / seconds, "/s");
    Ok(())
}
