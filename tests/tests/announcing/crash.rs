//! An owner that dies without a word: its speaker is killed, or its node loses its power.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_tests::lab::Lab;
use herald_tests::lab::node::Node;
use herald_tests::lab::prober::Prober;

use crate::scene::{ASKS, REPLACED_WITHIN, SETTLE, Scene, one_voice};

const VIPS: [&str; 2] = ["192.168.112.1", "fd00:99::112:1"];

#[tokio::test]
async fn a_dead_owner_is_replaced_in_nine_seconds_and_a_restarted_one_stays() -> anyhow::Result<()>
{
    Lab::run(3, async |lab| {
        let scene = Scene::set(lab).await?;
        let backend = lab.nodes()[0].start_backend("backend").await?;
        let vips = VIPS.map(|vip| vip.parse().expect("an address"));
        scene.serve("web", "Cluster", &vips, &[&backend]).await?;
        scene.speak()?;
        scene.await_sessions(lab.nodes()).await?;
        let prober = lab.probe(&vips, ASKS).await?;
        let owner = scene.await_owner(&prober, &vips).await?;
        restarted(&scene, &prober, &vips, owner).await?;
        let dead = owner;
        let owner = replaced(&scene, &prober, &vips, dead, "SIGKILL", async || {
            lab.speaker(dead).context("runs")?.kill()
        })
        .await?;
        scene.speak_on(dead)?;
        scene.await_sessions(lab.nodes()).await?;
        replaced(&scene, &prober, &vips, owner, "power loss", async || {
            // The cables go one after the other, and a speaker that lives hands over in between what it can.
            lab.speaker(owner).context("runs")?.stop()?;
            lab.power_loss(owner)
        })
        .await?;
        for (vip, seen) in prober.finish().await? {
            one_voice(vip, &seen)?;
        }
        Ok(())
    })
    .await
}

/// The owner's speaker dies and is back at once: nothing moves.
async fn restarted(
    scene: &Scene<'_>,
    prober: &Prober,
    vips: &[IpAddr],
    owner: &Node,
) -> anyhow::Result<()> {
    let began = SystemTime::now();
    let before = scene.claims().await?;
    scene.lab.speaker(owner).context("runs")?.kill()?;
    scene.speak_on(owner)?;
    scene
        .lab
        .await_condition("the next life holds the claims", SETTLE, async || {
            let claims = scene.claims().await?;
            for vip in vips {
                ensure!(claims[vip].holder.incarnation != before[vip].holder.incarnation);
            }
            Ok(())
        })
        .await?;
    scene.await_owner(prober, vips).await?;
    scene.observe(prober, vips[0], Duration::from_secs(2)).await?;
    for &vip in vips {
        let seen = prober.seen(vip)?.between(began, SystemTime::now());
        let macs: Vec<_> = seen.owners().iter().map(|answer| answer.mac).collect();
        ensure!(macs == [owner.lan_mac()], "{vip} moved: {macs:?}");
        eprintln!("restart: {vip} unanswered for {:.2?}, stays", seen.longest_gap());
        ensure!(seen.longest_gap() <= REPLACED_WITHIN);
    }
    Ok(())
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
