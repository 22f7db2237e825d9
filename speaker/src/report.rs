//! What people read: Events on Services, log lines, metrics. Decided elsewhere; said here, once for each change.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use herald_cluster::cache::Cache;
use herald_cluster::events::{Note, Recorder, Severity, Urgent};
use herald_core::name::{NodeName, ServiceId};
use herald_core::ownership::machine::report::Cause;
use herald_core::ownership::machine::{Machine, Report};
use herald_core::ownership::plan::Plan;
use herald_core::ownership::record::WriteOutcome;
use herald_core::ownership::session::SessionNews;
use herald_core::ownership::view::LeaseKey;
use herald_core::ownership::world::Service;
use herald_core::wire::Mac;
use k8s_openapi::api::core::v1::ObjectReference;

use crate::metrics::{Figures, RuleLabel, UnfitLabel, WriteLabel};

/// What `/readyz` asks the loop's state for.
#[derive(Debug, Default)]
pub struct Readiness {
    /// Whether this node takes part in announcing at all.
    pub takes_part: bool,
    /// Whether its session is open.
    pub open: bool,
    /// Why it is not, where that is known.
    pub why: Option<String>,
}

/// Tells people.
pub struct Reporter {
    me: NodeName,
    recorder: Recorder,
    services: Cache<ServiceId, Option<Arc<Service>>>,
    figures: Figures,
    readiness: Arc<Mutex<Readiness>>,
    plan: Arc<Plan>,
}

impl Reporter {
    /// A reporter for node `me`.
    pub fn new(
        me: NodeName,
        recorder: Recorder,
        services: Cache<ServiceId, Option<Arc<Service>>>,
        figures: Figures,
        readiness: Arc<Mutex<Readiness>>,
    ) -> Self {
        Self { me, recorder, services, figures, readiness, plan: Arc::default() }
    }

    /// Counts writes, from wherever they end.
    pub fn writes(&self) -> WriteTally {
        WriteTally(self.figures.clone())
    }

    /// A write begins that goes before what is told of it.
    pub fn urgent(&self) -> Urgent {
        self.recorder.precedence().urgent()
    }

    /// A plan is in force.
    pub fn planned(&mut self, plan: &Arc<Plan>) {
        self.plan = Arc::clone(plan);
        self.note(|readiness| readiness.takes_part = plan.takes_part);
        self.figures.announced.planned(Arc::clone(plan));
    }

    /// Why this node is no candidate for each address, counted.
    pub fn judged(&self, machine: &Machine) {
        self.figures.unfit.clear();
        let Some(plan) = machine.plan() else { return };
        for unfit in plan.vips.keys().filter_map(|address| machine.why_not(*address)) {
            let label = UnfitLabel { reason: unfit.reason() };
            self.figures.unfit.get_or_create(&label).inc();
        }
    }

