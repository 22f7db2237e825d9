//! Random worlds, small enough that everything in them collides.

use crate::port::{Port, Protocol};
use proptest::collection::{btree_set, vec};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;

pub(super) const NAMESPACES: [&str; 3] = ["red", "blue", "green"];

/// Every address that a world may mention: two runs of IPv4 around .255/.0, one of IPv6, and one of no pool.
fn universe() -> Vec<IpAddr> {
    let runs = [range("10.0.0.252-10.0.1.3"), range("10.0.2.1-10.0.2.4"), range("fd00::1-fd00::6")];
    let mut all: Vec<IpAddr> = runs
        .iter()
        .flat_map(|run| run.bits().map(|bits| crate::address::from_bits(run.family(), bits)))
        .collect();
    all.push("192.0.2.99".parse().unwrap());
    all
}

/// Pools that divide the universe between them at random places, so that none overlap and edits split and merge.
pub(super) fn pools() -> impl Strategy<Value = Vec<Arc<Pool>>> {
    let runs = [
        "10.0.0.252-10.0.0.254",
        "10.0.0.255-10.0.1.0",
        "10.0.1.1-10.0.1.3",
        "10.0.2.1-10.0.2.2",
        "10.0.2.3-10.0.2.4",
        "fd00::1-fd00::2",
        "fd00::3-fd00::3",
        "fd00::4-fd00::6",
    ];
    // Each run goes to one of three pools or to none.
    (vec(0..4_usize, runs.len()), vec(traits(), 3)).prop_map(move |(owners, traits)| {
        let made = traits.into_iter().enumerate().filter_map(|(at, (auto, avoid, allocation))| {
            let mine: Vec<&str> = runs
                .iter()
                .zip(&owners)
                .filter(|(_, owner)| **owner == at)
                .map(|(run, _)| *run)
                .collect();
            let mut made = pool(["p", "q", "r"][at], &mine);
            (made.auto_assign, made.avoid_buggy, made.allocation) = (auto, avoid, allocation);
            (!mine.is_empty()).then(|| Arc::new(made))
        });
        made.collect()
    })
}

fn traits() -> impl Strategy<Value = (bool, bool, Option<ServiceAllocation>)> {
    let allocation =
        (0..3_i32, subsequence(NAMESPACES.to_vec(), 0..=1), any::<bool>(), any::<bool>()).prop_map(
            |(priority, names, team, app)| ServiceAllocation {
                priority,
                namespaces: names.into_iter().map(str::to_owned).collect(),
                namespace_selectors: team.then(|| label_is("team", "blue")).into_iter().collect(),
                service_selectors: app.then(|| label_is("app", "web")).into_iter().collect(),
            },
        );
    (prop::bool::weighted(0.8), any::<bool>(), weighted(0.3, allocation))
}

fn families() -> impl Strategy<Value = Result<Families, Why>> {
    prop_oneof![
        4 => Just(Ok(Families::Single(Family::V4))),
        2 => Just(Ok(Families::Single(Family::V6))),
        2 => Just(Ok(Families::RequireDual)),
        2 => Just(Ok(Families::PreferDual { primary: Family::V4 })),
        2 => Just(Ok(Families::PreferDual { primary: Family::V6 })),
        1 => Just(Err(Why::NoClusterIp)),
    ]
}

fn wants() -> impl Strategy<Value = Result<Wants, Why>> {
    let exact = subsequence(universe(), 0..=2).prop_shuffle();
    let named = prop::sample::select(vec!["p", "q", "r", "absent", "x"]);
    prop_oneof![
        6 => Just(Ok(Wants::default())),
        3 => (weighted(0.6, named), weighted(0.5, exact)).prop_map(|(pool, exact)| {
            Ok(Wants { pool: pool.map(Into::into), addresses: exact.unwrap_or_default() })
        }),
        1 => Just(Err(Why::RequestedTwice { annotation: "a".to_owned() })),
    ]
}

fn held() -> impl Strategy<Value = Vec<IpAddr>> {
    prop_oneof![
        2 => Just(Vec::new()),
        3 => subsequence(universe(), 1..=2).prop_shuffle(),
        1 => subsequence(universe(), 3).prop_shuffle(),
    ]
}

/// A Service; its name is given to it by its place in the world.
pub(super) fn anonymous() -> impl Strategy<Value = Demand> {
    let sharing = (prop::sample::select(vec!["k", "l"]), prop::sample::select(vec!["", "app=web"]));
    let ports = btree_set(1..4_u16, 1..=2);
    let (age, namespace) = (0..3_i64, prop::sample::select(NAMESPACES.to_vec()));
    let recorded = weighted(0.5, prop::sample::select(vec!["p", "absent", "x", "y"]));
    let marks = (any::<bool>(), prop::bool::weighted(0.3), recorded);
    (age, namespace, families(), wants(), weighted(0.4, sharing), ports, held(), marks).prop_map(
        |(age, namespace, families, wants, sharing, ports, held, (web, changed, recorded))| {
            let mut made = demand("x", age);
            made.id.namespace = namespace.into();
            if web {
                made.labels.insert("app".to_owned(), "web".to_owned());
            }
            (made.families, made.wants, made.held) = (families, wants, held);
            (made.changed, made.recorded_pool) = (changed, recorded.map(Into::into));
            made.sharing =
                sharing.map(|(key, backend)| Sharing { key: key.into(), backend: backend.into() });
            made.ports =
                ports.into_iter().map(|number| Port { protocol: Protocol::Tcp, number }).collect();
            made
        },
    )
}

/// Gives the Service its name.
pub(super) fn named(mut demand: Demand, number: usize) -> Demand {
    demand.id.name = format!("s{number}").into();
    demand.age.uid = format!("uid{number}").into();
    demand
}

/// One that cannot be read and one that overlaps others, or runs over what no pool in force holds; or neither.
fn refused_pools() -> impl Strategy<Value = RefusedPools> {
    let both = [("x", refused(&[])), ("y", refused(&["10.0.1.3-10.0.2.2", "fd00::4"]))];
    subsequence(both.to_vec(), 0..=2).prop_map(|some| {
        some.into_iter().map(|(name, pool)| (PoolName::from(name), pool)).collect()
    })
}

/// A world in any state, reachable or not: statuses may say anything.
pub(super) fn world() -> impl Strategy<Value = Owned> {
    let stray = prop_oneof![4 => Just(Stray::Clear), 1 => Just(Stray::Keep)];
    let service = (anonymous(), weighted(0.3, (held(), any::<bool>())));
    (pools(), refused_pools(), stray, vec(service, 0..9)).prop_map(
        |(pools, refused, stray, services)| {
            let mut owned = Owned {
                pools,
                refused,
                stray,
                namespaces: Namespaces::from([
                    ("red".into(), Labels::new()),
                    ("blue".into(), Labels::from([("team".to_owned(), "blue".to_owned())])),
                ]),
                demands: Vec::new(),
                unechoed: BTreeMap::new(),
            };
            for (number, (demand, written)) in services.into_iter().enumerate() {
                let demand = named(demand, number);
                if let Some((addresses, landed)) = written {
                    owned.unechoed.insert(demand.id.clone(), Unechoed { addresses, landed });
                }
                owned.demands.push(demand);
            }
            owned
        },
    )
}
