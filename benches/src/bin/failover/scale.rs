//! A node dies that owns its share of very many addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use herald_benches::table::{Table, Target, between, spread};
use herald_tests::lab::Lab;
use herald_tests::lab::listener::Listener;
use herald_tests::lab::node::Node;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use tokio::time::sleep;

use crate::histogram::histogram;
use crate::stage::{SETTLE, Stage};
use crate::writes::Writes;

const SYSTEM: &str = "herald-system";
/// Requests under way at a time.
const CONNECTIONS: usize = 8;
/// Announcements come in bursts that take 5 s; after so long nobody has anything more to say.
const QUIET: Duration = Duration::from_secs(8);

/// What was seen when one node died.
struct Death {
    /// From the death to the first announcement of each of its addresses, shortest first.
    announced: Vec<Duration>,
    /// Addresses of other nodes that were announced besides.
    others: usize,
    /// Writes of claims and of the dead one's session, less what must be.
    needless: i64,
    /// Announcements in all that were lost to the bench.
    lost: u32,
}

pub(crate) async fn run(
    lab: &Lab,
    services: u16,
    runs: u16,
    table: &mut Table,
) -> anyhow::Result<()> {
    let stage = Stage::set(lab).await?;
    let first = Ipv4Addr::new(192, 168, 112, 0).to_bits();
    let serve = async |number: u16| {
        let vip = Ipv4Addr::from_bits(first + u32::from(number));
        stage.serve(&format!("s{number:05}"), &[vip.into()]).await
    };
    stream::iter(0..services).map(serve).buffer_unordered(CONNECTIONS).try_collect::<()>().await?;
    let writes = Writes::watch(lab.client(), SYSTEM);
    let mut listener = lab.listen().await?;
    let mut deaths = Vec::new();
    for number in 0..runs {
        let victim = &lab.nodes()[usize::from(number) % lab.nodes().len()];
        let death = one(&stage, victim, usize::from(services), &writes, &mut listener).await;
        let death = death.with_context(|| format!("run {number}"))?;
        let [median, _, last] = spread(death.announced.clone());
        let count = death.announced.len();
        eprintln!("run {number}: {count} addresses, median {median:.3} s, last {last:.3} s");
        deaths.push(death);
    }
    tell(table, &deaths, lab.nodes().len(), services);
    Ok(())
}

fn tell(table: &mut Table, deaths: &[Death], nodes: usize, services: u16) {
    let runs = deaths.len();
    table.remark(&format!("a node of {nodes} loses power, {services} Services, {runs} runs"));
    let all: Vec<_> = deaths.iter().flat_map(|death| death.announced.iter().copied()).collect();
    table.told("addresses of the dead nodes, in all", all.len() as f64, "");
    table.remark(&histogram(&all));
    let [median, _, _] = spread(all);
    let lasts = deaths.iter().filter_map(|death| death.announced.last().copied());
    let [last, _, longest] = spread(lasts.collect());
    table.told("death → announced, median of the addresses", median, "s");
    table.told("  the last of a node's, median of the runs", last, "s");
    table.judged("  the last of a node's, longest", longest, "s", Target::Most(1.8));
    let others: usize = deaths.iter().map(|death| death.others).sum();
    table.judged("addresses of others announced", others as f64, "", Target::Most(0.0));
    // Of each run by itself: one that wrote too few would hide another that wrote too many.
    let off = deaths.iter().map(|death| death.needless.unsigned_abs()).max().unwrap_or_default();
    table.judged(
        "Lease writes more or less than V + 1, worst run",
        off as f64,
        "",
        Target::Most(0.0),
    );
    let lost: u32 = deaths.iter().map(|death| death.lost).sum();
    table.told("announcements that the bench lost", f64::from(lost), "");
}

/// From a cold start of every speaker to the death of `victim`, and on until all is as before it.
async fn one(
    stage: &Stage<'_>,
    victim: &Node,
    services: usize,
    writes: &Writes,
    listener: &mut Listener,
) -> anyhow::Result<Death> {
    let lab = stage.lab;
    listener.forget();
    stage.speak()?;
    stage.sessions_open().await?;
    lab.await_condition("every address is announced", SETTLE, async || {
        let heard = listener.heard().await?.first.len();
        ensure!(heard == services, "{heard} are");
        ensure!(writes.ready(), "the watch of the Leases has not begun");
        Ok(())
    })
    .await?;
    sleep(QUIET).await;
    let mine = held_by(lab, victim).await?;
    ensure!(!mine.is_empty(), "{} owns nothing", victim.name());
    writes.forget();
    listener.forget();
    let died = SystemTime::now();
    lab.power_loss(victim)?;
    let heard = lab
        .await_condition("its addresses are announced", SETTLE, async || {
            let heard = listener.heard().await?.first;
            let missing = mine.iter().filter(|vip| !heard.contains_key(vip)).count();
            ensure!(missing == 0, "{missing} of {} are not", mine.len());
            Ok(heard)
        })
        .await?;
    let mut announced: Vec<_> = mine.iter().map(|vip| between(died, heard[vip])).collect();
    announced.sort_unstable();
    sleep(QUIET).await;
    let session = format!("speaker-{}", victim.name());
    let written = writes.count(|name| name.starts_with("vip-") || name == session);
    let needless = i64::try_from(written)? - i64::try_from(mine.len() + 1)?;
    let heard = listener.heard().await?;
    let others = heard.first.keys().filter(|vip| !mine.contains(vip)).count();
    lab.links_up(victim)?;
    forget_all(stage).await?;
    Ok(Death { announced, others, needless, lost: heard.lost })
}

async fn held_by(lab: &Lab, node: &Node) -> anyhow::Result<BTreeSet<IpAddr>> {
    let claims: BTreeMap<_, _> = lab.claims().await?;
    let held = claims.into_values().filter(|claim| claim.holder.node.to_string() == node.name());
    Ok(held.map(|claim| claim.address).collect())
}

/// Ends every speaker, and leaves no Lease: what begins next is a cold start, whose shares are even.
async fn forget_all(stage: &Stage<'_>) -> anyhow::Result<()> {
    let lab = stage.lab;
    for node in lab.nodes() {
        if let Some(speaker) = lab.speaker(node) {
            speaker.kill()?;
        }
    }
    let leases: Api<Lease> = Api::namespaced(lab.client(), SYSTEM);
    let all = (DeleteParams::default(), ListParams::default());
    leases.delete_collection(&all.0, &all.1).await.context("delete the Leases")?;
    lab.await_condition("no Lease is left", SETTLE, async || {
        let left = leases.list_metadata(&ListParams::default()).await?.items.len();
        ensure!(left == 0, "{left} are");
        Ok(())
    })
    .await
}
