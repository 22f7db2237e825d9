//! Starts every task, and ends them in order.
//!
//! ```text
//!   5 cache keepers ──Dirty──▶ planner ──watch<Plan>───────┐
//!   Lease watch ─────────────────mpsc(1024)────────────────┤
//!   link watcher ────────────────watch<Links>──────────────┼──▶ the loop (apply) ──▶ responder ──▶ the wire
//!   responder's ports ───────────mpsc(1024): heard─────────┤         │
//!   signals ─────────────────────watch<bool>───────────────┘         ├──▶ writes, ≤ 16 + 16 in flight
//!                                                                    └──▶ Events, mpsc(1024), dropped when full
//! ```
//!
//! A task that ends though it should not ends the process: kubelet starts it anew, and its session, if it is back before
//! that expires, is found again.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use herald_cluster::cache::Dirty;
use herald_cluster::client::{Clients, Options, connect};
use herald_cluster::events::recorder;
use herald_cluster::leases::{LeaseWriter, watch_leases};
use herald_core::name::NodeName;
use herald_core::ownership::machine::Machine;
use herald_core::ownership::plan::Plan;
use herald_telemetry::health::{Health, Heartbeat};
use herald_telemetry::serve::{Endpoints, serve};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::apply::{Ears, Hands, Speaker};
use crate::metrics::Figures;
use crate::net::exclusion::Exclusion;
use crate::net::links::Watcher;
use crate::net::responder::{Responder, Settings};
use crate::plan::Planner;
use crate::report::{Reporter, Standing};
use crate::watch::{Caches, caches};

/// A loop that has not turned for so long is wedged.
const WEDGED: Duration = Duration::from_secs(10);
/// How long after a plan the next one may follow: a single change is planned at once, a storm of them fifty times a
/// second.
const PLAN_INTERVAL: Duration = Duration::from_millis(20);
/// How long a stop may take: R5's ten seconds, closing, and a little.
const STOP_WITHIN: Duration = Duration::from_secs(13);

/// What the flags and the environment say.
#[derive(Clone, Debug)]
pub struct App {
    /// This node's name.
    pub node: NodeName,
    /// Where Leases and configuration lie; without it, the pod's or the kubeconfig's namespace.
    pub namespace: Option<String>,
    /// Where the API server is found.
    pub options: Options,
    /// The class of Services to announce.
    pub class: Option<String>,
    /// Whether the exclude label is ignored.
    pub ignore_exclude_label: bool,
    /// Where HTTP is served.
    pub endpoints: Endpoints,
    /// MetalLB's list of interfaces to leave alone.
    pub exclusion: PathBuf,
}

impl App {
    /// Runs until a signal, then hands over and returns.
    ///
    /// # Errors
    /// What keeps the speaker from working at all.
    pub async fn run(self) -> anyhow::Result<()> {
        let clients = connect(&self.options).await?;
        let namespace = self.namespace.clone().unwrap_or_else(|| clients.namespace.clone());
        tracing::info!(node = %self.node, namespace, version = env!("CARGO_PKG_VERSION"), "starting");
        let exclusion = Exclusion::load(&self.exclusion).context("interfaces to leave alone")?;
        let links = Watcher::open(exclusion).await.context("the node's network links")?;
        let (responder, heard) = Responder::new(Settings::default());
        let (figures, registry) = Figures::new(self.node.clone(), responder.counts());
        let (stop, stopped) = stop_on_signals()?;

        let mut tasks = JoinSet::new();
        let dirty = Dirty::new();
        let (caches, keepers) = caches(&clients.watches, &namespace, self.class.as_deref(), &dirty);
        for keeper in keepers {
            tasks.spawn(async move { match keeper.await {} });
        }
        let (leases, watching) = watch_leases(&clients.leases, &namespace);
        tasks.spawn(async move { match watching.await {} });
        let link_changes = links.links();
        tasks.spawn(
            async move { Err(links.run().await.map_or_else(Into::into, |()| ended("links"))) },
        );
        let (recorder, recording) =
            recorder(clients.writes.clone(), "metallb-speaker", self.node.as_str());
        let recording = tokio::spawn(recording);

        let health = Health::new();
        let standing = Arc::new(Mutex::new(Standing::default()));
        self.watch_readiness(&health, &caches, &standing);
        let planning = health.side_loop("planner", WEDGED);
        let heartbeat = health.main_loop("speaker", WEDGED);
        let until = stopped.clone();
        let serving = serve(self.endpoints, Arc::new(registry), health, wait(until)).await?;
        let serving = tokio::spawn(serving);

        let planner = Planner::new(self.node.clone(), self.ignore_exclude_label);
        let services = caches.services.clone();
        let (plan_tx, plans) = watch::channel(None);
        tasks.spawn(plan_on_change(planner, caches, dirty, plan_tx, figures.clone(), planning));
        let reporter = Reporter::new(self.node.clone(), recorder, services, figures, standing);
        let ears = Ears { leases, plans, links: link_changes, heard, stop: stopped };
        let hands = self.hands(&clients, &namespace, responder, reporter, heartbeat);
        let speaker = Speaker::new(self.machine(), ears, hands);

        let result = tokio::select! {
            () = speaker.run() => Ok(()),
            Some(ended) = tasks.join_next() => ended.unwrap_or_else(|error| Err(error.into())),
            () = too_long(stop.subscribe()) => Err(anyhow::anyhow!("handing over took too long")),
        };
        // What serves and what writes Events ends with the speaker; both get a moment for what they hold.
        stop.send_replace(true);
        let _late = tokio::time::timeout(Duration::from_secs(1), async {
            let _ended = tokio::join!(serving, recording);
        })
        .await;
        result
    }

