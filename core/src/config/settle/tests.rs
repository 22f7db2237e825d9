use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::address::AddressRange;
use crate::label::Labels;

/// 10.0.0.`first` to 10.0.0.`last`.
fn v4(first: u8, last: u8) -> AddressRange {
    let address = |n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n));
    AddressRange::new(address(first), address(last)).expect("in order")
}

/// fd00::`first` to fd00::`last`.
fn v6(first: u8, last: u8) -> AddressRange {
    let address = |n: u8| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()));
    AddressRange::new(address(first), address(last)).expect("in order")
}

fn pool(name: &str, ranges: &[AddressRange]) -> Arc<Pool> {
    Arc::new(Pool {
        name: name.into(),
        labels: BTreeMap::new(),
        ranges: ranges.to_vec(),
        auto_assign: true,
        avoid_buggy: false,
        allocation: None,
    })
}

fn advertisement(name: &str, pools: &[&str]) -> Arc<Advertisement> {
    Arc::new(Advertisement {
        name: name.into(),
        pools: pools.iter().map(|name| PoolName::from(*name)).collect(),
        pool_selectors: vec![],
        node_selectors: vec![],
        service_selectors: vec![],
        interfaces: BTreeSet::new(),
        preferred_nodes: vec![],
    })
}

/// An offer about which its object's status says nothing.
fn offer<T>(created: i64, says: Result<Arc<T>, Vec<Refusal>>) -> Offer<T> {
    Offer { created, labels: Labels::new(), accepted: false, says }
}

/// Pools that can be read: name, when created, ranges.
fn readable(pools: &[(&str, i64, &[AddressRange])]) -> Offers {
    let one = |(name, created, ranges): &(&str, i64, &[AddressRange])| {
        (PoolName::from(*name), offer(*created, Ok(pool(name, ranges))))
    };
    Offers { pools: pools.iter().map(one).collect(), ..Offers::default() }
}

/// The same, and one that cannot be read.
fn and_broken(mut offers: Offers, name: &str) -> Offers {
    offers.pools.insert(name.into(), offer(0, Err(vec![Refusal::NoPrefixes])));
    offers
}

/// `name 10.0.0.1-10.0.0.2 …` for each pool in force.
fn in_force(configuration: &Configuration) -> Vec<String> {
    let line = |pool: &Arc<Pool>| {
        let ranges: Vec<String> = pool.ranges.iter().map(ToString::to_string).collect();
        format!("{} {}", pool.name, ranges.join(" "))
    };
    configuration.pools().values().map(line).collect()
}

fn sentences(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|problem| format!("{}: {problem}", problem.object)).collect()
}

#[test]
fn what_can_be_read_and_overlaps_nothing_is_in_force() {
    let offers = readable(&[("a", 2, &[v4(1, 9), v6(1, 9)]), ("b", 1, &[v4(10, 19)])]);
    let (now, problems) = settle(&Configuration::default(), &offers);
    assert_eq!(in_force(&now), ["a 10.0.0.1-10.0.0.9 fd00::1-fd00::9", "b 10.0.0.10-10.0.0.19"]);
    assert_eq!(sentences(&problems), [""; 0]);
}

#[test]
fn of_two_new_pools_that_overlap_the_older_is_in_force_then_the_first_by_name() {
    for (created, winner) in [((1, 2), "a"), ((2, 1), "b"), ((1, 1), "a")] {
        let offers =
            readable(&[("a", created.0, &[v4(1, 9)]), ("b", created.1, &[v4(20, 29), v4(9, 9)])]);
        let (now, problems) = settle(&Configuration::default(), &offers);
        let names: Vec<&str> = now.pools().keys().map(PoolName::as_str).collect();
        assert_eq!(names, [winner], "created {created:?}");
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].in_force, InForce::Nothing);
        assert_eq!(problems[0].reason(), "Overlap");
        let refused: Vec<(&PoolName, &[AddressRange])> =
            now.refused().iter().map(|(name, pool)| (name, &*pool.ranges)).collect();
        let (loser, ranges) =
            if winner == "a" { ("b", vec![v4(20, 29), v4(9, 9)]) } else { ("a", vec![v4(1, 9)]) };
        assert_eq!(refused, [(&loser.into(), &*ranges)]);
    }
}

