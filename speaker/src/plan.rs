//! Snapshot → core model → plan. The only caller of core's planner.

use std::collections::BTreeMap;
use std::sync::Arc;

use herald_api::crd::configuration_state::Verdict;
use herald_core::config::{Configuration, Offers, Pool, Problem, SETTLING, settle};
use herald_core::name::{NodeName, PoolName, ServiceId};
use herald_core::ownership::eligibility;
use herald_core::ownership::plan::Plan;
use herald_core::ownership::world::{Endpoints, Served, Service, World};
use tokio::time::Instant;

use crate::watch::Snapshot;

/// Plans on whole snapshots; remembers only which version of each configuration object was last good, and, while the pools
/// settle, which were in force before.
pub struct Planner {
    me: NodeName,
    ignore_exclude_label: bool,
    configuration: Configuration,
    problems: Vec<Problem>,
    /// The pools that were in force when they began to change, each as it was.
    former: BTreeMap<PoolName, Arc<Pool>>,
    /// Until when the pools in force may still be changing.
    settles: Option<Instant>,
}

impl Planner {
    /// A planner for node `me`.
    pub fn new(me: NodeName, ignore_exclude_label: bool) -> Self {
        let (configuration, problems) = (Configuration::default(), Vec::new());
        let (former, settles) = (BTreeMap::new(), None);
        Self { me, ignore_exclude_label, configuration, problems, former, settles }
    }

    /// The plan for `snapshot`.
    pub fn plan(&mut self, snapshot: &Snapshot, now: Instant) -> Plan {
        let before = self.configuration.pools().clone();
        self.settle(snapshot);
        self.remember(before, now);
        let slices = snapshot.slices.values().filter_map(|slice| slice.as_ref().as_ref());
        let world = World {
            nodes: (*snapshot.nodes).clone(),
            pools: self.configuration.pools().values().cloned().collect(),
            former_pools: self.former.values().cloned().collect(),
            refused_pools: self.configuration.refused().clone(),
            advertisements: self.configuration.advertisements().values().cloned().collect(),
            services: served(&snapshot.services, slices),
            ignore_exclude_label: self.ignore_exclude_label,
        };
        eligibility::plan(&world, &self.me)
    }

    /// When to plan again although nothing has changed.
    pub fn again(&self) -> Option<Instant> {
        self.settles
    }

    /// What no pool holds any more is planned with as it was in `before`, until the pools have settled.
    fn remember(&mut self, before: BTreeMap<PoolName, Arc<Pool>>, now: Instant) {
        if self.settles.is_some_and(|until| until <= now) {
            self.settles = None;
            self.former.clear();
        }
        if before.is_empty() && self.former.is_empty() || before == *self.configuration.pools() {
            return;
        }
        self.settles = Some(now + SETTLING);
        for (name, pool) in before {
            // As it was at first: what came and went since then was not to stay.
            self.former.entry(name).or_insert(pool);
        }
    }

    /// Whether some configuration object's present version is not in force.
    pub fn is_stale(&self) -> bool {
        !self.problems.is_empty()
    }

    /// What is to be said of the configuration as a whole.
    pub fn verdict(&self) -> Verdict {
        Verdict::of(&self.problems)
    }

    /// Whether a configuration is in force, if only one without pools; not while all that there is is broken.
    pub fn is_configured(&self) -> bool {
        !self.is_stale() || !self.configuration.pools().is_empty()
    }

    fn settle(&mut self, snapshot: &Snapshot) {
        let Snapshot { pools, advertisements, .. } = snapshot;
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

/// Those of `services` that are announced, each with what all of its `slices` say. Both are walked in order, once: to look
/// each slice's Service up would be most of what a plan costs.
fn served<'s>(
    services: &BTreeMap<ServiceId, Arc<Option<Arc<Service>>>>,
    slices: impl Iterator<Item = &'s (ServiceId, Arc<Endpoints>)>,
) -> Vec<Served> {
    let mut slices: Vec<&(ServiceId, Arc<Endpoints>)> = slices.collect();
    // Almost sorted already: slices bear their Services' names.
    slices.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut slices = slices.into_iter().peekable();
    let none: Arc<Endpoints> = Arc::default();
    let announced = services.values().filter_map(|service| service.as_ref().as_ref());
    let served = announced.map(|service| {
        // Most slices of a cluster belong to Services that nobody announces.
        while slices.next_if(|(of, _)| *of < service.id).is_some() {}
        let mut own = || slices.next_if(|(of, _)| *of == service.id).map(|(_, said)| said.clone());
        let mut endpoints = own().unwrap_or_else(|| none.clone());
        while let Some(more) = own() {
            Arc::make_mut(&mut endpoints).merge(&more);
        }
        Served { service: service.clone(), endpoints }
    });
    served.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use herald_api::parse;
    use herald_core::config::Offer;
    use herald_core::label::Labels;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_announced_service_has_the_endpoints_of_all_its_slices_and_no_others() {
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
            (ServiceId::new("n", service), Arc::new(Endpoints { any: true, nodes }))
        };
        let slices = [
            slice("d", "one"),
            slice("gone", "one"),
            slice("a", "one"),
            slice("b", "one"),
            slice("a", "two"),
        ];
        let found = served(&services.into(), slices.iter());
        let hosts = |of: &Served| of.endpoints.nodes.iter().cloned().collect::<Vec<_>>();
        let found: Vec<_> = found.iter().map(|of| (&*of.service.id.name, hosts(of))).collect();
        let [one, two] = ["one", "two"].map(NodeName::from);
        let expected = [("a", vec![one.clone(), two]), ("c", vec![]), ("d", vec![one])];
        assert_eq!(found, expected);
    }

