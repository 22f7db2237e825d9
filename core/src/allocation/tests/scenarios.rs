//! One case per sentence. A Service is a line of words; the older come first; what follows `=>` is its verdict.

use super::*;
use crate::port::{Port, Protocol};

/// `name range,range word…`; words: `manual`, `avoid`, `priority=1`, `namespace=n`, `team=t` (namespaces by label),
/// `app=a` (Services by label).
fn parse_pool(text: &str) -> Arc<Pool> {
    let mut words = text.split_whitespace();
    let (name, ranges) = (words.next().unwrap(), words.next().unwrap());
    let mut made = pool(name, &ranges.split(',').collect::<Vec<_>>());
    for word in words {
        if word == "manual" {
            made.auto_assign = false;
            continue;
        }
        if word == "avoid" {
            made.avoid_buggy = true;
            continue;
        }
        let pinned = made.allocation.get_or_insert_with(ServiceAllocation::default);
        match word.split_once('=').unwrap() {
            ("priority", number) => pinned.priority = number.parse().unwrap(),
            ("namespace", name) => drop(pinned.namespaces.insert(name.to_owned())),
            ("team", team) => pinned.namespace_selectors.push(label_is("team", team)),
            ("app", app) => pinned.service_selectors.push(label_is("app", app)),
            other => panic!("{other:?}"),
        }
    }
    Arc::new(made)
}

/// `name word…`; words: `v4` (default), `v6`, `require`, `prefer4`, `prefer6`, `holds=a,b`, `wrote=a,b` (not echoed),
/// `of=p` (recorded), `pool=p`, `asks=a,b`, `share=key`, `local=selector`, `port=n`, `app=a`, `headless`, `contradicts`,
/// `changed` (its terms of sharing).
fn parse_demand(text: &str, created_s: i64) -> (Demand, Option<Unechoed>) {
    let mut words = text.split_whitespace();
    let mut made = demand(words.next().unwrap(), created_s);
    let (mut wants, mut unechoed) = (Wants::default(), None);
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("v4", _) => made.families = Ok(Families::Single(Family::V4)),
            ("v6", _) => made.families = Ok(Families::Single(Family::V6)),
            ("require", _) => made.families = Ok(Families::RequireDual),
            ("prefer4", _) => made.families = Ok(Families::PreferDual { primary: Family::V4 }),
            ("prefer6", _) => made.families = Ok(Families::PreferDual { primary: Family::V6 }),
            ("holds", list) => made.held = addresses(list),
            ("wrote", list) => {
                unechoed = Some(Unechoed { addresses: addresses(list), landed: false });
            }
            ("pool", name) => wants.pool = Some(name.into()),
            ("of", name) => made.recorded_pool = Some(name.into()),
            ("asks", list) => wants.addresses = addresses(list),
            ("share", key) => made.sharing = Some(Sharing { key: key.into(), backend: "".into() }),
            ("local", selector) => made.sharing.as_mut().unwrap().backend = selector.into(),
            ("port", number) => {
                let number = number.parse().unwrap();
                made.ports = BTreeSet::from([Port { protocol: Protocol::Tcp, number }]);
            }
            ("app", app) => drop(made.labels.insert("app".to_owned(), app.to_owned())),
            ("changed", _) => made.changed = true,
            ("headless", _) => made.families = Err(Why::NoClusterIp),
            ("contradicts", _) => {
                made.wants = Err(Why::RequestedTwice { annotation: "a".to_owned() });
            }
            other => panic!("{other:?}"),
        }
    }
    if made.wants.is_ok() {
        made.wants = Ok(wants);
    }
    (made, unechoed)
}

/// `pool address,address` or `nothing` or `untouched`, then `lost=Reason` and `lacks=Reason` where there is one.
fn render(verdict: &Verdict) -> String {
    let mut text = match &verdict.outcome {
        Outcome::Granted(grant) => {
            let list: Vec<_> = grant.addresses.iter().map(ToString::to_string).collect();
            format!("{} {}", grant.pool, list.join(","))
        }
        Outcome::Untouched => "untouched".to_owned(),
        Outcome::Nothing => "nothing".to_owned(),
    };
    for (word, why) in [("lost", &verdict.lost), ("lacks", &verdict.lacks)] {
        if let Some(why) = why {
            text += &format!(" {word}={}", why.reason());
        }
    }
    text
}

