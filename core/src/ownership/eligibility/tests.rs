use super::*;
use crate::config::{Preference, Refusal, RefusedPool};
use crate::label::{Labels, Requirement, Selector};
use crate::name::{LinkName, PoolName, ServiceId};
use crate::ownership::fixtures::{address, name};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn has(key: &str) -> Selector {
    Selector { requirements: [Requirement::Exists(key.to_owned())].into() }
}

fn node(of: &str, marked: &[(&str, &str)]) -> Node {
    Node {
        name: name(of),
        uid: format!("uid-{of}").into(),
        labels: labels(marked),
        excluded: false,
        network_unavailable: false,
        out_of_service: false,
        ready: true,
    }
}

fn pool(of: &str, first: u8, last: u8) -> Pool {
    Pool {
        name: of.into(),
        labels: labels(&[(of, "")]),
        ranges: vec![AddressRange::new(address(first), address(last)).unwrap()],
        auto_assign: true,
        avoid_buggy: false,
        allocation: None,
    }
}

/// What `pool` bears, of which no version is in force.
fn refused(of: &str, ranges: &[AddressRange]) -> RefusedPool {
    RefusedPool {
        labels: labels(&[(of, "")]),
        refusal: Refusal::NoPrefixes,
        ranges: ranges.to_vec(),
    }
}

fn everything() -> Advertisement {
    Advertisement {
        name: "ad".into(),
        pools: BTreeSet::new(),
        pool_selectors: vec![],
        node_selectors: vec![],
        service_selectors: vec![],
        interfaces: BTreeSet::new(),
        preferred_nodes: vec![],
    }
}

fn id(of: &str) -> ServiceId {
    ServiceId::new("default", of)
}

fn service(of: &str, created: i64, addresses: &[u8]) -> Service {
    Service {
        id: id(of),
        uid: of.into(),
        created,
        labels: labels(&[(of, "")]),
        addresses: addresses.iter().map(|n| address(*n)).collect(),
        recorded_pool: None,
        local: false,
    }
}

/// Nodes `a` and `b`, the pool `p` of addresses 1 to 99, one advertisement of everything, and `services`, each with an
/// endpoint on either node.
fn world(services: Vec<Service>) -> World {
    let both = Arc::new(Endpoints { any: true, nodes: [name("a"), name("b")].into() });
    let nodes = [node("a", &[("rack", "1")]), node("b", &[("fast", "")])];
    World {
        nodes: nodes.into_iter().map(|node| (node.name.clone(), Arc::new(node))).collect(),
        pools: vec![Arc::new(pool("p", 1, 99))],
        former_pools: vec![],
        refused_pools: BTreeMap::new(),
        advertisements: vec![Arc::new(everything())],
        services: services
            .into_iter()
            .map(|service| Served { service: service.into(), endpoints: both.clone() })
            .collect(),
        ignore_exclude_label: false,
    }
}

fn one() -> World {
    world(vec![service("s", 1, &[1])])
}

fn change(world: &mut World, of: &str, how: impl FnOnce(&mut Node)) {
    how(Arc::make_mut(world.nodes.get_mut(&name(of)).unwrap()));
}

fn advertise(world: &mut World, how: impl FnOnce(&mut Advertisement)) {
    how(Arc::make_mut(&mut world.advertisements[0]));
}

/// The candidates of address `n`; checks that what `a` and `b` are told fits.
fn who(world: &World, n: u8) -> Vec<String> {
    let plans = ["a", "b"].map(|me| (name(me), plan(world, &name(me))));
    for (me, plan) in &plans {
        let vip = &plan.vips[&address(n)];
        let listed = vip.candidates.nodes.contains_key(me);
        assert_eq!(vip.unfit.is_none(), listed, "{me} is told {:?}", vip.unfit);
        assert_eq!(vip.candidates, plans[0].1.vips[&address(n)].candidates, "all plan alike");
    }
    plans[0].1.vips[&address(n)].candidates.nodes.keys().map(ToString::to_string).collect()
}

fn why_not(world: &World, me: &str, n: u8) -> Option<Unfit> {
    plan(world, &name(me)).vips[&address(n)].unfit.clone()
}

fn interfaces(world: &World, of: &str) -> Interfaces {
    let plan = plan(world, &name("a"));
    plan.vips[&address(1)].candidates.nodes[&name(of)].interfaces.clone()
}

fn only(names: &[&str]) -> Interfaces {
    Interfaces::Only(names.iter().map(|link| LinkName::from(*link)).collect())
}

#[test]
fn an_unrestricted_advertisement_makes_every_node_a_candidate() {
    let world = one();
    assert_eq!(who(&world, 1), ["a", "b"]);
    let plan = plan(&world, &name("a"));
    assert!(plan.takes_part && plan.node_unfit.is_none());
    assert_eq!(plan.node_uid.as_deref(), Some("uid-a"));
    assert_eq!(interfaces(&world, "a"), Interfaces::Any);
}

