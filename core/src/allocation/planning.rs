//! The steps of [`super::plan`], one function each.

use std::net::IpAddr;

use super::demand::{Demand, Families, Wants};
use super::ledger::{At, Ledger};
use super::pools::{Pools, gives, serves};
use super::{Grant, Outcome, Plan, Stray, Usage, Verdict, World};
use crate::address::Family;
use crate::config::Pool;
use crate::name::PoolName;
use crate::why::address::{NAMED_AT_MOST, PoolRefusal, Why};

pub(super) fn run(world: &World<'_>) -> Plan {
    let mut order: Vec<At> = (0..world.demands.len()).collect();
    order.sort_unstable_by(|a, b| {
        let (a, b) = (world.demands[*a], world.demands[*b]);
        (&a.age, &a.id).cmp(&(&b.age, &b.id))
    });
    let mut claims = order.clone();
    claims.sort_by_key(|at| world.demands[*at].changed);
    let mut planning = Planning::new(world);
    for at in &claims {
        planning.keep(*at);
    }
    for at in &claims {
        planning.keep_in_part(*at);
    }
    for at in &order {
        planning.give_exact(*at);
    }
    for at in &order {
        planning.complete(*at);
    }
    for at in &order {
        planning.give_new(*at);
    }
    for at in &order {
        planning.move_for_both(*at);
    }
    planning.finish()
}

/// How far a Service has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not all that it holds fits, or it holds nothing.
    Open,
    /// Exact addresses are to be found for it.
    Exact,
    /// A second family is to be found for it, in the pool of what it keeps.
    Incomplete,
    /// New addresses are to be found for it.
    New,
    /// It keeps one of two that it had, as no pool holds the other any more, and goes where it can have both again.
    Half,
    /// Decided.
    Done,
    /// Decided: its status is not touched.
    Untouched,
}

struct Draft {
    stage: Stage,
    addresses: Vec<IpAddr>,
    lost: Option<Why>,
    lacks: Option<Why>,
}

enum Fit {
    Whole,
    /// Nobody can say, for this reason.
    Unknown(Why),
}

struct Planning<'a> {
    world: &'a World<'a>,
    ledger: Ledger<'a>,
    drafts: Vec<Draft>,
}

impl<'a> Planning<'a> {
    fn new(world: &'a World<'a>) -> Self {
        let draft = || Draft { stage: Stage::Open, addresses: Vec::new(), lost: None, lacks: None };
        Self {
            world,
            ledger: Ledger::new(world.pools, world.demands),
            drafts: std::iter::repeat_with(draft).take(world.demands.len()).collect(),
        }
    }

