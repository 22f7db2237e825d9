//! An owner that fails, and is replaced.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use herald_benches::table::{Table, Target, between, spread};
use herald_tests::lab::Lab;
use herald_tests::lab::gate::Gate;
use herald_tests::lab::node::Node;
use herald_tests::lab::relay::{self, Infliction};
use tokio::time::sleep;

use crate::histogram::histogram;
use crate::stage::Stage;

const VIPS: [&str; 2] = ["192.168.112.1", "fd00:99::112:1"];
/// Between two questions of the client.
const ASKS: Duration = Duration::from_millis(20);
/// How long all is well before a fault: answers are counted, and the probers know the owner.
const WELL: Duration = Duration::from_secs(1);
/// Faults come at different moments between two probes.
const PROBE: u16 = 150;
/// How long it is watched whether who took over stays alone.
const AFTER: Duration = Duration::from_secs(1);
/// How long a speaker is suspended.
const SUSPENDED: Duration = Duration::from_secs(15);
/// How long it is watched what one says that goes on.
const AWAKE: Duration = Duration::from_secs(5);
/// What a slow API server takes for an answer.
const SLOW: Duration = Duration::from_millis(200);

/// What befalls the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Crash,
    Power,
    Port,
    Suspend,
    ApiSlow,
    ApiDies,
}

impl Fault {
    const fn words(self) -> &'static str {
        match self {
            Self::Crash => "the speaker is killed",
            Self::Power => "the node loses power",
            Self::Port => "the port goes dead",
            Self::Suspend => "the speaker is suspended for 15 s",
            Self::ApiSlow => "the node loses power, the API server answers in 200 ms",
            Self::ApiDies => "the node loses power, and the API server behind it is lost",
        }
    }

    /// Seconds without an answer: what half of the runs may take, and 99 of 100.
    const fn targets(self) -> (Option<f64>, f64) {
        match self {
            Self::Crash | Self::Power => (Some(0.7), 1.0),
            Self::Port => (None, 1.2),
            Self::Suspend => (None, 1.0),
            Self::ApiSlow => (None, 1.6),
            Self::ApiDies => (Some(1.2), 2.5),
        }
    }
}

/// What was seen of one run.
struct Run {
    /// The longest time without an answer, of any of the addresses.
    gap: Duration,
    /// From the fault to the first announcement of the last of them.
    announced: Duration,
    /// Questions that two hosts answered.
    doubled: usize,
    /// Answers and announcements by the former owner after it was let go on, to whatever question.
    stale: usize,
}

/// Inflicts `fault` so many times, and tells of it in `table`.
pub(crate) async fn run(
    lab: &Lab,
    fault: Fault,
    runs: u16,
    table: &mut Table,
) -> anyhow::Result<()> {
    let course = Course::begin(lab, fault).await?;
    let mut all = Vec::new();
    for number in 0..runs {
        let run = course.run(number).await.with_context(|| format!("run {number}"))?;
        eprintln!("run {number}: {:.3} s", run.gap.as_secs_f64());
        all.push(run);
    }
    table.remark(&format!("{}, {} nodes, {runs} runs", fault.words(), lab.nodes().len()));
    let gaps: Vec<_> = all.iter().map(|run| run.gap).collect();
    table.remark(&histogram(&gaps));
    let (usual, late) = fault.targets();
    let [median, most_of, longest] = spread(gaps);
    match usual {
        Some(usual) => table.judged("not answered, median", median, "s", Target::Most(usual)),
        None => table.told("not answered, median", median, "s"),
    }
    table.judged("  99 of 100", most_of, "s", Target::Most(late));
    table.told("  longest", longest, "s");
    let [median, _, longest] = spread(all.iter().map(|run| run.announced).collect());
    table.told("fault → announced elsewhere, median", median, "s");
    table.told("  longest", longest, "s");
    let doubled: usize = all.iter().map(|run| run.doubled).sum();
    table.judged("questions that two hosts answered", doubled as f64, "", Target::Most(0.0));
    if fault == Fault::Suspend {
        let stale: usize = all.iter().map(|run| run.stale).sum();
        table.judged(
            "answers and announcements by the old owner, awake",
            stale as f64,
            "",
            Target::Most(0.0),
        );
    }
    Ok(())
}

