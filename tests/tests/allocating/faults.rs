//! An API server that conflicts, throttles, loses answers and lets watches die: what two controllers make of it.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::{try_join, try_join_all};
use herald_tests::lab::relay::{Asked, Fault, Infliction, Relay};
use serde_json::json;
use tokio::time::Instant;

use crate::history::{doubled, times};
use crate::stage::{SETTLE, Stage, of};

/// How long the API server throttles.
const THROTTLED: Duration = Duration::from_secs(5);
/// The most that it may take from the end of a fault to an address: the longest wait between two attempts, when a fault
/// lasted for seconds, and then the Lease's.
const BACK_TO_WORK: Duration = Duration::from_secs(15);
/// A watch that died unnoticed is given up 33 s after it began.
const WATCH_GIVEN_UP: Duration = Duration::from_secs(40);
/// What two controllers watch: five kinds each, the Lease, the API servers, and its ConfigurationState.
const WATCHES: usize = 16;
/// Services that are created during a fault: more than are written at a time, so that the last of them are reached only
/// if nobody waits for ever for the answers to the first.
const SEVERAL: usize = 24;
/// Requests a second that two controllers may make while those Services wait and every request fails.
const PATIENT: f64 = 60.0;

/// When a fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// When it has befallen enough.
    Enough,
    /// When in spite of it all Services are served.
    Served,
}

/// Services of one story: those of before its fault, those of its time, and those of after.
struct Tale<'s> {
    stage: &'s Stage<'s>,
    relay: &'s Relay,
    name: &'static str,
}

impl Tale<'_> {
    async fn ask(&self, when: &str) -> anyhow::Result<Vec<String>> {
        let names = (0..SEVERAL).map(|number| format!("{}-{when}-{number}", self.name));
        let names: Vec<String> = names.collect();
        try_join_all(names.iter().map(|name| self.stage.ask(name, json!({})))).await?;
        Ok(names)
    }

    async fn served(&self, names: &[String], deadline: Duration) -> anyhow::Result<()> {
        let served = names.iter().map(|name| self.stage.has_any_within(name, deadline));
        try_join_all(served).await?;
        Ok(())
    }

    /// Inflicts `fault` on what fits, and ends it when `enough`.
    async fn tell(
        &self,
        fault: Fault,
        fits: impl Fn(&Asked) -> bool + Send + 'static,
        enough: impl Fn(&Infliction, Duration) -> bool,
    ) -> anyhow::Result<()> {
        let inflict = async || Ok(self.relay.inflict(fault, fits));
        self.befalls(inflict, Until::Enough, enough).await
    }

    /// Has Services created while a fault lasts, until it is `enough`, which is asked with the fault and how long it has
    /// lasted. No Service is lost or doubled, and none is written to more than once.
    async fn befalls(
        &self,
        inflict: impl AsyncFnOnce() -> anyhow::Result<Infliction>,
        until: Until,
        enough: impl Fn(&Infliction, Duration) -> bool,
    ) -> anyhow::Result<()> {
        let history = self.stage.history().await?;
        let before = self.ask("before").await?;
        self.served(&before, BACK_TO_WORK).await?;
        let asked = self.relay.asked().len();
        let (begun, inflicted) = (Instant::now(), inflict().await?);
        let during = self.ask("during").await?;
        self.lasts(&inflicted, begun, enough).await?;
        let (hits, lasted) = (inflicted.hits(), begun.elapsed());
        let lasts_on = (until == Until::Served).then_some(inflicted);
        let asked = self.relay.asked().len() - asked;
        let ended = Instant::now();
        let after = self.ask("after").await?;
        self.served(&during, BACK_TO_WORK).await.context("created during the fault")?;
        self.served(&after, BACK_TO_WORK).await.context("created after the fault")?;
        drop(lasts_on);
        let took = ended.elapsed();
        eprintln!(
            "{}: {hits} hits and {asked} requests in {lasted:.1?}, then {took:.2?}",
            self.name
        );
        ensure!(
            f64::from(u32::try_from(asked)?) <= PATIENT * (2.0 + lasted.as_secs_f64()),
            "{asked} requests in {lasted:?}"
        );
        let versions = history.since(0).await?;
        let doubled = doubled(&versions);
        ensure!(doubled.is_empty(), "{doubled:#?}");
        for name in [before, during, after].iter().flatten() {
            let times = times(&versions, name);
            ensure!(times == 2, "{name} was stored {times} times");
        }
        Ok(())
    }

    async fn lasts(
        &self,
        inflicted: &Infliction,
        begun: Instant,
        enough: impl Fn(&Infliction, Duration) -> bool,
    ) -> anyhow::Result<()> {
        let lab = self.stage.lab;
        lab.await_condition("the fault has lasted long enough", SETTLE, async || {
            let (hits, lasted) = (inflicted.hits(), begun.elapsed());
            ensure!(hits > 0 && enough(inflicted, lasted), "{hits} hits in {lasted:?}");
            Ok(())
        })
        .await
    }
}

fn of_services(asked: &Asked) -> bool {
    asked.is_write() && asked.is_about("services")
}

