//! An owner that leaves in good order: its speaker is asked to stop, or its node is drained.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use herald_tests::lab::Lab;
use herald_tests::lab::http;
use herald_tests::lab::node::Node;
use herald_tests::lab::prober::Prober;

use crate::readings::assignments;
use crate::scene::{ASKS, SETTLE, Scene, all, one_voice_but_for};

const VIPS: [&str; 2] = ["192.168.112.1", "fd00:99::112:1"];
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Between two connections of the client.
const CONNECTS: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(2);
/// So long no connection may be served to its end at most, and so many may break by one move.
const UNSERVED: Duration = Duration::from_millis(500);
const BROKEN_BY_A_MOVE: usize = 10;
const EXITS_WITHIN: Duration = Duration::from_secs(5);
/// Longer than an address waits before it moves to a better node, and than a burst of announcements.
const LATER: Duration = Duration::from_secs(7);

#[tokio::test]
async fn a_planned_move_loses_no_question_and_no_new_connection() -> anyhow::Result<()> {
    Lab::run(3, async |lab| {
        let scene = Scene::set(lab).await?;
        let backend = lab.nodes()[0].start_backend("backend").await?;
        let vips = VIPS.map(|vip| vip.parse().expect("an address"));
        scene.serve("web", "Cluster", &vips, &[&backend]).await?;
        scene.speak()?;
        scene.await_sessions(lab.nodes()).await?;
        let prober = lab.probe(&vips, ASKS).await?;
        let owner = scene.await_owner(&prober, &vips).await?;
        proxied_everywhere(lab, &vips).await?;
        for vip in vips {
            scene.reach(vip).await?;
        }
        let began = SystemTime::now();
        let clients =
            vips.map(|vip| lab.connect_steadily(SocketAddr::new(vip, 80), CONNECTS, PATIENCE));
        let stopped = owner;
        let owner = stop(&scene, &prober, &vips, stopped).await?;
        scene.speak_on(stopped)?;
        scene.await_sessions(lab.nodes()).await?;
        let owner = drain(&scene, &prober, &vips, owner).await?;
        for (vip, client) in vips.into_iter().zip(clients) {
            let went = client.finish().await?;
            let (served, refused, unanswered) =
                (went.served(), went.refused(), went.unanswered());
            let broken = went.broken();
            eprintln!("{vip}: {served} served, {refused} refused, {unanswered} unanswered, {broken} broken in flight");
            ensure!(served > 100 && refused == 0 && unanswered == 0);
            // What stands while the address moves may break, and no more than that.
            let unserved = went.unserved();
            ensure!(unserved <= UNSERVED && broken <= 2 * BROKEN_BY_A_MOVE, "{vip}: {unserved:?}");
            ensure!(served + broken == went.0.len(), "some were malformed");
        }
        let ended = SystemTime::now();
        for (vip, seen) in prober.finish().await? {
            let seen = seen.between(began, ended);
            ensure!(seen.owner() == Some(owner.lan_mac()));
            ensure!(seen.unanswered() == 0, "{vip}: {} questions unanswered", seen.unanswered());
            let doubled = one_voice_but_for(2, vip, &seen)?;
            eprintln!("{vip}: {} asks, {doubled} answered by two in two moves", seen.asks.len());
            let moves: Vec<_> = seen.owners().iter().map(|answer| answer.mac).collect();
            eprintln!("{vip}: {moves:?}");
        }
        let told = assignments(lab, "web").await?;
        // For each address, one for each of three owners; the same words count up on one Event.
        let count: i32 = told.iter().filter_map(|event| event.count).sum();
        ensure!(count == 6, "{told:?}");
        Ok(())
    })
    .await
}

/// Every node's kube-proxy leads to the backend: what is lost later is not for its want.
async fn proxied_everywhere(lab: &Lab, vips: &[IpAddr]) -> anyhow::Result<()> {
    let pairs = lab.nodes().iter().flat_map(|node| vips.iter().map(move |vip| (node, *vip)));
    all(pairs.map(async |(node, vip)| {
        lab.await_condition("kube-proxy knows the Service", SETTLE, async || {
            let server = SocketAddr::new(vip, 80);
            let get = node.namespace().spawn(async move { http::get(server, "/", PATIENCE).await });
            Ok(get.await??)
        })
        .await
    }))
    .await?;
    Ok(())
}

/// SIGTERM to the owner's speaker.
async fn stop<'l>(
    scene: &Scene<'l>,
    prober: &Prober,
    vips: &[IpAddr],
    owner: &Node,
) -> anyhow::Result<&'l Node> {
    let speaker = scene.lab.speaker(owner).context("runs")?;
    let asked = Instant::now();
    speaker.sigterm()?;
    let status = speaker.exited(SETTLE).await?;
    let took = asked.elapsed();
    eprintln!("{} ended {took:.2?} after SIGTERM: {status}", owner.name());
    ensure!(status.success() && took < EXITS_WITHIN, "{status} after {took:?}");
    let next = scene.await_owner_but(prober, vips, Some(owner)).await?;
    let session = scene.sessions().await?.remove(owner.name()).context("it stays, closed")?;
    ensure!(session.open_for.is_none(), "{session:?}");
    Ok(next)
}

/// The owner's node is drained; when that is over, nothing comes back to it.
async fn drain<'l>(
    scene: &Scene<'l>,
    prober: &Prober,
    vips: &[IpAddr],
    drained: &Node,
) -> anyhow::Result<&'l Node> {
    let lab = scene.lab;
    lab.kubectl(&["label", "node", drained.name(), &format!("{EXCLUDE}=")]).await?;
    let next = scene.await_owner_but(prober, vips, Some(drained)).await?;
    scene.observe(prober, vips[0], Duration::from_secs(2)).await?;
    lab.kubectl(&["label", "node", drained.name(), &format!("{EXCLUDE}-")]).await?;
    scene.await_sessions(lab.nodes()).await?;
    let back = SystemTime::now();
    scene.observe(prober, vips[0], LATER).await?;
    for &vip in vips {
        let macs: Vec<_> = prober
            .seen(vip)?
            .between(back, SystemTime::now())
            .owners()
            .iter()
            .map(|a| a.mac)
            .collect();
        ensure!(macs == [next.lan_mac()], "{vip} moved after the drain: {macs:?}");
    }
    Ok(next)
}