struct Course<'l> {
    stage: Stage<'l>,
    fault: Fault,
    vips: Vec<IpAddr>,
    /// While it is held the API server is slow.
    _slow: Option<Infliction>,
}

impl<'l> Course<'l> {
    async fn begin(lab: &'l Lab, fault: Fault) -> anyhow::Result<Self> {
        let slow = match fault {
            Fault::ApiSlow => Some(lab.relay().await?.inflict(relay::Fault::Late(SLOW), |_| true)),
            _ => None,
        };
        let stage = Stage::set(lab).await?;
        let vips = VIPS.iter().map(|vip| vip.parse()).collect::<Result<Vec<_>, _>>()?;
        stage.serve("web", &vips).await?;
        stage.speak()?;
        Ok(Self { stage, fault, vips, _slow: slow })
    }

    async fn run(&self, number: u16) -> anyhow::Result<Run> {
        let stage = &self.stage;
        stage.sessions_open().await?;
        let prober = stage.lab.probe(&self.vips, ASKS).await?;
        let mut owner = stage.owner_but(&prober, &self.vips, None).await?;
        let gate = match self.fault {
            Fault::ApiDies => {
                let gate = self.behind(owner).await?;
                owner = stage.owner_but(&prober, &self.vips, None).await?;
                Some(gate)
            }
            _ => None,
        };
        sleep(WELL + Duration::from_millis(u64::from(number * 47 % PROBE))).await;
        let began = SystemTime::now();
        self.strike(owner)?;
        // Its connections end when nobody can be told of it any more.
        drop(gate);
        let next = stage.owner_but(&prober, &self.vips, Some(owner)).await?;
        let ended = self.aftermath(owner).await?;
        let observations = prober.finish().await?;
        let (mut gap, mut announced) = (Duration::ZERO, Duration::ZERO);
        let (mut doubled, mut stale) = (0, 0);
        for seen in observations.values() {
            gap = gap.max(seen.between(began - WELL, ended).longest_gap());
            let first = seen.announced_after(began, next.lan_mac()).context("not announced")?;
            announced = announced.max(between(began, first.at));
            doubled += seen.answered_by_several().len();
            stale += seen.said_since(ended, |mac| mac == owner.lan_mac());
        }
        Ok(Run { gap, announced, doubled, stale })
    }

    /// Every speaker but that of `owner` now uses the API server that is reached through `owner`.
    async fn behind(&self, owner: &Node) -> anyhow::Result<Gate> {
        let lab = self.stage.lab;
        let gate = lab.open_gate(owner).await?;
        for node in lab.nodes().iter().filter(|node| node.name() != owner.name()) {
            self.stage.hush(node).await?;
            lab.start_speaker_through(&gate, node, &[])?;
        }
        self.stage.sessions_open().await?;
        Ok(gate)
    }

    fn strike(&self, owner: &Node) -> anyhow::Result<()> {
        let lab = self.stage.lab;
        match self.fault {
            Fault::Crash => lab.speaker(owner).context("it runs")?.kill(),
            Fault::Power | Fault::ApiSlow | Fault::ApiDies => lab.power_loss(owner),
            Fault::Port => lab.cut_lan(owner),
            Fault::Suspend => lab.speaker(owner).context("it runs")?.stop(),
        }
    }

    /// Watches on for a while, ends the fault, and has `owner`'s speaker begin anew, so that nothing of this run weighs on
    /// the next. When the fault ended.
    async fn aftermath(&self, owner: &Node) -> anyhow::Result<SystemTime> {
        let (lab, stage) = (self.stage.lab, &self.stage);
        sleep(AFTER).await;
        let ended = SystemTime::now();
        match self.fault {
            Fault::Crash => {}
            Fault::Power | Fault::ApiSlow | Fault::ApiDies => lab.links_up(owner)?,
            Fault::Port => {
                lab.heal_lan(owner)?;
                sleep(AWAKE).await;
                stage.hush(owner).await?;
            }
            Fault::Suspend => {
                sleep(SUSPENDED.saturating_sub(AFTER)).await;
                let awake = SystemTime::now();
                lab.speaker(owner).context("it runs")?.cont()?;
                sleep(AWAKE).await;
                stage.hush(owner).await?;
                stage.speak_on(owner)?;
                return Ok(awake);
            }
        }
        stage.speak_on(owner)?;
        sleep(AFTER).await;
        Ok(ended)
    }
}
