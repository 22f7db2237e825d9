//! An owner that dies without a word: its speaker is killed, or its node loses its power.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_core::ownership::record::Holder;
use herald_tests::lab::Lab;
use herald_tests::lab::node::Node;
use herald_tests::lab::prober::Prober;

use crate::scene::{ASKS, REPLACED_WITHIN, SETTLE, Scene, one_voice};

const VIPS: [&str; 2] = ["192.168.112.1", "fd00:99::112:1"];

#[tokio::test]
async fn a_dead_owner_is_replaced_in_a_second_and_who_takes_an_address_keeps_it()
-> anyhow::Result<()> {
    Lab::run(3, async |lab| {
        let scene = Scene::set(lab).await?;
        let backend = lab.nodes()[0].start_backend("backend").await?;
        let vips = VIPS.map(|vip| vip.parse().expect("an address"));
        scene.serve("web", "Cluster", &vips, &[&backend]).await?;
        scene.speak()?;
        scene.await_sessions(lab.nodes()).await?;
        let prober = lab.probe(&vips, ASKS).await?;
        let owner = scene.await_probed_owner(&prober, &vips).await?;
        restarted(&scene, &prober, &vips, owner).await?;
        let dead = scene.await_owner(&prober, &vips[..1]).await?;
        replaced(&scene, &prober, &vips, dead, "SIGKILL", async || {
            lab.speaker(dead).context("runs")?.kill()
        })
        .await?;
        scene.speak_on(dead)?;
        scene.await_sessions(lab.nodes()).await?;
        let dead = scene.await_owner(&prober, &vips[..1]).await?;
        replaced(&scene, &prober, &vips, dead, "power loss", async || lab.power_loss(dead)).await?;
        for (vip, seen) in prober.finish().await? {
            one_voice(vip, &seen)?;
        }
        Ok(())
    })
    .await
}

/// The owner's speaker dies and is back at once: who is first to take each address then, its former node among them (R4),
/// does so soon and keeps it.
async fn restarted(
    scene: &Scene<'_>,
    prober: &Prober,
    vips: &[IpAddr],
    owner: &Node,
) -> anyhow::Result<()> {
    let began = SystemTime::now();
    let before = scene.holders().await?;
    scene.lab.speaker(owner).context("runs")?.kill()?;
    scene.speak_on(owner)?;
    let retaken = async || -> anyhow::Result<BTreeMap<IpAddr, Holder>> {
        let holders = scene.holders().await?;
        let is_new =
            |vip: &IpAddr| holders.get(vip).is_some_and(|now| before.get(vip) != Some(now));
        ensure!(vips.iter().all(is_new), "{holders:?}");
        Ok(holders)
    };
    let holders = scene.lab.await_condition("others hold them", SETTLE, retaken).await?;
    scene.await_sessions(scene.lab.nodes()).await?;
    scene.observe(prober, vips[0], Duration::from_secs(2)).await?;
    ensure!(scene.holders().await? == holders, "an address moved again");
    for (vip, holder) in &holders {
        let seen = prober.seen(*vip)?.between(began, SystemTime::now());
        eprintln!("restart: {vip} unanswered for {:.2?}", seen.longest_gap());
        ensure!(seen.longest_gap() <= REPLACED_WITHIN);
        let answers = scene.lab.node_of(seen.owner().context("answered")?)?;
        ensure!(holder.node == answers.name().into(), "{vip} is answered by {}", answers.name());
    }
    Ok(())
}

/// `kill` ends `dead`, which owns some of `vips` at least: who answers next for those, in time.
async fn replaced(
    scene: &Scene<'_>,
    prober: &Prober,
    vips: &[IpAddr],
    dead: &Node,
    how: &str,
    kill: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let holders = scene.holders().await?;
    let owned = vips.iter().filter(|vip| holders[vip].node == dead.name().into());
    let began = SystemTime::now();
    kill().await?;
    for &vip in owned {
        let next = scene.await_owner_but(prober, &[vip], Some(dead)).await?;
        let seen = prober.seen(vip)?.between(began, SystemTime::now());
        let gap = seen.longest_gap();
        eprintln!("{how}: {vip} from {} to {}: {gap:.2?}", dead.name(), next.name());
        ensure!(gap <= REPLACED_WITHIN, "{vip} was not answered for {gap:?}");
        scene.await_announcement(prober, vip, next, began).await?;
    }
    Ok(())
}
