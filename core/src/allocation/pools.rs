//! The pools, arranged for the planner's questions.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::{Family, bits, is_buggy};
use crate::allocation::demand::Demand;
use crate::config::{Pool, RefusedPools, ServiceAllocation, refused_pool_of};
use crate::label::Labels;
use crate::name::PoolName;

/// The labels of every namespace, which pinned pools select by.
pub type Namespaces = BTreeMap<Arc<str>, Labels>;

/// All pools in the order of their names, with an index from address to pool.
///
/// Built once per configuration, used by every plan.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    pools: Vec<Arc<Pool>>,
    by_name: HashMap<PoolName, usize>,
    /// (lowest, highest, pool), sorted, per family.
    by_address: [Vec<(u128, u128, usize)>; 2],
    /// Who may give to a Service that names nothing: pinned pools by priority, then the others, each by name.
    automatic: Vec<usize>,
    /// Pools that are there and give nothing, because no version of them is in force.
    refused: RefusedPools,
}

impl Pools {
    /// The index over `pools`, which must not overlap and must differ in name; of two that do, the first by name holds
    /// the address.
    pub fn new(pools: impl IntoIterator<Item = Arc<Pool>>) -> Self {
        let mut pools: Vec<Arc<Pool>> = pools.into_iter().collect();
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        let by_name = pools.iter().enumerate().map(|(at, pool)| (pool.name.clone(), at)).collect();
        let mut by_address = [Vec::new(), Vec::new()];
        for (at, pool) in pools.iter().enumerate() {
            for range in &pool.ranges {
                let bits = range.bits();
                by_address[range.family() as usize].push((*bits.start(), *bits.end(), at));
            }
        }
        by_address.iter_mut().for_each(|ranges| ranges.sort_unstable());
        let mut automatic: Vec<usize> =
            (0..pools.len()).filter(|at| pools[*at].auto_assign).collect();
        // The sort is stable, so equal ranks stay in the order of names.
        automatic.sort_by_key(|at| rank(pools[*at].allocation.as_ref()));
        Self { pools, by_name, by_address, automatic, refused: RefusedPools::new() }
    }

    /// The same, and besides them pools that exist and of which no version is in force. They give nothing, and are named to
    /// whom they could have served.
    pub fn with_refused(mut self, refused: RefusedPools) -> Self {
        self.refused = refused;
        self
    }

    /// The pools that exist and of which no version is in force.
    pub const fn refused(&self) -> &RefusedPools {
        &self.refused
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// Every pool, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter().map(AsRef::as_ref)
    }

    /// The pool of that name.
    pub fn named(&self, name: &PoolName) -> Option<&Pool> {
        self.by_name.get(name).map(|at| self.pools[*at].as_ref())
    }

    /// The pool one of whose ranges holds `address`.
    pub fn holding(&self, address: IpAddr) -> Option<&Pool> {
        self.at_address(address).map(|at| self.at(at))
    }

    /// The refused pool that `address` is of, which the demand holds and no pool in force.
    pub(super) fn refused_pool_of(&self, demand: &Demand, address: IpAddr) -> Option<&PoolName> {
        refused_pool_of(&self.refused, address, demand.recorded_pool.as_ref())
    }

    pub(super) fn len(&self) -> usize {
        self.pools.len()
    }

    pub(super) fn at(&self, at: usize) -> &Pool {
        &self.pools[at]
    }

    pub(super) fn at_name(&self, name: &PoolName) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(super) fn at_address(&self, address: IpAddr) -> Option<usize> {
        let ranges = &self.by_address[Family::of(address) as usize];
        let wanted = bits(address);
        let after = ranges.partition_point(|(lowest, _, _)| *lowest <= wanted);
        let (_, highest, pool) = ranges.get(after.checked_sub(1)?)?;
        (wanted <= *highest).then_some(*pool)
    }

    pub(super) fn automatic(&self) -> &[usize] {
        &self.automatic
    }
}

/// Pinned before general; among the pinned 1, 2, … and 0 last, because 0 says "no preference". Negative is before 1.
fn rank(allocation: Option<&ServiceAllocation>) -> (bool, bool, i32) {
    match allocation {
        Some(pinned) => (false, pinned.priority == 0, pinned.priority),
        None => (true, false, 0),
    }
}

/// Whether `pool` may serve that Service: in one of its namespaces and selected by one of its Service selectors, where
/// it has any of either.
///
/// A namespace selector that selects no namespace admits none, and a namespace whose labels are not known is selected
/// by none.
pub fn serves(pool: &Pool, demand: &Demand, namespaces: &Namespaces) -> bool {
    let Some(pinned) = &pool.allocation else { return true };
    let everywhere = pinned.namespaces.is_empty() && pinned.namespace_selectors.is_empty();
    let namespace = &demand.id.namespace;
    let in_namespace = everywhere
        || pinned.namespaces.contains(namespace.as_ref())
        || namespaces.get(namespace).is_some_and(|labels| {
            pinned.namespace_selectors.iter().any(|selector| selector.selects(labels))
        });
    let selectors = &pinned.service_selectors;
    in_namespace
        && (selectors.is_empty() || selectors.iter().any(|one| one.selects(&demand.labels)))
}

/// Whether `pool` gives `address`, which one of its ranges holds, to anybody.
pub fn gives(pool: &Pool, address: IpAddr) -> bool {
    !(pool.avoid_buggy && is_buggy(address))
}

/// How many addresses of `family` the pool can give, saturating at `i64::MAX`, which is what an object's status holds.
pub fn capacity(pool: &Pool, family: Family) -> u64 {
    pool.ranges
        .iter()
        .filter(|range| range.family() == family)
        .map(|range| range.count(pool.avoid_buggy))
        .fold(0, u64::saturating_add)
        .min(i64::MAX.unsigned_abs())
}