    /// What stands in the Leases, counted.
    pub fn counted(&self, machine: &Machine) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.figures.claims.set(count(machine.view().claims().count()));
        self.figures.sessions.set(count(machine.view().open_sessions().count()));
    }

    /// Each of `changes` is answered for from now on, or, where it says so, no more.
    pub fn answering(&self, changes: impl IntoIterator<Item = (IpAddr, bool)>) {
        let owned = self.figures.announced.answering(changes);
        self.figures.owned.set(i64::try_from(owned).unwrap_or(i64::MAX));
    }

    /// The Services that have `address`, by the plan.
    fn services_of(&self, address: IpAddr) -> &[ServiceId] {
        self.plan.vips.get(&address).map(|vip| &*vip.services).unwrap_or_default()
    }

    /// Tells of `report`.
    pub fn report(&self, report: &Report) {
        match report {
            Report::Moved { address, from, to, answers, cause, vacant } => {
                self.moved(*address, from, to, *answers, cause);
                if let Some(vacant) = vacant {
                    self.figures.vacancy.observe(Duration::from_millis(vacant.0).as_secs_f64());
                }
            }
            Report::Session(news) => self.session(news),
            Report::ClosedPeer(node, why) => {
                self.figures.sessions_closed.inc();
                let (why, rule) = (why.as_str(), "R7");
                tracing::warn!(%node, why, rule, "closing the session of a node");
            }
            Report::Stranger { address, mac, node, own, barred } => {
                self.stranger(*address, *mac, node.as_ref(), *own, *barred);
            }
            Report::Sure(sure) => self.sure(*sure),
        }
    }

    fn sure(&self, sure: bool) {
        self.figures.sure.set(i64::from(sure));
        if sure {
            tracing::info!("the view of the Leases is fresh");
        } else if self.note(|readiness| readiness.open) {
            tracing::warn!("the view of the Leases is not fresh any more");
        }
        // Without a session there is none by which to know: that it is closed has been said.
    }

    fn moved(
        &self,
        address: IpAddr,
        from: &str,
        to: &str,
        (before, after): (bool, bool),
        cause: &Cause,
    ) {
        let services = self.services_of(address);
        let names: Vec<String> = services.iter().map(ToString::to_string).collect();
        let (rule, services_named) = (cause.rule(), names.join(","));
        tracing::info!(%address, from, to, rule, services = services_named, "{address}: {cause}");
        if before == after {
            return;
        }
        self.figures.changes.get_or_create(&RuleLabel { rule }).inc();
        if after {
            for service in services {
                self.announce_owner(service, cause);
            }
        }
    }

    /// MetalLB's Event, with the rule behind it.
    fn announce_owner(&self, service: &ServiceId, cause: &Cause) {
        let node = &self.me;
        let message = format!("announcing from node \"{node}\" with protocol \"layer2\": {cause}");
        self.tell(service, Severity::Normal, "nodeAssigned", message);
    }

    /// A host uses an address of ours, which is therefore silent where it is `barred` (R9).
    fn stranger(&self, address: IpAddr, mac: Mac, of: Option<&NodeName>, own: Mac, barred: bool) {
        self.figures.strangers.inc();
        let (rule, of) = ("R9", of.map(ToString::to_string));
        tracing::warn!(%address, %mac, of, %own, barred, rule, "a host that is no speaker uses an address of ours");
        let then = if barred {
            "it is not announced until that host is gone"
        } else {
            "it is announced all the same"
        };
        let node = &self.me;
        let who = of.map_or_else(
            || format!("the host with hardware address {mac}"),
            |of| format!("something on node \"{of}\" ({mac}) that is not Herald"),
        );
        let message = format!(
            "{who} uses IP \"{address}\" on a network of node \"{node}\" ({own}): {then} ({rule})"
        );
        for service in self.services_of(address) {
            self.tell(service, Severity::Warning, "AddressConflict", message.clone());
        }
    }

    fn tell(&self, service: &ServiceId, severity: Severity, reason: &'static str, message: String) {
        let snapshot = self.services.snapshot();
        let Some(Some(known)) = snapshot.get(service).map(AsRef::as_ref) else { return };
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some(service.namespace.to_string()),
            name: Some(service.name.to_string()),
            uid: Some(known.uid.to_string()),
            ..ObjectReference::default()
        };
        self.recorder.publish(Note { about, severity, reason, message });
    }

    fn session(&self, news: &SessionNews) {
        let (open, why) = match news {
            SessionNews::Opened(incarnation) => {
                tracing::info!(%incarnation, "the session is open");
                (true, None)
            }
            SessionNews::Closed(closed) => {
                let why = closed.as_ref().map_or_else(
                    || {
                        "replaced by another process on this node, or its Lease was deleted"
                            .to_owned()
                    },
                    |closed| format!("closed by {} ({})", closed.by, closed.why.as_str()),
                );
                if closed.as_ref().is_some_and(|closed| closed.by == self.me) {
                    tracing::info!(why, "the session is closed");
                } else {
                    tracing::warn!(why, "the session is closed");
                }
                (false, Some(why))
            }
            SessionNews::Refused(incarnation) => {
                let why = format!("another process, {incarnation}, speaks for this node");
                tracing::error!(why, "the session is refused");
                (false, Some(why))
            }
        };
        self.note(|readiness| (readiness.open, readiness.why) = (open, why));
    }

    fn note<R>(&self, change: impl FnOnce(&mut Readiness) -> R) -> R {
        change(&mut self.readiness.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts Lease writes.
#[derive(Clone)]
pub struct WriteTally(Figures);

impl WriteTally {
    /// One write came to this.
    pub fn count(&self, key: &LeaseKey, outcome: &WriteOutcome) {
        let lease = match key {
            LeaseKey::Session(_) => "session",
            LeaseKey::Claim(_) => "claim",
        };
        let word = match outcome {
            WriteOutcome::Stored(_) => "stored",
            WriteOutcome::Conflict => "conflict",
            WriteOutcome::Unknown => "unknown",
            WriteOutcome::Refused => "refused",
        };
        self.0.writes.get_or_create(&WriteLabel { lease, outcome: word }).inc();
        if matches!(outcome, WriteOutcome::Unknown | WriteOutcome::Refused) {
            self.0.failed_writes.inc();
        }
    }
}