    fn read<T: DeserializeOwned>(object: Value) -> T {
        serde_json::from_value(object).expect("an object")
    }

    fn offer((name, entries): &(&str, &[&str])) -> (PoolName, Arc<Offer<Pool>>) {
        let object = read(json!({ "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
            "metadata": { "name": name }, "spec": { "addresses": entries } }));
        ((*name).into(), Arc::new(parse::pool::offer(&object).1))
    }

    /// Node `a` with an endpoint of a Service that has 192.0.2.1 and .2, and these pools, all of them advertised.
    fn snapshot(pools: &[(&str, &[&str])]) -> Snapshot {
        let node = parse::node::node(&read(json!({ "metadata": { "name": "a", "uid": "u" } })));
        let metadata = json!({ "namespace": "n", "name": "s",
            "labels": { "kubernetes.io/service-name": "s" } });
        let ingress = json!([{ "ip": "192.0.2.1" }, { "ip": "192.0.2.2" }]);
        let service = read(json!({ "metadata": metadata, "spec": { "type": "LoadBalancer" },
            "status": { "loadBalancer": { "ingress": ingress } } }));
        let service = parse::service::announced(&service, None).map(Arc::new);
        let endpoint = json!({ "addresses": ["10.0.0.1"], "nodeName": "a" });
        let slice = read(json!({ "metadata": metadata, "addressType": "IPv4",
            "endpoints": [endpoint] }));
        let slice = parse::endpoints::endpoints(&slice).map(|(id, said)| (id, Arc::new(said)));
        let advertisement = read(json!({ "apiVersion": "metallb.io/v1beta1",
            "kind": "L2Advertisement", "metadata": { "name": "ad" }, "spec": {} }));
        let advertisement = parse::advertisement::offer(&advertisement).1;
        Snapshot {
            nodes: Arc::new([(NodeName::from("a"), Arc::new(node))].into()),
            services: Arc::new([(ServiceId::new("n", "s"), Arc::new(service))].into()),
            slices: Arc::new([(("n".into(), "s-1".into()), Arc::new(slice))].into()),
            pools: Arc::new(pools.iter().map(offer).collect()),
            advertisements: Arc::new([("ad".into(), Arc::new(advertisement))].into()),
        }
    }

    /// Whether the node may answer for each of the two addresses.
    fn answers(planner: &mut Planner, pools: &[(&str, &[&str])], now: Instant) -> [bool; 2] {
        let plan = planner.plan(&snapshot(pools), now);
        let mut vips = plan.vips.values().map(|vip| !vip.candidates.nodes.is_empty());
        [vips.next(), vips.next()].map(|answered| answered.expect("two addresses"))
    }

    const BOTH: &[(&str, &[&str])] = &[("p", &["192.0.2.0/24"])];
    const FIRST: &[(&str, &[&str])] = &[("q", &["192.0.2.1/32"])];
    const SECOND: &[(&str, &[&str])] = &[("r", &["192.0.2.2/32"])];

    #[test]
    fn what_a_pool_held_that_went_is_answered_until_the_pools_have_settled() {
        let (mut planner, start) = (Planner::new("a".into(), false), Instant::now());
        assert_eq!(answers(&mut planner, BOTH, start), [true, true]);
        assert_eq!(planner.again(), None);
        let gone = start + SETTLING * 5;
        assert_eq!(answers(&mut planner, &[], gone), [true, true]);
        let again = planner.again().expect("it is planned again");
        assert_eq!(again, gone + SETTLING);
        assert_eq!(answers(&mut planner, &[], again - SETTLING / 2), [true, true]);
        assert_eq!(answers(&mut planner, &[], again), [false, false]);
        assert_eq!(planner.again(), None);
        // What comes is answered at once.
        assert_eq!(answers(&mut planner, FIRST, again), [true, false]);
    }

    #[test]
    fn a_configuration_without_a_pool_is_one_unless_all_that_there_is_is_broken() {
        let (mut planner, start) = (Planner::new("a".into(), false), Instant::now());
        let mut is_configured = |pools| {
            planner.plan(&snapshot(pools), start);
            planner.is_configured()
        };
        assert!(is_configured(&[]));
        assert!(!is_configured(&[("p", &["192.0.2.9-192.0.2.1"])]));
        assert!(is_configured(BOTH));
    }

    #[test]
    fn each_change_of_the_pools_begins_the_second_anew() {
        let (mut planner, start) = (Planner::new("a".into(), false), Instant::now());
        answers(&mut planner, BOTH, start);
        let gone = start + SETTLING * 5;
        answers(&mut planner, FIRST, gone);
        let other = gone + SETTLING / 2;
        assert_eq!(answers(&mut planner, SECOND, other), [true, true]);
        assert_eq!(planner.again(), Some(other + SETTLING));
        assert_eq!(answers(&mut planner, SECOND, gone + SETTLING), [true, true]);
        assert_eq!(answers(&mut planner, SECOND, other + SETTLING), [false, true]);
    }
}
