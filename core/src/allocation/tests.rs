mod properties;
mod scenarios;
mod violations;
mod worlds;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::check::check;
use super::*;
use crate::address::{AddressRange, Family};
use crate::config::{Pool, Refusal, RefusedPool, RefusedPools, ServiceAllocation};
use crate::label::{Labels, Requirement, Selector};
use crate::port::{Port, Protocol};

/// A world that owns its parts.
#[derive(Clone, Debug)]
struct Owned {
    pools: Vec<Arc<Pool>>,
    /// Pools of which no version is in force.
    refused: RefusedPools,
    stray: Stray,
    namespaces: Namespaces,
    demands: Vec<Demand>,
    unechoed: BTreeMap<ServiceId, Unechoed>,
}

impl Owned {
    /// The plan for this world, which the checker has found right.
    fn plan(&self) -> Plan {
        self.with(|world| {
            let plan = plan(world);
            let violations = check(world, &plan);
            assert!(violations.is_empty(), "{violations:#?}\nof {plan:#?}\nfor {self:#?}");
            plan
        })
    }

    /// What is made of this world, as planner and checker see it.
    fn with<T>(&self, make: impl FnOnce(&World<'_>) -> T) -> T {
        let pools = Pools::new(self.pools.iter().cloned()).with_refused(self.refused.clone());
        let demands: Vec<&Demand> = self.demands.iter().collect();
        make(&World {
            pools: &pools,
            stray: self.stray,
            namespaces: &self.namespaces,
            demands: &demands,
            unechoed: &self.unechoed,
        })
    }

    /// The world once `plan` is carried out and the watch has shown it.
    fn after(&self, plan: &Plan) -> Self {
        let mut after = self.clone();
        for (demand, verdict) in after.demands.iter_mut().zip(&plan.verdicts) {
            let written = self.unechoed.get(&demand.id);
            demand.held = match &verdict.outcome {
                Outcome::Granted(grant) => grant.addresses.clone(),
                Outcome::Nothing => Vec::new(),
                Outcome::Untouched => {
                    written.map_or(&demand.held, |written| &written.addresses).clone()
                }
            };
            if verdict.outcome != Outcome::Untouched {
                demand.recorded_pool = verdict.grant().map(|grant| grant.pool.clone());
            }
            demand.changed &= verdict.outcome == Outcome::Untouched;
        }
        after.unechoed.clear();
        after
    }
}

fn range(text: &str) -> AddressRange {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
}

fn pool(name: &str, ranges: &[&str]) -> Pool {
    Pool {
        name: name.into(),
        labels: Labels::new(),
        ranges: ranges.iter().copied().map(range).collect(),
        auto_assign: true,
        avoid_buggy: false,
        allocation: None,
    }
}

/// What is known of a pool with these ranges that is not in force; without any it cannot be read.
fn refused(ranges: &[&str]) -> RefusedPool {
    RefusedPool {
        labels: Labels::new(),
        refusal: Refusal::NoPrefixes,
        ranges: ranges.iter().copied().map(range).collect(),
    }
}

fn demand(name: &str, created_s: i64) -> Demand {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    Demand {
        id: ServiceId::new(namespace, name),
        age: Age { created_s, uid: name.into() },
        labels: Labels::new(),
        families: Ok(Families::Single(Family::V4)),
        wants: Ok(Wants::default()),
        sharing: None,
        ports: BTreeSet::from([Port { protocol: Protocol::Tcp, number: 80 }]),
        held: Vec::new(),
        recorded_pool: None,
        changed: false,
    }
}

fn label_is(key: &str, value: &str) -> Selector {
    let values = BTreeSet::from([value.to_owned()]);
    Selector { requirements: BTreeSet::from([Requirement::In(key.to_owned(), values)]) }
}

fn addresses(text: &str) -> Vec<IpAddr> {
    text.split(',').map(|address| address.parse().unwrap()).collect()
}
