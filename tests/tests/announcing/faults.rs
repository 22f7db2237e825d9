//! An API server that conflicts, throttles, loses answers and lets watches die: what speakers make of it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_tests::lab::Lab;
use herald_tests::lab::node::Backend;
use herald_tests::lab::prober::Prober;
use herald_tests::lab::relay::{Asked, Fault, Infliction, Relay};
use tokio::time::Instant;

use crate::scene::{ASKS, SETTLE, Scene, one_voice};

/// Addresses, each of a Service of its own: one of before all faults, and one that comes with each.
const VIPS: [&str; 6] = [
    "192.168.112.1",
    "192.168.112.2",
    "192.168.112.3",
    "192.168.112.4",
    "192.168.112.5",
    "192.168.112.6",
];
/// How long a fault that is counted by time lasts.
const LASTING: Duration = Duration::from_secs(5);
/// A watch that died unnoticed is given up 33 s after it began.
const WATCH_GIVEN_UP: Duration = Duration::from_secs(40);
/// What two speakers watch: five kinds each, the Leases, the API servers, and their ConfigurationStates.
const WATCHES: usize = 16;
/// Requests a second that two speakers may make while every request fails: renewals and lists, and both sent twice.
const PATIENT: f64 = 40.0;

/// When a fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// When it has befallen something and has lasted so long.
    Lasted(Duration),
    /// When in spite of it the address is answered.
    Answered,
}

struct Tale<'s, 'l> {
    scene: &'s Scene<'l>,
    relay: &'s Relay,
    prober: &'s Prober,
    backend: &'s Backend,
}

impl Tale<'_, '_> {
    /// Has a Service with `vip` come while the fault lasts, which has just begun. The address is answered.
    async fn tell(
        &self,
        name: &str,
        vip: &str,
        inflicted: Infliction,
        until: Until,
    ) -> anyhow::Result<()> {
        let lasting = match until {
            Until::Lasted(lasting) => lasting,
            Until::Answered => Duration::ZERO,
        };
        let (begun, asked) = (Instant::now(), self.relay.asked().len());
        let vip: IpAddr = vip.parse()?;
        self.scene.serve(name, "Cluster", &[vip], &[self.backend]).await?;
        let lab = self.scene.lab;
        lab.await_condition("the fault has lasted long enough", SETTLE, async || {
            let (hits, lasted) = (inflicted.hits(), begun.elapsed());
            ensure!(hits > 0 && lasted >= lasting, "{hits} hits in {lasted:?}");
            Ok(())
        })
        .await?;
        let (hits, lasted) = (inflicted.hits(), begun.elapsed());
        let lasts_on = (until == Until::Answered).then_some(inflicted);
        let asked = self.relay.asked().len() - asked;
        let ended = Instant::now();
        self.answered(vip, SETTLE).await.context(name.to_owned())?;
        drop(lasts_on);
        let took = ended.elapsed();
        eprintln!(
            "{name}: {hits} hits and {asked} requests in {lasted:.1?}, answered {took:.2?} on"
        );
        let most = PATIENT * (2.0 + lasted.as_secs_f64());
        ensure!(f64::from(u32::try_from(asked)?) <= most, "{asked} requests in {lasted:?}");
        Ok(())
    }

    async fn answered(&self, vip: IpAddr, deadline: Duration) -> anyhow::Result<()> {
        let lab = self.scene.lab;
        let what = format!("{vip} is answered");
        lab.await_condition(&what, deadline, async || {
            let mac = self.prober.answered_now(vip)?;
            self.scene.lab.node_of(mac).map(drop)
        })
        .await
    }
}

fn of_leases(asked: &Asked) -> bool {
    asked.is_write() && asked.is_about("leases")
}

#[tokio::test]
async fn no_fault_of_the_api_server_silences_or_doubles_an_address() -> anyhow::Result<()> {
    Lab::run(2, async |lab| {
        let relay = lab.relay().await?;
        let scene = Scene::set(lab).await?;
        let backend = &lab.nodes()[0].start_backend("backend").await?;
        let vips = VIPS.iter().map(|vip| vip.parse()).collect::<Result<Vec<IpAddr>, _>>()?;
        scene.serve("before", "Cluster", &vips[..1], &[backend]).await?;
        let speakers = scene.speak()?;
        scene.await_sessions(lab.nodes()).await?;
        let prober = &lab.probe(&vips, ASKS).await?;
        scene.await_owner(prober, &vips[..1]).await?;
        let began = SystemTime::now();
        let tale = Tale { scene: &scene, relay, prober, backend };
        let briefly = Duration::from_millis(500);
        let conflicts = relay.inflict(Fault::Answer(409), of_leases);
        tale.tell("conflicts", VIPS[1], conflicts, Until::Lasted(briefly)).await?;
        let lost = relay.inflict(Fault::AnswerLost, of_leases);
        tale.tell("answers", VIPS[2], lost, Until::Lasted(LASTING)).await?;
        let throttled = relay.inflict(Fault::Answer(429), |_| true);
        tale.tell("throttled", VIPS[3], throttled, Until::Lasted(LASTING)).await?;
        let forgotten = lab.forget_history().await?;
        tale.tell("history", VIPS[4], forgotten, Until::Answered).await?;
        scene.await_sessions(lab.nodes()).await?;
        // Watches of every kind die and do not say so.
        let silence = relay.inflict(Fault::Silence, |asked| asked.watch);
        let dead = async || {
            ensure!(silence.struck() >= WATCHES, "{}", silence.struck());
            Ok(())
        };
        lab.await_condition("every watch of both is dead", SETTLE, dead).await?;
        drop(silence);
        let died = Instant::now();
        scene.serve("silent", "Cluster", &vips[5..], &[backend]).await?;
        tale.answered(vips[5], WATCH_GIVEN_UP).await?;
        eprintln!("answered {:.1?} after the watches died", died.elapsed());
        let ended = SystemTime::now();
        for speaker in speakers {
            ensure!(speaker.status()?.is_none(), "{} was ended by a fault", speaker.name());
        }
        for vip in &vips {
            let seen = prober.seen(*vip)?;
            one_voice(*vip, &seen.between(began, ended))?;
        }
        scene.all_answered(prober, &vips[..1], began).await
    })
    .await
}
