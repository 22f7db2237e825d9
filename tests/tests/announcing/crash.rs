//! An owner that dies without a word: its speaker is killed, or its node loses its power.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_tests::lab::Lab;
use herald_tests::lab::node::Node;
use herald_tests::lab::prober::Prober;

use crate::scene::{ASKS, REPLACED_WITHIN, Scene, one_voice};

const VIPS: [&str; 2] = ["192.168.112.1", "fd00:99::112:1"];

#[tokio::test]
async fn a_dead_owner_is_replaced_in_a_second_and_a_restarted_one_takes_nothing_back()
-> anyhow::Result<()> {
    Lab::run(3, async |lab| {
        let scene = Scene::set(lab).await?;
        let backend = lab.nodes()[0].start_backend("backend").await?;
        let vips = VIPS.map(|vip| vip.parse().expect("an address"));
        scene.serve("web", "Cluster", &vips, &[&backend]).await?;
        scene.speak()?;
        scene.await_sessions(lab.nodes()).await?;
        let prober = lab.probe(&vips, ASKS).await?;
        let owner = scene.await_owner(&prober, &vips).await?;
        let owner = restarted(&scene, &prober, &vips, owner).await?;
        let dead = owner;
        let owner = replaced(&scene, &prober, &vips, dead, "SIGKILL", async || {
            lab.speaker(dead).context("runs")?.kill()
        })
        .await?;
        scene.speak_on(dead)?;
        scene.await_sessions(lab.nodes()).await?;
        replaced(&scene, &prober, &vips, owner, "power loss", async || lab.power_loss(owner))
            .await?;
        for (vip, seen) in prober.finish().await? {
            one_voice(vip, &seen)?;
        }
        Ok(())
    })
    .await
}

/// The owner's speaker dies and is back at once: another has taken over by then, or does so soon, and keeps what it took.
async fn restarted<'l>(
    scene: &Scene<'l>,
    prober: &Prober,
    vips: &[IpAddr],
    owner: &Node,
) -> anyhow::Result<&'l Node> {
    let began = SystemTime::now();
    scene.lab.speaker(owner).context("runs")?.kill()?;
    scene.speak_on(owner)?;
    let next = scene.await_owner_but(prober, vips, Some(owner)).await?;
    scene.await_sessions(scene.lab.nodes()).await?;
    scene.observe(prober, vips[0], Duration::from_secs(2)).await?;
    for &vip in vips {
        let seen = prober.seen(vip)?.between(began, SystemTime::now());
        eprintln!("restart: {vip} unanswered for {:.2?}", seen.longest_gap());
        ensure!(seen.longest_gap() <= REPLACED_WITHIN);
        ensure!(seen.owner() == Some(next.lan_mac()), "{vip} moved again");
    }
    Ok(next)
}

/// `kill` ends the owner `dead`: who answers next, in time and for all.
async fn replaced<'l>(
    scene: &Scene<'l>,
    prober: &Prober,
    vips: &[IpAddr],
    dead: &Node,
    how: &str,
    kill: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<&'l Node> {
    let began = SystemTime::now();
    kill().await?;
    let next = scene.await_owner_but(prober, vips, Some(dead)).await?;
    for &vip in vips {
        let seen = prober.seen(vip)?.between(began, SystemTime::now());
        let gap = seen.longest_gap();
        eprintln!("{how}: {vip} from {} to {}: {gap:.2?}", dead.name(), next.name());
        ensure!(gap <= REPLACED_WITHIN, "{vip} was not answered for {gap:?}");
        ensure!(seen.announced_after(began, next.lan_mac()).is_some(), "{vip} not announced");
    }
    Ok(next)
}
