//! The figures that Prometheus scrapes: MetalLB's by MetalLB's names, ours under `herald_`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use herald_cluster::events::Dropped;
use herald_core::name::{NodeName, ServiceId};
use herald_core::ownership::plan::Plan;
use herald_telemetry::metrics::{
    Counter, EncodeLabelSet, Family, Gauge, Histogram, Registry, Tally, Unit, registry,
};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::metrics::{MetricType, TypedMetric};

use crate::net::count::{AddressCounts, Counts};

/// By the rule of ownership that it follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RuleLabel {
    /// `R1` to `R10`.
    pub rule: &'static str,
}

/// By why a node may not answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UnfitLabel {
    /// One of a closed list.
    pub reason: &'static str,
}

/// By which Lease was written and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabel {
    /// `session` or `claim`.
    pub lease: &'static str,
    /// `stored`, `conflict`, `unknown` or `refused`.
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnnouncedLabels {
    service: String,
    protocol: &'static str,
    node: String,
    ip: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AddressLabel {
    ip: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DropLabel {
    reason: &'static str,
}

/// All that the loop counts. Clones are the same figures.
#[derive(Clone)]
pub struct Figures {
    /// Objects read from the API server.
    pub updates: Counter,
    /// Lease writes that were refused or not answered.
    pub failed_writes: Counter,
    /// Addresses that this node answers for.
    pub owned: Gauge,
    /// How often it began or ceased to answer for one, by rule.
    pub changes: Family<RuleLabel, Counter>,
    /// How long nobody had owned an address when this node took it, in seconds.
    pub vacancy: Histogram,
    /// Claims that there are.
    pub claims: Gauge,
    /// Sessions that are open.
    pub sessions: Gauge,
    /// Addresses that it is no candidate for, by reason.
    pub unfit: Family<UnfitLabel, Gauge>,
    /// Lease writes.
    pub writes: Family<WriteLabel, Counter>,
    /// Sessions of others that it closed.
    pub sessions_closed: Counter,
    /// Reports of strangers that use addresses that it owns.
    pub strangers: Counter,
    /// Whether its view of the Leases is fresh.
    pub sure: Gauge,
    /// Whether a configuration is in force, if only one without pools.
    pub configured: Gauge,
    /// Whether some object's present version is not in force.
    pub stale: Gauge,
    /// What is answered for, for which Services.
    pub announced: Announced,
}

impl Figures {
    /// The figures of node `me`, and the registry in which they, the wire's `counts` and the Events that were `dropped`
    /// stand.
    pub fn new(me: NodeName, counts: Arc<Counts>, dropped: Dropped) -> (Self, Registry) {
        let figures = Self::of(me);
        let mut registry = registry();
        figures.register(&mut registry);
        registry.register_collector(Box::new(figures.announced.clone()));
        registry.register_collector(Box::new(Wire(counts)));
        registry.register_collector(Box::new(LostEvents(dropped)));
        (figures, registry)
    }

    fn of(me: NodeName) -> Self {
        Self {
            updates: Counter::default(),
            failed_writes: Counter::default(),
            owned: Gauge::default(),
            changes: Family::default(),
            vacancy: Histogram::new(exponential_buckets(0.01, 2.0, 12)),
            claims: Gauge::default(),
            sessions: Gauge::default(),
            unfit: Family::default(),
            writes: Family::default(),
            sessions_closed: Counter::default(),
            strangers: Counter::default(),
            sure: Gauge::default(),
            configured: Gauge::default(),
            stale: Gauge::default(),
            announced: Announced { me, shown: Arc::default() },
        }
    }

    fn register(&self, registry: &mut Registry) {
        let figures = self;
        let client = registry.sub_registry_with_prefix("metallb_k8s_client");
        client.register("updates", "Objects read from the API server", figures.updates.clone());
        let help = "Lease writes that were refused or not answered";
        client.register("update_errors", help, figures.failed_writes.clone());
        client.register(
            "config_loaded_bool",
            "1 while a configuration is in force",
            figures.configured.clone(),
        );
        let help = "1 while an object's present version is not in force";
        client.register("config_stale_bool", help, figures.stale.clone());
        let ours = registry.sub_registry_with_prefix("herald");
        ours.register("owned_vips", "Addresses this node answers for", figures.owned.clone());
        ours.register(
            "ownership_changes",
            "Times this node began or ceased to answer for an address, by rule",
            figures.changes.clone(),
        );
        ours.register_with_unit(
            "vacancy",
            "How long nobody had owned an address when this node took it",
            Unit::Seconds,
            figures.vacancy.clone(),
        );
        ours.register("claims", "Claims on addresses, of all nodes", figures.claims.clone());
        ours.register("open_sessions", "Open sessions of speakers", figures.sessions.clone());
        ours.register(
            "unfit_vips",
            "Addresses this node is no candidate for, by reason",
            figures.unfit.clone(),
        );
        ours.register("lease_writes", "Lease writes, by outcome", figures.writes.clone());
        ours.register(
            "sessions_closed",
            "Sessions of other nodes that this node closed (R7)",
            figures.sessions_closed.clone(),
        );
        ours.register(
            "strangers_heard",
            "Reports of hosts that are no speakers and use an address of this node, for each address one in 10 s (R9)",
            figures.strangers.clone(),
        );
        ours.register(
            "view_fresh",
            "1 while the view of the Leases is fresh",
            figures.sure.clone(),
        );
    }
}

/// `metallb_speaker_announced`: a series for each Service and address that this node answers for. Which they are is worked
/// out when somebody asks: in a burst that is once for hundreds of changes.
#[derive(Clone, Debug)]
pub struct Announced {
    me: NodeName,
    shown: Arc<Mutex<Shown>>,
}

#[derive(Debug, Default)]
struct Shown {
    plan: Option<Arc<Plan>>,
    answered: BTreeSet<IpAddr>,
}

impl Announced {
    /// From now on the Services of an address are those that `plan` names.
    pub fn planned(&self, plan: Arc<Plan>) {
        self.lock().plan = Some(plan);
    }

    /// Each of `changes` is answered for from now on, or, where it says so, no more; returns how many there are now.
    pub fn answering(&self, changes: impl IntoIterator<Item = (IpAddr, bool)>) -> usize {
        let mut shown = self.lock();
        for (address, answered) in changes {
            if answered {
                shown.answered.insert(address);
            } else {
                shown.answered.remove(&address);
            }
        }
        shown.answered.len()
    }

    fn pairs(&self) -> Vec<(IpAddr, ServiceId)> {
        let (plan, answered) = {
            let shown = self.lock();
            (shown.plan.clone(), shown.answered.clone())
        };
        let Some(plan) = plan else { return Vec::new() };
        let of = |address| plan.vips.get(&address).into_iter().flat_map(|vip| &vip.services);
        let pairs = answered.into_iter().flat_map(|ip| of(ip).map(move |id| (ip, id.clone())));
        pairs.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        // Nothing under the lock can panic half way through a change.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Announced {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut metric = encoder.encode_descriptor(
            "metallb_speaker_announced",
            "Services being announced from this node",
            None,
            MetricType::Gauge,
        )?;
        for (ip, service) in self.pairs() {
            let labels = AnnouncedLabels {
                service: service.to_string(),
                protocol: "layer2",
                node: self.me.to_string(),
                ip: ip.to_string(),
            };
            ConstGauge::new(1_u64).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// One of an address' counts.
type Figure = fn(&AddressCounts) -> u64;

/// What the wire asked and was told.
#[derive(Debug)]
struct Wire(Arc<Counts>);

impl Collector for Wire {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let addresses = self.0.addresses();
        let figures: [(&str, &str, Figure); 3] = [
            (
                "metallb_layer2_requests_received",
                "Number of layer2 requests received for owned IPs",
                |c| c.requests_received,
            ),
            (
                "metallb_layer2_responses_sent",
                "Number of layer2 responses sent for owned IPs in response to requests",
                |c| c.responses_sent,
            ),
            (
                "metallb_layer2_gratuitous_sent",
                "Number of gratuitous layer2 packets sent for owned IPs as a result of failovers",
                |c| c.gratuitous_sent,
            ),
        ];
        for (name, help, figure) in figures {
            let mut metric = encoder.encode_descriptor(name, help, None, Tally::TYPE)?;
            for (address, counts) in &addresses {
                let labels = AddressLabel { ip: address.to_string() };
                Tally(figure(counts)).encode(metric.encode_family(&labels)?)?;
            }
        }
        let help = "Frames not answered or not sent, by reason";
        let name = "herald_frames_dropped";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (why, count) in self.0.drops() {
            let labels = DropLabel { reason: why.as_str() };
            ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// `herald_events_dropped_total`.
#[derive(Debug)]
struct LostEvents(Dropped);

impl Collector for LostEvents {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (name, help) = ("herald_events_dropped", "Events that were never written");
        let counter = ConstCounter::new(self.0.get());
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use herald_cluster::events::recorder;
    use herald_core::ownership::plan::Vip;

    use super::*;
    use crate::net::links::Links;
    use crate::net::responder::{Reach, Responder, Settings};

    /// A client that reaches nobody.
    fn nowhere() -> kube::Client {
        let url = "http://127.0.0.1:1".parse().expect("a URL");
        kube::Client::try_from(kube::Config::new(url)).expect("a client")
    }

    /// A plan by which each address is that of the Service of this name.
    fn plan(services: &[(IpAddr, &str)]) -> Arc<Plan> {
        let vip = |&(first, name): &(IpAddr, &str)| {
            let services = vec![ServiceId::new("n", name)];
            let (siblings, candidates) = ([].into(), Arc::default());
            (first, Vip { services, first, siblings, candidates, unfit: None })
        };
        Arc::new(Plan { vips: services.iter().map(vip).collect(), ..Plan::default() })
    }

    #[test]
    fn what_is_announced_follows_every_change_and_every_plan() {
        let announced = Figures::of("a".into()).announced;
        let [one, other] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let shown = || {
            announced.pairs().into_iter().map(|(ip, id)| (ip, id.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(announced.answering([(one, true), (other, true)]), 2);
        assert_eq!(shown(), [], "no plan says whose they are");
        announced.planned(plan(&[(one, "web"), (other, "db")]));
        assert_eq!(shown(), [(one, "n/web".to_owned()), (other, "n/db".to_owned())]);
        announced.planned(plan(&[(one, "shop")]));
        assert_eq!(shown(), [(one, "n/shop".to_owned())]);
        assert_eq!(announced.answering([(one, false)]), 1);
        assert_eq!(shown(), []);
    }

    #[tokio::test]
    async fn metallbs_series_bear_metallbs_names_and_ours_are_ours() {
        let address = IpAddr::from([192, 0, 2, 1]);
        let (mut responder, _heard) = Responder::new(Settings::default());
        responder.set_links(&Links::default()).expect("no link is none that fails");
        responder.answer(HashMap::from([(address, Some(Reach::Every))]));
        let (recorder, _writer) = recorder(nowhere(), "metallb-speaker", "a");
        let (figures, registry) = Figures::new("a".into(), responder.counts(), recorder.dropped());
        figures.updates.inc();
        figures.configured.set(1);
        figures.changes.get_or_create(&RuleLabel { rule: "R4" }).inc();
        figures.announced.planned(plan(&[(address, "web")]));
        assert_eq!(figures.announced.answering([(address, true)]), 1);
        let text = herald_telemetry::metrics::encode(&registry).expect("text takes everything");
        for line in [
            "metallb_k8s_client_updates_total 1",
            "metallb_k8s_client_update_errors_total 0",
            "metallb_k8s_client_config_loaded_bool 1",
            "metallb_k8s_client_config_stale_bool 0",
            "metallb_speaker_announced{service=\"n/web\",protocol=\"layer2\",node=\"a\",ip=\"192.0.2.1\"} 1",
            "metallb_layer2_requests_received{ip=\"192.0.2.1\"} 0",
            "metallb_layer2_responses_sent{ip=\"192.0.2.1\"} 0",
            "metallb_layer2_gratuitous_sent{ip=\"192.0.2.1\"} 0",
            "herald_owned_vips 0",
            "herald_ownership_changes_total{rule=\"R4\"} 1",
            "herald_vacancy_seconds_count 0",
            "herald_frames_dropped_total{reason=\"malformed\"} 0",
            "herald_events_dropped_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[tokio::test]
    async fn what_operators_are_told_to_watch_is_there() {
        let (responder, _heard) = Responder::new(Settings::default());
        let (recorder, _writer) = recorder(nowhere(), "metallb-speaker", "a");
        let (figures, registry) = Figures::new("a".into(), responder.counts(), recorder.dropped());
        figures.unfit.get_or_create(&UnfitLabel { reason: "NoEndpoint" }).set(1);
        let text = herald_telemetry::metrics::encode(&registry).expect("text takes everything");
        let guide = include_str!("../../docs/operating.md");
        let words = guide.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ours = words
            .filter(|word| word.starts_with("herald_") && !word.starts_with("herald_controller_"));
        let mut told = 0;
        for name in ours {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
            told += 1;
        }
        assert!(told > 5, "{told}");
    }
}
