//! The later chapters: what goes wrong, and what a client sees of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use herald_api::annotation::EXCLUDE_LABEL;
use herald_tests::lab::node::{BACKEND_PORT, Node};
use herald_tests::lab::process::Process;
use herald_tests::lab::wait::await_condition;
use serde_json::json;
use tokio::time::timeout;

use super::install::{PORT, Vip, curl, show_events, start_controller, url};
use super::screen::seconds;
use super::stage::{SETTLE, Stage, listed};
use super::watch::{ASK_PERIOD, CONNECT_PERIOD, Connections, Seen, Watch};

/// Another node answers so long after a crash at the latest: what the wire's evidence takes, twice over, and a little.
const TAKEOVER: Duration = Duration::from_secs(2);
/// Twice as long as a session lives without a renewal.
const API_AWAY: Duration = Duration::from_secs(12);
/// A standby works so long after the leader's crash at the latest.
const NEW_LEADER: Duration = Duration::from_secs(5);
/// How long an API server that is away is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Questions before and after what happens.
const BEFORE: usize = 50;
const AFTER: usize = 100;
/// What no healthy resident set exceeds.
const MEMORY: u64 = 20_000_000;

fn addresses(vips: &[Vip]) -> Vec<IpAddr> {
    vips.iter().map(|vip| vip.address).collect()
}

fn servers(vips: &[Vip]) -> Vec<SocketAddr> {
    vips.iter().map(Vip::server).collect()
}

/// The addresses of `claims` that `node` has.
fn of_node(claims: &BTreeMap<IpAddr, String>, node: &Node) -> Vec<IpAddr> {
    claims.iter().filter(|(_, owner)| *owner == node.name()).map(|(address, _)| *address).collect()
}

/// The node that has most of `vips`, and which those are.
async fn busiest<'s>(
    stage: &'s Stage<'_>,
    vips: &[Vip],
) -> anyhow::Result<(&'s Node, Vec<IpAddr>)> {
    let claims = stage.claimed(&addresses(vips)).await?;
    let shares = stage.lab.nodes().iter().map(|node| (node, of_node(&claims, node)));
    shares.max_by_key(|(_, own)| own.len()).context("the lab has no nodes")
}

/// Tells what `node` has, and what the client does meanwhile.
fn tell(stage: &Stage<'_>, node: &Node, own: &[IpAddr], vips: &[Vip]) {
    stage.screen.show(&format!(
        "{} answers for {} of {} addresses. The client asks for each every {}, and connects to each \
         every {}.",
        node.name(),
        own.len(),
        vips.len(),
        millis(ASK_PERIOD),
        millis(CONNECT_PERIOD),
    ));
}

/// One line for each of `vips` among `moved`: who answered, and for how long nobody did.
fn show_moves(
    stage: &Stage<'_>,
    vips: &[Vip],
    moved: &[IpAddr],
    seen: &Seen,
) -> anyhow::Result<()> {
    let head = ("address", "Service", "answered by", "no answer for", "not served for");
    let row = |(address, service, nodes, gap, http): (&str, &str, &str, &str, &str)| {
        let line = format!("{address:<18}{service:<16}{nodes:<20}{gap:>14}{http:>18}");
        stage.screen.show(&line);
    };
    stage.screen.gap();
    row(head);
    for vip in vips.iter().filter(|vip| moved.contains(&vip.address)) {
        let nodes = seen.nodes(stage, vip.address)?.join(" -> ");
        let gap = millis(seen.gap(vip.address));
        let http = millis(seen.http_gap(vip.address));
        row((&vip.address.to_string(), vip.service, &nodes, &gap, &http));
    }
    stage.screen.gap();
    Ok(())
}

