//! `externalTrafficPolicy: Local`: only a node with an endpoint answers.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_tests::lab::Lab;
use herald_tests::lab::node::{Backend, Node};
use herald_tests::lab::prober::Prober;

use crate::scene::{ASKS, SETTLE, Scene, millis, one_voice_but_for};

/// How long silence is watched.
const QUIET: Duration = Duration::from_secs(2);

/// An address without owner is taken so soon: a plan, a write, and the 100 ms for which the wire is asked (R9).
const ANSWERED_AGAIN: Duration = Duration::from_secs(2);

#[tokio::test]
async fn the_owner_hosts_an_endpoint_and_without_any_nobody_answers() -> anyhow::Result<()> {
    Lab::run(3, async |lab| {
        let scene = Scene::set(lab).await?;
        let [first, second, third] = lab.nodes() else { anyhow::bail!("three nodes") };
        let backends = [
            first.start_backend("node1").await?,
            second.start_backend("node2").await?,
            third.start_backend("node3").await?,
        ];
        let vip: IpAddr = "192.168.112.1".parse()?;
        scene.serve("web", "Local", &[vip], &[&backends[0], &backends[1]]).await?;
        scene.speak()?;
        scene.await_sessions(lab.nodes()).await?;
        let prober = lab.probe(&[vip], ASKS).await?;
        let owner = scene.await_owner(&prober, &[vip]).await?;
        ensure!(owner.name() != third.name(), "node3 has no endpoint");
        served_by(&scene, vip, owner).await?;
        let other = if owner.name() == first.name() { second } else { first };
        // The owner's last endpoint goes, then the next one's.
        follows(&scene, &prober, vip, &backends, other).await?;
        follows(&scene, &prober, vip, &backends, third).await?;
        nobody(&scene, &prober, vip).await?;
        let back = SystemTime::now();
        scene.back("web", &[&backends[1]]).await?;
        let owner = scene.await_owner(&prober, &[vip]).await?;
        ensure!(owner.name() == second.name(), "{} has no endpoint", owner.name());
        served_by(&scene, vip, second).await?;
        let seen = prober.seen(vip)?.between(back, SystemTime::now());
        let first = seen.owners().first().map(|answer| answer.at).context("answers")?;
        let after = first.duration_since(back)?;
        eprintln!("answered {after:.2?} after an endpoint was there again");
        ensure!(after <= ANSWERED_AGAIN, "answered {after:?} after an endpoint was there again");
        let seen = &prober.finish().await?[&vip];
        one_voice_but_for(2, vip, seen)?;
        Ok(())
    })
    .await
}

/// A client is served on `owner` itself, and its address is kept.
async fn served_by(scene: &Scene<'_>, vip: IpAddr, owner: &Node) -> anyhow::Result<()> {
    scene
        .lab
        .await_condition("the owner's own endpoint serves", SETTLE, async || {
            let answer = scene.reach(vip).await?;
            ensure!(answer == format!("{}\n192.168.99.200\n", owner.name()), "{answer}");
            Ok(())
        })
        .await
}

/// The only endpoint is on `node` from now on.
async fn follows(
    scene: &Scene<'_>,
    prober: &Prober,
    vip: IpAddr,
    backends: &[Backend],
    node: &Node,
) -> anyhow::Result<()> {
    let began = SystemTime::now();
    let backend = backends.iter().find(|one| one.node == node.name()).context("a backend")?;
    scene.back("web", &[backend]).await?;
    scene
        .lab
        .await_condition("the address follows its endpoint", SETTLE, async || {
            ensure!(prober.answered_now(vip)? == node.lan_mac());
            Ok(())
        })
        .await?;
    served_by(scene, vip, node).await?;
    let seen = prober.seen(vip)?.between(began, SystemTime::now());
    let moved = seen.owners().iter().find(|answer| answer.mac == node.lan_mac()).map(|a| a.at);
    let took = moved.context("it answers")?.duration_since(began)?;
    eprintln!(
        "to {} in {took:.2?}, {} of {} asks unanswered",
        node.name(),
        seen.unanswered(),
        seen.asks.len()
    );
    let claim = scene.claims().await?.remove(&vip).context("claimed")?;
    ensure!(&*claim.holder.node.to_string() == node.name(), "{claim:?}");
    Ok(())
}

/// No endpoint is left: the claim goes, and silence is complete.
async fn nobody(scene: &Scene<'_>, prober: &Prober, vip: IpAddr) -> anyhow::Result<()> {
    let began = SystemTime::now();
    scene.back("web", &[]).await?;
    scene
        .lab
        .await_condition("the claim is gone", SETTLE, async || {
            ensure!(!scene.claims().await?.contains_key(&vip), "it is there");
            Ok(())
        })
        .await?;
    let gone = SystemTime::now();
    scene.observe(prober, vip, QUIET).await?;
    let seen = prober.seen(vip)?;
    let silent = seen.between(gone, SystemTime::now());
    ensure!(silent.owners().is_empty() && silent.announcements.is_empty(), "{silent:?}");
    let answers = seen.asks.iter().flat_map(|ask| &ask.answers).map(|answer| answer.at);
    let (last, gone) = (millis(began, answers.max().unwrap_or(began)), millis(began, gone));
    eprintln!("no endpoint: the last answer {last:.0} ms after, the claim gone {gone:.0} ms after");
    Ok(())
}