#[test]
fn what_is_wrong_with_a_node_keeps_it_out_and_is_told() {
    type Fault = fn(&mut Node);
    let faults: [(Fault, Unfit); 3] = [
        (|node| node.excluded = true, Unfit::Excluded),
        (|node| node.network_unavailable = true, Unfit::NetworkUnavailable),
        (|node| node.out_of_service = true, Unfit::OutOfService),
    ];
    for (fault, unfit) in faults {
        let mut world = one();
        change(&mut world, "a", fault);
        assert_eq!(who(&world, 1), ["b"]);
        assert_eq!(why_not(&world, "a", 1), Some(unfit.clone()));
        let plan = plan(&world, &name("a"));
        assert_eq!(plan.node_unfit, Some(unfit));
        assert!(plan.takes_part, "it still has claims to hand over");
    }
}

#[test]
fn the_exclude_label_may_be_ignored_and_nothing_else() {
    let mut world = one();
    world.ignore_exclude_label = true;
    change(&mut world, "a", |node| node.excluded = true);
    assert_eq!(who(&world, 1), ["a", "b"]);
    change(&mut world, "a", |node| node.out_of_service = true);
    assert_eq!(why_not(&world, "a", 1), Some(Unfit::OutOfService));
}

#[test]
fn a_node_that_does_not_exist_takes_no_part() {
    let mut world = one();
    world.nodes.remove(&name("a"));
    let plan = plan(&world, &name("a"));
    assert_eq!((plan.takes_part, plan.node_uid), (false, None));
    assert_eq!(plan.node_unfit, Some(Unfit::UnknownNode));
    assert_eq!(why_not(&world, "a", 1), Some(Unfit::UnknownNode));
}

#[test]
fn a_node_that_is_not_ready_is_a_candidate_for_which_no_cold_start_waits() {
    let mut world = one();
    change(&mut world, "a", |node| node.ready = false);
    let plan = plan(&world, &name("a"));
    let nodes = &plan.vips[&address(1)].candidates.nodes;
    assert_eq!((nodes[&name("a")].ready, nodes[&name("b")].ready), (false, true));
}

#[test]
fn pools_are_selected_by_name_by_label_or_all() {
    let cases: [(&[&str], &[&str], bool); 6] = [
        (&[], &[], true),
        (&["p"], &[], true),
        (&["q"], &[], false),
        (&[], &["p"], true),
        (&[], &["q"], false),
        (&["q"], &["p"], true),
    ];
    for (names, selectors, selected) in cases {
        let mut world = one();
        advertise(&mut world, |ad| {
            ad.pools = names.iter().map(|of| PoolName::from(*of)).collect();
            ad.pool_selectors = selectors.iter().map(|key| has(key)).collect();
        });
        let unfit = (!selected).then(|| Unfit::NoAdvertisement("p".into()));
        assert_eq!(why_not(&world, "a", 1), unfit, "{names:?} {selectors:?}");
        assert_eq!(who(&world, 1).len(), if selected { 2 } else { 0 });
    }
}

#[test]
fn an_address_outside_every_pool_has_no_candidate() {
    for outside in [0, 100] {
        let world = world(vec![service("s", 1, &[outside])]);
        assert_eq!(why_not(&world, "a", outside), Some(Unfit::NotInAnyPool));
        assert_eq!(who(&world, outside), [""; 0]);
    }
}

#[test]
fn a_service_is_believed_about_a_broken_pool_and_about_no_other() {
    let recorded = |pool: &str, n: u8| {
        let mut world =
            world(vec![Service { recorded_pool: Some(pool.into()), ..service("s", 1, &[n]) }]);
        world.refused_pools.insert("broken".into(), refused("broken", &[]));
        world
    };
    assert_eq!(who(&recorded("broken", 100), 100), ["a", "b"]);
    assert_eq!(why_not(&recorded("gone", 100), "a", 100), Some(Unfit::NotInAnyPool));
    let mut selected = recorded("broken", 100);
    advertise(&mut selected, |ad| ad.pool_selectors = vec![has("p")]);
    let unfit = Unfit::NoAdvertisement("broken".into());
    assert_eq!(why_not(&selected, "a", 100), Some(unfit));
    // What a pool in force holds is that pool's, whatever the Service says.
    advertise(&mut selected, |ad| ad.pool_selectors = vec![has("broken")]);
    let mut held = recorded("broken", 1);
    advertise(&mut held, |ad| ad.pool_selectors = vec![has("broken")]);
    assert_eq!(why_not(&held, "a", 1), Some(Unfit::NoAdvertisement("p".into())));
    assert_eq!(why_not(&selected, "a", 100), None);
}