fn of_the_lease(asked: &Asked) -> bool {
    asked.is_write() && asked.is_about("leases")
}

/// Every fault that has an end, one after the other, on the same two processes.
pub(crate) async fn faults_that_end_are_outlived(stage: &Stage<'_>) -> anyhow::Result<()> {
    let relay = stage.lab.relay().await?;
    let processes = [stage.controller(0)?, stage.controller(1)?];
    stage.configure(&[("lan", of(&["192.168.112.0/23"]))]).await?;
    let tale = |name| Tale { stage, relay, name };
    let each_once = |fault: &Infliction, _| fault.hits() >= SEVERAL;
    let for_five_seconds = |_: &Infliction, lasted| lasted >= THROTTLED;
    tale("conflicts").tell(Fault::Answer(409), of_services, each_once).await?;
    tale("errors").tell(Fault::Answer(500), of_services, each_once).await?;
    tale("throttled").tell(Fault::Answer(429), |_| true, for_five_seconds).await?;
    stage.clear().await?;
    tale("answers").tell(Fault::AnswerLost, of_services, each_once).await?;
    tale("swallowed").tell(Fault::Silence, of_services, each_once).await?;
    tale("renewals").tell(Fault::AnswerLost, of_the_lease, for_five_seconds).await?;
    let all_watches = |fault: &Infliction, _| fault.struck() >= WATCHES;
    let forget = || stage.lab.forget_history();
    tale("history").befalls(forget, Until::Served, all_watches).await?;
    for process in processes {
        ensure!(process.status()?.is_none(), "{} was ended by a fault", process.name());
    }
    Ok(())
}

/// Watches of every kind die and do not say so: what they kept back comes when they are given up.
pub(crate) async fn silent_watches_are_given_up(stage: &Stage<'_>) -> anyhow::Result<()> {
    let relay = stage.lab.relay().await?;
    stage.clear().await?;
    stage.configure(&[("lan", of(&["192.168.112.0/30"]))]).await?;
    let history = stage.history().await?;
    let asked = relay.asked().len();
    let silence = relay.inflict(Fault::Silence, |asked| asked.watch);
    stage
        .lab
        .await_condition("every watch is dead", SETTLE, async || {
            ensure!(silence.struck() >= WATCHES, "{}", silence.struck());
            Ok(())
        })
        .await?;
    drop(silence);
    let begun = Instant::now();
    stage.pool("more", of(&["192.168.113.0/30"])).await?;
    let names: Vec<String> = (0..8).map(|number| format!("silent-{number}")).collect();
    try_join_all(names.iter().map(|name| stage.ask(name, json!({})))).await?;
    let served = names.iter().map(|name| stage.has_any_within(name, WATCH_GIVEN_UP));
    try_join_all(served).await?;
    let asked = relay.asked().len() - asked;
    eprintln!("served {:.1?} after the watches died, {asked} requests", begun.elapsed());
    let versions = history.since(0).await?;
    let doubled = doubled(&versions);
    ensure!(doubled.is_empty(), "{doubled:#?}");
    Ok(())
}

/// Services that are created while the API server is killed and begins anew.
const BURST: usize = 60;

/// The API server is killed in the middle of a burst: creations, grants and the Lease are all under way.
pub(crate) async fn a_server_that_is_killed_in_a_burst(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.configure(&[("lan", of(&["192.168.112.0/24"]))]).await?;
    let processes = [stage.running(0)?, stage.running(1)?];
    let history = stage.history().await?;
    let names: Vec<String> = (0..BURST).map(|number| format!("burst-{number}")).collect();
    let create = async |name: &String| {
        let ask = async || match stage.ask(name, json!({})).await {
            // An attempt whose answer was lost.
            Err(error) if format!("{error:#}").contains("AlreadyExists") => Ok(()),
            asked => asked.map(drop),
        };
        stage.lab.await_condition("it is created", SETTLE, ask).await
    };
    let users = try_join_all(names.chunks(BURST / 4).map(async |own| {
        for name in own {
            create(name).await?;
        }
        anyhow::Ok(())
    }));
    let death = async {
        let served = || history.seen().iter().filter(|one| !one.addresses.is_empty()).count();
        let some = async || {
            ensure!(served() > BURST / 4, "{}", served());
            Ok(())
        };
        stage.lab.await_condition("some are served", SETTLE, some).await?;
        stage.lab.stop_api()?;
        let served = served();
        ensure!(served < BURST, "the burst was over before");
        stage.lab.start_api().await?;
        anyhow::Ok(Instant::now())
    };
    let (_, back) = try_join(users, death).await?;
    let served = names.iter().map(|name| stage.has_any_within(name, BACK_TO_WORK));
    try_join_all(served).await?;
    eprintln!("{BURST} Services served {:.2?} after the API server was back", back.elapsed());
    let versions = history.since(0).await?;
    let doubled = doubled(&versions);
    ensure!(doubled.is_empty(), "{doubled:#?}");
    for name in &names {
        let times = times(&versions, name);
        ensure!(times == 2, "{name} was stored {times} times");
    }
    for process in processes {
        ensure!(process.status()?.is_none(), "{} ended with the API server", process.name());
    }
    Ok(())
}
