//! What deciding on addresses costs: `cargo run --release -p herald-benches --bin allocation`.
//!
//! Each figure is the median of several plans of the whole world, then the fastest. The exit status tells whether the
//! median of each met its target, whether ten times the Services cost at most fifteen times as much, and whether very
//! large or very ragged pools cost no more than twice what plain ones do, and noise. These ratios are of the fastest.
#![forbid(unsafe_code)]

mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;

use herald_benches::{Took, figure, measured, ratio};
use herald_core::allocation::{Demand, Namespaces, Pools, Stray, World, plan};

use self::world::Case;

/// Services of most rows, and ten times fewer to compare with.
const MANY: u32 = 10_000;
const FEW: u32 = MANY / 10;
/// Services of the largest worlds.
const VERY_MANY: u32 = 100_000;
/// What ten times the Services may cost: linear, and what sorting and colder caches add.
const GROWTH: f64 = 15.0;
/// How many times as long as a plain pool one may take whose shape should cost nothing.
const UNSEEN: f64 = 2.5;

/// Makes a world of so many Services.
type Make = fn(u32) -> Case;

/// A world in which something is to be done.
struct Kind {
    what: &'static str,
    case: Make,
    /// Microseconds that it may take with [`MANY`] Services.
    target: u64,
}

/// The target of a world in which one thing changed is a promise. The others were set at twice the fastest that was measured,
/// or more; but where half are new it is what all may take who have no key.
const KINDS: [Kind; 12] = [
    Kind { what: "one new", case: world::one_new, target: 10_000 },
    Kind { what: "one of them edited", case: world::one_edited, target: 10_000 },
    Kind { what: "a range added to a pool", case: world::pool_extended, target: 10_000 },
    Kind { what: "a pool halved, its Services move", case: world::pool_halved, target: 10_000 },
    Kind { what: "all new at once", case: world::all_new, target: 40_000 },
    Kind { what: "a sharing key each, one new", case: world::own_keys, target: 20_000 },
    Kind {
        what: "one key and one port, one leaves, one new",
        case: world::one_key,
        target: 20_000,
    },
    Kind {
        what: "one key and one port, one leaves, half are new",
        case: world::one_key_half_new,
        target: 40_000,
    },
    Kind { what: "Local with one key, one new", case: world::local, target: 40_000 },
    Kind { what: "dual stack, one new", case: world::dual, target: 25_000 },
    Kind { what: "a /8 with avoidBuggyIPs, one new", case: world::avoiding, target: 10_000 },
    Kind { what: "all wait for 100 full pools", case: world::waiting, target: 105_000 },
];

/// Pools whose shape should cost nothing.
const SHAPES: [(&str, Make); 5] = [
    ("a /8, held from its start", world::huge),
    ("the end of a /8, all but its last address held", world::full_but_one),
    ("a /8 with avoidBuggyIPs", world::avoiding),
    ("a /64, held from its start", world::huge_v6),
    ("a /64, every second address held", world::ragged_v6),
];

fn main() -> ExitCode {
    let mut met = true;
    for Kind { what, case, target } in KINDS {
        let many = planning(case(MANY));
        met &= figure(&format!("10,000 Services: {what}"), many, Some(target));
        met &= ratio("  of that with 1,000", many, planning(case(FEW)), GROWTH);
    }
    let plain = planning(world::one_new(VERY_MANY));
    met &= figure("100,000 Services: one new", plain, Some(120_000));
    let edited = planning(world::one_edited(VERY_MANY));
    met &= figure("100,000 Services: one of them edited", edited, Some(120_000));
    for (what, case) in SHAPES {
        let took = planning(case(VERY_MANY));
        figure(&format!("100,000 Services: {what}, one new"), took, None);
        met &= ratio("  of that with 100 plain pools", took, plain, UNSEEN);
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a plan costs, and where the configuration is new, the index of its pools too.
fn planning(case: Case) -> Took {
    let (namespaces, unechoed) = (Namespaces::new(), BTreeMap::new());
    let demands: Vec<&Demand> = case.demands.iter().collect();
    let index = || Pools::new(case.pools.iter().cloned());
    let planned = |pools: &Pools| {
        plan(&World {
            pools,
            stray: Stray::Clear,
            namespaces: &namespaces,
            demands: &demands,
            unechoed: &unechoed,
        })
    };
    let pools = index();
    let verdicts = planned(&pools).verdicts;
    let served = verdicts.iter().filter(|verdict| verdict.grant().is_some()).count();
    assert_eq!(served, case.served, "of {}", demands.len());
    match case.reconfigured {
        true => measured(|| (), |()| planned(&index())),
        false => measured(|| (), |()| planned(&pools)),
    }
}
