//! Starts every task, holds the picture of the channels, shuts down in order.
//!
//! ```text
//!   five caches ── Dirty ──▶ ┌───────────┐ ── letters (≤ 16 under way) ──▶ API server
//!   election ── standing ──▶ │ main loop │ ── notes (bounded) ──▶ Events task ──▶ API server
//!   retry, heartbeat ──────▶ └───────────┘ ── figures ──▶ metrics ◀── HTTP task
//!                                  └── watch<Verdict> ──▶ ConfigurationState task ──▶ API server
//! ```
//!
//! A sixth cache tells the clients of watches and Lease where all API servers are.
//!
//! The main loop is the only one that decides and the only one that waits for all of them. It ends first: then the
//! writes under way, then the Lease, then the Events, then the endpoints.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use herald_api::crd::configuration_state::Verdict;
use herald_cluster::cache::Dirty;
use herald_cluster::client::{Door, connect};
use herald_cluster::configuration_state::{Component, Pod, keep_state};
use herald_cluster::events::{Note, Recorder, recorder};
use herald_cluster::leader::bound::{self, SERVED_WITHIN};
use herald_cluster::leader::{Candidacy, Leadership, Timing, elect};
use herald_cluster::servers::follow_servers;
use herald_telemetry::health::{Health, Heartbeat};
use herald_telemetry::metrics::registry;
use herald_telemetry::serve::serve;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::apply::{WRITES_IN_FLIGHT, deliver};
use crate::metrics::Metrics;
use crate::outbox::{Letter, Outbox, Outcome};
use crate::plan::Planner;
use crate::settings::Settings;
use crate::tell::CLEARED;
use crate::term::{LEASE, Terms, WRITE_LIFE};
use crate::watch::Watch;

/// The component that Events come from: MetalLB's, because people's scripts select by it.
const COMPONENT: &str = "metallb-controller";
/// How often the loop turns when nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How soon it turns again when letters wait for the Lease to be renewed.
const RENEWAL_PAUSE: Duration = Duration::from_millis(100);
/// How long it may not turn before the process is taken for wedged.
const WEDGED_AFTER: Duration = Duration::from_secs(20);
/// How long after a plan the next one may follow: a single change is planned at once, a storm of them twenty times a
/// second at most.
const PLAN_INTERVAL: Duration = Duration::from_millis(50);
/// And not before so many times the last plan's own duration: in a burst the API server needs the processor more, and who
/// waits for an address waits for its writes.
const REST_PER_PLAN: u32 = 8;
/// How long the end may take at each of its steps.
const ENDING: Duration = Duration::from_secs(3);
const _: () = assert!(ENDING.as_millis() > WRITE_LIFE.as_millis(), "writes end before the Lease");

/// Ready when the process is asked to end (SIGTERM, SIGINT).
pub async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Runs the controller until `stop` is ready, and ends in order.
///
/// # Errors
///
/// At the start: no API server is configured, or a port cannot be had. Later only when a task ended that never should;
/// whatever else fails is tried again.
pub async fn run(settings: Settings, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let clients = connect(&settings.cluster).await.context("connecting to the cluster")?;
    let namespace = settings.namespace.clone().unwrap_or_else(|| clients.namespace.clone());
    let name = settings.name.clone().unwrap_or_else(host_name);
    let mut registry = registry();
    let metrics = Metrics::register(&mut registry);
    let health = Health::new();
    let (end, _) = watch::channel(Ending::default());

    let dirty = Dirty::new();
    let class = settings.class.clone();
    let (caches, tasks) = Watch::new(&clients.watches, &namespace, class, &dirty, &metrics.updates);
    caches.report_to(&health);
    let terms = Terms::default();
    health.ready_when("term", terms.readiness());
    let heartbeat = health.main_loop("planner", WEDGED_AFTER);
    let mut followers: JoinSet<_> = tasks.into_iter().collect();
    let component = component(&settings, &namespace);
    let (verdict, verdicts) = watch::channel(None);
    let endpoints =
        serve(settings.endpoints, Arc::new(registry), health, reached(&end, |end| end.endpoints));
    let endpoints = tokio::spawn(endpoints.await.context("serving metrics and health")?);
    let candidacy = candidacy(&namespace, &name);
    tracing::info!(namespace, class = settings.class, identity = candidacy.identity, "started");
    let stopped = reached(&end, |end| end.lease);
    let (leadership, election) = elect(clients.leases.clone(), candidacy, stopped);
    let letters = bound::door(&clients, &leadership).context("connecting to the cluster")?;
    followers.spawn(follow_servers(&clients, [letters.clone()]));
    // Bound to the term as well: who wakes after another took over has nothing to say any more.
    followers.spawn(keep_state(&clients.watches, letters.clone(), component, verdicts));
    let mut election = tokio::spawn(election);
    let (events, writer) = recorder(clients.writes.clone(), COMPONENT, &name);
    let writer = tokio::spawn(writer);

    let main_loop = MainLoop {
        caches,
        dirty,
        leadership,
        planner: Planner::new(&namespace),
        outbox: Outbox::default(),
        queue: VecDeque::new(),
        under_way: JoinSet::new(),
        events,
        metrics,
        writing: Arc::new(Writing { door: letters, namespace }),
        terms,
        verdict,
        again: None,
        doubt_ends: None,
    };
    tokio::select! {
        () = main_loop.run(heartbeat, stop) => {}
        // A cache that nobody keeps, or a Lease that nobody renews, would look as ever, and be wrong. The Lease is not let
        // go of: writes may be under way.
        Some(ended) = followers.join_next() => bail!("a watch has ended: {ended:?}"),
        ended = &mut election => bail!("the election has ended: {ended:?}"),
    }

    end.send_modify(|end| end.lease = true);
    ended("the election", election).await;
    // The main loop's recorder was the only one: the writer finishes what is queued, and ends.
    ended("the Events", writer).await;
    end.send_modify(|end| end.endpoints = true);
    ended("the endpoints", endpoints).await;
    followers.abort_all();
    tracing::info!("ended");
    Ok(())
}