    fn demand(&self, at: At) -> &'a Demand {
        self.world.demands[at]
    }

    /// What the Service has, as far as is known: what was last written to it, or else what its status shows.
    fn holding(&self, at: At) -> &'a [IpAddr] {
        let demand = self.demand(at);
        self.world.unechoed.get(&demand.id).map_or(&demand.held, |written| &written.addresses)
    }

    /// Step 1.
    fn keep(&mut self, at: At) {
        let (demand, held) = (self.demand(at), self.holding(at));
        if self.world.unechoed.get(&demand.id).is_some_and(|written| !written.landed) {
            for address in demand.held.iter().filter(|address| !held.contains(address)) {
                self.ledger.vacate(at, *address);
            }
        }
        if held.is_empty() {
            return;
        }
        let fit = self.fits(demand, held).and_then(|fit| match fit {
            Fit::Unknown(_) => Ok(fit),
            Fit::Whole => held
                .iter()
                .try_for_each(|address| self.ledger.admit(at, *address, true))
                .map(|()| fit),
        });
        let draft = &mut self.drafts[at];
        match fit {
            Ok(Fit::Whole) => {
                held.iter().for_each(|address| self.ledger.occupy(at, *address));
                draft.addresses = held.to_vec();
                let families = demand.families.as_ref().map_or(&[][..], |f| f.all());
                draft.stage = Stage::Done;
                draft.lacks = match &demand.wants {
                    Err(why) => Some(why.clone()),
                    Ok(_) if families.len() == held.len() => None,
                    Ok(wants) if wants.addresses.is_empty() => {
                        draft.stage = Stage::Incomplete;
                        None
                    }
                    Ok(_) => Some(Why::FamilyMismatch { addresses: held.to_vec(), families }),
                };
            }
            Ok(Fit::Unknown(why)) => {
                for address in held {
                    if self.ledger.admit(at, *address, true).is_ok() {
                        self.ledger.occupy(at, *address);
                        draft.addresses.push(*address);
                    } else {
                        // It goes on showing it, so nobody more is put there.
                        self.ledger.vacate(at, *address);
                    }
                }
                draft.lacks = Some(why);
                draft.stage = Stage::Untouched;
            }
            Err(why) => draft.lost = Some(why),
        }
    }

    /// Whether the Service could go on with exactly what it holds, other Services aside.
    fn fits(&self, demand: &Demand, held: &[IpAddr]) -> Result<Fit, Why> {
        let pools = self.world.pools;
        let wants = demand.wants.as_ref().ok();
        if let Some(why) = self.unknown(demand, wants, held) {
            return Ok(Fit::Unknown(why));
        }
        let families = demand.families.clone()?;
        let at = common_pool(pools, held)?;
        self.allows(demand, at, held)?;
        if !families.satisfied_by(held) {
            let addresses = held.to_vec();
            return Err(Why::FamiliesChanged { addresses, families: families.all() });
        }
        let pool = pools.at(at);
        if let Some(requested) = wants.and_then(|wants| wants.pool.as_ref())
            && *requested != pool.name
        {
            let (requested, current) = (requested.clone(), pool.name.clone());
            return Err(Why::OtherPoolRequested { requested, current });
        }
        match wants.map(|wants| &wants.addresses) {
            Some(requested) if !requested.is_empty() && !same_set(requested, held) => {
                let (requested, current) = (requested.clone(), held.to_vec());
                Err(Why::OtherAddressesRequested { requested, current })
            }
            _ => Ok(Fit::Whole),
        }
    }

    /// Why nobody can say whether the Service may go on with what it holds; `None` when that can be said.
    fn unknown(&self, demand: &Demand, wants: Option<&Wants>, held: &[IpAddr]) -> Option<Why> {
        let pools = self.world.pools;
        let is_stray = |address: &&IpAddr| pools.holding(**address).is_none();
        let wanted = wants.and_then(|wants| wants.pool.as_ref());
        if self.world.stray == Stray::Keep {
            let wants_unknown = wanted.is_some_and(|pool| pools.named(pool).is_none());
            let unknown = wants_unknown || held.iter().any(|address| is_stray(&address));
            return unknown.then_some(Why::PoolsNotKnown);
        }
        let strays = held.iter().filter(is_stray);
        let of = strays.filter_map(|address| pools.refused_pool_of(demand, *address)).next();
        let (name, pool) = pools.refused().get_key_value(of.or(wanted)?)?;
        let (addresses, refusal) = (held.to_vec(), Box::new(pool.refusal.clone()));
        Some(Why::PoolNotInForce { addresses, pool: name.clone(), refusal })
    }

    /// Whether the pool gives these addresses, which it holds, to that Service.
    fn allows(&self, demand: &Demand, pool: usize, addresses: &[IpAddr]) -> Result<(), Why> {
        let pool = self.world.pools.at(pool);
        if let Some(address) = addresses.iter().find(|address| !gives(pool, **address)) {
            return Err(Why::Avoided { address: *address, pool: pool.name.clone() });
        }
        if !serves(pool, demand, self.world.namespaces) {
            return Err(Why::PoolNotForService { pool: pool.name.clone() });
        }
        Ok(())
    }

    /// Step 2, and what step each Service goes to.
    fn keep_in_part(&mut self, at: At) {
        if self.drafts[at].stage != Stage::Open {
            return;
        }
        let (demand, held) = (self.demand(at), self.holding(at));
        let (families, wants) = match (&demand.families, &demand.wants) {
            (Ok(families), Ok(wants)) => (*families, wants),
            (Err(why), _) | (_, Err(why)) => {
                held.iter().for_each(|address| self.ledger.vacate(at, *address));
                let draft = &mut self.drafts[at];
                (draft.stage, draft.lacks) = (Stage::Done, Some(why.clone()));
                return;
            }
        };
        let mut kept: Vec<IpAddr> = Vec::new();
        for address in held {
            if self.keepable(at, *address, families, wants, &kept) {
                self.ledger.occupy(at, *address);
                kept.push(*address);
            } else {
                self.ledger.vacate(at, *address);
            }
        }
        let draft = &mut self.drafts[at];
        draft.stage = match (wants.addresses.is_empty(), kept.is_empty()) {
            (false, _) => Stage::Exact,
            (true, false) => Stage::Incomplete,
            (true, true) => Stage::New,
        };
        draft.addresses = kept;
    }

    fn keepable(
        &self,
        at: At,
        address: IpAddr,
        families: Families,
        wants: &Wants,
        kept: &[IpAddr],
    ) -> bool {
        let pools = self.world.pools;
        let Some(pool) = pools.at_address(address) else { return false };
        let family = Family::of(address);
        families.admit(family)
            && kept
                .iter()
                .all(|other| Family::of(*other) != family && pools.at_address(*other) == Some(pool))
            && wants.pool.as_ref().is_none_or(|wanted| *wanted == pools.at(pool).name)
            && (wants.addresses.is_empty() || wants.addresses.contains(&address))
            && self.allows(self.demand(at), pool, &[address]).is_ok()
            && self.ledger.admit(at, address, true).is_ok()
    }

    /// Step 3.
    fn give_exact(&mut self, at: At) {
        if self.drafts[at].stage != Stage::Exact {
            return;
        }
        match self.exact(at) {
            Ok(missing) => {
                for address in missing {
                    self.ledger.occupy(at, address);
                    self.drafts[at].addresses.push(address);
                }
            }
            Err(why) => {
                self.give_up(at, &why);
                self.drafts[at].lacks = Some(why);
            }
        }
        self.drafts[at].stage = Stage::Done;
    }

    /// The addresses to add to what is kept so that the request is met, v4 first.
    fn exact(&self, at: At) -> Result<Vec<IpAddr>, Why> {
        let demand = self.demand(at);
        let wants = demand.wants.as_ref().map_err(Clone::clone)?;
        let families = demand.families.as_ref().map_err(Clone::clone)?.all();
        let mut addresses = wants.addresses.clone();
        addresses.sort_unstable();
        if !addresses.iter().copied().map(Family::of).eq(families.iter().copied()) {
            return Err(Why::FamilyMismatch { addresses, families });
        }
        let wanted_pool = match &wants.pool {
            Some(pool) if self.world.pools.named(pool).is_none() => {
                return Err(self.unknown_pool(pool));
            }
            other => other.as_ref(),
        };
        let pools = self.world.pools;
        let pool = common_pool(pools, &addresses).map_err(|why| match why {
            Why::NotInPools { .. } if !pools.refused().is_empty() => Why::PoolsNotKnown,
            why => why,
        })?;
        if let Some(wanted) = wanted_pool
            && *wanted != pools.at(pool).name
        {
            return Err(Why::AddressesNotInRequestedPool { addresses, pool: wanted.clone() });
        }
        self.allows(demand, pool, &addresses)?;
        addresses.retain(|address| !self.drafts[at].addresses.contains(address));
        for address in &addresses {
            self.ledger.admit(at, *address, self.holding(at).contains(address))?;
        }
        Ok(addresses)
    }

    /// Step 4.
    fn complete(&mut self, at: At) {
        if self.drafts[at].stage != Stage::Incomplete {
            return;
        }
        let Ok(families) = self.demand(at).families else { return };
        self.drafts[at].stage = Stage::Done;
        let kept = &self.drafts[at].addresses;
        let Some(pool) = kept.first().and_then(|first| self.world.pools.at_address(*first)) else {
            return;
        };
        let missing = |kept: &[IpAddr]| {
            families.all().iter().copied().find(|f| kept.iter().all(|a| Family::of(*a) != *f))
        };
        let Some(family) = missing(kept) else { return };
        if let Some(address) = self.offer(at, pool, family) {
            self.ledger.occupy(at, address);
            self.drafts[at].addresses.push(address);
            return;
        }
        let why = self.lacking(pool, family);
        if families == Families::RequireDual {
            self.give_up(at, &why);
            self.drafts[at].stage = Stage::New;
            return;
        }
        let gone = |one: &IpAddr| {
            Family::of(*one) == family && self.world.pools.at_address(*one).is_none()
        };
        if matches!(self.holding(at), [a, b] if gone(a) || gone(b)) {
            self.drafts[at].stage = Stage::Half;
        }
        self.drafts[at].lacks = Some(why);
    }

    /// Step 6: who lost one of two goes where it has both again, or stays where it is.
    fn move_for_both(&mut self, at: At) {
        if self.drafts[at].stage != Stage::Half {
            return;
        }
        self.drafts[at].stage = Stage::Done;
        let demand = self.demand(at);
        let (Ok(families), Ok(wants)) = (&demand.families, &demand.wants) else { return };
        let Some(kept) = self.drafts[at].addresses.first().copied() else { return };
        if self.ledger.has_company(at, kept) {
            return;
        }
        let mut open = self.open(at, wants);
        open.retain(|pool| Some(*pool) != self.world.pools.at_address(kept));
        let Some((_, addresses)) = self.search(at, &open, &[families.all()]) else { return };
        if let Some(why) = self.drafts[at].lacks.take() {
            self.give_up(at, &why);
        }
        addresses.iter().for_each(|address| self.ledger.occupy(at, *address));
        self.drafts[at].addresses = addresses;
    }

    /// Step 5.
    fn give_new(&mut self, at: At) {
        if self.drafts[at].stage != Stage::New {
            return;
        }
        self.drafts[at].stage = Stage::Done;
        let demand = self.demand(at);
        let (Ok(families), Ok(wants)) = (&demand.families, &demand.wants) else { return };
        let open = self.open(at, wants);
        let needs: &[&[Family]] = match families {
            Families::PreferDual { primary: Family::V4 } => {
                &[families.all(), &[Family::V4], &[Family::V6]]
            }
            Families::PreferDual { primary: Family::V6 } => {
                &[families.all(), &[Family::V6], &[Family::V4]]
            }
            Families::Single(_) | Families::RequireDual => &[families.all()],
        };
        let Some((pool, addresses)) = self.search(at, &open, needs) else {
            self.drafts[at].lacks = Some(self.refusal(wants, *families, &open));
            return;
        };
        addresses.iter().for_each(|address| self.ledger.occupy(at, *address));
        let lacking =
            families.all().iter().find(|f| addresses.iter().all(|a| Family::of(*a) != **f));
        self.drafts[at].lacks = lacking.map(|family| self.lacking(pool, *family));
        self.drafts[at].addresses = addresses;
    }

    /// The pools that may give to the Service, in their order.
    fn open(&self, at: At, wants: &Wants) -> Vec<usize> {
        let pools = self.world.pools;
        let named = wants.pool.as_ref().map(|name| pools.at_name(name));
        let candidates = match &named {
            None => pools.automatic(),
            Some(pool) => pool.as_slice(),
        };
        let serves = |pool: &usize| serves(pools.at(*pool), self.demand(at), self.world.namespaces);
        candidates.iter().copied().filter(serves).collect()
    }

    /// A pool of `open` with what the Service needs, and its addresses there: beside others first, if it may share.
    fn search(
        &mut self,
        at: At,
        open: &[usize],
        needs: &[&[Family]],
    ) -> Option<(usize, Vec<IpAddr>)> {
        let pools = self.world.pools;
        let pinned = open.partition_point(|pool| pools.at(*pool).allocation.is_some());
        let (pinned, general) = open.split_at(pinned);
        let shares = self.demand(at).sharing.is_some();
        let mut partners = [true, false].into_iter().skip(usize::from(!shares));
        partners.find_map(|partners| self.first(at, [pinned, general], needs, partners))
    }

    /// The first pool with what the Service needs, and one address of each family of the first need that it can meet. One
    /// group of pools is asked for every need before the next; with `partners` only pools in which at least one of the
    /// addresses is shared are asked.
    fn first(
        &mut self,
        at: At,
        groups: [&[usize]; 2],
        needs: &[&[Family]],
        partners: bool,
    ) -> Option<(usize, Vec<IpAddr>)> {
        let choices = groups.into_iter().flat_map(|group| {
            needs.iter().flat_map(|need| group.iter().map(|pool| (*pool, *need)))
        });
        for (pool, need) in choices {
            let beside = |family: &Family| self.ledger.beside(at, pool, *family).is_some();
            if partners && !need.iter().any(beside) {
                continue;
            }
            // Most pools that are asked are full, so they are asked before anything is allocated.
            if need.iter().all(|family| self.offer(at, pool, *family).is_some()) {
                let offers = need.iter().filter_map(|family| self.offer(at, pool, *family));
                return Some((pool, offers.collect()));
            }
        }
        None
    }

    fn offer(&mut self, at: At, pool: usize, family: Family) -> Option<IpAddr> {
        self.ledger.beside(at, pool, family).or_else(|| self.ledger.lowest(pool, family))
    }

    /// Why the pool has no address of that family to add to what a Service has of it.
    fn lacking(&self, pool: usize, family: Family) -> Why {
        let at = self.world.pools.at(pool);
        let pool = at.name.clone();
        if has_range(at, family) {
            Why::PoolExhausted { pool, family }
        } else {
            Why::PoolLacksFamily { pool, family }
        }
    }

    /// What was kept in part is given up after all.
    fn give_up(&mut self, at: At, why: &Why) {
        for address in std::mem::take(&mut self.drafts[at].addresses) {
            self.ledger.release(at, address);
            self.drafts[at].lost.get_or_insert_with(|| why.clone());
        }
    }

    /// Why no pool could give anything new; `open` are those that may give to the Service.
    fn refusal(&mut self, wants: &Wants, families: Families, open: &[usize]) -> Why {
        let pools = self.world.pools;
        if pools.is_empty() && pools.refused().is_empty() {
            return Why::NoPools;
        }
        let Some(name) = &wants.pool else { return self.none_available(families, open) };
        match (pools.at_name(name), open) {
            (None, _) => self.unknown_pool(name),
            (Some(_), []) => Why::PoolNotForService { pool: name.clone() },
            (Some(at), _) => {
                let family = self.short_of(at, families);
                self.lacking(at, family)
            }
        }
    }

    /// First the pools that ran out, those that lack a family, and those not in force: what somebody could change for this
    /// Service. Where many pools are others', it would never be heard of after them.
    fn none_available(&mut self, families: Families, open: &[usize]) -> Why {
        let pools = self.world.pools;
        let mut near: Vec<(PoolRefusal, usize)> =
            open.iter().map(|at| (self.pool_refusal(*at, families), *at)).collect();
        near.sort_by_key(|(refusal, at)| (matches!(refusal, PoolRefusal::LacksFamily(_)), *at));
        let near = near.into_iter().map(|(refusal, at)| (pools.at(at).name.clone(), refusal));
        let refused = pools.refused().keys().map(|name| (name.clone(), PoolRefusal::NotInForce));
        let far = (0..pools.len()).filter(|at| !open.contains(at)).map(|at| {
            let pool = pools.at(at);
            let automatic = pool.auto_assign;
            let no = if automatic { PoolRefusal::NotForService } else { PoolRefusal::NotAutomatic };
            (pool.name.clone(), no)
        });
        let tried: Vec<_> = near.chain(refused).chain(far).take(NAMED_AT_MOST).collect();
        let more = pools.len() + pools.refused().len() - tried.len();
        Why::NoneAvailable { tried, more }
    }

    fn unknown_pool(&self, name: &PoolName) -> Why {
        let refused = self.world.pools.refused().get(name);
        let refusal = refused.map(|pool| Box::new(pool.refusal.clone()));
        Why::UnknownPool { pool: name.clone(), refusal }
    }

    fn pool_refusal(&mut self, pool: usize, families: Families) -> PoolRefusal {
        let family = self.short_of(pool, families);
        if has_range(self.world.pools.at(pool), family) {
            PoolRefusal::Exhausted(family)
        } else {
            PoolRefusal::LacksFamily(family)
        }
    }

    /// The family for want of which that pool, which could not serve the Service, could not.
    fn short_of(&mut self, at: usize, families: Families) -> Family {
        let has = |family: &Family| has_range(self.world.pools.at(at), *family);
        // Of `PreferDual` either would have done, so what the pool has is what ran out.
        let either = matches!(families, Families::PreferDual { .. });
        let all = families.all();
        let lacking = all.iter().find(|family| !has(family) && !either);
        let full =
            all.iter().find(|family| has(family) && self.ledger.lowest(at, **family).is_none());
        *lacking.or(full).unwrap_or(&all[0])
    }

    fn finish(self) -> Plan {
        let pools = self.world.pools;
        let usage = (0..pools.len()).map(|at| Usage {
            pool: pools.at(at).name.clone(),
            v4: self.ledger.in_use(at, Family::V4),
            v6: self.ledger.in_use(at, Family::V6),
        });
        let usage = usage.collect();
        let holdings = (0..self.drafts.len()).map(|at| self.holding(at)).collect::<Vec<_>>();
        let verdicts = self.drafts.into_iter().zip(holdings).map(|(draft, held)| {
            let stays = |address: &IpAddr| draft.addresses.contains(address);
            let all_stay = held.iter().all(stays);
            let pool = draft.addresses.first().and_then(|first| pools.holding(*first));
            let outcome = match (draft.stage, pool) {
                (Stage::Untouched, _) => Outcome::Untouched,
                (_, Some(pool)) => {
                    Outcome::Granted(Grant { pool: pool.name.clone(), addresses: draft.addresses })
                }
                (_, None) => Outcome::Nothing,
            };
            let kept = all_stay || outcome == Outcome::Untouched;
            Verdict { outcome, lost: draft.lost.filter(|_| !kept), lacks: draft.lacks }
        });
        Plan { verdicts: verdicts.collect(), usage }
    }
}

/// The one pool that holds all of `addresses`, which are not none.
fn common_pool(pools: &Pools, addresses: &[IpAddr]) -> Result<usize, Why> {
    let of = |address: &IpAddr| pools.at_address(*address);
    let strays: Vec<IpAddr> = addresses.iter().filter(|one| of(one).is_none()).copied().collect();
    let holding: Vec<usize> = addresses.iter().filter_map(of).collect();
    let addresses = addresses.to_vec();
    match holding.split_first() {
        Some((first, others)) if strays.is_empty() => {
            if others.iter().all(|other| other == first) {
                return Ok(*first);
            }
            let pools = holding.iter().map(|at| pools.at(*at).name.clone()).collect();
            Err(Why::OfSeveralPools { addresses, pools })
        }
        _ => Err(Why::NotInPools { addresses, strays }),
    }
}

fn has_range(pool: &Pool, family: Family) -> bool {
    pool.ranges.iter().any(|range| range.family() == family)
}

fn same_set(a: &[IpAddr], b: &[IpAddr]) -> bool {
    a.len() == b.len() && a.iter().all(|address| b.contains(address))
}
