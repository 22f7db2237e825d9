//! The figures that Prometheus scrapes: MetalLB's by MetalLB's names, ours under `herald_`.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use herald_core::name::{NodeName, ServiceId};
use herald_telemetry::metrics::{
    Counter, EncodeLabelSet, Family, Gauge, Histogram, Registry, Unit, registry,
};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::exponential_buckets;

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
    /// Claims of strangers to addresses that it owns.
    pub strangers: Counter,
    /// Whether its view of the Leases is fresh.
    pub sure: Gauge,
    /// Whether any configuration is in force.
    pub configured: Gauge,
    /// Whether some object's present version is not in force.
    pub stale: Gauge,
    /// What is answered for, for which Services.
    pub announced: Announced,
}

impl Figures {
    /// The figures of node `me`, and the registry in which they and the wire's `counts` stand.
    pub fn new(me: NodeName, counts: Arc<Counts>) -> (Self, Registry) {
        let mut registry = registry();
        let figures = Self {
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
            announced: Announced { me, pairs: Arc::default() },
        };
        let metallb = registry.sub_registry_with_prefix("metallb");
        metallb.register(
            "k8s_client_config_loaded_bool",
            "1 if a configuration has been loaded",
            figures.configured.clone(),
        );
        metallb.register(
            "k8s_client_config_stale_bool",
            "1 if the last good version of some object is in force instead of its present one",
            figures.stale.clone(),
        );
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
            "Times a host that is no speaker claimed an address of this node (R9)",
            figures.strangers.clone(),
        );
        ours.register(
            "view_fresh",
            "1 while the view of the Leases is fresh",
            figures.sure.clone(),
        );
        registry.register_collector(Box::new(figures.announced.clone()));
        registry.register_collector(Box::new(Wire(counts)));
        (figures, registry)
    }
}

/// `metallb_speaker_announced`: a series for each Service and address that this node answers for.
#[derive(Clone, Debug)]
pub struct Announced {
    me: NodeName,
    pairs: Arc<Mutex<Vec<(IpAddr, ServiceId)>>>,
}

impl Announced {
    /// Exactly `pairs` are announced now.
    pub fn show(&self, pairs: Vec<(IpAddr, ServiceId)>) {
        *self.pairs.lock().unwrap_or_else(PoisonError::into_inner) = pairs;
    }
}

impl Collector for Announced {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut metric = encoder.encode_descriptor(
            "metallb_speaker_announced",
            "Services being announced from this node",
            None,
            MetricType::Gauge,
        )?;
        for (ip, service) in pairs {
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
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Unknown)?;
            for (address, counts) in &addresses {
                let labels = AddressLabel { ip: address.to_string() };
                unknown(figure(counts), metric.encode_family(&labels)?)?;
            }
        }
        let help = "Frames not answered or not sent, by reason";
        let name = "herald_frames_dropped";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Unknown)?;
        for (why, count) in self.0.drops() {
            unknown(count, metric.encode_family(&DropLabel { reason: why.as_str() })?)?;
        }
        Ok(())
    }
}

/// A counter whose name does not end in `_total` has no type in OpenMetrics.
fn unknown(value: u64, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
    encoder.encode_gauge(&value)
}
