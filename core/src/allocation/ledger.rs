//! Who has which address while a plan is being made.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use rangemap::RangeInclusiveSet;

use super::demand::{Demand, Sharing};
use super::pools::{Pools, gives};
use crate::address::{Family, bits, from_bits};
use crate::config::Pool;
use crate::port::Port;
use crate::why::address::{NAMED_AT_MOST, Why};

/// A demand's position in the plan's input.
pub(super) type At = usize;

/// Tenants, and what is free, in one plan.
///
/// An address that is given up during a plan does not become free in it: the status of the Service that had it still
/// shows it. The next plan, which sees the status without it, gives it out. So free sets only ever shrink, and each is
/// built, from the addresses taken, when the first Service asks its pool for a new address: a plan in which nobody
/// needs one builds none.
pub(super) struct Ledger<'a> {
    pools: &'a Pools,
    demands: &'a [&'a Demand],
    tenancies: HashMap<IpAddr, Tenancy<'a>>,
    /// Addresses that a status shows although its Service does not keep them.
    vacated: HashMap<IpAddr, Vacated>,
    accounts: Vec<[Account; 2]>,
    partners: HashMap<Circle<'a>, Vec<IpAddr>>,
    /// How many of a circle's addresses, counted from its first, have a port of such a Service, or are shown by a Service
    /// that leaves them: tenants only come, and for others these are taken as long as the plan is made.
    clashing: HashMap<(Circle<'a>, &'a BTreeSet<Port>), usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Vacated {
    By(At),
    BySeveral(At),
}

/// Those who may share an address of one pool.
type Circle<'a> = (&'a Sharing, usize, Family);

/// One family of one pool.
#[derive(Default)]
struct Account {
    /// Integers of the addresses that were taken before `free` was built; may hold one twice.
    taken: Vec<u128>,
    free: Option<Free>,
    /// Distinct addresses with a tenant.
    in_use: u64,
}

struct Free {
    addresses: RangeInclusiveSet<u128>,
    /// The pool's ranges before this position have nothing free.
    position: usize,
}

struct Tenancy<'a> {
    sharing: Option<&'a Sharing>,
    first: At,
    others: Vec<At>,
    /// Kept only where sharing makes them matter.
    ports: BTreeMap<Port, At>,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(pools: &'a Pools, demands: &'a [&'a Demand]) -> Self {
        Self {
            pools,
            demands,
            tenancies: HashMap::with_capacity(demands.len()),
            vacated: HashMap::new(),
            accounts: std::iter::repeat_with(Default::default).take(pools.len()).collect(),
            partners: HashMap::new(),
            clashing: HashMap::new(),
        }
    }

    /// Whether the demand may be a tenant of `address`; `holds` when its status already shows it.
    pub(super) fn admit(&self, at: At, address: IpAddr, holds: bool) -> Result<(), Why> {
        let demand = self.demands[at];
        let in_use = |by: Vec<At>| {
            let by = by.into_iter().map(|other| self.demands[other].id.clone()).collect();
            Err(Why::AddressInUse { service: demand.id.clone(), address, by })
        };
        match self.vacated.get(&address) {
            Some(Vacated::By(other)) if *other != at && !holds => return in_use(vec![*other]),
            Some(Vacated::BySeveral(other)) if !holds => return in_use(vec![*other]),
            _ => {}
        }
        let Some(tenancy) = self.tenancies.get(&address) else { return Ok(()) };
        if tenancy.sharing.is_none() || tenancy.sharing != demand.sharing.as_ref() {
            return in_use(tenancy.all().take(NAMED_AT_MOST).collect());
        }
        match demand.ports.iter().find_map(|port| Some((*port, *tenancy.ports.get(port)?))) {
            Some((port, other)) => {
                Err(Why::PortInUse { address, port, by: self.demands[other].id.clone() })
            }
            None => Ok(()),
        }
    }

    /// Makes the demand a tenant of `address`, which admitted it and has not got it yet.
    pub(super) fn occupy(&mut self, at: At, address: IpAddr) {
        let demand = self.demands[at];
        let sharing = demand.sharing.as_ref();
        let pool = self.pools.at_address(address);
        if matches!(self.vacated.get(&address), Some(Vacated::By(by)) if *by == at) {
            // It comes back to what its status still shows from before its last write.
            self.vacated.remove(&address);
            self.clashing.clear();
        }
        let tenancy = match self.tenancies.entry(address) {
            std::collections::hash_map::Entry::Occupied(entry) => {
                let tenancy = entry.into_mut();
                tenancy.others.push(at);
                tenancy
            }
            std::collections::hash_map::Entry::Vacant(entry) => {
                if let Some(pool) = pool {
                    self.accounts[pool][Family::of(address) as usize].open(address);
                    // An untouched Service may be on an address that its pool gives nobody.
                    if let Some(sharing) = sharing
                        && gives(self.pools.at(pool), address)
                    {
                        let circle = (sharing, pool, Family::of(address));
                        self.partners.entry(circle).or_default().push(address);
                    }
                }
                entry.insert(Tenancy {
                    sharing,
                    first: at,
                    others: Vec::new(),
                    ports: BTreeMap::new(),
                })
            }
        };
        if sharing.is_some() {
            tenancy.ports.extend(demand.ports.iter().map(|port| (*port, at)));
        }
    }

    /// Ends the demand's tenancy of `address`; its status goes on showing it until it is written.
    pub(super) fn release(&mut self, at: At, address: IpAddr) {
        self.vacate(at, address);
        let Some(tenancy) = self.tenancies.get_mut(&address) else { return };
        if tenancy.first == at && tenancy.others.is_empty() {
            self.tenancies.remove(&address);
            if let Some(pool) = self.pools.at_address(address) {
                self.accounts[pool][Family::of(address) as usize].in_use -= 1;
            }
        } else {
            tenancy.leave(at);
        }
    }

    /// Whether others are tenants of `address` beside the demand, which is one.
    pub(super) fn has_company(&self, at: At, address: IpAddr) -> bool {
        let tenancy = self.tenancies.get(&address);
        tenancy.is_some_and(|tenancy| tenancy.all().any(|other| other != at))
    }

    /// Notes that the demand's status shows `address`, which it does not keep.
    pub(super) fn vacate(&mut self, at: At, address: IpAddr) {
        self.vacated
            .entry(address)
            .and_modify(|by| {
                if let Vacated::By(other) = *by
                    && other != at
                {
                    *by = Vacated::BySeveral(other);
                }
            })
            .or_insert(Vacated::By(at));
        if let Some(pool) = self.pools.at_address(address) {
            self.accounts[pool][Family::of(address) as usize].take(address);
        }
    }

    /// The first free address of the family in the order that the pool lists its ranges, lowest first in each.
    pub(super) fn lowest(&mut self, pool: usize, family: Family) -> Option<IpAddr> {
        let (account, pool) = (&mut self.accounts[pool][family as usize], self.pools.at(pool));
        account.free(pool, family).lowest(pool, family)
    }

    /// The first address of that pool and family on which others of the demand's circle are and its ports are free.
    pub(super) fn beside(&mut self, at: At, pool: usize, family: Family) -> Option<IpAddr> {
        let demand = self.demands[at];
        let circle = (demand.sharing.as_ref()?, pool, family);
        let addresses = self.partners.get(&circle)?;
        let fits = |address: &&IpAddr| {
            self.tenancies.contains_key(*address) && self.admit(at, **address, false).is_ok()
        };
        let of_circle = |address: &&IpAddr| {
            let of_pool = self.pools.at_address(**address) == Some(pool);
            of_pool && Family::of(**address) == family && gives(self.pools.at(pool), **address)
        };
        // What its own status shows, and only that, nobody else may have: it is not among those that are counted as taken.
        let vacates = |address: &&IpAddr| self.vacated.get(*address) == Some(&Vacated::By(at));
        if let Some(shown) = demand.held.iter().filter(of_circle).filter(vacates).find(fits) {
            return Some(*shown);
        }
        let key = (circle, &demand.ports);
        let known = self.clashing.get(&key).copied().unwrap_or(0);
        let found = addresses.iter().enumerate().skip(known).find(|(_, address)| fits(address));
        let (position, found) = found.map_or((addresses.len(), None), |(at, of)| (at, Some(*of)));
        self.clashing.insert(key, position);
        found
    }

    /// Distinct addresses of that pool and family that have a tenant.
    pub(super) fn in_use(&self, pool: usize, family: Family) -> u64 {
        self.accounts[pool][family as usize].in_use
    }
}