fn millis(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

/// Takes the power from a node, and gives it back.
pub(crate) async fn power_loss(stage: &Stage<'_>, vips: &[Vip]) -> anyhow::Result<()> {
    let (lab, screen) = (&stage.lab, stage.screen);
    screen.chapter("A node loses its power");
    let (victim, lost) = busiest(stage, vips).await?;
    let name = victim.name();
    tell(stage, victim, &lost, vips);
    let kept: Vec<_> = addresses(vips).into_iter().filter(|a| !lost.contains(a)).collect();
    let watch = Watch::begin(stage, &addresses(vips), &servers(vips)).await?;
    watch.asked(BEFORE).await?;
    lab.power_loss(victim)?;
    let what = format!("{name} is off: both links down, all killed; others take its addresses");
    screen.step(&what, watch.moved(&lost, victim.lan_mac())).await?;
    watch.asked(AFTER).await?;
    let seen = watch.end(stage, 0).await?;
    show_moves(stage, vips, &lost, &seen)?;
    let expected = format!("within {} s", TAKEOVER.as_secs());
    let gap = lost.iter().map(|address| seen.gap(*address)).max().unwrap_or(Duration::MAX);
    let said = format!("{} addresses after {}", lost.len(), seconds(gap));
    stage.judge(gap <= TAKEOVER, "power loss: others answer instead", &expected, &said);
    let gap = lost.iter().map(|address| seen.http_gap(*address)).max().unwrap_or(Duration::MAX);
    let said = format!("after {}", seconds(gap));
    stage.judge(gap <= TAKEOVER, "power loss: HTTP is served again", &expected, &said);
    let (all, silent) = (seen.asked(&kept), seen.unanswered(&kept));
    let what = "power loss: other nodes' addresses";
    let said = format!("{silent} of {all} unanswered");
    stage.judge(silent == 0, what, "no ask unanswered", &said);
    power_back(stage, vips, victim).await
}

/// A node that comes back takes nothing from those who took over.
async fn power_back(stage: &Stage<'_>, vips: &[Vip], node: &Node) -> anyhow::Result<()> {
    let (lab, screen) = (&stage.lab, stage.screen);
    let before = stage.claimed(&addresses(vips)).await?;
    let watch = Watch::begin(stage, &addresses(vips), &[]).await?;
    let back = async {
        lab.links_up(node)?;
        lab.start_proxy(node)?;
        lab.start_speaker(node, &[])?;
        lab.proxy_ready(node).await?;
        stage.speaker_ready(node).await?;
        watch.asked(AFTER).await
    };
    screen.step(&format!("{} has its power back, and takes part again", node.name()), back).await?;
    let seen = watch.end(stage, 0).await?;
    still(stage, vips, &before, &seen, "power back: nothing moves").await
}

/// Judges that nobody noticed anything, and that the owners are those of `before`.
async fn still(
    stage: &Stage<'_>,
    vips: &[Vip],
    before: &BTreeMap<IpAddr, String>,
    seen: &Seen,
    what: &str,
) -> anyhow::Result<()> {
    let all = addresses(vips);
    let now = stage.claimed(&all).await?;
    let mut moved = Vec::new();
    for (address, owner) in before {
        let answering = seen.nodes(stage, *address)?;
        if now[address] != *owner || answering != [owner.clone()] {
            moved.push(address.to_string());
        }
    }
    let (asked, silent) = (seen.asked(&all), seen.unanswered(&all));
    let ok = moved.is_empty() && silent == 0 && seen.most_doubled(&all) == 0;
    let moves = match moved.is_empty() {
        true => String::new(),
        false => format!(", moved: {}", listed(&moved)),
    };
    let said = format!("{silent} of {asked} unanswered{moves}");
    stage.judge(ok, what, "no ask unanswered", &said);
    Ok(())
}

/// Drains a node of its addresses.
pub(crate) async fn drain(stage: &Stage<'_>, vips: &[Vip]) -> anyhow::Result<()> {
    let (lab, screen) = (&stage.lab, stage.screen);
    screen.chapter("A node is drained");
    let (node, moving) = busiest(stage, vips).await?;
    tell(stage, node, &moving, vips);
    let watch = Watch::begin(stage, &addresses(vips), &servers(vips)).await?;
    watch.asked(BEFORE).await?;
    let label = format!("{EXCLUDE_LABEL}=");
    let drained = async {
        lab.kubectl(&["label", "node", node.name(), &label]).await?;
        watch.moved(&moving, node.lan_mac()).await?;
        watch.asked(AFTER).await
    };
    let what = format!("$ kubectl label node {} {label}", node.name());
    screen.step(&what, drained).await?;
    let seen = watch.end(stage, moving.len()).await?;
    show_moves(stage, vips, &moving, &seen)?;
    let all = addresses(vips);
    let (asked, silent) = (seen.asked(&all), seen.unanswered(&all));
    let said = format!("{silent} of {asked} unanswered");
    stage.judge(silent == 0, "drain: somebody answers", "no ask unanswered", &said);
    let routes = moving.iter().map(|address| Ok(seen.nodes(stage, *address)?.len()));
    let once =
        routes.collect::<anyhow::Result<Vec<_>>>()?.iter().filter(|nodes| **nodes == 2).count();
    let (said, ok) = (format!("{once} of {}", moving.len()), once == moving.len());
    stage.judge(ok, "drain: addresses that move", "all of the node's, once", &said);
    let doubled = seen.most_doubled(&all);
    let expected = "at most 1 per address";
    let said = format!("at most {doubled}");
    stage.judge(doubled <= 1, "drain: asks that two nodes answer", expected, &said);
    judge_connections(stage, "drain: new HTTP connections", seen.connections());
    let label = format!("{EXCLUDE_LABEL}-");
    let arguments = ["label", "node", node.name(), &label];
    screen.step(&format!("$ kubectl {}", arguments.join(" ")), lab.kubectl(&arguments)).await?;
    Ok(())
}

/// Judges that no new connection was refused or unanswered; those that broke in flight are told.
fn judge_connections(stage: &Stage<'_>, what: &str, connections: Connections) {
    let Connections { served, lost, broken } = connections;
    let said = format!("{lost} of {}, {broken} broke later", served + lost + broken);
    stage.judge(lost == 0 && served > 0, what, "none refused or lost", &said);
}

/// Takes the API server away from everybody for longer than a session lives.
pub(crate) async fn api_outage(stage: &Stage<'_>, vips: &[Vip]) -> anyhow::Result<()> {
    let (lab, screen) = (&stage.lab, stage.screen);
    screen.chapter("The API server is away");
    let before = stage.claimed(&addresses(vips)).await?;
    let watch = Watch::begin(stage, &addresses(vips), &servers(vips)).await?;
    watch.asked(BEFORE).await?;
    lab.stop_api()?;
    // Nothing is to happen in this time, so there is no condition to wait for.
    let away = async {
        tokio::time::sleep(API_AWAY).await;
        let version = timeout(PATIENCE, lab.client().apiserver_version()).await;
        ensure!(!matches!(version, Ok(Ok(_))), "it answers: {version:?}");
        Ok(())
    };
    let what = format!("kube-apiserver is killed, and stays away for {} s", API_AWAY.as_secs());
    screen.step(&what, away).await?;
    screen.step("kube-apiserver starts", lab.start_api()).await?;
    let returned = SystemTime::now();
    let back = async {
        stage.renewed(returned).await?;
        watch.asked(AFTER).await
    };
    screen.step("speakers and controller are with it again", back).await?;
    let seen = watch.end(stage, 0).await?;
    still(stage, vips, &before, &seen, "API server away: nothing moves").await?;
    judge_connections(stage, "API server away: HTTP connections", seen.connections());
    Ok(())
}

/// Kills the controller that leads, and asks for an address at once.
pub(crate) async fn controller_crash(stage: &Stage<'_>) -> anyhow::Result<()> {
    let (lab, screen) = (&stage.lab, stage.screen);
    screen.chapter("The controller that leads crashes");
    let leader = await_condition("one leads", SETTLE, async || stage.leader().await).await?;
    let crashed = stage.controllers.borrow_mut().remove(&leader);
    crashed.with_context(|| format!("{leader} is not ours"))?.kill()?;
    let began = Instant::now();
    let service = "web-late";
    let late = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service},
        "spec": {
            "type": "LoadBalancer",
            "selector": {"app": "web"},
            "ports": [{"port": PORT, "targetPort": BACKEND_PORT}],
        },
    });
    let granted = async {
        lab.apply(&late.to_string()).await?;
        await_condition(&format!("{service} has an address"), SETTLE, async || {
            stage.addresses(service).await?.pop().context("it has none")
        })
        .await
    };
    let address = screen
        .step(&format!("{leader} is killed; a new Service asks for an address"), granted)
        .await?;
    let took = began.elapsed();
    let url = url(address);
    let reached = await_condition(&url, SETTLE, async || curl(stage, &url).await);
    screen.step(&format!("$ curl {url}"), reached).await?;
    let now = stage.leader().await?;
    let said = format!("after {}, by {now}", seconds(took));
    let expected = format!("within {} s", NEW_LEADER.as_secs());
    stage.judge(took <= NEW_LEADER, "controller crash: the standby allocates", &expected, &said);
    let replica = leader.rsplit('-').next().and_then(|number| number.parse().ok());
    start_controller(stage, replica.with_context(|| format!("{leader} has no number"))?)?;
    Ok(())
}

