//! Which Service gets which address: one pure function from the whole world to a [`Plan`].

pub mod check;
pub mod demand;
mod ledger;
mod planning;
pub mod pools;

use std::collections::BTreeMap;
use std::net::IpAddr;

pub use self::demand::{Age, Demand, Families, Sharing, Wants};
pub use self::pools::{Namespaces, Pools};
use crate::name::{PoolName, ServiceId};
use crate::why::address::Why;

/// Everything that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The configuration in force.
    pub pools: &'a Pools,
    /// What becomes of an address that no pool holds.
    pub stray: Stray,
    /// Every namespace's labels.
    pub namespaces: &'a Namespaces,
    /// Every Service of ours, each once, in any order.
    pub demands: &'a [&'a Demand],
    /// What was written and the watch has not shown yet; it counts instead of what the demand holds.
    pub unechoed: &'a BTreeMap<ServiceId, Unechoed>,
}

/// What becomes of an address in a status that no pool in force holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// It is cleared, as MetalLB does, unless it is of a pool of which no version is in force: see [`refused_pool_of`].
    ///
    /// [`refused_pool_of`]: crate::config::refused_pool_of
    Clear,
    /// It stays: no pool has been seen since the start, or pools are just being changed.
    Keep,
}

/// A status write that the watch has not shown yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unechoed {
    /// The addresses written; empty when the status was cleared.
    pub addresses: Vec<IpAddr>,
    /// Whether the write is known to have succeeded. Until then what the status showed before counts as taken as well.
    pub landed: bool,
}

/// What is to become of every Service, and how full that makes the pools. Nothing in it is left to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One per demand, in the order of [`World::demands`].
    pub verdicts: Vec<Verdict>,
    /// One per pool, in the order of names.
    pub usage: Vec<Usage>,
}

/// What is to become of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What its status is to show.
    pub outcome: Outcome,
    /// Why not all that it held could stay; `None` when it could, or when it held nothing.
    pub lost: Option<Why>,
    /// Why it has not got all that it asks for; `None` when it has.
    pub lacks: Option<Why>,
}

/// What a Service's status is to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// These addresses of that pool.
    Granted(Grant),
    /// Whatever it shows: nobody can say whether that is right.
    Untouched,
    /// No address.
    Nothing,
}

/// Addresses for one Service, all of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The pool.
    pub pool: PoolName,
    /// In the order of the status: what was held keeps its order, what is new comes last, v4 before v6.
    pub addresses: Vec<IpAddr>,
}

/// How many distinct addresses of a pool Services have; an address that several share counts once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The pool.
    pub pool: PoolName,
    /// IPv4 addresses in use.
    pub v4: u64,
    /// IPv6 addresses in use.
    pub v6: u64,
}

impl Verdict {
    /// The grant, if there is one.
    pub const fn grant(&self) -> Option<&Grant> {
        match &self.outcome {
            Outcome::Granted(grant) => Some(grant),
            Outcome::Untouched | Outcome::Nothing => None,
        }
    }
}

/// Plans the whole world, in this order; within each step older Services come first (by [`Age`], then by name), so
/// that the outcome depends neither on the order of `demands` nor on what a controller saw first. In steps 1 and 2 those
/// whose terms of sharing are what they were given their addresses under come before all whose terms have changed since:
/// so the one that no longer fits leaves, and never the other.
///
/// 1. **Keep.** A Service whose held addresses all still fit keeps them, in their order. They fit when one pool holds
///    them all, gives them and serves the Service, they are of its families (`PreferDual` may hold one), they are what
///    it asks for by name, and no Service that was here before has them, unless the two share. A Service whose request
///    contradicts itself keeps what fits without the request. A Service that holds an address of a refused pool, or asks
///    for such a pool, is left untouched and told so; under [`Stray::Keep`] also one that holds an address of no pool, or
///    asks for an unknown pool, and this is told to nobody.
/// 2. **Keep in part.** Of the others each reserves what it held and still could use (the pool of the first address
///    that fits decides), so that nobody below is given it. The rest is given up.
/// 3. **Exact requests** are given, all or nothing: before Services that take what comes.
/// 4. **The missing family**, from the pool of what is kept. `RequireDual` that cannot be completed gives up its part and
///    joins step 5; `PreferDual` stays with one.
/// 5. **New addresses**, all of one pool: the pool asked for, or else the first that can give them of those with
///    `autoAssign`; either has to serve the Service. A Service that may share asks the pools where it would be beside others on
///    at least one address, and when none of these can give all, as one that shares with nobody, every pool. Each time pinned
///    pools are asked by priority (0 last) and name, then the others by name. `PreferDual` asks the pinned ones
///    for both families, then for its primary one, then for the other, and only then the others in the same way. In a pool it is, of
///    each family, an address beside those it may share with, else the lowest free one in the order of the pool's ranges.
/// 6. **Both again.** `PreferDual` that had both, and lost one because no pool holds it any more, gives up the other if some
///    pool gives it both, as in step 5; but not where others share what it kept.
///
/// An address that a status still shows and its Service gives up is given to nobody else by the same plan, or two
/// Services would show it until the slower of two writes lands. It is free once the status no longer shows it. Apart from
/// these, planning again on what a plan leads to changes nothing.
pub fn plan(world: &World<'_>) -> Plan {
    planning::run(world)
}

#[cfg(test)]
mod tests;