/// What it competes for, and as whom: a new process is another candidate.
fn candidacy(namespace: &str, name: &str) -> Candidacy {
    Candidacy {
        namespace: namespace.to_owned(),
        name: LEASE.to_owned(),
        identity: format!("{name}_{}", unique()),
        timing: Timing::default(),
    }
}

/// Whose state is told.
fn component(settings: &Settings, namespace: &str) -> Component {
    let pod = settings.name.clone().zip(settings.pod_uid.clone());
    Component::controller(namespace, pod.map(|(name, uid)| Pod { name, uid }))
}

/// Which parts have been told to end.
#[derive(Default)]
struct Ending {
    lease: bool,
    endpoints: bool,
}

fn reached(
    end: &watch::Sender<Ending>,
    part: fn(&Ending) -> bool,
) -> impl Future<Output = ()> + Send + 'static {
    let mut end = end.subscribe();
    async move {
        // An error means that the sender is gone, and with it the process's reason to go on.
        let _gone = end.wait_for(part).await;
    }
}

async fn ended(what: &'static str, task: JoinHandle<()>) {
    let abort = task.abort_handle();
    if timeout(ENDING, task).await.is_err() {
        abort.abort();
        tracing::warn!(what, within = ?ENDING, "did not end in time");
    }
}

fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = read.trim();
    if name.is_empty() { "herald-controller".to_owned() } else { name.to_owned() }
}

/// Something that no other process has: the kernel's random UUID.
fn unique() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let uuid = read.trim();
    if uuid.is_empty() { std::process::id().to_string() } else { uuid.to_owned() }
}

/// What every write needs.
struct Writing {
    door: Door,
    namespace: String,
}

struct MainLoop {
    caches: Watch,
    dirty: Dirty,
    leadership: Leadership,
    planner: Planner,
    outbox: Outbox,
    /// Letters that the last plan wants and no carrier was free for. The next plan replaces them.
    queue: VecDeque<Letter>,
    under_way: JoinSet<(Letter, Outcome)>,
    events: Recorder,
    metrics: Metrics,
    writing: Arc<Writing>,
    terms: Terms,
    /// What is said of the whole configuration; nothing by who does not lead.
    verdict: watch::Sender<Option<Verdict>>,
    /// When the last plan wants another.
    again: Option<Instant>,
    /// Until then a write whose answer was lost may be stored.
    doubt_ends: Option<Instant>,
}

impl MainLoop {
    async fn run(mut self, heartbeat: Heartbeat, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut standing = self.leadership.watch();
        let mut changed = false;
        let mut rested = Instant::now();
        loop {
            heartbeat.beat();
            if changed && rested <= Instant::now() {
                changed = false;
                let began = Instant::now();
                self.look();
                rested = Instant::now() + PLAN_INTERVAL.max(began.elapsed() * REST_PER_PLAN);
            }
            self.dispatch();
            let wake = self.wake(changed, rested);
            tokio::select! {
                () = &mut stop => break,
                () = self.dirty.changed(), if !changed => changed = true,
                Some(ended) = self.under_way.join_next() => {
                    if let Ok((letter, outcome)) = ended {
                        self.wrote(&letter, outcome);
                    }
                }
                // An error is the end of the election, which ends after this loop.
                Ok(()) = standing.changed() => changed = true,
                () = sleep_until(wake) => {
                    changed = changed || self.dues().min().is_some_and(|due| due <= Instant::now());
                }
            }
        }
        self.finish().await;
    }