#[test]
fn what_a_refused_pool_is_known_to_hold_is_answered_by_it_whatever_the_service_says() {
    let mut world =
        world(vec![Service { recorded_pool: Some("gone".into()), ..service("s", 1, &[100]) }]);
    let ranges = pool("overlapping", 90, 100).ranges;
    world.refused_pools.insert("overlapping".into(), refused("overlapping", &ranges));
    advertise(&mut world, |ad| ad.pool_selectors = vec![has("overlapping")]);
    assert_eq!(who(&world, 100), ["a", "b"]);
}

#[test]
fn an_address_belongs_to_the_pool_whose_range_holds_it() {
    let mut world = world(vec![service("s", 1, &[10]), service("t", 1, &[11])]);
    world.pools = vec![Arc::new(pool("p", 1, 10)), Arc::new(pool("q", 11, 20))];
    advertise(&mut world, |ad| ad.pools = ["q".into()].into());
    assert_eq!(why_not(&world, "a", 10), Some(Unfit::NoAdvertisement("p".into())));
    assert_eq!(why_not(&world, "a", 11), None);
}

#[test]
fn services_and_nodes_are_selected_by_label() {
    let mut world = one();
    advertise(&mut world, |ad| ad.service_selectors = vec![has("other")]);
    assert_eq!(why_not(&world, "a", 1), Some(Unfit::ServiceNotSelected("p".into())));
    advertise(&mut world, |ad| {
        ad.service_selectors = vec![has("other"), has("s")];
        ad.node_selectors = vec![has("nowhere"), has("fast")];
    });
    assert_eq!(who(&world, 1), ["b"]);
    assert_eq!(why_not(&world, "a", 1), Some(Unfit::NodeNotSelected("p".into())));
    assert!(!plan(&world, &name("a")).takes_part);
    assert!(plan(&world, &name("b")).takes_part);
}

#[test]
fn several_advertisements_unite_their_interfaces_and_add_their_preferences() {
    let mut world = one();
    let weigh = |weight| Preference { weight, selector: has("fast") };
    let on = |link: &str, weight| Advertisement {
        interfaces: [LinkName::from(link)].into(),
        preferred_nodes: vec![weigh(weight)],
        ..everything()
    };
    world.advertisements = vec![Arc::new(on("eth0", 10)), Arc::new(on("eth1", 5))];
    assert_eq!(interfaces(&world, "a"), only(&["eth0", "eth1"]));
    let nodes = plan(&world, &name("a")).vips[&address(1)].candidates.clone();
    assert!(nodes.scored);
    assert_eq!((nodes.nodes[&name("a")].score, nodes.nodes[&name("b")].score), (0, 15));
    world.advertisements.push(Arc::new(everything()));
    assert_eq!(interfaces(&world, "a"), Interfaces::Any);
}

#[test]
fn an_advertisement_lends_its_interfaces_only_to_nodes_it_selects() {
    let mut world = one();
    advertise(&mut world, |ad| ad.interfaces = [LinkName::from("eth0")].into());
    let fast = Advertisement {
        node_selectors: vec![has("fast")],
        interfaces: [LinkName::from("eth1")].into(),
        ..everything()
    };
    world.advertisements.push(Arc::new(fast));
    assert_eq!(interfaces(&world, "a"), only(&["eth0"]));
    assert_eq!(interfaces(&world, "b"), only(&["eth0", "eth1"]));
}

#[test]
fn without_an_endpoint_nobody_answers_and_with_local_only_its_hosts() {
    let mut world = one();
    let endpoints = |any, nodes: &[&str]| {
        Arc::new(Endpoints { any, nodes: nodes.iter().map(|node| name(node)).collect() })
    };
    world.services[0].endpoints = endpoints(false, &[]);
    assert_eq!(why_not(&world, "a", 1), Some(Unfit::NoEndpoint));
    assert_eq!(who(&world, 1), [""; 0]);
    world.services[0].endpoints = endpoints(true, &["b"]);
    assert_eq!(who(&world, 1), ["a", "b"], "Cluster asks for no local one");
    Arc::make_mut(&mut world.services[0].service).local = true;
    assert_eq!(who(&world, 1), ["b"]);
    assert_eq!(why_not(&world, "a", 1), Some(Unfit::NoLocalEndpoint));
    world.services[0].endpoints = endpoints(true, &["elsewhere"]);
    assert_eq!(who(&world, 1), [""; 0]);
}

#[test]
fn services_with_the_same_hosts_differ_by_what_selects_them() {
    let mut world = world(vec![service("s", 1, &[1]), service("t", 2, &[2])]);
    world.services.iter_mut().for_each(|of| Arc::make_mut(&mut of.service).local = true);
    advertise(&mut world, |ad| ad.node_selectors = vec![has("rack")]);
    let of_t = Advertisement { service_selectors: vec![has("t")], ..everything() };
    world.advertisements.push(Arc::new(of_t));
    assert_eq!(who(&world, 1), ["a"]);
    assert_eq!(who(&world, 2), ["a", "b"]);
}