pub(super) fn world(stray: Stray, pools: &[&str], services: &[&str]) -> Owned {
    let mut owned = Owned {
        pools: pools.iter().copied().map(parse_pool).collect(),
        refused: BTreeMap::new(),
        stray,
        namespaces: Namespaces::from([
            ("default".into(), Labels::new()),
            ("blue".into(), Labels::from([("team".to_owned(), "blue".to_owned())])),
        ]),
        demands: Vec::new(),
        unechoed: BTreeMap::new(),
    };
    for (created_s, text) in (0_i64..).zip(services) {
        let (demand, unechoed) = parse_demand(text, created_s);
        owned.unechoed.extend(unechoed.map(|written| (demand.id.clone(), written)));
        owned.demands.push(demand);
    }
    owned
}

fn expect(stray: Stray, pools: &[&str], services: &[(&str, &str)]) {
    let lines: Vec<&str> = services.iter().map(|(service, _)| *service).collect();
    let plan = world(stray, pools, &lines).plan();
    let found: Vec<String> = plan.verdicts.iter().map(render).collect();
    let expected: Vec<&str> = services.iter().map(|(_, verdict)| *verdict).collect();
    assert_eq!(found, expected, "pools {pools:?}, services {lines:?}");
}

macro_rules! scenarios {
    ($($name:ident $stray:ident [$($pool:literal),*] { $($service:literal => $verdict:literal)* })*) => {
        $(#[test]
        fn $name() {
            expect(Stray::$stray, &[$($pool),*], &[$(($service, $verdict)),*]);
        })*
    };
}

