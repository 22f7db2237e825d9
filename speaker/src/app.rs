//! Starts every task, and ends them in order.
//!
//! ```text
//!   5 cache keepers ──Dirty──▶ planner ──watch<Plan>───────┐        (a sixth keeper tells the clients all API servers)
//!                                 └──watch<Verdict>──▶ ConfigurationState task
//!   Lease watch ─────────────────mpsc(1024)────────────────┤
//!   link watcher ────────────────watch<Links>──────────────┼──▶ the loop (apply) ──▶ responder ──▶ the wire
//!   responder's ports ───────────mpsc(1024): heard─────────┤         │
//!   signals ─────────────────────watch<bool>───────────────┘         ├──▶ writes, ≤ 16 + 16 in flight
//!                                                                    └──▶ Events, mpsc(1024), dropped when full
//! ```
//!
//! A task that ends though it should not ends the process. Kubelet starts it anew, and it opens another session once peers
//! have closed the former one, or that has been silent for half its duration.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use herald_api::crd::configuration_state::Verdict;
use herald_cluster::cache::Dirty;
use herald_cluster::client::connect;
use herald_cluster::configuration_state::{Component, keep_state};
use herald_cluster::events::recorder;
use herald_cluster::leases::{LeaseWriter, watch_leases};
use herald_cluster::servers::follow_servers;
use herald_core::ownership::machine::Machine;
use herald_core::ownership::plan::Plan;
use herald_telemetry::health::{Health, Heartbeat};
use herald_telemetry::serve::serve;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::apply::{Ears, Hands, Speaker};
use crate::metrics::Figures;
use crate::net::exclusion::Exclusion;
use crate::net::links::Watcher;
use crate::net::responder::{self, Responder};
use crate::plan::Planner;
use crate::report::{Readiness, Reporter};
use crate::settings::Settings;
use crate::watch::{Caches, caches};

/// The component that Events come from: MetalLB's, because people's scripts select by it.
const COMPONENT: &str = "metallb-speaker";
/// A loop that has not turned for so long is wedged.
const WEDGED: Duration = Duration::from_secs(10);
/// How long after a plan the next one may follow: a single change is planned at once, a storm of them ten times a
/// second at most.
const PLAN_INTERVAL: Duration = Duration::from_millis(100);
/// And not before so many times the last plan's own duration: what a plan costs, the loop that takes it in spends again,
/// and this machine's cores are its user's.
const REST_PER_PLAN: u32 = 8;
/// How long a stop may take: R5's ten seconds, closing, and a little.
const STOP_WITHIN: Duration = Duration::from_secs(13);
/// How long what is left then may take.
const ENDING: Duration = Duration::from_secs(1);

/// Runs until a signal, then hands over and returns.
///
/// # Errors
/// What keeps the speaker from working at all.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let clients = connect(&settings.cluster).await.context("connecting to the cluster")?;
    let namespace = settings.namespace.clone().unwrap_or_else(|| clients.namespace.clone());
    let node = settings.node.clone();
    tracing::info!(%node, namespace, version = env!("CARGO_PKG_VERSION"), "starting");
    let exclusion = Exclusion::load(&settings.exclusion).context("interfaces to leave alone")?;
    let links = Watcher::open(exclusion).await.context("the node's network links")?;
    let (responder, heard) = Responder::new(responder::Settings::default());
    let (recorder, recording) = recorder(clients.writes.clone(), COMPONENT, node.as_str());
    let recording = tokio::spawn(recording);
    let (figures, registry) = Figures::new(node.clone(), responder.counts(), recorder.dropped());
    let (stop, stopped) = watch::channel(false);

    let mut tasks = JoinSet::new();
    tasks.spawn(stop_on_signals(stop.clone())?);
    let dirty = Dirty::new();
    let class = settings.class.as_deref();
    let (caches, keepers) = caches(&clients.watches, &namespace, class, &dirty, &figures.updates);
    for keeper in keepers {
        tasks.spawn(async move { match keeper.await {} });
    }
    let (leases, watching) = watch_leases(&clients.leases, &namespace);
    tasks.spawn(async move { match watching.await {} });
    let servers = follow_servers(&clients, []);
    tasks.spawn(async move { match servers.await {} });
    let link_changes = links.links();
    tasks.spawn(async move { Err(links.run().await.map_or_else(Into::into, |()| ended("links"))) });

    let health = Health::new();
    let readiness = Arc::new(Mutex::new(Readiness::default()));
    watch_readiness(&health, &caches, &readiness);
    let planning = health.side_loop("planner", WEDGED);
    let heartbeat = health.main_loop("speaker", WEDGED);
    let serving = serve(settings.endpoints, Arc::new(registry), health, wait(stopped.clone()));
    let serving = tokio::spawn(serving.await.context("serving metrics and health")?);

    let planner = Planner::new(node.clone(), settings.ignore_exclude_label);
    let services = caches.services.clone();
    let (plan_tx, plans) = watch::channel(None);
    let (verdict, verdicts) = watch::channel(None);
    let component = Component::speaker(&namespace, &node, settings.pod);
    let keeping = keep_state(&clients.watches, clients.leases.clone(), component, verdicts);
    tasks.spawn(async move { match keeping.await {} });
    let said = Said { plans: plan_tx, verdict, figures: figures.clone() };
    tasks.spawn(plan_on_change(planner, caches, dirty, said, planning));
    let reporter = Reporter::new(node.clone(), recorder, services, figures, readiness);
    let ears = Ears { leases, plans, links: link_changes, heard, stop: stopped };
    let writer = || LeaseWriter::new(clients.leases.clone(), &namespace);
    let hands = Hands { responder, sessions: writer(), claims: writer(), reporter, heartbeat };
    let seed = format!("{:016x}", rand::random::<u64>());
    let speaker =
        Speaker::new(Machine::new(node, seed.into()).choosing(settings.choices), ears, hands);

    let result = tokio::select! {
        () = speaker.run() => Ok(()),
        Some(ended) = tasks.join_next() => ended.unwrap_or_else(|error| Err(error.into())),
        () = too_long(stop.subscribe()) => Err(anyhow::anyhow!("handing over took too long")),
    };
    // What serves and what writes Events ends with the speaker; both get a moment for what they hold.
    stop.send_replace(true);
    let _late = tokio::time::timeout(ENDING, async {
        let _ended = tokio::join!(serving, recording);
    })
    .await;
    result
}