/// What is judged over all chapters: two answers to one question, and memory.
pub(crate) async fn overall(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.screen.chapter("All along");
    show_events(stage, "involvedObject.name=web").await?;
    let asks = stage.asks.borrow();
    let said = format!("{} of {}", asks.doubled, asks.all);
    let expected = format!("at most {}, 1 per move", asks.excused);
    let ok = asks.doubled <= asks.excused;
    stage.judge(ok, "asks that two nodes answer, all along", &expected, &said);
    let nodes = stage.lab.nodes().iter();
    let speaker = most_memory(nodes.filter_map(|node| stage.lab.speaker(node)))?;
    let controller = most_memory(stage.controllers.borrow().values().cloned())?;
    let said = format!("{} and {}", megabytes(controller), megabytes(speaker));
    let expected = format!("at most {} each", megabytes(MEMORY));
    stage.judge(
        speaker.max(controller) <= MEMORY,
        "resident memory: controller, speaker",
        &expected,
        &said,
    );
    Ok(())
}

/// The resident memory of that of `processes` that has most, in bytes; an error if there are none.
fn most_memory(processes: impl Iterator<Item = Process>) -> anyhow::Result<u64> {
    let sizes = processes.map(|process| process.resident_bytes());
    let sizes = sizes.collect::<anyhow::Result<Vec<_>>>()?;
    sizes.into_iter().max().context("none of them runs")
}

/// Tenths of a megabyte (10^6 bytes), rounded up.
fn megabytes(bytes: u64) -> String {
    let tenths = bytes.div_ceil(100_000);
    format!("{}.{} MB", tenths / 10, tenths % 10)
}
