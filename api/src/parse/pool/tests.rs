use std::collections::BTreeMap;

use herald_core::config::SelectorFault;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::*;

fn object(yaml: &str) -> IPAddressPool {
    serde_saphyr::from_str(yaml).expect("a pool")
}

/// A pool of these addresses and nothing else.
fn of(addresses: &[&str]) -> Result<Arc<Pool>, Vec<Refusal>> {
    let addresses = addresses.iter().map(|entry| (*entry).to_owned()).collect();
    let spec = crd::IPAddressPoolSpec { addresses, auto_assign: true, ..Default::default() };
    offer(&IPAddressPool::new("p", spec)).1.says
}

#[test]
fn every_form_of_an_entry_becomes_its_range() {
    let cases = [
        ("192.0.2.0/24", "192.0.2.0-192.0.2.255"),
        ("192.0.2.7/32", "192.0.2.7-192.0.2.7"),
        // Bits beyond the mask do not count.
        ("192.0.2.77/24", "192.0.2.0-192.0.2.255"),
        ("0.0.0.0/0", "0.0.0.0-255.255.255.255"),
        ("192.0.2.0/024", "192.0.2.0-192.0.2.255"),
        ("2001:db8::/120", "2001:db8::-2001:db8::ff"),
        ("2001:DB8:0::1/128", "2001:db8::1-2001:db8::1"),
        ("::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("192.0.2.5-192.0.2.9", "192.0.2.5-192.0.2.9"),
        ("192.0.2.5-192.0.2.5", "192.0.2.5-192.0.2.5"),
        ("  192.0.2.5 -\t192.0.2.9 ", "192.0.2.5-192.0.2.9"),
        ("2001:db8::5 - 2001:db8::1:0", "2001:db8::5-2001:db8::1:0"),
        // IPv4 in the clothes of IPv6 is IPv4.
        ("::ffff:192.0.2.0/120", "192.0.2.0-192.0.2.255"),
        ("::ffff:192.0.2.5-192.0.2.9", "192.0.2.5-192.0.2.9"),
        ("::ffff:0.0.0.0/90", "::ffc0:0:0-::ffff:255.255.255.255"),
    ];
    for (entry, expected) in cases {
        let ranges = of(&[entry]).map(|pool| pool.ranges.clone());
        let ranges = ranges.unwrap_or_else(|refusals| panic!("{entry:?}: {refusals:?}"));
        assert_eq!(
            ranges.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [expected],
            "{entry:?}"
        );
    }
}

#[test]
fn an_entry_that_is_no_range_is_refused_for_what_is_wrong_with_it() {
    let cases = [
        ("192.0.2.1", EntryFault::NoMask),
        ("2001:db8::1", EntryFault::NoMask),
        ("", EntryFault::NotAnAddress),
        ("-", EntryFault::NotAnAddress),
        ("pool", EntryFault::NotAnAddress),
        ("192.0.2.300/24", EntryFault::NotAnAddress),
        ("192.0.2.01/24", EntryFault::NotAnAddress),
        ("192.0.2/24", EntryFault::NotAnAddress),
        (" 192.0.2.0/24", EntryFault::NotAnAddress),
        ("fe80::1%eth0/64", EntryFault::NotAnAddress),
        ("192.0.2.0/33", EntryFault::InvalidMask),
        ("192.0.2.0/", EntryFault::InvalidMask),
        ("192.0.2.0/+24", EntryFault::InvalidMask),
        ("192.0.2.0/24/24", EntryFault::InvalidMask),
        ("192.0.2.0/99999999999", EntryFault::InvalidMask),
        ("192.0.2.0/255.255.255.0", EntryFault::InvalidMask),
        ("2001:db8::/129", EntryFault::InvalidMask),
        ("::ffff:192.0.2.0/129", EntryFault::InvalidMask),
        ("192.0.2.9-192.0.2.5", EntryFault::Backwards),
        ("2001:db8::9-2001:db8::5", EntryFault::Backwards),
        ("192.0.2.1-2001:db8::1", EntryFault::MixedFamilies),
        ("192.0.2.1-", EntryFault::NotAnAddress),
        ("-192.0.2.1", EntryFault::NotAnAddress),
        ("192.0.2.1-9", EntryFault::NotAnAddress),
        ("192.0.2.0/25-192.0.2.9", EntryFault::NotAnAddress),
        ("192.0.2.1-192.0.2.3-192.0.2.5", EntryFault::NotAnAddress),
    ];
    for (entry, fault) in cases {
        let entry = entry.to_owned();
        let expected = vec![Refusal::InvalidEntry { entry: entry.clone(), fault }];
        assert_eq!(of(&[&entry]), Err(expected), "{entry:?}");
    }
}

#[test]
fn entries_keep_their_order_and_must_not_overlap() {
    let pool =
        of(&["192.0.2.128/25", "2001:db8::/120", "192.0.2.0-192.0.2.127"]).expect("disjoint");
    let first: Vec<String> = pool.ranges.iter().map(|range| range.first().to_string()).collect();
    assert_eq!(first, ["192.0.2.128", "2001:db8::", "192.0.2.0"]);

    for entries in [
        &["192.0.2.0/24", "192.0.2.200-192.0.3.10"][..],
        &["192.0.2.200-192.0.3.10", "192.0.2.0/24"],
        &["192.0.2.0/24", "192.0.2.0/24"],
        // The widest comes first by address, and the one it overlaps is not the next in the list.
        &["192.0.2.64/26", "2001:db8::/64", "192.0.0.0/16", "10.0.0.0/8"],
    ] {
        let refusals = of(entries).expect_err("they overlap");
        let [refusal @ Refusal::OverlapsItself { range, with }] = &refusals[..] else {
            panic!("{entries:?}: {refusals:?}");
        };
        assert!(range.overlaps(with), "{refusal}");
        assert!(refusal.to_string().contains("overlaps with already defined CIDR"), "{refusal}");
        let place = |wanted| {
            entries.iter().position(|entry| super::range(entry) == Ok(wanted)).expect("an entry")
        };
        assert!(range == with || place(*with) < place(*range), "the earlier was there already");
    }
}

#[test]
fn a_pool_without_addresses_is_refused_and_all_faults_are_told_together() {
    let none = of(&[]).expect_err("empty");
    assert_eq!(none, [Refusal::NoPrefixes]);
    assert_eq!(none[0].to_string(), "pool has no prefixes defined");

    let pool = object(
        "
        metadata: { name: p }
        spec:
          addresses: [192.0.2.1, 10.0.0.0/8, 10.1.0.0/16]
          serviceAllocation:
            namespaces: [a, b, a]
            namespaceSelectors: [{ matchExpressions: [{ key: k, operator: In }] }]
            serviceSelectors: [{}, {}]
        ",
    );
    let refusals = offer(&pool).1.says.expect_err("five faults");
    let fault = SelectorFault::NoValues("k".into());
    assert_eq!(refusals.len(), 5);
    assert_eq!(refusals[0].reason(), "InvalidAddresses");
    assert_eq!(refusals[1].reason(), "Overlap");
    assert_eq!(refusals[2].to_string(), "duplicate definition in namespaces field: \"a\"");
    let invalid = Refusal::InvalidSelector { field: "namespaceSelectors", at: 0, fault };
    assert_eq!(refusals[3], invalid);
    assert_eq!(refusals[4], Refusal::DuplicateSelector { field: "serviceSelectors", at: 1 });
}

#[test]
fn every_field_reaches_the_model() {
    let pool = object(
        "
        metadata:
          name: gold
          labels: { tier: gold }
          creationTimestamp: 2026-11-21T09:00:00Z
        spec:
          addresses: [192.0.2.0/28, '2001:db8::5 - 2001:db8::9']
          autoAssign: false
          avoidBuggyIPs: true
          serviceAllocation:
            priority: 50
            namespaces: [a, b]
            namespaceSelectors: [{ matchLabels: { team: x } }]
            serviceSelectors: [{}]
        ",
    );
    let (name, offer) = offer(&pool);
    assert_eq!(name.as_str(), "gold");
    assert_eq!(offer.created, 1_795_251_600);
    let team = LabelSelector {
        match_labels: Some(BTreeMap::from([("team".to_owned(), "x".to_owned())])),
        ..LabelSelector::default()
    };
    let expected = Pool {
        name,
        labels: BTreeMap::from([("tier".to_owned(), "gold".to_owned())]),
        ranges: ["192.0.2.0/28", "2001:db8::5-2001:db8::9"].map(|e| range(e).expect("ok")).into(),
        auto_assign: false,
        avoid_buggy: true,
        allocation: Some(ServiceAllocation {
            priority: 50,
            namespaces: ["a".to_owned(), "b".to_owned()].into(),
            namespace_selectors: vec![selector::one(&team).expect("ok")],
            service_selectors: vec![selector::one(&LabelSelector::default()).expect("ok")],
        }),
    };
    assert_eq!(offer.says.as_deref(), Ok(&expected));
}

#[test]
fn it_is_accepted_when_its_status_says_so_of_the_generation_that_it_is_in() {
    let accepted = |generation: &str, condition: &str| {
        let object = object(&format!(
            "{{ metadata: {{ name: p, {generation} }}, spec: {{ addresses: [192.0.2.0/28] }}, \
             status: {{ conditions: [{{ type: Accepted, {condition}, reason: r, message: m, \
             lastTransitionTime: 2026-01-01T00:00:00Z }}] }} }}"
        ));
        offer(&object).1.accepted
    };
    assert!(accepted("generation: 2", "status: 'True', observedGeneration: 2"));
    assert!(!accepted("generation: 2", "status: 'True', observedGeneration: 1"));
    assert!(!accepted("generation: 2", "status: 'False', observedGeneration: 2"));
    assert!(!accepted("", "status: 'True'"));
    let silent = "{ metadata: { name: p, generation: 1 }, spec: { addresses: [192.0.2.0/28] } }";
    assert!(!offer(&object(silent)).1.accepted);
}

#[test]
fn what_is_not_said_has_its_default() {
    let pool = object("{ metadata: { name: p }, spec: { addresses: [192.0.2.0/28] } }");
    let pool = offer(&pool).1.says.expect("fine");
    assert!(pool.auto_assign);
    assert!(!pool.avoid_buggy);
    assert_eq!(pool.allocation, None);
    let pinned = object(
        "{ metadata: { name: p }, spec: { addresses: [192.0.2.0/28], serviceAllocation: {} } }",
    );
    let pinned = offer(&pinned).1.says.expect("fine");
    assert_eq!(pinned.allocation, Some(ServiceAllocation::default()));
}

#[test]
fn a_priority_that_no_model_holds_keeps_its_place_in_the_order() {
    for (priority, expected) in [(i64::MAX, i32::MAX), (i64::MIN, i32::MIN), (-7, -7)] {
        let spec = crd::ServiceAllocation { priority, ..Default::default() };
        assert_eq!(allocation(&spec, &mut vec![]).priority, expected);
    }
}
