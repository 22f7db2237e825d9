//! What deciding on addresses costs: `cargo run --release -p herald-benches --bin allocation`.
//!
//! The exit status tells whether the fastest run of each figure met its target.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use herald_benches::{figure, measured};
use herald_core::address::{AddressRange, Family};
use herald_core::allocation::{
    Age, Demand, Families, Namespaces, Pools, Sharing, Stray, Wants, World, plan,
};
use herald_core::config::Pool;
use herald_core::name::ServiceId;
use herald_core::port::{Port, Protocol};

const POOLS: u32 = 100;
/// Addresses of a pool: as many Services again would fit as there are.
const fn size(services: u32) -> u32 {
    2 * services / POOLS
}

fn main() -> ExitCode {
    let figures = [
        figure("10,000 Services, 100 pools, one new", 10_000, planning(10_000, 1, None)),
        figure("10,000 new at once", 40_000, planning(10_000, 10_000, None)),
        figure(
            "10,000, each with a sharing key, one new",
            20_000,
            planning(10_000, 1, Some("own")),
        ),
        figure("100,000 Services, 100 pools, one new", 120_000, planning(100_000, 1, None)),
    ];
    if figures.iter().all(|met| *met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn address(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
}

/// [`POOLS`] pools beside one another.
fn pools(services: u32) -> Pools {
    let pool = |n: u32| {
        let (first, last) = (n * size(services), (n + 1) * size(services) - 1);
        let range = AddressRange::new(address(first), address(last)).expect("in order");
        Arc::new(Pool {
            name: format!("pool-{n:03}").into(),
            labels: BTreeMap::new(),
            ranges: vec![range],
            auto_assign: true,
            avoid_buggy: false,
            allocation: None,
        })
    };
    Pools::new((0..POOLS).map(pool))
}

/// The `n`-th of `services`, of which the last `new` hold nothing yet.
fn demand(n: u32, services: u32, new: u32, key: Option<&str>) -> Demand {
    let held = n < services - new;
    let sharing = |key: &str| Sharing { key: format!("{key}-{n}").into(), backend: "".into() };
    Demand {
        id: ServiceId::new(format!("namespace-{}", n % 100), format!("service-{n}")),
        age: Age { created_s: i64::from(n), uid: format!("uid-{n}").into() },
        labels: BTreeMap::from([("app".to_owned(), format!("service-{n}"))]),
        changed: false,
        families: Ok(Families::Single(Family::V4)),
        wants: Ok(Wants::default()),
        sharing: key.map(sharing),
        ports: BTreeSet::from([Port { protocol: Protocol::Tcp, number: 80 }]),
        held: if held { vec![address(n)] } else { Vec::new() },
        recorded_pool: held.then(|| format!("pool-{:03}", n / size(services)).into()),
    }
}

fn planning(services: u32, new: u32, key: Option<&str>) -> Vec<Duration> {
    let (pools, namespaces, unechoed) = (pools(services), Namespaces::new(), BTreeMap::new());
    let demands: Vec<Demand> = (0..services).map(|n| demand(n, services, new, key)).collect();
    let demands: Vec<&Demand> = demands.iter().collect();
    let world = World {
        pools: &pools,
        stray: Stray::Clear,
        namespaces: &namespaces,
        demands: &demands,
        unechoed: &unechoed,
    };
    let planned = plan(&world);
    assert!(planned.verdicts.iter().all(|verdict| verdict.grant().is_some()), "all are served");
    measured(|| (), |()| plan(&world))
}