scenarios! {
    the_lowest_free_address_goes_to_the_oldest_and_pools_come_by_name Clear
    ["b 10.0.1.0-10.0.1.9", "a 10.0.0.1-10.0.0.2"] {
        "s1" => "a 10.0.0.1"
        "s2" => "a 10.0.0.2"
        "s3" => "b 10.0.1.0"
    }
    ranges_are_used_in_the_order_in_which_the_pool_lists_them Clear
    ["a 10.0.9.9,10.0.0.1-10.0.0.2"] {
        "s1" => "a 10.0.9.9"
        "s2" => "a 10.0.0.1"
    }
    what_is_held_is_kept_before_anything_is_given Clear
    ["a 10.0.0.1-10.0.0.3"] {
        "s1" => "a 10.0.0.2"
        "s2 holds=10.0.0.1" => "a 10.0.0.1"
        "s3 holds=10.0.0.3" => "a 10.0.0.3"
    }
    of_two_that_hold_one_address_the_older_keeps_it Clear
    ["a 10.0.0.1-10.0.0.3"] {
        "s1 holds=10.0.0.1" => "a 10.0.0.1"
        "s2 holds=10.0.0.1" => "a 10.0.0.2 lost=AddressInUse"
    }
    a_pool_that_gives_on_request_only_serves_requests_and_those_it_served Clear
    ["a 10.0.0.1-10.0.0.9 manual"] {
        "s1" => "nothing lacks=NoneAvailable"
        "s2 pool=a" => "a 10.0.0.1"
        "s3 asks=10.0.0.5" => "a 10.0.0.5"
        "s4 holds=10.0.0.7" => "a 10.0.0.7"
    }
    addresses_that_end_in_0_or_255_are_avoided_and_taken_back Clear
    ["a 10.0.0.254-10.0.1.1 avoid"] {
        "s1" => "a 10.0.0.254"
        "s2 holds=10.0.1.0" => "a 10.0.1.1 lost=AddressAvoided"
        "s3 asks=10.0.0.255" => "nothing lacks=AddressAvoided"
    }
    an_exact_request_comes_before_those_who_take_what_comes Clear
    ["a 10.0.0.1-10.0.0.9"] {
        "s1" => "a 10.0.0.2"
        "s2 asks=10.0.0.1" => "a 10.0.0.1"
    }
    a_changed_request_moves_the_service_and_leaves_its_old_address_alone_for_one_plan Clear
    ["a 10.0.0.1-10.0.0.2"] {
        "s1 holds=10.0.0.1 asks=10.0.0.2" => "a 10.0.0.2 lost=OtherAddressesRequested"
        "s2" => "nothing lacks=NoneAvailable"
    }
    two_that_ask_for_each_others_address_first_both_let_go Clear
    ["a 10.0.0.1-10.0.0.2"] {
        "s1 holds=10.0.0.1 asks=10.0.0.2" => "nothing lost=OtherAddressesRequested lacks=AddressInUse"
        "s2 holds=10.0.0.2 asks=10.0.0.1" => "nothing lost=OtherAddressesRequested lacks=AddressInUse"
    }
    an_address_that_was_written_and_not_yet_shown_is_taken Clear
    ["a 10.0.0.1-10.0.0.4"] {
        "s1 wrote=10.0.0.1" => "a 10.0.0.1"
        "s2 holds=10.0.0.3 wrote=10.0.0.2" => "a 10.0.0.2"
        "s3" => "a 10.0.0.4"
    }
    requests_that_cannot_be_met_say_what_is_wrong Clear
    ["a 10.0.0.1-10.0.0.9,fd00::1-fd00::9", "b 10.0.1.1-10.0.1.9 namespace=blue"] {
        "s1 asks=10.9.9.9" => "nothing lacks=AddressNotInPools"
        "s2 asks=fd00::1" => "nothing lacks=FamilyMismatch"
        "s3 require asks=10.0.0.1" => "nothing lacks=FamilyMismatch"
        "s4 pool=c" => "nothing lacks=UnknownPool"
        "s5 pool=a asks=10.0.1.1" => "nothing lacks=AddressesNotInRequestedPool"
        "s6 pool=b" => "nothing lacks=PoolNotForService"
        "s7 asks=10.0.1.1" => "nothing lacks=PoolNotForService"
        "s8 pool=c asks=10.0.0.1" => "nothing lacks=UnknownPool"
        "s9 holds=10.0.0.1" => "a 10.0.0.1"
        "s10 asks=10.0.0.1" => "nothing lacks=AddressInUse"
        "s11 require asks=fd00::3,10.0.0.3" => "a 10.0.0.3,fd00::3"
    }
    a_request_that_contradicts_itself_changes_nothing Clear
    ["a 10.0.0.1-10.0.0.9"] {
        "s1 holds=10.0.0.5 contradicts" => "a 10.0.0.5 lacks=RequestedTwice"
        "s2 contradicts" => "nothing lacks=RequestedTwice"
        "s3 holds=10.9.9.9 contradicts" => "nothing lost=AddressNotInPools lacks=RequestedTwice"
    }
    without_a_cluster_ip_there_is_no_address Clear
    ["a 10.0.0.1-10.0.0.9"] {
        "s1 holds=10.0.0.5 headless" => "nothing lost=NoClusterIP lacks=NoClusterIP"
    }
    both_families_come_from_one_pool_v4_first Clear
    ["a 10.0.0.1-10.0.0.2", "b fd00::1-fd00::2", "c 10.0.2.1,fd00::a"] {
        "s1 require" => "c 10.0.2.1,fd00::a"
        "s2 require" => "nothing lacks=NoneAvailable"
        "s3 prefer6" => "b fd00::1 lacks=PoolLacksFamily"
        "s4 prefer4" => "a 10.0.0.1 lacks=PoolLacksFamily"
        "s5 v6" => "b fd00::2"
    }
    the_missing_family_is_added_behind_from_the_same_pool Clear
    ["a 10.0.0.1-10.0.0.2,fd00::1", "b 10.0.1.1,fd00::b"] {
        "s1 prefer4 holds=fd00::b" => "b fd00::b,10.0.1.1"
        "s2 require holds=10.0.0.2" => "a 10.0.0.2,fd00::1"
        "s3 prefer4 holds=10.0.0.1" => "a 10.0.0.1 lacks=PoolExhausted"
    }
    the_order_of_a_status_is_left_as_it_is Clear
    ["a 10.0.0.1-10.0.0.2,fd00::1"] {
        "s1 require holds=fd00::1,10.0.0.2" => "a fd00::1,10.0.0.2"
    }
    who_needs_both_and_cannot_complete_moves_to_a_pool_with_both Clear
    ["a 10.0.0.1-10.0.0.2", "b 10.0.1.1,fd00::b"] {
        "s1 require holds=10.0.0.1" => "b 10.0.1.1,fd00::b lost=FamiliesChanged"
    }
    who_prefers_both_and_lost_one_moves_to_a_pool_with_both_if_there_is_one Clear
    ["a fd00::1-fd00::2", "b 10.0.1.1,fd00::b", "c 10.0.2.1-10.0.2.9"] {
        "s1 prefer4 holds=10.0.0.1,fd00::2" => "b 10.0.1.1,fd00::b lost=AddressNotInPools"
        "s2 prefer4 holds=fd00::1,10.0.0.2" => "a fd00::1 lost=AddressNotInPools lacks=PoolLacksFamily"
    }
    who_prefers_both_and_never_had_them_stays_where_it_is Clear
    ["a fd00::1", "b 10.0.1.1,fd00::b"] {
        "s1 prefer4 holds=fd00::1" => "a fd00::1 lacks=PoolLacksFamily"
    }
    who_becomes_single_stack_keeps_the_address_of_its_family Clear
    ["a 10.0.0.1-10.0.0.9,fd00::1"] {
        "s1 holds=fd00::1,10.0.0.7" => "a 10.0.0.7 lost=FamiliesChanged"
    }
    who_needs_both_and_finds_them_nowhere_has_none Clear
    ["a 10.0.0.1-10.0.0.9,fd00::1"] {
        "s1 v6 holds=fd00::1" => "a fd00::1"
        "s2 require holds=10.0.0.5" => "nothing lost=FamiliesChanged lacks=NoneAvailable"
    }
    a_pool_that_is_renamed_split_or_merged_moves_nobody Clear
    ["left 10.0.0.1-10.0.0.4", "right 10.0.0.5-10.0.0.9"] {
        "s1 holds=10.0.0.4" => "left 10.0.0.4"
        "s2 holds=10.0.0.5" => "right 10.0.0.5"
        "s3 holds=10.0.0.77" => "left 10.0.0.1 lost=AddressNotInPools"
    }
    with_every_pool_gone_every_address_goes Clear
    [] {
        "s1 holds=10.0.0.4" => "nothing lost=AddressNotInPools lacks=NoPools"
        "s2" => "nothing lacks=NoPools"
    }
    while_a_pool_may_be_missing_nothing_is_taken_for_lack_of_it Keep
    ["a 10.0.0.1-10.0.0.2"] {
        "s1 holds=10.0.9.9" => "untouched lacks=PoolsNotKnown"
        "s2 holds=10.0.0.1 pool=b" => "untouched lacks=PoolsNotKnown"
        "s3 require holds=10.0.9.8" => "untouched lacks=PoolsNotKnown"
        "s4" => "a 10.0.0.2"
        "s5 pool=b" => "nothing lacks=UnknownPool"
        "s6 holds=10.0.0.1" => "nothing lost=AddressInUse lacks=NoneAvailable"
    }
    nobody_is_put_beside_partners_where_an_untouched_one_shows_their_address Keep
    ["a 10.0.0.1-10.0.0.2"] {
        "s1 share=k holds=10.0.0.1" => "a 10.0.0.1"
        "s2 holds=10.0.0.1,10.9.9.9" => "untouched lacks=PoolsNotKnown"
        "s3 share=k port=81" => "a 10.0.0.2"
    }
    a_pinned_pool_serves_whom_it_is_for_and_nobody_else Clear
    ["a 10.0.0.1-10.0.0.9 namespace=red app=web", "b 10.0.1.1-10.0.1.9 team=blue", "c 10.0.2.1"] {
        "red/s1 app=web" => "a 10.0.0.1"
        "red/s2" => "c 10.0.2.1"
        "blue/s3" => "b 10.0.1.1"
        "red/s4 pool=b" => "nothing lacks=PoolNotForService"
        "red/s5 app=api holds=10.0.0.5" => "nothing lost=PoolNotForService lacks=NoneAvailable"
        "blue/s6 asks=10.0.0.1" => "nothing lacks=PoolNotForService"
    }
    a_namespace_selector_that_selects_none_admits_none Clear
    ["a 10.0.0.1-10.0.0.9 team=green"] {
        "red/s1 pool=a" => "nothing lacks=PoolNotForService"
        "blue/s2" => "nothing lacks=NoneAvailable"
    }
    pinned_pools_come_by_priority_with_0_last_and_before_the_others Clear
    ["a 10.0.0.1", "b 10.0.1.1 namespace=red", "c 10.0.2.1 priority=2", "d 10.0.3.1 priority=1"] {
        "red/s1" => "d 10.0.3.1"
        "red/s2" => "c 10.0.2.1"
        "red/s3" => "b 10.0.1.1"
        "red/s4" => "a 10.0.0.1"
    }
    who_prefers_two_families_exhausts_the_pinned_pools_before_the_others Clear
    ["a 10.0.0.1,fd00::a", "b 10.0.1.1-10.0.1.2 namespace=red", "c fd00::c namespace=red"] {
        "red/s1 prefer4" => "b 10.0.1.1 lacks=PoolLacksFamily"
        "red/s2 prefer6" => "c fd00::c lacks=PoolLacksFamily"
        "red/s3 prefer6" => "b 10.0.1.2 lacks=PoolLacksFamily"
        "red/s4 prefer6" => "a 10.0.0.1,fd00::a"
    }
    who_needs_both_finds_its_partners_where_they_have_both Clear
    ["a 10.0.0.1,fd00::a", "b 10.0.1.1,fd00::b", "c 10.0.2.1,fd00::c"] {
        "s1 share=k holds=10.0.0.1" => "a 10.0.0.1"
        "s2 v6 holds=fd00::a" => "a fd00::a"
        "s3 share=k require holds=10.0.2.1,fd00::c port=81" => "c 10.0.2.1,fd00::c"
        "s4 share=k require port=82" => "c 10.0.2.1,fd00::c"
        "s5 share=k require port=82" => "b 10.0.1.1,fd00::b"
        "s6 share=k port=82" => "a 10.0.0.1"
    }
    partners_come_before_pinned_pools_and_before_the_second_of_two_families Clear
    ["a 10.0.0.1,fd00::a", "b 10.0.1.1", "c 10.0.2.1 namespace=red"] {
        "s1 share=k holds=10.0.1.1" => "b 10.0.1.1"
        "red/s2 share=k port=81" => "b 10.0.1.1"
        "s3 share=k prefer4 port=82" => "b 10.0.1.1 lacks=PoolLacksFamily"
    }
    those_who_share_a_key_are_put_together_while_their_ports_differ Clear
    ["a 10.0.0.1-10.0.0.9"] {
        "s1 holds=10.0.0.5 share=k" => "a 10.0.0.5"
        "s2 share=k port=81" => "a 10.0.0.5"
        "s3 share=k port=81" => "a 10.0.0.1"
        "s4 share=other port=82" => "a 10.0.0.2"
        "s5 port=83" => "a 10.0.0.3"
        "s6 share=k port=82" => "a 10.0.0.5"
    }
    local_services_share_only_with_the_same_endpoints Clear
    ["a 10.0.0.1-10.0.0.9"] {
        "s1 share=k local=app=web" => "a 10.0.0.1"
        "s2 share=k port=81" => "a 10.0.0.2"
        "s3 share=k local=app=web port=81" => "a 10.0.0.1"
        "s4 share=k local=app=api port=82" => "a 10.0.0.3"
    }
    who_asks_for_a_shared_address_gets_it_or_the_reason Clear
    ["a 10.0.0.1-10.0.0.9"] {
        "s1 share=k asks=10.0.0.5" => "a 10.0.0.5"
        "s2 share=k port=81 asks=10.0.0.5" => "a 10.0.0.5"
        "s3 share=k asks=10.0.0.5" => "nothing lacks=PortInUse"
        "s4 port=99 asks=10.0.0.5" => "nothing lacks=AddressInUse"
    }
    who_changes_its_terms_leaves_though_it_is_the_older Clear
    ["a 10.0.0.5"] {
        "s1 share=k local=app=new holds=10.0.0.5 changed" => "nothing lost=AddressInUse lacks=NoneAvailable"
        "s2 share=k local=app=web port=81 holds=10.0.0.5" => "a 10.0.0.5"
        "s3 share=k local=app=web port=82 holds=10.0.0.5" => "a 10.0.0.5"
    }
    who_takes_a_port_of_another_that_shares_leaves Clear
    ["a 10.0.0.5-10.0.0.6"] {
        "s1 share=k port=81 holds=10.0.0.5 changed" => "a 10.0.0.6 lost=PortInUse"
        "s2 share=k port=81 holds=10.0.0.5" => "a 10.0.0.5"
    }
    who_shares_no_more_leaves_those_who_do Clear
    ["a 10.0.0.5-10.0.0.6"] {
        "s1 holds=10.0.0.5 changed" => "a 10.0.0.6 lost=AddressInUse"
        "s2 share=k port=81 holds=10.0.0.5" => "a 10.0.0.5"
    }
    whose_change_clashes_with_nobody_stays Clear
    ["a 10.0.0.5-10.0.0.6"] {
        "s1 share=k local=app=web holds=10.0.0.5 changed" => "a 10.0.0.5"
        "s2 share=k local=app=web port=81 holds=10.0.0.5 changed" => "a 10.0.0.5"
        "s3 share=j port=82 holds=10.0.0.6 changed" => "a 10.0.0.6"
    }
    of_two_that_changed_the_older_stays Clear
    ["a 10.0.0.5"] {
        "s1 share=j holds=10.0.0.5 changed" => "a 10.0.0.5"
        "s2 share=l port=81 holds=10.0.0.5 changed" => "nothing lost=AddressInUse lacks=NoneAvailable"
    }
    who_begins_to_clash_with_an_older_one_leaves_it Clear
    ["a 10.0.0.1-10.0.0.9"] {
        "s1 share=k holds=10.0.0.5" => "a 10.0.0.5"
        "s2 share=k holds=10.0.0.5" => "a 10.0.0.1 lost=PortInUse"
        "s3 share=j port=81 holds=10.0.0.5" => "a 10.0.0.2 lost=AddressInUse"
    }
}