fn watch_readiness(health: &Health, caches: &Caches, readiness: &Arc<Mutex<Readiness>>) {
    let caches = caches.clone();
    health.ready_when("caches", move || caches.readiness());
    let readiness = readiness.clone();
    health.ready_when("session", move || {
        let readiness = readiness.lock().unwrap_or_else(PoisonError::into_inner);
        if readiness.open || !readiness.takes_part {
            return Ok(());
        }
        Err(readiness.why.clone().unwrap_or_else(|| "not open yet".to_owned()))
    });
}

/// Where it is said what was planned.
struct Said {
    plans: watch::Sender<Option<Arc<Plan>>>,
    verdict: watch::Sender<Option<Verdict>>,
    figures: Figures,
}

impl Said {
    fn judge(&self, verdict: Verdict) {
        self.verdict.send_if_modified(|said| {
            let news = said.as_ref() != Some(&verdict);
            *said = Some(verdict);
            news
        });
    }
}

/// Plans whenever something has changed, once all caches are there. The plan that goes out is new.
async fn plan_on_change(
    mut planner: Planner,
    caches: Caches,
    dirty: Dirty,
    said: Said,
    heartbeat: Heartbeat,
) -> anyhow::Result<()> {
    let mut synced = false;
    loop {
        heartbeat.beat();
        // Beats also while nothing changes.
        let beat = Instant::now() + WEDGED / 4;
        let until = planner.again().map_or(beat, |again| beat.min(again));
        let changed = tokio::time::timeout_at(until, dirty.changed()).await.is_ok();
        let due = planner.again().is_some_and(|again| again <= Instant::now());
        if !synced {
            synced = caches.readiness().is_ok();
        }
        if !synced && let Some(why) = caches.unreadable() {
            said.judge(Verdict::Unknown(why));
        }
        if !(changed || due) || !synced {
            continue;
        }
        let began = Instant::now();
        let mut plan = planner.plan(&caches.snapshot(), began);
        if let Some(last) = &*said.plans.borrow() {
            plan.share_with(last);
        }
        said.figures.configured.set(i64::from(planner.is_configured()));
        said.figures.stale.set(i64::from(planner.is_stale()));
        said.judge(planner.verdict());
        said.plans.send_if_modified(|last| {
            let new = last.as_deref() != Some(&plan);
            if new {
                *last = Some(Arc::new(plan));
            }
            new
        });
        tokio::time::sleep(PLAN_INTERVAL.max(began.elapsed() * REST_PER_PLAN)).await;
    }
}

fn ended(task: &str) -> anyhow::Error {
    anyhow::anyhow!("the task of the {task} has ended")
}

/// Says on `stop` that SIGTERM or SIGINT came, and then waits for the process to end.
fn stop_on_signals(
    stop: watch::Sender<bool>,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
        std::future::pending().await
    })
}

async fn wait(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _stopped = stopped.wait_for(|stop| *stop).await;
}

async fn too_long(stopped: watch::Receiver<bool>) {
    wait(stopped).await;
    tokio::time::sleep(STOP_WITHIN).await;
}
