//! One node: two speakers under its name, its multicast groups, and its cable.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_core::wire::ndp;
use herald_tests::lab::Lab;
use herald_tests::lab::network::Segment;
use herald_tests::lab::node::Node;
use herald_tests::lab::prober::Prober;

use crate::readings::{HEALTH, read};
use crate::scene::{ASKS, SETTLE, Scene, millis, one_voice};

const SECOND_HEALTH: u16 = 17999;
/// A node that loses its cable and not the API hands over at once: a write that says so, one that takes, and a delay each.
const MOVES_WITHIN: Duration = Duration::from_secs(2);

/// A node writes what its links are once a second, in milliseconds; and it takes what it left.
const ANNOUNCED_WITHIN: f64 = 3000.0;

#[tokio::test]
async fn a_second_speaker_is_refused_and_the_cable_may_come_and_go() -> anyhow::Result<()> {
    Lab::run(2, async |lab| {
        let scene = Scene::set(lab).await?;
        let backend = lab.nodes()[0].start_backend("backend").await?;
        let vips: Vec<IpAddr> = vec!["192.168.112.1".parse()?, "fd00:99::112:1".parse()?];
        scene.serve("web", "Cluster", &vips, &[&backend]).await?;
        scene.speak()?;
        scene.await_sessions(lab.nodes()).await?;
        let prober = lab.probe(&vips, ASKS).await?;
        let owner = scene.await_owner(&prober, &vips).await?;
        lab.await_condition("the owner alone is in the group", SETTLE, async || {
            membership(lab, "fd00:99::112:1".parse()?, owner)
        })
        .await?;
        // Held to the end: the lab itself soon knows the second by its name.
        let first = lab.speaker(owner).context("runs")?;
        refused(&scene, &prober, vips[0], owner).await?;
        ensure!(first.status()?.is_none(), "the first runs");
        unplugged(&scene, &prober, &vips, owner).await?;
        for (vip, seen) in prober.finish().await? {
            one_voice(vip, &seen)?;
        }
        Ok(())
    })
    .await
}

/// The owner alone is in the address' solicited-node group on the LAN.
fn membership(lab: &Lab, vip: Ipv6Addr, owner: &Node) -> anyhow::Result<()> {
    let group: String =
        ndp::solicited_node(vip).octets().iter().map(|byte| format!("{byte:02x}")).collect();
    for node in lab.nodes() {
        // `/proc/net` is the process', not the thread's.
        let read = || std::fs::read_to_string("/proc/thread-self/net/igmp6");
        let groups = node.namespace().enter(read)??;
        let is_member = groups.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            words.next() == Some(Segment::Lan.interface()) && words.next() == Some(&group)
        });
        ensure!(is_member == (node.name() == owner.name()), "{}: {groups}", node.name());
    }
    Ok(())
}

/// A second process under the owner's name says why it is not ready, and changes nothing.
async fn refused(
    scene: &Scene<'_>,
    prober: &Prober,
    vip: IpAddr,
    owner: &Node,
) -> anyhow::Result<()> {
    let lab = scene.lab;
    let before = scene.sessions().await?[owner.name()].open_for.clone();
    let health = SECOND_HEALTH.to_string();
    let second = lab.start_speaker(owner, &["--port", "0", "--health-probe-port", &health])?;
    let said = lab
        .await_condition("the second says why it is not ready", SETTLE, async || {
            let ready = read(owner, SECOND_HEALTH, "/readyz").await?;
            ensure!(ready.status == 503 && ready.body.contains("another process"), "{ready:?}");
            Ok(ready.body)
        })
        .await?;
    eprintln!("the second: {}", said.lines().find(|l| l.contains("another")).unwrap_or_default());
    let began = SystemTime::now();
    // Longer than a session lasts.
    scene.observe(prober, vip, Duration::from_secs(7)).await?;
    ensure!(scene.sessions().await?[owner.name()].open_for == before, "another life");
    scene.all_answered(prober, &[vip], began).await?;
    let owners = prober.seen(vip)?.between(began, SystemTime::now()).owners();
    let macs: Vec<_> = owners.iter().map(|answer| answer.mac).collect();
    ensure!(macs == [owner.lan_mac()], "{macs:?}");
    ensure!(read(owner, SECOND_HEALTH, "/healthz").await?.status == 200);
    ensure!(read(owner, HEALTH, "/readyz").await?.status == 200, "the first is ready");
    second.kill()
}

/// The owner's cable is pulled: the other node takes over, as the API tells it. Then the other's, for a moment: with
/// nobody left to take it, it announces itself when the cable is back.
async fn unplugged(
    scene: &Scene<'_>,
    prober: &Prober,
    vips: &[IpAddr],
    owner: &Node,
) -> anyhow::Result<()> {
    let network = scene.lab.network();
    let pulled = SystemTime::now();
    network.unplug(Segment::Lan, owner.name())?;
    let next = scene.await_owner_but(prober, vips, Some(owner)).await?;
    for &vip in vips {
        let gap = prober.seen(vip)?.between(pulled, SystemTime::now()).longest_gap();
        eprintln!("cable pulled: {vip} unanswered for {gap:.2?}");
        ensure!(gap <= MOVES_WITHIN, "{vip} was not answered for {gap:?}");
    }
    network.unplug(Segment::Lan, next.name())?;
    scene
        .lab
        .await_condition("nobody answers", SETTLE, async || {
            ensure!(prober.answered_now(vips[0]).is_err());
            Ok(())
        })
        .await?;
    let back = SystemTime::now();
    network.replug(Segment::Lan, next.name())?;
    for &vip in vips {
        let announced = scene.await_announcement(prober, vip, next, back).await?;
        let after = millis(back, announced);
        eprintln!("cable back: {vip} announced after {after:.0} ms");
        ensure!(after <= ANNOUNCED_WITHIN, "{vip}: {after} ms");
    }
    network.replug(Segment::Lan, owner.name())?;
    scene.await_owner(prober, vips).await?;
    Ok(())
}
