//! What speakers learn on the wire: that an owner is silent, that a process slept, that a stranger has the address.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_tests::lab::Lab;
use herald_tests::lab::namespace::Namespace;
use herald_tests::lab::node::Node;
use herald_tests::lab::prober::Prober;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;

use crate::scene::{ASKS, REPLACED_WITHIN, SETTLE, Scene, millis, one_voice};

/// How long a speaker stands still, or a port of the switch is dead.
const AWAY: Duration = Duration::from_secs(15);
/// A stranger's address is told of so soon after a Service was given it.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// An address is announced so soon after a stranger has left it.
const ANNOUNCED_AGAIN: Duration = Duration::from_secs(5);

async fn set<'l>(lab: &'l Lab, vips: &[IpAddr]) -> anyhow::Result<(Scene<'l>, Prober)> {
    let scene = Scene::set(lab).await?;
    let backend = lab.nodes()[0].start_backend("backend").await?;
    scene.serve("web", "Cluster", vips, &[&backend]).await?;
    scene.speak()?;
    scene.await_sessions(lab.nodes()).await?;
    let prober = lab.probe(vips, ASKS).await?;
    Ok((scene, prober))
}

#[tokio::test]
async fn who_falls_silent_is_replaced_and_has_nothing_to_say_when_it_is_back() -> anyhow::Result<()>
{
    Lab::run(3, async |lab| {
        let vips: [IpAddr; 2] = ["192.168.112.1".parse()?, "fd00:99::112:1".parse()?];
        let (scene, prober) = set(lab, &vips).await?;
        let owner = scene.await_probed_owner(&prober, &vips).await?;
        let process = lab.speaker(owner).context("runs")?;
        let suspend = || process.stop();
        let owner =
            away(&scene, &prober, &vips, owner, "SIGSTOP", suspend, || process.cont()).await?;
        let cut = || lab.cut_lan(owner);
        away(&scene, &prober, &vips, owner, "dead port", cut, || lab.heal_lan(owner)).await?;
        for (vip, seen) in prober.finish().await? {
            one_voice(vip, &seen)?;
        }
        Ok(())
    })
    .await
}

/// `old` is taken away for a while: who answers next, in time, and alone also when `old` is back.
async fn away<'l>(
    scene: &Scene<'l>,
    prober: &Prober,
    vips: &[IpAddr],
    old: &Node,
    how: &str,
    take: impl FnOnce() -> anyhow::Result<()>,
    give_back: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<&'l Node> {
    let began = SystemTime::now();
    take()?;
    let new = scene.await_owner_but(prober, vips, Some(old)).await?;
    scene.observe(prober, vips[0], AWAY).await?;
    let back = SystemTime::now();
    give_back()?;
    scene.observe(prober, vips[0], Duration::from_secs(5)).await?;
    for &vip in vips {
        let seen = prober.seen(vip)?;
        let gap = seen.between(began, back).longest_gap();
        let stale = seen.said_since(back, |mac| mac != new.lan_mac());
        eprintln!("{how}: {vip} unanswered for {gap:.2?}, {stale} stale words");
        ensure!(gap <= REPLACED_WITHIN, "{vip} was not answered for {gap:?}");
        ensure!(
            stale == 0,
            "{stale} answers and announcements for {vip} by others than {}",
            new.name()
        );
    }
    scene.await_sessions(scene.lab.nodes()).await?;
    Ok(new)
}

/// A host that is no node has `vip`, or has it no more.
fn squat(host: &Namespace, vip: IpAddr, verb: &str) -> anyhow::Result<()> {
    let (bits, nodad) = if vip.is_ipv4() { (32, "") } else { (128, "nodad") };
    host.ip_batch(&[format!("address {verb} {vip}/{bits} dev lan0 {nodad}")])
}

#[tokio::test]
async fn an_address_that_a_stranger_has_is_told_of_and_not_announced() -> anyhow::Result<()> {
    Lab::run(3, async |lab| {
        let vips: [IpAddr; 2] = ["192.168.112.1".parse()?, "fd00:99::112:1".parse()?];
        let host = lab.client_namespace();
        for vip in vips {
            squat(host, vip, "add")?;
        }
        let began = SystemTime::now();
        let scene = Scene::set(lab).await?;
        let backend = lab.nodes()[0].start_backend("backend").await?;
        scene.speak()?;
        scene.await_sessions(lab.nodes()).await?;
        // From before anybody could announce it.
        let prober = lab.probe(&vips, ASKS).await?;
        scene.serve("web", "Cluster", &vips, &[&backend]).await?;
        let served = SystemTime::now();
        let events: Api<Event> = Api::default_namespaced(lab.client());
        lab.await_condition("the conflict is told", SETTLE, async || {
            let listed = events.list(&ListParams::default()).await?;
            let conflicts: Vec<String> = listed
                .into_iter()
                .filter(|event| event.reason.as_deref() == Some("AddressConflict"))
                .filter_map(|event| event.message)
                .collect();
            for vip in vips {
                let told = conflicts.iter().any(|told| told.contains(&format!("\"{vip}\"")));
                ensure!(told, "{vip}: {conflicts:?}");
            }
            Ok(())
        })
        .await?;
        let told = served.elapsed()?;
        eprintln!("told after {told:.2?}");
        ensure!(told <= TOLD_WITHIN, "the conflict was told after {told:?}");
        scene.observe(&prober, vips[0], Duration::from_secs(5)).await?;
        for vip in vips {
            let seen = prober.seen(vip)?;
            ensure!(seen.announcements.is_empty(), "{vip}: {:?}", seen.announcements);
            ensure!(scene.claims().await?.contains_key(&vip), "nobody holds {vip}");
        }
        for vip in vips {
            squat(host, vip, "del")?;
        }
        let left = SystemTime::now();
        let owner = scene.await_owner(&prober, &vips).await?;
        for vip in vips {
            let told = scene.await_announcement(&prober, vip, owner, began).await?;
            eprintln!("{vip} announced {:.0} ms after the stranger left", millis(left, told));
            ensure!(told > left && told.duration_since(left)? <= ANNOUNCED_AGAIN);
        }
        Ok(())
    })
    .await
}