    fn wake(&self, changed: bool, rested: Instant) -> Instant {
        let mut wake = Instant::now() + HEARTBEAT;
        wake = self.dues().fold(wake, Instant::min);
        if !self.queue.is_empty() && self.under_way.len() < WRITES_IN_FLIGHT {
            wake = wake.min(Instant::now() + RENEWAL_PAUSE);
        }
        if changed { wake.min(rested) } else { wake }
    }

    /// When there is something to do although nothing has changed.
    fn dues(&self) -> impl Iterator<Item = Instant> {
        [self.outbox.wake(), self.terms.wake(), self.again].into_iter().flatten()
    }

    /// Looks at the world and, as leader, decides it.
    fn look(&mut self) {
        self.again = None;
        let term = self.leadership.term();
        if term != self.terms.number() {
            // Also when one term follows another: who led between is not known.
            self.stand_by();
            if let Some(number) = term {
                self.metrics.leading(true);
                self.terms.begin(number, Instant::now());
            }
        }
        let now = Instant::now();
        // Asked before the snapshot is taken, which then holds what the term waited for.
        let open = self.terms.is_open(now, || self.caches.list_anew());
        if !self.caches.is_synced() {
            self.say(self.caches.unreadable().filter(|_| term.is_some()).map(Verdict::Unknown));
            return;
        }
        let snapshot = self.caches.snapshot();
        self.planner.observe(&snapshot);
        self.metrics.configuration(self.planner.has_configuration(), self.planner.is_stale());
        self.say(open.then(|| self.planner.verdict()));
        if !open {
            return;
        }
        let decision = self.planner.plan(&snapshot, &mut self.outbox, now);
        self.metrics.count_plan();
        self.metrics.healed(self.outbox.take_healed());
        self.metrics.planned(&decision.figures);
        self.tell(decision.notes);
        self.again = decision.again;
        self.queue = self.outbox.due(now).into();
        self.queue.extend(decision.letters);
        self.outbox.let_be(self.queue.iter(), now);
    }

    fn say(&self, verdict: Option<Verdict>) {
        self.verdict.send_if_modified(|said| {
            let news = *said != verdict;
            *said = verdict;
            news
        });
    }

    fn stand_by(&mut self) {
        self.say(None);
        if self.terms.number().is_some() {
            tracing::info!("it leads no more");
        }
        self.metrics.leading(false);
        self.terms.end();
        self.queue.clear();
        self.under_way.abort_all();
        self.under_way.detach_all();
        // What another leader does meanwhile counts, not what this one had in mind.
        self.outbox = Outbox::default();
    }

    /// Sends letters while there are carriers, and the term has time for them.
    fn dispatch(&mut self) {
        while self.under_way.len() < WRITES_IN_FLIGHT && !self.queue.is_empty() {
            if !self.leadership.held_now() {
                self.stand_by();
                // Should it lead again in a moment, that is a new beginning.
                self.dirty.mark();
                return;
            }
            if !self.leadership.held_for(SERVED_WITHIN) {
                return;
            }
            let Some(letter) = self.queue.pop_front() else { return };
            let now = Instant::now();
            self.outbox.send(&letter, now);
            self.terms.sent(now);
            let writing = Arc::clone(&self.writing);
            let urgent = self.events.precedence().urgent();
            self.under_way.spawn(async move {
                let visit = writing.door.enter();
                let outcome = deliver(visit.client.clone(), &writing.namespace, &letter).await;
                if outcome == Outcome::Unclear {
                    // The next attempt goes by a fresh connection, where there are several servers to another of them.
                    writing.door.enter_anew(&visit);
                }
                drop(urgent);
                (letter, outcome)
            });
        }
    }

    fn wrote(&mut self, letter: &Letter, outcome: Outcome) {
        self.metrics.wrote(outcome);
        if outcome == Outcome::Unclear {
            self.doubt_ends = self.terms.writes_end();
        }
        tracing::debug!(subject = ?letter.subject, content = ?letter.content, ?outcome, "wrote");
        let notes = self.outbox.ended(letter, outcome, Instant::now());
        self.metrics.healed(self.outbox.take_healed());
        self.tell(notes);
    }

    /// Each note as an Event; that a Service lost something also in the log, in the same words.
    fn tell(&self, notes: Vec<Note>) {
        for note in notes {
            if note.reason == CLEARED {
                tracing::info!(why = note.message, "a Service loses what it had");
            }
            self.events.publish(note);
        }
    }

    /// Waits for the writes under way, so that the Lease is let go of when none of them can come later.
    async fn finish(mut self) {
        let deadline = Instant::now() + ENDING;
        while let Ok(Some(ended)) =
            tokio::time::timeout_at(deadline, self.under_way.join_next()).await
        {
            if let Ok((letter, outcome)) = ended {
                self.wrote(&letter, outcome);
            }
        }
        self.under_way.abort_all();
        if let Some(end) = self.doubt_ends {
            sleep_until(end.min(deadline)).await;
        }
    }
}
