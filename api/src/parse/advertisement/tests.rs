use herald_core::config::SelectorFault;
use herald_core::label::{Requirement, Selector};

use super::*;

fn offered(yaml: &str) -> (AdvertisementName, Offer<Advertisement>) {
    let object: L2Advertisement = serde_saphyr::from_str(yaml).expect("an advertisement");
    offer(&object)
}

fn is(key: &str, value: &str) -> Selector {
    let values = BTreeSet::from([value.to_owned()]);
    Selector { requirements: BTreeSet::from([Requirement::In(key.to_owned(), values)]) }
}

#[test]
fn without_a_spec_it_is_for_everything() {
    for yaml in ["metadata: { name: all }", "{ metadata: { name: all }, spec: {} }"] {
        let (name, offer) = offered(yaml);
        let expected = Advertisement {
            name,
            pools: BTreeSet::new(),
            pool_selectors: vec![],
            node_selectors: vec![],
            service_selectors: vec![],
            interfaces: BTreeSet::new(),
            preferred_nodes: vec![],
        };
        assert_eq!(offer.says.as_deref(), Ok(&expected), "{yaml}");
    }
}

#[test]
fn every_field_reaches_the_model() {
    let (name, offer) = offered(
        "
        metadata: { name: rack, creationTimestamp: 2026-11-21T09:00:00Z }
        spec:
          ipAddressPools: [b, a]
          ipAddressPoolSelectors: [{ matchLabels: { tier: gold } }]
          nodeSelectors: [{ matchLabels: { rack: '1' } }, { matchLabels: { rack: '2' } }]
          serviceSelectors: [{ matchLabels: { app: web } }]
          interfaces: [eth1, eth0, eth1]
          preferredNodeSelectors:
          - { weight: 100, preference: { matchLabels: { rack: '1' } } }
          - { weight: 1, preference: {} }
          - { weight: 1, preference: {} }
        ",
    );
    assert_eq!(name.as_str(), "rack");
    assert_eq!(offer.created, 1_795_251_600);
    let everything = Preference { weight: 1, selector: Selector::default() };
    let expected = Advertisement {
        name,
        pools: ["a", "b"].map(PoolName::from).into(),
        pool_selectors: vec![is("tier", "gold")],
        node_selectors: vec![is("rack", "1"), is("rack", "2")],
        service_selectors: vec![is("app", "web")],
        interfaces: ["eth0", "eth1"].map(LinkName::from).into(),
        preferred_nodes: vec![
            Preference { weight: 100, selector: is("rack", "1") },
            everything.clone(),
            everything,
        ],
    };
    assert_eq!(offer.says.as_deref(), Ok(&expected));
}

#[test]
fn all_faults_are_told_together() {
    let (_, offer) = offered(
        "
        metadata: { name: bad }
        spec:
          ipAddressPools: [a, b, a]
          ipAddressPoolSelectors: [{}, {}]
          nodeSelectors: [{ matchExpressions: [{ key: k, operator: Near }] }]
          serviceSelectors: [{ matchLabels: { 'a b': c } }]
          preferredNodeSelectors:
          - { weight: 0, preference: {} }
          - { weight: 101, preference: {} }
          - { weight: 7, preference: { matchExpressions: [{ key: k, operator: In, values: [a, a] }] } }
        ",
    );
    let refusals: Vec<Refusal> = offer.says.expect_err("seven faults");
    let invalid = |field, at, fault| Refusal::InvalidSelector { field, at, fault };
    let expected = [
        Refusal::Duplicate { field: "ipAddressPools", value: "a".into() },
        Refusal::InvalidWeight { weight: 0, at: 0 },
        Refusal::InvalidWeight { weight: 101, at: 1 },
        invalid("preferredNodeSelectors", 2, SelectorFault::DuplicateValue("a".into())),
        Refusal::DuplicateSelector { field: "ipAddressPoolSelectors", at: 1 },
        invalid("nodeSelectors", 0, SelectorFault::UnknownOperator("Near".into())),
        invalid("serviceSelectors", 0, SelectorFault::InvalidKey("a b".into())),
    ];
    assert_eq!(refusals, expected);
}
