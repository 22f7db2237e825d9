//! Which version of each object is in force.
//!
//! One broken object must not stop the others, nor take away what worked before it was broken. So each object is judged
//! alone: what it says now is in force if it can be read and overlaps nothing that comes before it; else the last
//! version that was in force goes on. Of two pools that overlap, there comes first
//!
//! 1. one whose ranges are those already in force: the edit that made the overlap yields, not what it ran into;
//! 2. one whose status says that it is in force as it stands: so a process that has just begun, and remembers nothing,
//!    judges as those did that saw the edit;
//! 3. the older object;
//! 4. the one whose name sorts first.
//!
//! So a pool that is in force stays in force, in one version or another, until its object is deleted.

mod pools;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Advertisement, Pool, Refusal};
use crate::address::AddressRange;
use crate::label::Labels;
use crate::name::{AdvertisementName, PoolName};

/// What one object says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer<T> {
    /// When the object was created, in seconds since 1970.
    pub created: i64,
    /// The object's labels, which are known also where its spec makes no sense.
    pub labels: Labels,
    /// Whether its status says that what it says now is in force.
    pub accepted: bool,
    /// What it means, or all that is wrong with it (never empty).
    pub says: Result<Arc<T>, Vec<Refusal>>,
}

/// What all objects say now. An object that is not here does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// The IPAddressPools.
    pub pools: BTreeMap<PoolName, Offer<Pool>>,
    /// The L2Advertisements.
    pub advertisements: BTreeMap<AdvertisementName, Offer<Advertisement>>,
}

/// What is in force. No two of its pools have an address in common.
///
/// The default is the state before the first [`settle`]: nothing is in force, and nothing is known to be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    pools: BTreeMap<PoolName, Arc<Pool>>,
    advertisements: BTreeMap<AdvertisementName, Arc<Advertisement>>,
    refused: RefusedPools,
    had_pool: bool,
}

/// Pools that exist and of which no version is in force, by name.
pub type RefusedPools = BTreeMap<PoolName, RefusedPool>;

/// What is known of a pool of which no version is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedPool {
    /// The object's labels.
    pub labels: Labels,
    /// The first thing that is wrong with it.
    pub refusal: Refusal,
    /// The ranges that it would have; none where it cannot be read.
    pub ranges: Vec<AddressRange>,
}

/// The one of `refused` that an address is of which no pool in force holds: the one that its Service says it is from, or
/// else one whose ranges hold it.
///
/// Which addresses a refused pool had is known to nobody any more. So the Service is believed about it, and about no other:
/// an object that broke takes no address and silences none, and an object that never made sense holds nothing up. The
/// controller and the speakers ask here, so that what the one leaves the others answer for.
pub fn refused_pool_of<'a>(
    refused: &'a RefusedPools,
    address: IpAddr,
    recorded: Option<&PoolName>,
) -> Option<&'a PoolName> {
    let said = recorded.and_then(|recorded| refused.get_key_value(recorded));
    let holds = |pool: &RefusedPool| pool.ranges.iter().any(|range| range.contains(address));
    said.or_else(|| refused.iter().find(|(_, pool)| holds(pool))).map(|(name, _)| name)
}

/// An object of configuration, by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// An IPAddressPool.
    Pool(PoolName),
    /// An L2Advertisement.
    Advertisement(AdvertisementName),
}

/// What is in force in place of what an object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InForce {
    /// The last version that was.
    LastGood,
    /// Nothing: there has been none since this process began.
    Nothing,
}

/// An object whose present version is not in force.
///
/// `Display` is the whole sentence for its condition and Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub object: Object,
    /// Why not; never empty.
    pub refusals: Vec<Refusal>,
    /// What is in force instead.
    pub in_force: InForce,
}

impl Configuration {
    /// The pools in force, by name.
    pub fn pools(&self) -> &BTreeMap<PoolName, Arc<Pool>> {
        &self.pools
    }

    /// The advertisements in force, by name.
    pub fn advertisements(&self) -> &BTreeMap<AdvertisementName, Arc<Advertisement>> {
        &self.advertisements
    }

    /// The pools that exist and of which no version is in force.
    pub const fn refused(&self) -> &RefusedPools {
        &self.refused
    }

    /// Whether there has ever been a pool, in force or not. Before that it is not known that there is none: the likelier
    /// cause is a process that looks into the wrong namespace.
    pub const fn has_seen_a_pool(&self) -> bool {
        self.had_pool
    }
}

/// What is in force once `offers` have been heard, given what was in force before them; and a problem for each object
/// whose present version is not, in the order of kind and name.
pub fn settle(previous: &Configuration, offers: &Offers) -> (Configuration, Vec<Problem>) {
    let (pools, faults) = pools::settle(&previous.pools, &offers.pools);
    let mut problems: BTreeMap<Object, Vec<Refusal>> =
        faults.into_iter().map(|(name, faults)| (Object::Pool(name), faults)).collect();
    let mut now = Configuration { pools, ..Configuration::default() };
    now.had_pool = previous.had_pool || !offers.pools.is_empty();
    for (name, offer) in &offers.advertisements {
        let last_good = previous.advertisements.get(name);
        let in_force = match &offer.says {
            Ok(says) => Some(says),
            Err(refusals) => {
                problems.insert(Object::Advertisement(name.clone()), refusals.clone());
                last_good
            }
        };
        if let Some(version) = in_force {
            now.advertisements.insert(name.clone(), version.clone());
        }
    }
    let problems: Vec<Problem> = problems
        .into_iter()
        .map(|(object, refusals)| {
            let stands = match &object {
                Object::Pool(name) => now.pools.contains_key(name),
                Object::Advertisement(name) => now.advertisements.contains_key(name),
            };
            let in_force = if stands { InForce::LastGood } else { InForce::Nothing };
            Problem { object, refusals, in_force }
        })
        .collect();
    now.refused = refused(offers, &problems);
    (now, problems)
}

/// The pools among `offers` that have a problem and no version in force.
fn refused(offers: &Offers, problems: &[Problem]) -> RefusedPools {
    let refused = problems.iter().filter(|problem| problem.in_force == InForce::Nothing);
    let refused = refused.filter_map(|problem| {
        let Object::Pool(name) = &problem.object else { return None };
        let offer = offers.pools.get(name)?;
        let pool = RefusedPool {
            labels: offer.labels.clone(),
            refusal: problem.refusals.first()?.clone(),
            ranges: offer.says.as_ref().map_or_else(|_| Vec::new(), |says| says.ranges.clone()),
        };
        Some((name.clone(), pool))
    });
    refused.collect()
}

/// How many faults a problem's sentence tells before it only counts them: it ends in an Event, which holds 1 kB.
const TOLD_AT_MOST: usize = 5;

impl Problem {
    /// The first fault in one word: a condition's or Event's reason.
    pub fn reason(&self) -> &'static str {
        self.refusals.first().map_or("Invalid", Refusal::reason)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, refusal) in self.refusals.iter().take(TOLD_AT_MOST).enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{refusal}")?;
        }
        match self.refusals.len().saturating_sub(TOLD_AT_MOST) {
            0 => {}
            more => write!(f, "; and {more} more")?,
        }
        f.write_str(match self.in_force {
            InForce::LastGood => ". The last good version stays in force.",
            InForce::Nothing => ". No version of it is in force.",
        })
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(name) => write!(f, "IPAddressPool {name}"),
            Self::Advertisement(name) => write!(f, "L2Advertisement {name}"),
        }
    }
}

#[cfg(test)]
mod tests;
