//! Which version of each pool is in force, so that none overlaps another.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Offer;
use crate::address::{AddressRange, Family, bits};
use crate::config::{Pool, Refusal};
use crate::name::PoolName;

/// Pools that do not overlap.
type Pools = BTreeMap<PoolName, Arc<Pool>>;
/// What is wrong with the pools that are not in force as they say.
type Faults = BTreeMap<PoolName, Vec<Refusal>>;

/// The pools in force after `previous`, and what is wrong with those that are not as they say.
///
/// One pass, and as long as that changes anything another from where the last one ended, so that the same offers heard
/// twice mean the same. What a pass has brought into force never yields again, hence it ends; without an overlap there
/// is one pass.
pub(super) fn settle(
    previous: &Pools,
    offers: &BTreeMap<PoolName, Offer<Pool>>,
) -> (Pools, Faults) {
    let mut in_force = previous.clone();
    loop {
        let mut faults = Faults::new();
        let mut next = let_yield(contenders(&in_force, offers, &mut faults), &mut faults);
        give_another_chance(&mut next, offers, &mut faults);
        if faults.is_empty() || next == in_force {
            return (next, faults);
        }
        in_force = next;
    }
}

/// One pool's version that would be in force if nothing stood in its way.
struct Contender<'a> {
    /// Its ranges are those that are in force already, so it can be in the way of no other such.
    settled: bool,
    accepted: bool,
    created: i64,
    version: &'a Arc<Pool>,
    last_good: Option<&'a Arc<Pool>>,
}

impl Contender<'_> {
    fn rank(&self) -> (bool, bool, i64, &PoolName) {
        (!self.settled, !self.accepted, self.created, &self.version.name)
    }

    fn can_go_back(&self) -> bool {
        !self.settled && self.last_good.is_some()
    }
}

/// For each pool offered, what it says; or its last good version, if what it says cannot be read.
fn contenders<'a>(
    previous: &'a Pools,
    offers: &'a BTreeMap<PoolName, Offer<Pool>>,
    faults: &mut Faults,
) -> Vec<Contender<'a>> {
    let mut contenders = Vec::with_capacity(offers.len());
    for (name, offer) in offers {
        let last_good = previous.get(name);
        let version = match &offer.says {
            Ok(says) => Some(says),
            Err(refusals) => {
                faults.insert(name.clone(), refusals.clone());
                last_good
            }
        };
        if let Some(version) = version {
            let settled = last_good.is_some_and(|last_good| last_good.ranges == version.ranges);
            let Offer { accepted, created, .. } = *offer;
            contenders.push(Contender { settled, accepted, created, version, last_good });
        }
    }
    contenders
}

/// In rounds: of those that something of a better rank overlaps, the ones with a last good version go back to it, which
/// may put it in the way of others. When none is left that can go back, what still overlaps is left out. Last good
/// versions do not overlap one another, so none of them is ever left out. Each round costs n log n in ranges.
fn let_yield(mut contenders: Vec<Contender<'_>>, faults: &mut Faults) -> Pools {
    loop {
        contenders.sort_by(|a, b| a.rank().cmp(&b.rank()));
        let mut taken = Taken::default();
        let mut refused = Vec::new();
        for contender in &contenders {
            let refusal = taken.in_the_way_of(contender.version);
            if refusal.is_none() {
                taken.take(contender.version);
            }
            refused.push(refusal);
        }
        let any_goes_back = contenders
            .iter()
            .zip(&refused)
            .any(|(c, refusal)| refusal.is_some() && c.can_go_back());
        let mut staying = Vec::with_capacity(contenders.len());
        for (mut contender, refusal) in contenders.into_iter().zip(refused) {
            let goes_back = contender.can_go_back();
            if let Some(refusal) = refusal
                && goes_back == any_goes_back
            {
                faults.entry(contender.version.name.clone()).or_insert_with(|| vec![refusal]);
                let Some(last_good) = contender.last_good.filter(|_| goes_back) else { continue };
                contender.version = last_good;
                contender.settled = true;
            }
            staying.push(contender);
        }
        contenders = staying;
        if !any_goes_back {
            let version = |c: Contender<'_>| (c.version.name.clone(), c.version.clone());
            return contenders.into_iter().map(version).collect();
        }
    }
}

/// Brings into force what yielded to something that then had to yield itself, in the order of their ranks.
fn give_another_chance(
    pools: &mut Pools,
    offers: &BTreeMap<PoolName, Offer<Pool>>,
    faults: &mut Faults,
) {
    let waiting = offers.iter().filter(|(name, _)| faults.contains_key(*name));
    let mut waiting: Vec<(&Offer<Pool>, &Arc<Pool>)> =
        waiting.filter_map(|(_, offer)| Some((offer, offer.says.as_ref().ok()?))).collect();
    // Stable: equal ones stay in the order of names.
    waiting.sort_by_key(|(offer, _)| (!offer.accepted, offer.created));
    let mut taken = Taken::default();
    pools.values().for_each(|pool| taken.take(pool));
    // One that goes in may leave room for another, so until a whole round brings nothing.
    let mut before = usize::MAX;
    while waiting.len() < before {
        before = waiting.len();
        waiting.retain(|(_, says)| {
            let current = pools.get(&says.name).cloned();
            current.iter().for_each(|current| taken.leave(current));
            match (taken.in_the_way_of(says), current) {
                (None, _) => {
                    taken.take(says);
                    pools.insert(says.name.clone(), (*says).clone());
                    faults.remove(&says.name);
                    false
                }
                (Some(refusal), current) => {
                    current.iter().for_each(|current| taken.take(current));
                    faults.insert(says.name.clone(), vec![refusal]);
                    true
                }
            }
        });
    }
}

/// The ranges of pools that do not overlap, by their first address.
#[derive(Default)]
struct Taken(BTreeMap<(Family, u128), (AddressRange, PoolName)>);

impl Taken {
    /// The first overlap of `pool` with what is taken.
    fn in_the_way_of(&self, pool: &Pool) -> Option<Refusal> {
        pool.ranges.iter().find_map(|range| {
            // Of ranges that do not overlap one another, the last that begins before this one's end decides.
            let upto = (range.family(), bits(range.last()));
            let (_, (with, holder)) = self.0.range(..=upto).next_back()?;
            with.overlaps(range).then(|| Refusal::Overlaps {
                range: *range,
                pool: holder.clone(),
                with: *with,
            })
        })
    }

    fn take(&mut self, pool: &Pool) {
        self.0.extend(pool.ranges.iter().map(|range| (from(range), (*range, pool.name.clone()))));
    }

    fn leave(&mut self, pool: &Pool) {
        for range in &pool.ranges {
            self.0.remove(&from(range));
        }
    }
}

fn from(range: &AddressRange) -> (Family, u128) {
    (range.family(), bits(range.first()))
}