/// Two Services with one address and policy Local; `old` has endpoints on `olds`, `new` on `news`.
fn sharing(olds: &[&str], news: &[&str]) -> World {
    let mut world = world(vec![service("new", 2, &[1]), service("old", 1, &[1])]);
    for (of, hosts) in world.services.iter_mut().zip([news, olds]) {
        let nodes: BTreeSet<NodeName> = hosts.iter().map(|node| name(node)).collect();
        of.endpoints = Arc::new(Endpoints { any: !nodes.is_empty(), nodes });
        Arc::make_mut(&mut of.service).local = true;
    }
    world
}

#[test]
fn a_shared_address_needs_a_node_that_suits_all_or_else_the_oldest() {
    assert_eq!(who(&sharing(&["a", "b"], &["b"]), 1), ["b"]);
    assert_eq!(who(&sharing(&["a"], &["b"]), 1), ["a"], "none suits both: the oldest decides");
    assert_eq!(who(&sharing(&[], &["b"]), 1), ["b"], "one without endpoints has no say");
    assert_eq!(who(&sharing(&[], &[]), 1), [""; 0]);
    let world = sharing(&["a", "b"], &["b"]);
    assert_eq!(why_not(&world, "a", 1), Some(Unfit::NotForAllSharing));
    let vip = &plan(&world, &name("a")).vips[&address(1)];
    assert_eq!(vip.services, [id("old"), id("new")]);
}

#[test]
fn a_shared_address_is_answered_where_all_advertisements_allow_or_as_the_oldest_may() {
    let mut world = world(vec![service("old", 1, &[1]), service("new", 2, &[1])]);
    let on = |service: &str, links: &[&str]| Advertisement {
        service_selectors: vec![has(service)],
        interfaces: links.iter().map(|link| LinkName::from(*link)).collect(),
        ..everything()
    };
    world.advertisements =
        vec![Arc::new(on("old", &["eth0", "eth1"])), Arc::new(on("new", &["eth1", "eth2"]))];
    assert_eq!(interfaces(&world, "a"), only(&["eth1"]));
    world.advertisements[1] = Arc::new(on("new", &["eth2"]));
    assert_eq!(who(&world, 1), ["a", "b"]);
    assert_eq!(interfaces(&world, "a"), only(&["eth0", "eth1"]), "no interface suits both");
}

#[test]
fn the_order_hashes_the_first_address_of_the_oldest_service_for_all_of_them() {
    let world = world(vec![service("old", 1, &[7, 8]), service("new", 2, &[8])]);
    let plan = plan(&world, &name("a"));
    assert_eq!(
        (plan.vips[&address(7)].first, plan.vips[&address(8)].first),
        (address(7), address(7))
    );
    assert_eq!(*plan.vips[&address(8)].siblings, [address(7)]);
}

#[test]
fn an_address_that_a_service_bears_twice_counts_once() {
    let world = world(vec![service("s", 1, &[1, 1])]);
    let plan = plan(&world, &name("a"));
    assert_eq!(plan.vips[&address(1)].services, [id("s")]);
    assert!(plan.vips[&address(1)].siblings.is_empty());
}

#[test]
fn addresses_of_the_same_kind_share_their_candidates() {
    let world = world((1..=50).map(|n| service(&format!("s{n}"), 1, &[n])).collect());
    let plan = plan(&world, &name("a"));
    let first = &plan.vips[&address(1)].candidates;
    assert!(plan.vips.values().all(|vip| Arc::ptr_eq(&vip.candidates, first)));
}

#[test]
fn a_former_pool_counts_where_no_pool_in_force_holds_the_address() {
    let mut world = world(vec![service("s", 1, &[1]), service("t", 2, &[50])]);
    world.pools = vec![Arc::new(pool("q", 50, 99))];
    world.former_pools = vec![Arc::new(pool("p", 1, 99))];
    // The refused one comes after both in the list of pools.
    world.refused_pools.insert("broken".into(), refused("broken", &[]));
    let by = |of: &str, to: &str| Advertisement {
        name: of.into(),
        pools: [PoolName::from(of)].into(),
        interfaces: [LinkName::from(to)].into(),
        ..everything()
    };
    world.advertisements = vec![Arc::new(by("p", "lan0")), Arc::new(by("q", "lan1"))];
    let plan = plan(&world, &name("a"));
    let on = |n: u8| plan.vips[&address(n)].candidates.nodes[&name("a")].interfaces.clone();
    assert_eq!(on(1), Interfaces::Only([LinkName::from("lan0")].into()));
    assert_eq!(on(50), Interfaces::Only([LinkName::from("lan1")].into()));
}