#[test]
fn an_edit_that_runs_into_another_pool_yields_even_if_its_object_is_older() {
    let before = readable(&[("old", 1, &[v4(1, 9)]), ("young", 2, &[v4(10, 19)])]);
    let edited = readable(&[("old", 1, &[v4(1, 12)]), ("young", 2, &[v4(10, 19)])]);
    let (before, _) = settle(&Configuration::default(), &before);
    let (now, problems) = settle(&before, &edited);
    assert_eq!(now, before);
    let said = "IPAddressPool old: 10.0.0.1-10.0.0.12 overlaps with already defined CIDR \
                10.0.0.10-10.0.0.19 of pool \"young\". The last good version stays in force.";
    assert_eq!(sentences(&problems), [said]);
    assert!(now.refused().is_empty());
}

/// The same objects once their statuses say which of them are in force as they stand.
fn told(mut offers: Offers, problems: &[Problem]) -> Offers {
    for (name, offer) in &mut offers.pools {
        let object = Object::Pool(name.clone());
        offer.accepted = problems.iter().all(|problem| problem.object != object);
    }
    offers
}

#[test]
fn who_has_just_begun_refuses_the_edit_that_was_refused_and_takes_no_other_pool_out() {
    let before = readable(&[("old", 1, &[v4(1, 9)]), ("young", 2, &[v4(10, 19)])]);
    let edited = readable(&[("old", 1, &[v4(1, 12)]), ("young", 2, &[v4(10, 19)])]);
    let (before, _) = settle(&Configuration::default(), &before);
    let (_, problems) = settle(&before, &edited);
    let edited = told(edited, &problems);
    let (fresh, problems) = settle(&Configuration::default(), &edited);
    assert_eq!(in_force(&fresh), ["young 10.0.0.10-10.0.0.19"]);
    let said = "IPAddressPool old: 10.0.0.1-10.0.0.12 overlaps with already defined CIDR \
                10.0.0.10-10.0.0.19 of pool \"young\". No version of it is in force.";
    assert_eq!(sentences(&problems), [said]);
    // Whoever remembers more goes by that.
    let (now, _) = settle(&before, &edited);
    assert_eq!(now, before);
}

#[test]
fn a_range_may_move_from_one_pool_to_another_in_one_step() {
    let before = readable(&[("a", 1, &[v4(1, 9)]), ("b", 2, &[v4(10, 19)])]);
    let moved = readable(&[("a", 1, &[v4(1, 14)]), ("b", 2, &[v4(15, 19)])]);
    let (before, _) = settle(&Configuration::default(), &before);
    let (now, problems) = settle(&before, &moved);
    assert_eq!(in_force(&now), ["a 10.0.0.1-10.0.0.14", "b 10.0.0.15-10.0.0.19"]);
    assert_eq!(sentences(&problems), [""; 0]);
}

#[test]
fn a_pool_that_goes_back_puts_others_back_but_none_out() {
    // b grows into what a leaves, a grows into what c keeps: a goes back, so b must as well.
    let before =
        readable(&[("a", 1, &[v4(1, 9)]), ("b", 2, &[v4(10, 19)]), ("c", 3, &[v4(20, 29)])]);
    let edited =
        readable(&[("a", 1, &[v4(25, 39)]), ("b", 2, &[v4(5, 19)]), ("c", 3, &[v4(20, 29)])]);
    let (before, _) = settle(&Configuration::default(), &before);
    let (now, problems) = settle(&before, &edited);
    assert_eq!(now, before);
    let objects: Vec<String> = problems.iter().map(|p| p.object.to_string()).collect();
    assert_eq!(objects, ["IPAddressPool a", "IPAddressPool b"]);
}

#[test]
fn a_pool_that_cannot_be_read_keeps_its_last_good_version_and_hides_no_other() {
    let before = readable(&[("a", 1, &[v4(1, 9)]), ("b", 2, &[v4(10, 19)])]);
    let broken = and_broken(readable(&[("b", 2, &[v4(10, 29)])]), "a");
    let (before, _) = settle(&Configuration::default(), &before);
    let (now, problems) = settle(&before, &broken);
    assert_eq!(in_force(&now), ["a 10.0.0.1-10.0.0.9", "b 10.0.0.10-10.0.0.29"]);
    let said =
        "IPAddressPool a: pool has no prefixes defined. The last good version stays in force.";
    assert_eq!(sentences(&problems), [said]);
    assert!(now.refused().is_empty());
}

