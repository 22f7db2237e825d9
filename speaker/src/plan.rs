//! Snapshot → core model → plan. The only caller of core's planner.

use std::collections::BTreeMap;

use herald_api::crd::configuration_state::Verdict;
use herald_core::config::{Configuration, Object, Offers, Problem, settle};
use herald_core::label::Labels;
use herald_core::name::{NodeName, PoolName, ServiceId};
use herald_core::ownership::eligibility;
use herald_core::ownership::plan::Plan;
use herald_core::ownership::world::{Endpoints, World};

use crate::watch::Caches;

/// Plans on whole snapshots; remembers only which version of each configuration object was last good.
pub struct Planner {
    me: NodeName,
    ignore_exclude_label: bool,
    configuration: Configuration,
    problems: Vec<Problem>,
}

impl Planner {
    /// A planner for node `me`.
    pub fn new(me: NodeName, ignore_exclude_label: bool) -> Self {
        let (configuration, problems) = (Configuration::default(), Vec::new());
        Self { me, ignore_exclude_label, configuration, problems }
    }

    /// The plan for what `caches` hold now.
    pub fn plan(&mut self, caches: &Caches) -> Plan {
        self.settle(caches);
        let services = caches.services.snapshot();
        let world = World {
            nodes: (*caches.nodes.snapshot()).clone(),
            pools: self.configuration.pools().values().cloned().collect(),
            broken_pools: self.broken_pools(caches),
            advertisements: self.configuration.advertisements().values().cloned().collect(),
            services: services.values().filter_map(|service| (**service).clone()).collect(),
            endpoints: endpoints(caches),
            ignore_exclude_label: self.ignore_exclude_label,
        };
        eligibility::plan(&world, &self.me)
    }

    /// Whether some configuration object's present version is not in force.
    pub fn is_stale(&self) -> bool {
        !self.problems.is_empty()
    }

    /// What is to be said of the configuration as a whole.
    pub fn verdict(&self) -> Verdict {
        Verdict::of(&self.problems)
    }

    /// Whether any pool or advertisement is in force.
    pub fn is_configured(&self) -> bool {
        !self.configuration.pools().is_empty()
    }

    /// The pools that exist and have no version in force, as after a start while their objects are broken.
    fn broken_pools(&self, caches: &Caches) -> BTreeMap<PoolName, Labels> {
        let snapshot = caches.pools.snapshot();
        let unknown = self.configuration.unknown().iter().filter_map(|object| match object {
            Object::Pool(name) => Some((name.clone(), snapshot.get(name)?.labels.clone())),
            Object::Advertisement(_) => None,
        });
        unknown.collect()
    }

    fn settle(&mut self, caches: &Caches) {
        let pools = caches.pools.snapshot();
        let advertisements = caches.advertisements.snapshot();
        let offers = Offers {
            pools: pools.iter().map(|(name, offer)| (name.clone(), (**offer).clone())).collect(),
            advertisements: advertisements
                .iter()
                .map(|(name, offer)| (name.clone(), (**offer).clone()))
                .collect(),
        };
        let (configuration, problems) = settle(&self.configuration, &offers);
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            // The controller tells it where users look; a speaker's own log says what this node goes by.
            tracing::warn!(object = %problem.object, reason = problem.reason(), "{problem}");
        }
        self.configuration = configuration;
        self.problems = problems;
    }
}

fn endpoints(caches: &Caches) -> BTreeMap<ServiceId, Endpoints> {
    let services = caches.services.snapshot();
    let mut found: BTreeMap<ServiceId, Endpoints> = BTreeMap::new();
    for slice in caches.slices.snapshot().values() {
        let Some((service, endpoints)) = slice.as_ref() else { continue };
        // Most slices of a cluster belong to Services that nobody announces.
        if services.get(service).is_some_and(|service| service.is_some()) {
            found.entry(service.clone()).or_default().merge(endpoints);
        }
    }
    found
}
