//! Snapshot → core model → plan. The only caller of core's planner.

use std::collections::BTreeMap;
use std::sync::Arc;

use herald_api::crd::configuration_state::Verdict;
use herald_core::config::{Configuration, Object, Offers, Problem, settle};
use herald_core::label::Labels;
use herald_core::name::{NodeName, PoolName, ServiceId};
use herald_core::ownership::eligibility;
use herald_core::ownership::plan::Plan;
use herald_core::ownership::world::{Endpoints, Service, World};

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
        let (services, slices) = (caches.services.snapshot(), caches.slices.snapshot());
        let slices = slices.values().filter_map(|slice| slice.as_ref().as_ref());
        let world = World {
            nodes: (*caches.nodes.snapshot()).clone(),
            pools: self.configuration.pools().values().cloned().collect(),
            broken_pools: self.broken_pools(caches),
            advertisements: self.configuration.advertisements().values().cloned().collect(),
            services: services.values().filter_map(|service| (**service).clone()).collect(),
            endpoints: endpoints(&services, slices),
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

/// The endpoints of those of `services` that are announced, each of which may have several `slices`. Both are walked in
/// order, once: to look each slice's Service up would be most of what a plan costs.
fn endpoints<'s>(
    services: &BTreeMap<ServiceId, Arc<Option<Arc<Service>>>>,
    slices: impl Iterator<Item = &'s (ServiceId, Endpoints)>,
) -> BTreeMap<ServiceId, Endpoints> {
    let mut slices: Vec<&(ServiceId, Endpoints)> = slices.collect();
    // Almost sorted already: slices bear their Services' names.
    slices.sort_by(|(a, _), (b, _)| a.cmp(b));
    let announced = services.iter().filter(|(_, service)| service.is_some());
    let mut announced = announced.map(|(id, _)| id).peekable();
    let mut found: Vec<(ServiceId, Endpoints)> = Vec::new();
    for of_one in slices.chunk_by(|(a, _), (b, _)| a == b) {
        let (service, _) = of_one[0];
        while announced.next_if(|id| *id < service).is_some() {}
        // Most slices of a cluster belong to Services that nobody announces.
        if announced.peek() == Some(&service) {
            let mut all = Endpoints::default();
            of_one.iter().for_each(|(_, endpoints)| all.merge(endpoints));
            found.push((service.clone(), all));
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_announced_service_has_the_endpoints_of_all_its_slices_and_no_other_has_any() {
        let service = |name: &str| {
            let id = ServiceId::new("n", name);
            let (uid, created, labels) = ("u".into(), 0, Labels::default());
            let (addresses, recorded_pool, local) = (Vec::new(), None, false);
            Service { id, uid, created, labels, addresses, recorded_pool, local }
        };
        let cached = |name, announced: bool| {
            let value = announced.then(|| Arc::new(service(name)));
            (ServiceId::new("n", name), Arc::new(value))
        };
        let services =
            [cached("a", true), cached("b", false), cached("c", true), cached("d", true)];
        let slice = |service, node: &str| {
            let nodes = BTreeSet::from([node.into()]);
            (ServiceId::new("n", service), Endpoints { any: true, nodes })
        };
        let slices = [
            slice("d", "one"),
            slice("gone", "one"),
            slice("a", "one"),
            slice("b", "one"),
            slice("a", "two"),
        ];
        let found = endpoints(&services.into(), slices.iter());
        let (id, both) = (|name| ServiceId::new("n", name), ["one", "two"].map(NodeName::from));
        let expected = [
            (id("a"), Endpoints { any: true, nodes: both.into() }),
            (id("d"), slices[0].1.clone()),
        ];
        assert_eq!(found, expected.into());
    }
}