impl Tenancy<'_> {
    fn all(&self) -> impl Iterator<Item = At> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }

    /// Removes one of several tenants.
    fn leave(&mut self, at: At) {
        if self.first == at {
            self.first = self.others.remove(0);
        } else {
            self.others.retain(|other| *other != at);
        }
        self.ports.retain(|_, other| *other != at);
    }
}

impl Account {
    fn open(&mut self, address: IpAddr) {
        self.in_use += 1;
        self.take(address);
    }

    fn take(&mut self, address: IpAddr) {
        let taken = bits(address);
        match &mut self.free {
            Some(free) => free.addresses.remove(taken..=taken),
            None => self.taken.push(taken),
        }
    }

    fn free(&mut self, pool: &Pool, family: Family) -> &mut Free {
        let taken = &mut self.taken;
        self.free.get_or_insert_with(|| {
            taken.sort_unstable();
            let mut addresses = RangeInclusiveSet::new();
            for range in pool.ranges.iter().filter(|range| range.family() == family) {
                addresses.insert(range.bits());
            }
            // Neighbours leave together: a pool filled from its start costs one removal, not one per address.
            for run in taken.chunk_by(|a, b| b - a <= 1) {
                if let [first, .., last] | [first @ last] = run {
                    addresses.remove(*first..=*last);
                }
            }
            *taken = Vec::new();
            Free { addresses, position: 0 }
        })
    }
}

impl Free {
    fn lowest(&mut self, pool: &Pool, family: Family) -> Option<IpAddr> {
        while let Some(range) = pool.ranges.get(self.position) {
            let wanted = range.bits();
            let run = (range.family() == family)
                .then(|| self.addresses.overlapping(&wanted).next())
                .flatten();
            let Some(run) = run else {
                self.position += 1;
                continue;
            };
            let lowest = *run.start().max(wanted.start());
            let address = from_bits(family, lowest);
            if gives(pool, address) {
                return Some(address);
            }
            // Never given, so never looked at again.
            self.addresses.remove(lowest..=lowest);
        }
        None
    }
}
