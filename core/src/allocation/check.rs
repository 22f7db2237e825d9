//! The invariants of a plan, written without regard to how plans are made.
//!
//! Slow on purpose: every question is answered by looking at everything.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::demand::{Demand, Families};
use super::pools::{capacity, gives, serves};
use super::{Grant, Outcome, Plan, Stray, World};
use crate::address::Family;
use crate::config::Pool;
use crate::name::{PoolName, ServiceId};

/// A way in which a plan is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// There is not one verdict per demand.
    Incomplete,
    /// Two Services that may not share have one address.
    Doubled(IpAddr, ServiceId, ServiceId),
    /// A Service got an address that another's status still shows.
    Shown(IpAddr, ServiceId),
    /// A grant is not of its pool, or the pool does not give it, or not to that Service.
    NotAllowed(ServiceId, Grant),
    /// A grant does not have the families that the Service needs.
    WrongFamilies(ServiceId, Grant),
    /// A grant is not what the Service asks for by name.
    NotAsked(ServiceId, Grant),
    /// A pool that gives only on request gave without one.
    NotAutomatic(ServiceId, PoolName),
    /// A Service lost what it could have kept.
    Moved(ServiceId),
    /// A Service waits while what it needs is free.
    Waits(ServiceId),
    /// A Service is left untouched although everything about it is known.
    Shunned(ServiceId),
    /// The reasons do not go with the outcome.
    Unexplained(ServiceId),
    /// The use of a pool is miscounted.
    Miscounted(PoolName),
}

/// Everything that is wrong with `plan` as an answer to `world`; nothing when it is right.
pub fn check(world: &World<'_>, plan: &Plan) -> Vec<Violation> {
    if plan.verdicts.len() != world.demands.len() {
        return vec![Violation::Incomplete];
    }
    let checker = Checker { world, plan };
    let mut violations = Vec::new();
    for at in 0..world.demands.len() {
        violations.extend(checker.doubled(at));
        violations.extend(checker.grant(at));
        violations.extend(checker.moved(at));
        violations.extend(checker.waits(at));
        violations.extend(checker.reasons(at));
    }
    violations.extend(checker.miscounted());
    violations
}

struct Checker<'a> {
    world: &'a World<'a>,
    plan: &'a Plan,
}