#[test]
fn a_refusal_names_what_was_tried() {
    let lines = [
        "s1 asks=10.0.0.1",
        "s2",
        "s3 asks=10.0.0.1",
        "s4 pool=x",
        "s5 v6 asks=10.0.0.1",
        "s6 pool=a",
        "s7 pool=d",
        "s8 asks=10.9.9.9",
        "s9 require asks=10.0.1.1,fd09::9",
        "s10 require asks=10.0.1.1,fd00::1",
    ];
    let pools = ["a 10.0.0.1", "b 10.0.1.1 manual", "c 10.0.2.1 namespace=red", "d fd00::1"];
    let plan = world(Stray::Clear, &pools, &lines).plan();
    let found: Vec<String> = plan
        .verdicts
        .iter()
        .filter_map(|verdict| Some(verdict.lacks.as_ref()?.to_string()))
        .collect();
    let expected = [
        "no available IPs: pool a has no free IPv4 address, pool d has no IPv4 range, \
         pool b does not assign automatically, pool c serves other services",
        "can't change sharing key for \"default/s3\", address also in use by default/s1: \"10.0.0.1\"",
        "unknown pool \"x\"",
        "requested loadBalancer IP(s) [\"10.0.0.1\"] does not match the ipFamily of the service: IPv6",
        "no available IPs in pool a: no IPv4 address is free",
        "no available IPs in pool d: it has no IPv4 range",
        "[\"10.9.9.9\"] is not allowed in config: no pool holds it",
        "[\"10.0.1.1\" \"fd09::9\"] is not allowed in config: no pool holds [\"fd09::9\"]",
        "[\"10.0.1.1\" \"fd00::1\"] is not allowed in config: they are of pools b,d",
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_pools_that_are_for_a_service_are_named_before_those_of_others() {
    let pools = [
        "a 10.0.0.1 namespace=red",
        "b 10.0.0.2 namespace=red",
        "c 10.0.0.3 namespace=red",
        "d 10.0.0.4 namespace=red",
        "e 10.0.0.5 namespace=red",
        "f 10.0.0.6 namespace=red",
        "six fd00::1",
        "taken 10.1.0.1",
        "zero 10.2.0.1 manual",
    ];
    let mut world = world(Stray::Clear, &pools, &["s1 holds=10.1.0.1", "s2"]);
    world.refused.insert("x".into(), refused(&[]));
    let said = world.plan().verdicts[1].lacks.as_ref().map(ToString::to_string);
    let expected = "no available IPs: pool taken has no free IPv4 address, pool six has no IPv4 range, \
                    pool x is not in force, pool a serves other services, pool b serves other services, \
                    pool c serves other services, pool d serves other services, \
                    pool e serves other services, and 2 more pools";
    assert_eq!(said.as_deref(), Some(expected));
}

#[test]
fn pools_that_are_not_in_force_are_named_to_whom_they_could_have_served() {
    let lines = ["s1 pool=x", "s2 pool=y", "s3 pool=x asks=10.9.9.9", "s4 asks=10.9.9.9", "s5 v6"];
    let said = |pools: &[&str]| -> Vec<String> {
        let mut world = world(Stray::Keep, pools, &lines);
        world.refused.insert("x".into(), refused(&[]));
        let verdicts = world.plan().verdicts;
        verdicts.iter().filter_map(|one| Some(one.lacks.as_ref()?.to_string())).collect()
    };
    let x = "unknown pool \"x\": it is there and not in force: pool has no prefixes defined";
    let nowhere = "not every pool could be read, and none that could holds its IP";
    let none = "no available IPs: pool a has no IPv6 range, pool x is not in force";
    assert_eq!(said(&["a 10.0.0.1-10.0.0.9"]), [x, "unknown pool \"y\"", x, nowhere, none]);
    let none = "no available IPs: pool x is not in force";
    assert_eq!(said(&[])[4], none);
}

#[test]
fn a_refused_pool_keeps_what_is_its_own_and_holds_up_nothing_else() {
    let services = [
        ("s1 holds=10.0.9.1 of=x", "untouched lacks=PoolNotInForce"),
        ("s2 holds=10.0.8.1 of=gone", "untouched lacks=PoolNotInForce"),
        ("s3 holds=10.0.8.2", "untouched lacks=PoolNotInForce"),
        ("s4 holds=10.0.9.4 of=gone", "a 10.0.0.1 lost=AddressNotInPools"),
        ("s5 holds=10.0.9.5 of=a", "a 10.0.0.2 lost=AddressNotInPools"),
        ("s6 holds=10.0.9.6", "a 10.0.0.3 lost=AddressNotInPools"),
        ("s7 holds=10.0.0.7 of=x", "a 10.0.0.7"),
        ("s8 holds=10.0.0.8 pool=x", "untouched lacks=PoolNotInForce"),
        ("s9 require holds=10.0.9.9,fd00::9 of=x", "untouched lacks=PoolNotInForce"),
        ("s10 pool=x", "nothing lacks=UnknownPool"),
    ];
    let lines = services.map(|(service, _)| service);
    let mut world = world(Stray::Clear, &["a 10.0.0.1-10.0.0.9"], &lines);
    world.refused.insert("x".into(), refused(&[]));
    world.refused.insert("y".into(), refused(&["10.0.8.1-10.0.8.9"]));
    let plan = world.plan();
    let found: Vec<String> = plan.verdicts.iter().map(render).collect();
    assert_eq!(found, services.map(|(_, verdict)| verdict));
    let why = plan.verdicts[0].lacks.as_ref().unwrap().to_string();
    let words = "[\"10.0.9.1\"] stays with the service, and nobody promises an answer: \
                 pool x is not in force: pool has no prefixes defined";
    assert_eq!(why, words);
}

#[test]
fn what_a_service_lets_go_is_given_on_once_no_status_shows_it() {
    let lines = ["s1 holds=10.0.0.1 asks=10.0.0.2", "s2 holds=10.0.0.2 asks=10.0.0.1"];
    let before = world(Stray::Clear, &["a 10.0.0.1-10.0.0.2"], &lines);
    let cleared = before.after(&before.plan());
    let given = cleared.plan();
    let found: Vec<String> = given.verdicts.iter().map(render).collect();
    assert_eq!(found, ["a 10.0.0.2", "a 10.0.0.1"]);
}

#[test]
fn use_is_counted_in_addresses_not_in_services() {
    let lines = ["s1 share=k", "s2 share=k port=81", "s3", "s4 v6"];
    let plan = world(Stray::Clear, &["a 10.0.0.1-10.0.0.9,fd00::1", "b 10.0.1.1"], &lines).plan();
    let found: Vec<_> = plan.usage.iter().map(|usage| (usage.v4, usage.v6)).collect();
    assert_eq!(found, [(2, 1), (0, 0)]);
}