#[test]
fn a_deleted_pool_is_gone_and_its_addresses_are_free_for_another() {
    let (before, _) = settle(&Configuration::default(), &readable(&[("a", 1, &[v4(1, 9)])]));
    let (now, problems) = settle(&before, &readable(&[("b", 2, &[v4(5, 9)])]));
    assert_eq!(in_force(&now), ["b 10.0.0.5-10.0.0.9"]);
    assert_eq!(sentences(&problems), [""; 0]);
    let (none, _) = settle(&now, &Offers::default());
    assert!(none.pools().is_empty());
    assert!(none.has_seen_a_pool(), "pools that were there and went are known to be gone");
}

#[test]
fn before_the_first_object_nobody_knows_that_there_is_no_pool() {
    assert!(!Configuration::default().has_seen_a_pool());
    let (empty, _) = settle(&Configuration::default(), &Offers::default());
    assert!(!empty.has_seen_a_pool(), "perhaps the wrong namespace");
    let (broken, _) = settle(&empty, &and_broken(Offers::default(), "a"));
    assert!(broken.has_seen_a_pool());
}

#[test]
fn an_address_of_no_pool_in_force_is_of_the_refused_pool_that_its_service_names_or_that_has_it() {
    let overlapping = [("a", 1, &[v4(1, 9)][..]), ("over", 2, &[v4(9, 19)])];
    let offers = and_broken(readable(&overlapping), "broken");
    let (now, problems) = settle(&Configuration::default(), &offers);
    let names: Vec<&str> = now.refused().keys().map(PoolName::as_str).collect();
    assert_eq!(names, ["broken", "over"]);
    assert!(problems.iter().all(|problem| problem.in_force == InForce::Nothing), "{problems:?}");
    let of = |last, recorded: Option<&str>| {
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        let pool = refused_pool_of(now.refused(), address, recorded.map(PoolName::from).as_ref());
        pool.map(PoolName::as_str)
    };
    assert_eq!(of(99, Some("broken")), Some("broken"));
    assert_eq!(of(99, Some("over")), Some("over"), "it may have had it in an earlier version");
    assert_eq!(of(12, Some("broken")), Some("broken"));
    assert_eq!((of(12, Some("a")), of(12, None)), (Some("over"), Some("over")));
    assert_eq!((of(99, Some("a")), of(99, Some("gone")), of(99, None)), (None, None, None));
}

#[test]
fn an_advertisement_keeps_its_last_good_version_and_says_nothing_about_pools() {
    let refusal = Refusal::InvalidWeight { weight: 0, at: 0 };
    let offers = |first: Result<_, Vec<Refusal>>| {
        let mut offers = readable(&[("a", 1, &[v4(1, 9)])]);
        offers.advertisements.insert("first".into(), offer(1, first));
        let second = offer(1, Ok(advertisement("second", &[])));
        offers.advertisements.insert("second".into(), second);
        offers
    };
    let good = offers(Ok(advertisement("first", &["a"])));
    let (before, _) = settle(&Configuration::default(), &good);
    let broken = offers(Err(vec![refusal.clone()]));
    let (now, problems) = settle(&before, &broken);
    assert_eq!(now, before);
    let (object, refusals) = (Object::Advertisement("first".into()), vec![refusal]);
    assert_eq!(problems, [Problem { object, refusals, in_force: InForce::LastGood }]);

    let (fresh, problems) = settle(&Configuration::default(), &broken);
    assert_eq!(fresh.advertisements().len(), 1);
    assert_eq!(problems[0].in_force, InForce::Nothing);
    assert!(fresh.refused().is_empty());
}

#[test]
fn a_problem_tells_some_faults_and_counts_the_rest() {
    let weights = |count| (0..count).map(|at| Refusal::InvalidWeight { weight: 0, at }).collect();
    let sentence = |count| {
        let object = Object::Advertisement("a".into());
        Problem { object, refusals: weights(count), in_force: InForce::Nothing }.to_string()
    };
    assert!(!sentence(5).contains("more"), "{}", sentence(5));
    assert!(sentence(5).contains("preference 4"), "{}", sentence(5));
    assert!(sentence(1024).contains("; and 1019 more. No version"), "{}", sentence(1024));
    assert!(sentence(1024).len() < 1024, "an Event holds it");
}

