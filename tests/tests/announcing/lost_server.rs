//! The machine that dies ran more than an owner: an API server, or very many addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_tests::lab::Lab;
use herald_tests::lab::listener::Listener;

use crate::scene::{ASKS, SETTLE, Scene, all, one_voice};

/// Evidence in 0.7 s, a write unanswered twice for 300 ms, and a view of the Leases that may have to be listed anew.
const REPLACED_WITHIN: Duration = Duration::from_millis(2_500);
/// What is neither a Lease's nor a write's is followed again so soon: TCP gives the dead server up after 6 s.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(10);
/// The last of a dead node's addresses is announced within this.
const ALL_ANNOUNCED_WITHIN: Duration = Duration::from_millis(1_800);
const ADDRESSES: u8 = 200;
/// Rounds of announcements follow each other 1.1 s to 1.5 s apart.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(3);

#[tokio::test]
async fn an_api_server_that_dies_with_the_owners_node_delays_its_successor_by_less_than_two_seconds()
-> anyhow::Result<()> {
    Lab::run(3, async |lab| {
        let scene = Scene::set(lab).await?;
        let backend = lab.nodes()[0].start_backend("backend").await?;
        let vips: [IpAddr; 2] = ["192.168.112.1".parse()?, "fd00:99::112:1".parse()?];
        scene.serve("web", "Cluster", &vips, &[&backend]).await?;
        scene.speak()?;
        scene.await_sessions(lab.nodes()).await?;
        let prober = lab.probe(&vips, ASKS).await?;
        let owner = scene.await_owner(&prober, &vips).await?;
        let gate = lab.open_gate(owner).await?;
        for node in lab.nodes().iter().filter(|node| node.name() != owner.name()) {
            let speaker = lab.speaker(node).context("it runs")?;
            speaker.sigterm()?;
            speaker.exited(SETTLE).await?;
            lab.start_speaker_through(&gate, node, &["--log-level", "debug"])?;
        }
        scene.await_sessions(lab.nodes()).await?;
        scene.observe(&prober, vips[0], Duration::from_secs(1)).await?;
        let died = SystemTime::now();
        lab.power_loss(owner)?;
        drop(gate);
        let new: IpAddr = "192.168.112.2".parse()?;
        scene.serve("new", "Cluster", &[new], &[&backend]).await?;
        scene.await_owner_but(&prober, &vips, Some(owner)).await?;
        for (vip, seen) in prober.finish().await? {
            one_voice(vip, &seen)?;
            let gap = seen.between(died, SystemTime::now()).longest_gap();
            eprintln!("{vip} was not answered for {gap:.2?}");
            ensure!(gap <= REPLACED_WITHIN, "{vip} was not answered for {gap:?}");
        }
        let prober = lab.probe(&[new], ASKS).await?;
        scene.await_owner_but(&prober, &[new], Some(owner)).await?;
        let took = died.elapsed()?;
        eprintln!("{new} was given out meanwhile, and is answered after {took:.2?}");
        ensure!(took <= FOLLOWED_WITHIN, "{new} is answered only after {took:?}");
        prober.finish().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn every_address_of_a_dead_node_is_announced_soon_and_no_other() -> anyhow::Result<()> {
    Lab::run(3, async |lab| {
        let scene = Scene::set(lab).await?;
        let backend = &lab.nodes()[0].start_backend("backend").await?;
        let serve = async |number: u8| {
            let vip = Ipv4Addr::new(192, 168, 112, number).into();
            scene.serve(&format!("s{number}"), "Cluster", &[vip], &[backend]).await
        };
        all((1..=ADDRESSES).map(serve)).await?;
        let mut listener = lab.listen().await?;
        scene.speak()?;
        scene.await_sessions(lab.nodes()).await?;
        lab.await_condition("every address is announced", SETTLE, async || {
            let heard = listener.heard().await?.first.len();
            ensure!(heard == usize::from(ADDRESSES), "{heard} are");
            Ok(())
        })
        .await?;
        quiet(lab, &mut listener).await?;
        let victim = &lab.nodes()[0];
        let claims = scene.claims().await?.into_values();
        let lost: BTreeSet<IpAddr> = claims
            .filter(|claim| claim.holder.node.to_string() == victim.name())
            .map(|claim| claim.address)
            .collect();
        ensure!(lost.len() > usize::from(ADDRESSES / 6), "{} has {}", victim.name(), lost.len());
        listener.forget();
        let died = SystemTime::now();
        lab.power_loss(victim)?;
        let heard = lab
            .await_condition("its addresses are announced", SETTLE, async || {
                let heard = listener.heard().await?.first;
                ensure!(lost.iter().all(|vip| heard.contains_key(vip)), "{} are", heard.len());
                Ok(heard)
            })
            .await?;
        let last = heard.values().max().context("some were lost")?;
        let took = last.duration_since(died)?;
        eprintln!("{} addresses, the last announced after {took:.2?}", lost.len());
        ensure!(took <= ALL_ANNOUNCED_WITHIN, "the last was announced after {took:?}");
        quiet(lab, &mut listener).await?;
        let heard = listener.heard().await?;
        ensure!(heard.lost == 0, "{} frames went unheard", heard.lost);
        let heard: BTreeSet<IpAddr> = heard.first.into_keys().collect();
        ensure!(heard == lost, "{} were announced, {} were lost", heard.len(), lost.len());
        Ok(())
    })
    .await
}

/// Waits until nobody has announced anything for longer than lies between two rounds of a burst.
async fn quiet(lab: &Lab, listener: &mut Listener) -> anyhow::Result<()> {
    let (mut frames, mut since) = (0, SystemTime::now());
    lab.await_condition("nobody announces any more", SETTLE, async || {
        let heard = listener.heard().await?.frames;
        if heard != frames {
            (frames, since) = (heard, SystemTime::now());
        }
        let silent = since.elapsed()?;
        ensure!(silent > BETWEEN_ROUNDS, "somebody did {silent:?} ago");
        Ok(())
    })
    .await
}
