//! The invariants of a plan, written without regard to how plans are made.
//!
//! Slow on purpose: every question is answered by looking at everything. What the planner asks of a pool and of a
//! Service's families is written down here once more, from the data, so that a fault there is seen too.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::demand::{Demand, Families};
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
    /// A Service lost what it could have kept, all of it or one address.
    Moved(ServiceId),
    /// A Service got new addresses of a pool although an earlier one could have given as much, or this one more.
    OutOfTurn(ServiceId, PoolName),
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
        violations.extend(checker.out_of_turn(at));
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

    /// Whether nobody stands against `at` on that address once the plan is carried out. Where one is left untouched beside
    /// another with whom it may not share, nobody more is put.
    fn free_for(&self, at: usize, address: IpAddr) -> bool {
        let has = |one: &usize| self.after(*one).contains(&address);
        let stands_against = |one: usize| {
            self.others(one).filter(has).any(|other| other != at && !self.may_share(one, other))
        };
        self.others(at).all(|other| match has(&other) {
            true => self.may_share(at, other) && !(self.untouched(other) && stands_against(other)),
            false => !self.shows(other, address),
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
                // Nobody can say of it whether it may stay, and it was so before.
                let blind = (self.untouched(at) || self.untouched(other))
                    && [at, other].iter().all(|one| self.before(*one).contains(address));
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

    /// Whether the Service is in one of the pool's namespaces and has labels that one of its selectors wants, where the pool
    /// has any of either.
    fn serves(&self, pool: &Pool, demand: &Demand) -> bool {
        let Some(pinned) = &pool.allocation else { return true };
        let (namespace, selectors) = (&demand.id.namespace, &pinned.namespace_selectors);
        let labels = self.world.namespaces.get(namespace);
        let by_name = pinned.namespaces.iter().any(|name| **name == **namespace);
        let by_label = selectors.iter().any(|one| labels.is_some_and(|labels| one.selects(labels)));
        let in_any = pinned.namespaces.is_empty() && selectors.is_empty();
        let labelled = pinned.service_selectors.iter().any(|one| one.selects(&demand.labels));
        (in_any || by_name || by_label) && (labelled || pinned.service_selectors.is_empty())
    }

    /// Whether that pool may give exactly these addresses to that Service, everybody else aside.
    fn allowed(&self, demand: &Demand, pool: &Pool, addresses: &[IpAddr]) -> bool {
        self.serves(pool, demand) && addresses.iter().all(|address| gives(pool, *address))
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
        if !demand.families.as_ref().is_ok_and(|families| enough(*families, &grant.addresses)) {
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
            && demand.families.as_ref().is_ok_and(|families| enough(*families, before))
            && self
                .world
                .pools
                .iter()
                .any(|pool| self.allowed(demand, pool, before) && Self::asked(demand, pool, before))
    }

    /// Those who come before it where both hold one address.
    fn precedes(&self, other: usize, at: usize) -> bool {
        let rank = |at: usize| {
            let demand = self.demand(at);
            (demand.changed, &demand.age, &demand.id)
        };
        rank(other) < rank(at)
    }

    /// Those with whom it may not share, and who had the address and go on having it.
    fn rivals(&self, at: usize, address: IpAddr) -> impl Iterator<Item = usize> {
        self.others(at).filter(move |other| {
            !self.may_share(at, *other)
                && self.before(*other).contains(&address)
                && self.after(*other).contains(&address)
        })
    }

    fn moved(&self, at: usize) -> Option<Violation> {
        let (before, after) = (self.before(at), self.after(at));
        if self.untouched(at) || after.starts_with(before) {
            return None;
        }
        let driven_out =
            |address: &IpAddr| self.rivals(at, *address).any(|other| self.precedes(other, at));
        let whole = self.could_stay_alone(at) && !before.iter().any(driven_out);
        let mut lost = before.iter().filter(|address| !after.contains(address));
        let pair_of =
            self.plan.verdicts[at].grant().filter(|_| self.is_half(at) && after.len() == 2);
        let for_a_pair = |address: &IpAddr| {
            let mut pools = self.world.pools.iter();
            pair_of.is_some_and(|grant| {
                pools.any(|pool| holds(pool, *address) && pool.name != grant.pool)
            })
        };
        let moved =
            whole || lost.any(|address| self.could_keep(at, *address) && !for_a_pair(address));
        moved.then(|| Violation::Moved(self.id(at)))
    }

    /// Whether the Service would do with either family and had both, of which no pool holds one any more: rather than
    /// stay with the other it moves to a pool that gives it both.
    fn is_half(&self, at: usize) -> bool {
        let families = self.demand(at).families.as_ref();
        let either = families.is_ok_and(|families| matches!(families, Families::PreferDual { .. }));
        let gone = |address: &IpAddr| self.world.pools.iter().all(|pool| !holds(pool, *address));
        let pair = matches!(self.before(at), [a, b] if Family::of(*a) != Family::of(*b));
        either && pair && self.before(at).iter().filter(|address| gone(address)).count() == 1
    }

    /// Whether the Service could go on with this address, beside what it keeps of the others.
    fn could_keep(&self, at: usize, address: IpAddr) -> bool {
        let demand = self.demand(at);
        let (Ok(families), Ok(wants)) = (&demand.families, &demand.wants) else { return false };
        let complete = wants.addresses.is_empty() || families.all().len() == 1;
        let pool = self.world.pools.iter().find(|pool| holds(pool, address));
        let kept = self.after(at).iter().filter(|other| self.before(at).contains(other));
        let beside = kept.copied().all(|other| {
            Family::of(other) != Family::of(address) && pool.is_some_and(|pool| holds(pool, other))
        });
        // Whoever goes on with all that it had comes first, as does whoever is left as it is. One that comes before may
        // have reserved the address and let it go, when it could not be given the rest.
        let first = self
            .rivals(at, address)
            .any(|other| self.could_stay_alone(other) || self.untouched(other));
        let reserved = self.others(at).any(|other| {
            let had = self.before(other).contains(&address);
            had && self.precedes(other, at) && !self.may_share(at, other)
        });
        complete
            && beside
            && !first
            && !reserved
            && enough(*families, &[address])
            && pool.is_some_and(|pool| {
                self.allowed(demand, pool, &[address]) && Self::asked(demand, pool, &[address])
            })
    }

    /// Whether that pool has an address of that family that nobody has or shows.
    fn has_unused(&self, pool: &Pool, family: Family) -> bool {
        let used = self.seen(pool, family).into_iter().filter(|address| {
            (0..self.world.demands.len())
                .any(|one| self.shows(one, *address) || self.after(one).contains(address))
        });
        u128::try_from(used.count()).is_ok_and(|used| used < size(pool, family))
    }

    /// The addresses that the pool gives of that family and that any Service has or had.
    fn seen(&self, pool: &Pool, family: Family) -> BTreeSet<IpAddr> {
        let all = (0..self.world.demands.len()).flat_map(|one| {
            let held = &self.demand(one).held;
            self.after(one).iter().chain(self.before(one)).chain(held)
        });
        all.copied().filter(|one| Family::of(*one) == family && gives(pool, *one)).collect()
    }

    /// Whether that pool could give the Service one more address of that family.
    fn has_free(&self, at: usize, pool: &Pool, family: Family) -> bool {
        let partner = |address: &IpAddr| {
            self.others(at).any(|other| self.after(other).contains(address))
                && self.free_for(at, *address)
        };
        self.has_unused(pool, family) || self.seen(pool, family).iter().any(partner)
    }

    /// What is free at the end was free when the Service was served.
    fn out_of_turn(&self, at: usize) -> Option<Violation> {
        let (demand, grant) = (self.demand(at), self.plan.verdicts[at].grant()?);
        let (Ok(families), Ok(wants)) = (&demand.families, &demand.wants) else { return None };
        let kept = |address: &IpAddr| self.before(at).contains(address);
        let beside =
            |address: &IpAddr| self.others(at).any(|other| self.after(other).contains(address));
        let addresses = &grant.addresses;
        if !wants.addresses.is_empty() || addresses.iter().any(|one| kept(one) || beside(one)) {
            return None;
        }
        let mut got: Vec<Family> = addresses.iter().copied().map(Family::of).collect();
        got.sort_unstable();
        let needs = needs(*families);
        let got = needs.iter().position(|need| *need == got)?;
        let tried = if self.is_half(at) && got == 0 { 1 } else { needs.len() };
        let place = |pool: &Pool, need: usize| {
            let pinned = pool.allocation.as_ref();
            let priority = pinned.map(|pinned| (pinned.priority == 0, pinned.priority));
            (pinned.is_none(), need, priority, pool.name.clone())
        };
        let of = self.world.pools.iter().find(|pool| pool.name == grant.pool)?;
        let earlier = self.world.pools.iter().any(|pool| {
            let open = wants.pool.as_ref().map_or(pool.auto_assign, |named| *named == pool.name);
            let could = |need: &[Family]| need.iter().all(|one| self.has_unused(pool, *one));
            open && self.serves(pool, demand)
                && (0..tried).any(|need| place(pool, need) < place(of, got) && could(&needs[need]))
        });
        earlier.then(|| Violation::OutOfTurn(self.id(at), grant.pool.clone()))
    }

    fn waits(&self, at: usize) -> Option<Violation> {
        let demand = self.demand(at);
        let (Ok(families), Ok(wants)) = (&demand.families, &demand.wants) else { return None };
        let after = self.after(at);
        if self.untouched(at) || after.len() == families.all().len() {
            return None;
        }
        let could = if !wants.addresses.is_empty() {
            enough(*families, &wants.addresses)
                && wants.addresses.len() == families.all().len()
                && wants.addresses.iter().all(|address| self.free_for(at, *address))
                && self.world.pools.iter().any(|pool| {
                    self.allowed(demand, pool, &wants.addresses)
                        && Self::asked(demand, pool, &wants.addresses)
                })
        } else {
            self.world.pools.iter().any(|pool| {
                let grant = self.plan.verdicts[at].grant();
                let here = grant.is_some_and(|grant| grant.pool == pool.name);
                let open = match &wants.pool {
                    Some(wanted) => *wanted == pool.name,
                    None => pool.auto_assign,
                };
                let has = |family: &Family| self.has_free(at, pool, *family);
                let lacking = |family: &&Family| after.iter().all(|a| Family::of(*a) != **family);
                let mut needed = families.all().iter().filter(lacking);
                let enough = match families {
                    Families::PreferDual { .. } if here || grant.is_none() => needed.any(has),
                    Families::PreferDual { .. } => families.all().iter().all(has),
                    Families::Single(_) | Families::RequireDual => needed.all(has),
                };
                let stays = after.iter().all(|address| self.before(at).contains(address));
                let shared = |address: &IpAddr| {
                    self.others(at).any(|other| self.after(other).contains(address))
                };
                let moves = self.is_half(at) && stays && !after.iter().any(shared);
                let asked = here || open && (grant.is_none() || moves);
                asked && self.allowed(demand, pool, &[]) && enough
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

/// The families that a Service is given at once, the best first.
fn needs(families: Families) -> Vec<Vec<Family>> {
    let both = vec![Family::V4, Family::V6];
    match families {
        Families::Single(family) => vec![vec![family]],
        Families::RequireDual => vec![both],
        Families::PreferDual { primary: Family::V4 } => {
            vec![both, vec![Family::V4], vec![Family::V6]]
        }
        Families::PreferDual { primary: Family::V6 } => {
            vec![both, vec![Family::V6], vec![Family::V4]]
        }
    }
}

/// Whether a Service may be left with these addresses.
fn enough(families: Families, addresses: &[IpAddr]) -> bool {
    let mut got: Vec<Family> = addresses.iter().copied().map(Family::of).collect();
    got.sort_unstable();
    needs(families).contains(&got)
}

fn holds(pool: &Pool, address: IpAddr) -> bool {
    pool.ranges.iter().any(|range| range.first() <= address && address <= range.last())
}

/// Whether the pool holds the address, and does not leave it out.
fn gives(pool: &Pool, address: IpAddr) -> bool {
    let avoided = match address {
        IpAddr::V4(v4) => [0, 255].contains(&v4.octets()[3]),
        IpAddr::V6(_) => false,
    };
    holds(pool, address) && !(pool.avoid_buggy && avoided)
}

/// How many addresses of that family the pool can give.
fn size(pool: &Pool, family: Family) -> u128 {
    let ranges = pool.ranges.iter().filter(|range| range.family() == family);
    let given = ranges.map(|range| {
        let (first, last) = range.bits().into_inner();
        let all = (last - first).saturating_add(1);
        // The first and the last of each block of 256, as far as the range reaches.
        let avoided = |last_octet: u128| {
            let below = |end: u128| (end + 255 - last_octet) / 256;
            below(last + 1) - below(first)
        };
        if pool.avoid_buggy && family == Family::V4 { all - avoided(0) - avoided(255) } else { all }
    });
    given.fold(0, u128::saturating_add)
}