    fn machine(&self) -> Machine {
        let seed = format!("{:016x}", rand::random::<u64>());
        Machine::new(self.node.clone(), seed.into())
    }

    fn hands(
        &self,
        clients: &Clients,
        namespace: &str,
        responder: Responder,
        reporter: Reporter,
        heartbeat: Heartbeat,
    ) -> Hands {
        let writer = || LeaseWriter::new(clients.leases.clone(), namespace);
        Hands { responder, sessions: writer(), claims: writer(), reporter, heartbeat }
    }

    fn watch_readiness(&self, health: &Health, caches: &Caches, standing: &Arc<Mutex<Standing>>) {
        let caches = caches.clone();
        health.ready_when("caches", move || caches.readiness());
        let standing = standing.clone();
        health.ready_when("session", move || {
            let standing = standing.lock().unwrap_or_else(PoisonError::into_inner);
            if standing.open || !standing.takes_part {
                return Ok(());
            }
            Err(standing.why.clone().unwrap_or_else(|| "not open yet".to_owned()))
        });
    }
}

/// Plans whenever something has changed, once all caches are there. The plan that goes out is new.
async fn plan_on_change(
    mut planner: Planner,
    caches: Caches,
    dirty: Dirty,
    plans: watch::Sender<Option<Arc<Plan>>>,
    figures: Figures,
    heartbeat: Heartbeat,
) -> anyhow::Result<()> {
    let mut synced = false;
    loop {
        heartbeat.beat();
        // Beats also while nothing changes.
        let changed = tokio::time::timeout(WEDGED / 4, dirty.changed()).await.is_ok();
        if !synced {
            synced = caches.readiness().is_ok();
        }
        if !changed || !synced {
            continue;
        }
        let plan = planner.plan(&caches);
        figures.configured.set(i64::from(planner.is_configured()));
        figures.stale.set(i64::from(planner.is_stale()));
        plans.send_if_modified(|last| {
            let new = last.as_deref() != Some(&plan);
            if new {
                *last = Some(Arc::new(plan));
            }
            new
        });
        tokio::time::sleep(PLAN_INTERVAL).await;
    }
}

fn ended(task: &str) -> anyhow::Error {
    anyhow::anyhow!("the task of the {task} has ended")
}

/// True once SIGTERM or SIGINT came.
fn stop_on_signals() -> anyhow::Result<(Arc<watch::Sender<bool>>, watch::Receiver<bool>)> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let (stop, stopped) = watch::channel(false);
    let stop = Arc::new(stop);
    let sender = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
    });
    Ok((stop, stopped))
}

async fn wait(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _stopped = stopped.wait_for(|stop| *stop).await;
}

async fn too_long(stopped: watch::Receiver<bool>) {
    wait(stopped).await;
    tokio::time::sleep(STOP_WITHIN).await;
}