impl<'a> Checker<'a> {
    fn demand(&self, at: usize) -> &'a Demand {
        self.world.demands[at]
    }

    fn id(&self, at: usize) -> ServiceId {
        self.demand(at).id.clone()
    }

    fn others(&self, at: usize) -> impl Iterator<Item = usize> {
        (0..self.world.demands.len()).filter(move |other| *other != at)
    }

    /// What the Service has before the plan.
    fn before(&self, at: usize) -> &'a [IpAddr] {
        let demand = self.demand(at);
        self.world.unechoed.get(&demand.id).map_or(&demand.held, |written| &written.addresses)
    }

    /// What it has after.
    fn after(&self, at: usize) -> &'a [IpAddr] {
        match &self.plan.verdicts[at].outcome {
            Outcome::Granted(grant) => &grant.addresses,
            Outcome::Untouched => self.before(at),
            Outcome::Nothing => &[],
        }
    }

    /// What its status may show until the plan is carried out.
    fn shows(&self, at: usize, address: IpAddr) -> bool {
        let demand = self.demand(at);
        let landed = self.world.unechoed.get(&demand.id).is_some_and(|written| written.landed);
        self.before(at).contains(&address) || (!landed && demand.held.contains(&address))
    }

    fn may_share(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.demand(a), self.demand(b));
        a.sharing.is_some() && a.sharing == b.sharing && a.ports.is_disjoint(&b.ports)
    }

    /// Whether nobody stands against `at` on that address once the plan is carried out.
    fn free_for(&self, at: usize, address: IpAddr) -> bool {
        self.others(at).all(|other| {
            let stays = self.after(other).contains(&address);
            if stays { self.may_share(at, other) } else { !self.shows(other, address) }
        })
    }

    fn untouched(&self, at: usize) -> bool {
        self.plan.verdicts[at].outcome == Outcome::Untouched
    }

    fn doubled(&self, at: usize) -> Vec<Violation> {
        let mut violations = Vec::new();
        for address in self.after(at) {
            for other in self.others(at) {
                let both = self.after(other).contains(address);
                let blind = self.untouched(at) || self.untouched(other);
                if both && at < other && !blind && !self.may_share(at, other) {
                    violations.push(Violation::Doubled(*address, self.id(at), self.id(other)));
                }
                let early = self.shows(other, *address) && !self.shows(at, *address);
                if !both && early && !self.may_share(at, other) {
                    violations.push(Violation::Shown(*address, self.id(at)));
                }
            }
        }
        violations
    }

    /// Whether that pool may give exactly these addresses to that Service, everybody else aside.
    fn allowed(&self, demand: &Demand, pool: &Pool, addresses: &[IpAddr]) -> bool {
        serves(pool, demand, self.world.namespaces)
            && addresses.iter().all(|address| {
                pool.ranges.iter().any(|range| range.contains(*address)) && gives(pool, *address)
            })
    }

    fn asked(demand: &Demand, pool: &Pool, addresses: &[IpAddr]) -> bool {
        let Ok(wants) = &demand.wants else { return true };
        let set = |addresses: &[IpAddr]| addresses.iter().copied().collect::<BTreeSet<_>>();
        wants.pool.as_ref().is_none_or(|wanted| *wanted == pool.name)
            && (wants.addresses.is_empty() || set(&wants.addresses) == set(addresses))
    }

    fn grant(&self, at: usize) -> Option<Violation> {
        let (demand, grant) = (self.demand(at), self.plan.verdicts[at].grant()?);
        let service = self.id(at);
        let Some(pool) = self.world.pools.iter().find(|pool| pool.name == grant.pool) else {
            return Some(Violation::NotAllowed(service, grant.clone()));
        };
        if !self.allowed(demand, pool, &grant.addresses) {
            return Some(Violation::NotAllowed(service, grant.clone()));
        }
        if !demand.families.as_ref().is_ok_and(|f| f.satisfied_by(&grant.addresses)) {
            return Some(Violation::WrongFamilies(service, grant.clone()));
        }
        if !Self::asked(demand, pool, &grant.addresses) {
            return Some(Violation::NotAsked(service, grant.clone()));
        }
        let requested = demand.wants.as_ref().is_ok_and(|w| *w != super::Wants::default());
        let had_one = grant.addresses.iter().any(|address| self.before(at).contains(address));
        (!pool.auto_assign && !requested && !had_one)
            .then(|| Violation::NotAutomatic(service, grant.pool.clone()))
    }

    /// Whether the Service could go on with exactly what it has, everybody else aside.
    fn could_stay_alone(&self, at: usize) -> bool {
        let (demand, before) = (self.demand(at), self.before(at));
        !before.is_empty()
            && demand.families.as_ref().is_ok_and(|families| families.satisfied_by(before))
            && self
                .world
                .pools
                .iter()
                .any(|pool| self.allowed(demand, pool, before) && Self::asked(demand, pool, before))
    }

    fn moved(&self, at: usize) -> Option<Violation> {
        let (before, after) = (self.before(at), self.after(at));
        if self.untouched(at) || after.starts_with(before) || !self.could_stay_alone(at) {
            return None;
        }
        let rank = |at: usize| {
            let demand = self.demand(at);
            (demand.changed, &demand.age, &demand.id)
        };
        let driven_out = self.others(at).any(|other| {
            rank(other) < rank(at)
                && !self.may_share(at, other)
                && before.iter().any(|address| {
                    self.before(other).contains(address) && self.after(other).contains(address)
                })
        });
        (!driven_out).then(|| Violation::Moved(self.id(at)))
    }

    /// Whether that pool could give the Service one more address of that family.
    fn has_free(&self, at: usize, pool: &Pool, family: Family) -> bool {
        let of_pool = |address: &IpAddr| {
            Family::of(*address) == family
                && gives(pool, *address)
                && pool.ranges.iter().any(|range| range.contains(*address))
        };
        let mut seen: BTreeSet<IpAddr> = BTreeSet::new();
        for other in 0..self.world.demands.len() {
            let held = &self.demand(other).held;
            let all = self.after(other).iter().chain(self.before(other)).chain(held);
            seen.extend(all.filter(|address| of_pool(address)));
        }
        let partner = |address: &IpAddr| {
            self.others(at).any(|other| self.after(other).contains(address))
                && self.free_for(at, *address)
        };
        let spoken_for = seen
            .iter()
            .filter(|address| {
                (0..self.world.demands.len())
                    .any(|one| self.shows(one, **address) || self.after(one).contains(address))
            })
            .count();
        u64::try_from(spoken_for).is_ok_and(|count| count < capacity(pool, family))
            || seen.iter().any(partner)
    }

    fn waits(&self, at: usize) -> Option<Violation> {
        let demand = self.demand(at);
        let (Ok(families), Ok(wants)) = (&demand.families, &demand.wants) else { return None };
        let after = self.after(at);
        if self.untouched(at) || after.len() == families.all().len() {
            return None;
        }
        let could = if !wants.addresses.is_empty() {
            families.satisfied_by(&wants.addresses)
                && wants.addresses.len() == families.all().len()
                && wants.addresses.iter().all(|address| self.free_for(at, *address))
                && self.world.pools.iter().any(|pool| {
                    self.allowed(demand, pool, &wants.addresses)
                        && Self::asked(demand, pool, &wants.addresses)
                })
        } else {
            self.world.pools.iter().any(|pool| {
                let open = match (&wants.pool, self.plan.verdicts[at].grant()) {
                    (_, Some(grant)) => grant.pool == pool.name,
                    (Some(wanted), None) => *wanted == pool.name,
                    (None, None) => pool.auto_assign,
                };
                let has = |family: &Family| self.has_free(at, pool, *family);
                let lacking = |family: &&Family| after.iter().all(|a| Family::of(*a) != **family);
                let mut needed = families.all().iter().filter(lacking);
                let enough = match families {
                    Families::PreferDual { .. } => needed.any(has),
                    Families::Single(_) | Families::RequireDual => needed.all(has),
                };
                open && self.allowed(demand, pool, &[]) && enough
            })
        };
        could.then(|| Violation::Waits(self.id(at)))
    }

    /// Whether nobody can say if what the Service has is right: of one address which pool it is of, or of the pool that
    /// is asked for whether it holds them.
    fn is_unknown(&self, at: usize) -> bool {
        let (demand, before, pools) = (self.demand(at), self.before(at), self.world.pools);
        let in_force = |address: &IpAddr| {
            pools.iter().any(|pool| pool.ranges.iter().any(|range| range.contains(*address)))
        };
        let refused = |name: &PoolName| pools.refused().contains_key(name);
        let of_refused = |address: &IpAddr| {
            let mut refused = pools.refused().values();
            refused.any(|pool| pool.ranges.iter().any(|range| range.contains(*address)))
        };
        let mut strays = before.iter().filter(|address| !in_force(address));
        let wanted = demand.wants.as_ref().ok().and_then(|wants| wants.pool.as_ref());
        !before.is_empty()
            && match self.world.stray {
                Stray::Keep => {
                    strays.next().is_some()
                        || wanted.is_some_and(|name| pools.iter().all(|pool| pool.name != *name))
                }
                Stray::Clear => {
                    let recorded = demand.recorded_pool.as_ref().is_some_and(refused);
                    strays.any(|address| recorded || of_refused(address))
                        || wanted.is_some_and(refused)
                }
            }
    }

    fn reasons(&self, at: usize) -> Option<Violation> {
        let (demand, verdict) = (self.demand(at), &self.plan.verdicts[at]);
        let (before, after) = (self.before(at), self.after(at));
        match (self.untouched(at), self.is_unknown(at)) {
            (true, true) => {
                return verdict.lacks.is_none().then(|| Violation::Unexplained(self.id(at)));
            }
            (true, false) => return Some(Violation::Shunned(self.id(at))),
            (false, true) => return Some(Violation::Moved(self.id(at))),
            (false, false) => {}
        }
        let some_lost = before.iter().any(|address| !after.contains(address));
        let satisfied = demand.wants.is_ok()
            && demand.families.as_ref().is_ok_and(|f| f.all().len() == after.len());
        let explained = verdict.lost.is_some() == some_lost && verdict.lacks.is_none() == satisfied;
        (!explained).then(|| Violation::Unexplained(self.id(at)))
    }

    fn miscounted(&self) -> Vec<Violation> {
        let count = |pool: &Pool, family: Family| {
            let all = (0..self.world.demands.len()).flat_map(|at| self.after(at));
            let distinct: BTreeSet<_> = all
                .filter(|address| Family::of(**address) == family)
                .filter(|address| pool.ranges.iter().any(|range| range.contains(**address)))
                .collect();
            u64::try_from(distinct.len()).unwrap_or(u64::MAX)
        };
        let right = self.world.pools.iter().map(|pool| super::Usage {
            pool: pool.name.clone(),
            v4: count(pool, Family::V4),
            v6: count(pool, Family::V6),
        });
        let wrong = right.filter(|usage| !self.plan.usage.contains(usage));
        wrong.map(|usage| Violation::Miscounted(usage.pool)).collect()
    }
}
