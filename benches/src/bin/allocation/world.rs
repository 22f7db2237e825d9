//! Worlds of many Services, each in need of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use herald_core::address::{AddressRange, Family};
use herald_core::allocation::{Age, Demand, Families, Sharing, Wants};
use herald_core::config::Pool;
use herald_core::name::ServiceId;
use herald_core::port::{Port, Protocol};

const POOLS: u32 = 100;
/// The lowest address of each family.
const FIRST_V4: u32 = 0x0a00_0000;
const FIRST_V6: u128 = 0xfd00 << 112;
/// Addresses of a /8.
const SLASH_8: u32 = 1 << 24;

/// What is planned.
pub(crate) struct Case {
    pub(crate) pools: Vec<Arc<Pool>>,
    pub(crate) demands: Vec<Demand>,
    /// How many have addresses in the end.
    pub(crate) served: usize,
    /// Whether the pools are other than before.
    pub(crate) reconfigured: bool,
}

/// The `n`-th address from the lowest.
fn v4(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(FIRST_V4 + n).into()
}

fn v6(n: u32) -> IpAddr {
    Ipv6Addr::from_bits(FIRST_V6 + u128::from(n)).into()
}

fn range(first: IpAddr, last: IpAddr) -> AddressRange {
    AddressRange::new(first, last).expect("of one family and in order")
}

/// Addresses of each of the 100 pools: as many Services again would fit as there are.
const fn size(services: u32) -> u32 {
    2 * services / POOLS
}

fn pool(name: String, ranges: Vec<AddressRange>) -> Pool {
    Pool {
        name: name.into(),
        labels: BTreeMap::new(),
        ranges,
        auto_assign: true,
        avoid_buggy: false,
        allocation: None,
    }
}

/// The pool number `n` of those that lie beside one another.
fn nth_pool(n: u32, size: u32) -> Pool {
    pool(format!("pool-{n:03}"), vec![range(v4(n * size), v4((n + 1) * size - 1))])
}

fn only(pool: Pool) -> Vec<Arc<Pool>> {
    vec![Arc::new(pool)]
}

/// The `n`-th oldest Service, which has nothing yet.
fn without(n: u32) -> Demand {
    Demand {
        id: ServiceId::new(format!("namespace-{}", n % 100), format!("service-{n}")),
        age: Age { created_s: i64::from(n), uid: format!("uid-{n}").into() },
        labels: BTreeMap::from([("app".to_owned(), format!("service-{n}"))]),
        changed: false,
        families: Ok(Families::Single(Family::V4)),
        wants: Ok(Wants::default()),
        sharing: None,
        ports: port(80),
        held: Vec::new(),
        recorded_pool: None,
    }
}

fn port(number: u16) -> BTreeSet<Port> {
    BTreeSet::from([Port { protocol: Protocol::Tcp, number }])
}

fn with(n: u32, held: Vec<IpAddr>, pool: &str) -> Demand {
    Demand { held, recorded_pool: Some(pool.into()), ..without(n) }
}

fn shares(demand: Demand, key: String, backend: String) -> Demand {
    Demand { sharing: Some(Sharing { key: key.into(), backend: backend.into() }), ..demand }
}

/// So many `services` on 100 pools from the first on; the last `new` of them have nothing yet. All are served.
fn plain(services: u32, new: u32) -> Case {
    let size = size(services);
    let demand = |n: u32| match n < services - new {
        true => with(n, vec![v4(n)], &format!("pool-{:03}", n / size)),
        false => without(n),
    };
    Case {
        pools: (0..POOLS).map(|n| Arc::new(nth_pool(n, size))).collect(),
        demands: (0..services).map(demand).collect(),
        served: services as usize,
        reconfigured: false,
    }
}

/// One pool alone, of which the addresses `held` are held, and one Service more.
fn alone(pool: Pool, held: impl Iterator<Item = IpAddr>) -> Case {
    let name = pool.name.to_string();
    let families = Families::Single(pool.ranges[0].family());
    let mut demands: Vec<Demand> =
        (0..).zip(held).map(|(n, address)| with(n, vec![address], &name)).collect();
    demands.push(without(u32::MAX));
    for demand in &mut demands {
        demand.families = Ok(families);
    }
    Case { pools: only(pool), served: demands.len(), demands, reconfigured: false }
}

pub(crate) fn one_new(services: u32) -> Case {
    plain(services, 1)
}

pub(crate) fn all_new(services: u32) -> Case {
    plain(services, services)
}

/// The oldest asks for another pool.
pub(crate) fn one_edited(services: u32) -> Case {
    let mut case = plain(services, 0);
    case.demands[0].wants = Ok(Wants { pool: Some("pool-099".into()), ..Wants::default() });
    case
}

/// The first pool has a range more, and nothing follows.
pub(crate) fn pool_extended(services: u32) -> Case {
    let mut case = plain(services, 0);
    let more = 2 * services;
    Arc::make_mut(&mut case.pools[0]).ranges.push(range(v4(more), v4(more + 255)));
    Case { reconfigured: true, ..case }
}