/// Up to three disjoint ranges out of a small space, so that pools collide often.
fn ranges() -> impl Strategy<Value = Vec<AddressRange>> {
    proptest::collection::vec((0..4_u8, 0..6_u8, any::<bool>()), 1..4).prop_map(|parts| {
        let mut ranges: Vec<AddressRange> = Vec::new();
        for (slot, length, six) in parts {
            let (first, last) = (slot * 10, slot * 10 + length * 3);
            let range = if six { v6(first, last) } else { v4(first, last) };
            if !ranges.iter().any(|other| other.overlaps(&range)) {
                ranges.push(range);
            }
        }
        ranges
    })
}

fn offers() -> impl Strategy<Value = Offers> {
    let object = (0..3_i64, any::<bool>(), proptest::option::weighted(0.9, ranges()));
    proptest::collection::btree_map(0..6_usize, object, 0..6).prop_map(|pools| {
        let one = |(at, (created, accepted, ranges)): (usize, (_, _, Option<Vec<_>>))| {
            let name = ["a", "b", "c", "d", "e", "f"][at];
            let says = ranges.map(|ranges| pool(name, &ranges)).ok_or(vec![Refusal::NoPrefixes]);
            (PoolName::from(name), Offer { accepted, ..offer(created, says) })
        };
        Offers { pools: pools.into_iter().map(one).collect(), ..Offers::default() }
    })
}

fn collide(a: &Pool, b: &Pool) -> bool {
    a.ranges.iter().any(|x| b.ranges.iter().any(|y| x.overlaps(y)))
}

/// What must hold of any step, said without knowing how it is decided.
fn check(before: &Configuration, offers: &Offers, now: &Configuration, problems: &[Problem]) {
    let pools: Vec<_> = now.pools().values().collect();
    for (at, pool) in pools.iter().enumerate() {
        assert!(pools[..at].iter().all(|other| !collide(pool, other)), "{now:?}");
    }
    let names: Vec<_> =
        now.pools().keys().filter(|name| !offers.pools.contains_key(*name)).collect();
    assert!(names.is_empty(), "in force without an object: {names:?}");
    for (name, offer) in &offers.pools {
        let stands = now.pools().get(name);
        let was = before.pools().get(name);
        let as_it_says = stands.is_some() && stands == offer.says.as_ref().ok();
        assert!(as_it_says || stands == was, "{name}: neither what it says nor what it said");
        assert!(was.is_none() || stands.is_some(), "{name} was in force and is not");
        let problem = problems.iter().find(|p| p.object == Object::Pool(name.clone()));
        assert_eq!(problem.is_none(), as_it_says, "{name}: {problem:?}");
        if let Ok(says) = &offer.says
            && !as_it_says
        {
            let in_the_way = |other: &&Arc<Pool>| other.name != *name && collide(says, other);
            assert!(pools.iter().any(in_the_way), "{name} yields to nothing that is in force");
        }
    }
}

proptest! {
    #[test]
    fn no_step_overlaps_or_loses_a_pool_or_refuses_one_without_need(
        steps in proptest::collection::vec(offers(), 1..5)
    ) {
        let mut before = Configuration::default();
        for offers in steps {
            let (now, problems) = settle(&before, &offers);
            check(&before, &offers, &now, &problems);
            prop_assert_eq!(&settle(&now, &offers), &(now.clone(), problems.clone()), "heard twice");
            let told = told(offers, &problems);
            let (fresh, _) = settle(&Configuration::default(), &told);
            for (name, offer) in told.pools.iter().filter(|(_, offer)| offer.accepted) {
                prop_assert_eq!(fresh.pools().get(name), offer.says.as_ref().ok(), "{}", name);
            }
            before = now;
        }
    }

    #[test]
    fn who_remembers_is_told_nothing_new_by_what_it_wrote(
        steps in proptest::collection::vec(offers(), 1..5)
    ) {
        let mut before = Configuration::default();
        for mut offers in steps {
            for (name, offer) in &mut offers.pools {
                offer.accepted = before.pools().get(name) == offer.says.as_ref().ok();
            }
            let (now, problems) = settle(&before, &offers);
            prop_assert_eq!(&settle(&now, &told(offers, &problems)).0, &now);
            before = now;
        }
    }
}
