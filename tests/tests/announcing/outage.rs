//! Without the API server: for all speakers, and for the owner alone.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::ensure;
use herald_core::wire::Mac;
use herald_tests::lab::Lab;
use herald_tests::lab::node::Backend;
use herald_tests::lab::prober::Prober;

use crate::scene::{ASKS, Scene, all, one_voice};

const VIPS: [&str; 4] = ["192.168.112.1", "192.168.112.2", "192.168.112.3", "fd00:99::112:1"];
const OUTAGE: Duration = Duration::from_secs(20);
/// How long nothing may move once the API server is back.
const AFTERWARDS: Duration = Duration::from_secs(10);

async fn serve_all(scene: &Scene<'_>, vips: &[IpAddr], backend: &Backend) -> anyhow::Result<()> {
    let names = (1..).map(|number| format!("s{number}"));
    let serve = async |(name, vip): (String, IpAddr)| {
        scene.serve(&name, "Cluster", &[vip], &[backend]).await
    };
    all(names.zip(vips.iter().copied()).map(serve)).await?;
    Ok(())
}

/// Who answers for each now, once each is answered.
async fn owners(
    scene: &Scene<'_>,
    prober: &Prober,
    vips: &[IpAddr],
) -> anyhow::Result<BTreeMap<IpAddr, Mac>> {
    let mut owners = BTreeMap::new();
    for &vip in vips {
        owners.insert(vip, scene.await_owner(prober, &[vip]).await?.lan_mac());
    }
    Ok(owners)
}

#[tokio::test]
async fn an_absent_api_server_stops_no_answer_and_moves_nothing() -> anyhow::Result<()> {
    Lab::run(3, async |lab| {
        let scene = Scene::set(lab).await?;
        let backend = lab.nodes()[0].start_backend("backend").await?;
        let vips = VIPS.map(|vip| vip.parse().expect("an address"));
        serve_all(&scene, &vips, &backend).await?;
        scene.speak()?;
        scene.await_sessions(lab.nodes()).await?;
        let prober = lab.probe(&vips, ASKS).await?;
        let before = owners(&scene, &prober, &vips).await?;
        let claims = scene.claims().await?;
        let began = SystemTime::now();
        // It is silent, and then it is gone.
        lab.pause_api()?;
        scene.observe(&prober, vips[0], OUTAGE).await?;
        lab.resume_api()?;
        scene.observe(&prober, vips[0], AFTERWARDS).await?;
        ensure!(scene.claims().await? == claims, "claims changed");
        lab.stop_api()?;
        scene.observe(&prober, vips[0], OUTAGE).await?;
        lab.start_api().await?;
        scene.observe(&prober, vips[0], AFTERWARDS).await?;
        ensure!(scene.claims().await? == claims, "claims changed");
        let ended = SystemTime::now();
        for (vip, seen) in prober.finish().await? {
            let seen = seen.between(began, ended);
            let macs: Vec<_> = seen.owners().iter().map(|answer| answer.mac).collect();
            let (asks, unanswered) = (seen.asks.len(), seen.unanswered());
            eprintln!("{vip}: {asks} asks, {unanswered} unanswered, {macs:?}");
            ensure!(macs == [before[&vip]], "{vip} moved: {macs:?}");
            ensure!(asks > 1000 && unanswered == 0, "{unanswered} of {asks} for {vip}");
            one_voice(vip, &seen)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_owner_cut_off_from_the_api_alone_keeps_its_addresses() -> anyhow::Result<()> {
    Lab::run(3, async |lab| {
        let scene = Scene::set(lab).await?;
        let backend = lab.nodes()[0].start_backend("backend").await?;
        let vips: Vec<IpAddr> = vec!["192.168.112.1".parse()?, "fd00:99::112:1".parse()?];
        scene.serve("web", "Cluster", &vips, &[&backend]).await?;
        scene.speak()?;
        scene.await_sessions(lab.nodes()).await?;
        let prober = lab.probe(&vips, ASKS).await?;
        let owner = scene.await_owner(&prober, &vips).await?;
        let (before, cut) = (scene.claims().await?, SystemTime::now());
        lab.cut_api(owner)?;
        // Three times as long as its session lasts: its peers ask, and it answers (R7's veto).
        scene.observe(&prober, vips[0], OUTAGE).await?;
        let session = scene.sessions().await?[owner.name()].clone();
        ensure!(session.open_for.is_some(), "{session:?}");
        lab.heal_api(owner)?;
        scene.observe(&prober, vips[0], AFTERWARDS).await?;
        let ended = SystemTime::now();
        let now = scene.sessions().await?[owner.name()].clone();
        let renewed = now.open_for == session.open_for && now.renewal > session.renewal;
        ensure!(renewed, "first {session:?}, then {now:?}");
        ensure!(scene.claims().await? == before, "claims changed");
        for (vip, seen) in prober.finish().await? {
            let seen = seen.between(cut, ended);
            let macs: Vec<_> = seen.owners().iter().map(|answer| answer.mac).collect();
            ensure!(macs == [owner.lan_mac()], "{vip} moved: {macs:?}");
            ensure!(seen.unanswered() == 0, "{} questions for {vip} unanswered", seen.unanswered());
            one_voice(vip, &seen)?;
        }
        Ok(())
    })
    .await
}
