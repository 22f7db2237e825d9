//! What deciding on ownership costs: `cargo run --release -p herald-benches --bin ownership`.
//!
//! Each figure is the median of several runs, then the fastest; the exit status tells whether the median of each met its
//! target.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;

use herald_benches::{Took, figure, measured};
use herald_core::address::AddressRange;
use herald_core::config::{Advertisement, Pool};
use herald_core::name::{NodeName, ServiceId};
use herald_core::ownership::eligibility::plan;
use herald_core::ownership::machine::{Input, Machine, Output};
use herald_core::ownership::record::{
    Claim, Holder, Incarnation, LeaseEvent, LeaseWrite, Link, PROTOCOL, Session, Version,
    WriteOutcome,
};
use herald_core::ownership::view::LeaseKey;
use herald_core::ownership::world::{Endpoints, Node, Served, Service, World};
use herald_core::time::{Moment, Span};
use herald_core::wire::Mac;

const SERVICES: u32 = 10_000;
const NODES: u32 = 100;
/// Addresses of the node that dies.
const ORPHANS: u32 = 1_000;

fn main() -> ExitCode {
    let figures = [
        figure("plan, 10,000 Services, 100 nodes", planning(false), Some(10_000)),
        figure("the same, externalTrafficPolicy Local", planning(true), Some(20_000)),
        figure("a plan in which nothing changed", replanning(), Some(10_000)),
        figure("a renewal shown", renewal(), Some(20)),
        figure("a session closed, 1,000 addresses free", failover(), Some(50_000)),
        figure("the same, and 1,000 takings shown", takings(), Some(60_000)),
        figure("99 nodes lose a link at once", switch_failure(), Some(20_000)),
    ];
    if figures.iter().all(|met| *met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn node_name(n: u32) -> NodeName {
    format!("node-{n:03}").into()
}

fn address(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
}

fn world(local: bool) -> World {
    let node = |n| Node {
        name: node_name(n),
        uid: format!("uid-{n}").into(),
        labels: BTreeMap::from([("kubernetes.io/hostname".to_owned(), format!("node-{n:03}"))]),
        excluded: false,
        network_unavailable: false,
        out_of_service: false,
        ready: true,
    };
    let service = |n: u32| Service {
        id: ServiceId::new(format!("namespace-{}", n % 100), format!("service-{n}")),
        uid: format!("uid-{n}").into(),
        created: i64::from(n),
        labels: BTreeMap::from([("app".to_owned(), format!("service-{n}"))]),
        addresses: vec![address(n)],
        recorded_pool: None,
        local,
    };
    let hosts = |n: u32| Endpoints {
        any: true,
        nodes: (0..3).map(|k| node_name((n + k * 31) % NODES)).collect(),
    };
    let served = |n| Served { service: service(n).into(), endpoints: hosts(n).into() };
    let range = AddressRange::new(address(0), address(SERVICES)).expect("in order");
    World {
        nodes: (0..NODES).map(|n| (node_name(n), Arc::new(node(n)))).collect(),
        pools: vec![Arc::new(Pool {
            name: "pool".into(),
            labels: BTreeMap::new(),
            ranges: vec![range],
            auto_assign: true,
            avoid_buggy: false,
            allocation: None,
        })],
        former_pools: Vec::new(),
        refused_pools: BTreeMap::new(),
        advertisements: vec![Arc::new(Advertisement {
            name: "advertisement".into(),
            pools: BTreeSet::new(),
            pool_selectors: vec![],
            node_selectors: vec![],
            service_selectors: vec![],
            interfaces: BTreeSet::new(),
            preferred_nodes: vec![],
        })],
        services: (0..SERVICES).map(served).collect(),
        ignore_exclude_label: false,
    }
}

fn planning(local: bool) -> Took {
    measured(|| world(local), |world| plan(world, &node_name(0)))
}

fn version(n: u64) -> Version {
    Version { uid: "uid".into(), resource: n.to_string().into() }
}

fn link(n: u32) -> Link {
    let [.., a, b] = n.to_be_bytes();
    Link {
        name: "eth0".into(),
        mac: Mac([2, 0, 0, 0, a, b]),
        prefixes: vec!["10.0.0.0/8".parse().expect("a prefix")],
        carrier: true,
        deaf: false,
    }
}

fn session(n: u32, renewal: u64) -> Session {
    Session {
        node: node_name(n),
        node_uid: format!("uid-{n}").into(),
        open_for: Some(Incarnation(format!("life-{n}").into())),
        renewal,
        duration: Span::secs(12),
        protocol: PROTOCOL,
        links: vec![link(n)],
        leaving: false,
        doubted: false,
        closed: None,
    }
}

/// The speaker of node 0 in a settled cluster: node 1 holds [`ORPHANS`] addresses, the others the rest.
fn settled() -> (Machine, Moment) {
    let now = Moment(1_000);
    let mut machine = Machine::new(node_name(0), "seed".into());
    machine.handle(Input::Links(vec![link(0)]), now);
    machine.handle(Input::Plan(Arc::new(plan(&world(false), &node_name(0)))), now);
    let sessions = (1..NODES).map(|n| (version(1), session(n, 1))).collect();
    let claim = |n: u32| {
        let of = if n < ORPHANS { 1 } else { 2 + n % (NODES - 2) };
        let incarnation = Incarnation(format!("life-{of}").into());
        let holder = Holder { node: node_name(of), incarnation };
        let address = address(n);
        (
            version(1),
            Claim { address, holder, transitions: 0, handing_over_to: None, contested: false },
        )
    };
    let claims = (0..SERVICES).map(claim).collect();
    machine.handle(Input::Leases(LeaseEvent::Listed(sessions, claims)), now);
    for (key, write) in writes(&mut machine) {
        let LeaseWrite::Session(_, own) = write else { continue };
        let stored = WriteOutcome::Stored(Some(version(2)));
        machine.handle(Input::Written(key, stored, Span(5)), now);
        machine.handle(Input::Leases(LeaseEvent::Session(version(2), own)), now);
    }
    writes(&mut machine);
    assert!(machine.is_sure());
    (machine, now)
}

fn writes(machine: &mut Machine) -> Vec<(LeaseKey, LeaseWrite)> {
    std::iter::from_fn(|| machine.poll_output())
        .filter_map(|output| match output {
            Output::Write(key, write) => Some((key, write)),
            _ => None,
        })
        .collect()
}

/// As a speaker takes a plan in: with what it shares with the one in force.
fn replanning() -> Took {
    let stage = || (settled(), plan(&world(false), &node_name(0)));
    measured(stage, |((machine, now), again)| {
        let mut again = std::mem::take(again);
        again.share_with(machine.plan().expect("a settled speaker has one"));
        machine.handle(Input::Plan(Arc::new(again)), *now);
    })
}

fn renewal() -> Took {
    measured(settled, |(machine, now)| {
        let event = LeaseEvent::Session(version(3), session(5, 2));
        machine.handle(Input::Leases(event), *now);
        machine.next_deadline()
    })
}

/// Shows the session of node 1 closed, and lets the first eight turns come: others take the rest. Returns what is taken.
fn close(machine: &mut Machine, now: Moment) -> Vec<(LeaseKey, LeaseWrite)> {
    let closed = Session { open_for: None, ..session(1, 1) };
    machine.handle(Input::Leases(LeaseEvent::Session(version(9), closed)), now);
    machine.handle_deadline(now + Span(1_900));
    writes(machine)
}

fn failover() -> Took {
    let (mut machine, now) = settled();
    let taken = close(&mut machine, now).len();
    assert!((30..200).contains(&taken), "eight turns of a hundred, of 1,000: {taken}");
    measured(settled, |(machine, now)| close(machine, *now).len())
}

/// All peers say in the same moment that a second link of theirs is gone.
fn switch_failure() -> Took {
    let with_two = |n: u32| {
        let mut session = session(n, 2);
        session.links.push(Link { name: "eth1".into(), ..link(n) });
        session
    };
    let stage = || {
        let (mut machine, now) = settled();
        let shown = |n| Input::Leases(LeaseEvent::Session(version(3), with_two(n)));
        machine.handle_all((1..NODES).map(shown), now);
        writes(&mut machine);
        (machine, now)
    };
    measured(stage, |(machine, now)| {
        let lost = |n| {
            let mut session = with_two(n);
            session.links[1].carrier = false;
            Input::Leases(LeaseEvent::Session(version(4), session))
        };
        machine.handle_all((1..NODES).map(lost), *now);
        machine.next_deadline()
    })
}

/// What each of a thousand takings by others costs those who look on.
fn takings() -> Took {
    measured(settled, |(machine, now)| {
        let closed = Session { open_for: None, ..session(1, 1) };
        machine.handle(Input::Leases(LeaseEvent::Session(version(9), closed)), *now);
        for n in 0..ORPHANS {
            let holder = Holder { node: node_name(3), incarnation: Incarnation("life-3".into()) };
            let taken = Claim {
                address: address(n),
                holder,
                transitions: 1,
                handing_over_to: None,
                contested: false,
            };
            machine.handle(Input::Leases(LeaseEvent::Claim(version(9), taken)), *now);
            machine.next_deadline();
        }
    })
}