/// The first pool has lost the half of its addresses, and one after the other who had them gets another.
pub(crate) fn pool_halved(services: u32) -> Case {
    let mut case = plain(services, 0);
    Arc::make_mut(&mut case.pools[0]).ranges = vec![range(v4(0), v4(size(services) / 2 - 1))];
    Case { reconfigured: true, ..case }
}

/// Each would share, with nobody that there is.
pub(crate) fn own_keys(services: u32) -> Case {
    let mut case = plain(services, 1);
    case.demands = (0..)
        .zip(case.demands)
        .map(|(n, demand): (u32, _)| shares(demand, format!("own-{n}"), String::new()))
        .collect();
    case
}

/// All would share, but have the same port; of one pool, in which every address is one that might be shared. The first
/// of its addresses is shared by a Service of another port, which leaves.
fn same_key(services: u32, new: u32) -> Case {
    let first = pool("pool-000".to_owned(), vec![range(v4(0), v4(2 * services - 1))]);
    let other = pool("pool-001".to_owned(), vec![range(v4(2 * services), v4(2 * services))]);
    let us = |demand: Demand| shares(demand, "us".to_owned(), String::new());
    let demand = |n: u32| match n < services - new {
        true => us(with(n, vec![v4(n)], "pool-000")),
        false => us(without(n)),
    };
    let mut demands: Vec<Demand> = (0..services - 1).map(demand).collect();
    demands.push(us(without(services - 1)));
    let leaves = Demand {
        ports: port(443),
        wants: Ok(Wants { pool: Some("pool-001".into()), ..Wants::default() }),
        ..us(with(services, vec![v4(0)], "pool-000"))
    };
    demands.push(leaves);
    Case {
        pools: vec![Arc::new(first), Arc::new(other)],
        served: demands.len(),
        demands,
        reconfigured: false,
    }
}

pub(crate) fn one_key(services: u32) -> Case {
    same_key(services, 1)
}

pub(crate) fn one_key_half_new(services: u32) -> Case {
    same_key(services, services / 2)
}

/// All have one key, and no two may share: with `externalTrafficPolicy: Local` their selectors would have to be the same.
pub(crate) fn local(services: u32) -> Case {
    let mut case = plain(services, 1);
    case.demands = (0..)
        .zip(case.demands)
        .map(|(n, demand): (u32, _)| shares(demand, "us".to_owned(), format!("app=service-{n}")))
        .collect();
    case
}

/// Each has an address of either family.
pub(crate) fn dual(services: u32) -> Case {
    let size = size(services);
    let mut case = plain(services, 1);
    for (n, pool) in (0..).zip(&mut case.pools) {
        Arc::make_mut(pool).ranges.push(range(v6(n * size), v6((n + 1) * size - 1)));
    }
    for (n, demand) in (0..).zip(&mut case.demands) {
        demand.families = Ok(Families::RequireDual);
        if !demand.held.is_empty() {
            demand.held.push(v6(n));
        }
    }
    case
}

/// Nobody's wait ends: the pools, of ten addresses each, are full.
pub(crate) fn waiting(services: u32) -> Case {
    let held = 10 * POOLS;
    let hold = (0..held).map(|n| with(n, vec![v4(n)], &format!("pool-{:03}", n / 10)));
    Case {
        pools: (0..POOLS).map(|n| Arc::new(nth_pool(n, 10))).collect(),
        demands: hold.chain((held..held + services).map(without)).collect(),
        served: held as usize,
        reconfigured: false,
    }
}

fn slash_8() -> Pool {
    pool("huge".to_owned(), vec![range(v4(0), v4(SLASH_8 - 1))])
}

pub(crate) fn huge(services: u32) -> Case {
    alone(slash_8(), (0..services - 1).map(v4))
}

/// To hold all of a /8 takes 16.7 million Services. What could cost something is how a free address is found behind all
/// that are held: so the pool is as long as there are Services, the free address its last.
pub(crate) fn full_but_one(services: u32) -> Case {
    let first = SLASH_8 - services;
    let last = range(v4(first), v4(SLASH_8 - 1));
    alone(pool("full".to_owned(), vec![last]), (first..SLASH_8 - 1).map(v4))
}

/// Two of 256 addresses are given to nobody.
pub(crate) fn avoiding(services: u32) -> Case {
    let avoiding = Pool { avoid_buggy: true, ..slash_8() };
    let given = (0..).filter(|n| !matches!(n % 256, 0 | 255)).map(v4);
    alone(avoiding, given.take(services as usize - 1))
}

fn slash_64() -> Pool {
    let last = Ipv6Addr::from_bits(FIRST_V6 + u128::from(u64::MAX)).into();
    pool("huge".to_owned(), vec![range(v6(0), last)])
}

pub(crate) fn huge_v6(services: u32) -> Case {
    alone(slash_64(), (0..services - 1).map(v6))
}

/// No two of the held addresses are neighbours.
pub(crate) fn ragged_v6(services: u32) -> Case {
    alone(slash_64(), (0..services - 1).map(|n| v6(2 * n)))
}
