use serde_json::{Value, json};

use super::*;

/// A single-stack Service of type LoadBalancer, changed by what `patch` says (as a JSON merge patch).
fn service(patch: &Value) -> Service {
    let mut object = json!({
        "metadata": {
            "namespace": "shop", "name": "web", "uid": "u-1", "resourceVersion": "42",
            "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"app": "web"},
        },
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "selector": {"app": "web"},
            "ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
        },
        "status": {"loadBalancer": {}},
    });
    merge(&mut object, patch);
    serde_json::from_value(object).unwrap()
}

fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(object.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}

fn ours(patch: &Value) -> Ours {
    match asked(&service(patch), None) {
        Asked::Ours(ours) => *ours,
        Asked::NotOurs(why) => panic!("{why:?}"),
    }
}

fn annotated(pairs: &Value) -> Value {
    json!({"metadata": {"annotations": pairs}})
}

#[test]
fn a_plain_service_asks_for_any_address_of_its_family() {
    let found = ours(&json!({}));
    let expected = Demand {
        id: ServiceId::new("shop", "web"),
        age: Age { created_s: 1_767_323_045, uid: "u-1".into() },
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
        families: Ok(Families::Single(Family::V4)),
        wants: Ok(Wants::default()),
        sharing: None,
        ports: BTreeSet::from([
            Port { protocol: Protocol::Tcp, number: 80 },
            Port { protocol: Protocol::Udp, number: 53 },
        ]),
        held: Vec::new(),
        recorded_pool: None,
        changed: false,
    };
    assert_eq!(found.demand, expected);
    assert_eq!(found.version, Version { uid: "u-1".into(), resource_version: "42".into() });
    assert!(found.plain && found.deprecated.is_empty() && found.terms.is_none());
}

#[test]
fn class_and_type_decide_whose_it_is() {
    let class = |class: Value| service(&json!({"spec": {"loadBalancerClass": class}}));
    let is_ours = |service: &Service, flag| matches!(asked(service, flag), Asked::Ours(_));
    assert!(is_ours(&class(Value::Null), None));
    assert!(!is_ours(&class(Value::Null), Some("a/b")));
    assert!(is_ours(&class(json!("a/b")), Some("a/b")));
    assert_eq!(asked(&class(json!("a/c")), Some("a/b")), Asked::NotOurs(NotOurs::OtherClass));
    assert_eq!(asked(&class(json!("a/b")), None), Asked::NotOurs(NotOurs::OtherClass));
    let node_port = service(&json!({"spec": {"type": "NodePort"}}));
    assert_eq!(asked(&node_port, None), Asked::NotOurs(NotOurs::OtherType));
    assert_eq!(asked(&Service::default(), None), Asked::NotOurs(NotOurs::OtherType));
}

#[test]
fn what_leaves_the_type_is_known_by_its_mark_whatever_our_class() {
    for key in ["metallb.io/ip-allocated-from-pool", "metallb.universe.tf/ip-allocated-from-pool"] {
        let mut patch = annotated(&json!({ key: "p" }));
        merge(&mut patch, &json!({"spec": {"type": "ClusterIP"}}));
        let former = Version { uid: "u-1".into(), resource_version: "42".into() };
        let expected = Asked::NotOurs(NotOurs::Former(former));
        assert_eq!(asked(&service(&patch), Some("a/b")), expected);
    }
    let condition = |type_: &str| {
        json!({"type": type_, "status": "True", "reason": "R", "message": "m",
            "lastTransitionTime": "2026-01-02T03:04:05Z"})
    };
    let said = json!([condition("heraldlb.io/AddressAllocated")]);
    let bears = |said: &Value| {
        let patch = json!({"spec": {"type": "ClusterIP"}, "status": {"conditions": said}});
        matches!(asked(&service(&patch), None), Asked::NotOurs(NotOurs::Former(_)))
    };
    assert!(bears(&said));
    assert!(!bears(&json!([condition("Ready")])));
}

#[test]
fn the_cluster_ips_decide_the_families() {
    let dual = json!(["10.96.0.7", "fd00::7"]);
    let cases = [
        (json!({"clusterIPs": ["fd00::7"]}), Ok(Families::Single(Family::V6))),
        (json!({"clusterIPs": null, "clusterIP": "fd00::7"}), Ok(Families::Single(Family::V6))),
        (json!({"clusterIPs": ["None"], "clusterIP": "None"}), Err(Why::NoClusterIp)),
        (json!({"clusterIPs": [], "clusterIP": ""}), Err(Why::NoClusterIp)),
        (json!({"clusterIPs": null, "clusterIP": null}), Err(Why::NoClusterIp)),
        // A single-stack cluster: nothing to oscillate between.
        (json!({"ipFamilyPolicy": "PreferDualStack"}), Ok(Families::Single(Family::V4))),
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            Err(Why::NotEnoughClusterIps { cluster_ips: vec!["10.96.0.7".to_owned()] }),
        ),
        (
            json!({"clusterIPs": dual, "ipFamilyPolicy": "RequireDualStack"}),
            Ok(Families::RequireDual),
        ),
        (
            json!({"clusterIPs": dual, "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}),
            Ok(Families::PreferDual { primary: Family::V6 }),
        ),
        (
            json!({"clusterIPs": dual, "ipFamilyPolicy": "PreferDualStack", "ipFamilies": null}),
            Ok(Families::PreferDual { primary: Family::V4 }),
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(ours(&json!({ "spec": spec })).demand.families, expected, "{spec}");
    }
}

#[test]
fn requests_are_read_from_either_prefix_and_the_field() {
    let (new, old) = ("metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs");
    let cases = [
        (json!({ new: "10.0.0.1" }), vec!["10.0.0.1"]),
        (json!({ old: " 10.0.0.1 , fd00::1" }), vec!["10.0.0.1", "fd00::1"]),
        (json!({ new: "", old: "10.0.0.1" }), vec![]),
        (json!({ new: "::ffff:10.0.0.1" }), vec!["10.0.0.1"]),
    ];
    for (annotations, expected) in cases {
        let expected: Vec<IpAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
        let wants = ours(&annotated(&annotations)).demand.wants.unwrap();
        assert_eq!(wants.addresses, expected, "{annotations}");
    }
    let field = ours(&json!({"spec": {"loadBalancerIP": "10.0.0.9"}})).demand.wants.unwrap();
    assert_eq!(field.addresses, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
    let pool = ours(&annotated(&json!({"metallb.io/address-pool": "gold"}))).demand.wants.unwrap();
    assert_eq!(pool, Wants { pool: Some("gold".into()), addresses: Vec::new() });
}

#[test]
fn a_request_that_means_nothing_says_so_in_the_words_that_scripts_match() {
    let key = "metallb.io/loadBalancerIPs";
    let mut twice = annotated(&json!({ key: "10.0.0.1" }));
    merge(&mut twice, &json!({"spec": {"loadBalancerIP": "10.0.0.1"}}));
    let cases = [
        (twice, "service can not have both metallb.io/loadBalancerIPs and svc.Spec.LoadBalancerIP"),
        (
            json!({"spec": {"loadBalancerIP": "ten"}}),
            "invalid spec.loadBalancerIP \"ten\": not an IP address",
        ),
        (
            annotated(&json!({ key: "10.0.0.1,x" })),
            "invalid metallb.io/loadBalancerIPs: \"10.0.0.1,x\": not an IP address",
        ),
        (
            annotated(&json!({ key: "10.0.0.1,10.0.0.2" })),
            "invalid metallb.io/loadBalancerIPs: \"10.0.0.1,10.0.0.2\": has the same family",
        ),
        (
            annotated(&json!({ key: "10.0.0.1,fd00::1,fd00::2" })),
            "invalid metallb.io/loadBalancerIPs: \"10.0.0.1,fd00::1,fd00::2\": more than two addresses",
        ),
    ];
    for (patch, expected) in cases {
        assert_eq!(ours(&patch).demand.wants.unwrap_err().to_string(), expected);
    }
}

#[test]
fn the_backend_key_keeps_local_services_with_other_endpoints_apart() {
    let shared = |spec: Value| {
        let mut patch = annotated(&json!({"metallb.io/allow-shared-ip": "k"}));
        merge(&mut patch, &json!({ "spec": spec }));
        ours(&patch).demand.sharing.map(|sharing| sharing.backend.to_string())
    };
    assert_eq!(shared(json!({})).as_deref(), Some(""));
    let local =
        |selector: Value| shared(json!({"externalTrafficPolicy": "Local", "selector": selector}));
    assert_eq!(local(json!({"b": "2"})).as_deref(), Some("app=web,b=2"));
    // Without a selector it is as under Cluster.
    assert_eq!(local(Value::Null).as_deref(), Some(""));
    let mut empty = annotated(&json!({"metallb.io/allow-shared-ip": ""}));
    merge(&mut empty, &json!({"spec": {"externalTrafficPolicy": "Local"}}));
    assert_eq!(ours(&empty).demand.sharing, None);
}

/// A Service that shares with key `k` under Local, changed by `patch`.
fn sharing(patch: &Value) -> Ours {
    let mut object = annotated(&json!({"metallb.io/allow-shared-ip": "k"}));
    merge(&mut object, &json!({"spec": {"externalTrafficPolicy": "Local"}}));
    merge(&mut object, patch);
    ours(&object)
}

#[test]
fn terms_of_sharing_are_key_backend_and_ports_and_nothing_else() {
    let plain = sharing(&json!({}));
    let (terms, other) = (plain.terms.as_deref().unwrap(), |patch| sharing(&patch).terms);
    assert_eq!((terms.len(), plain.demand.changed, plain.recorded_terms), (16, false, None));
    for patch in [
        annotated(&json!({"metallb.io/allow-shared-ip": "l"})),
        json!({"spec": {"externalTrafficPolicy": "Cluster"}}),
        json!({"spec": {"selector": {"app": "api"}}}),
        json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}]}}),
        json!({"spec": {"ports": [{"port": 80, "protocol": "UDP"}, {"port": 53, "protocol": "UDP"}]}}),
    ] {
        assert_ne!(other(patch.clone()).as_deref(), Some(terms), "{patch}");
    }
    for patch in [
        json!({"metadata": {"labels": {"x": "y"}}, "spec": {"loadBalancerIP": "10.0.0.1"}}),
        json!({"spec": {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 80}]}}),
    ] {
        assert_eq!(other(patch.clone()).as_deref(), Some(terms), "{patch}");
    }
    // A key must not run into a backend.
    let (a, b) = (("a", "bc"), ("ab", "c"));
    let of = |(key, backend): (&str, &str)| {
        terms_of(&Sharing { key: key.into(), backend: backend.into() })
    };
    assert_ne!(of(a), of(b));
}

fn terms_of(sharing: &Sharing) -> Box<str> {
    terms(sharing, &BTreeSet::new())
}

#[test]
fn who_bears_other_terms_than_it_asks_for_has_changed() {
    let terms = sharing(&json!({})).terms.unwrap();
    let recorded = annotated(&json!({"heraldlb.io/shared-as": terms}));
    assert!(!sharing(&recorded).demand.changed);
    let mut moved = recorded.clone();
    merge(&mut moved, &json!({"spec": {"selector": {"app": "api"}}}));
    assert!(sharing(&moved).demand.changed);
    // It shares no more, and once did.
    assert!(ours(&recorded).demand.changed);
    let mut former = recorded;
    merge(&mut former, &json!({"spec": {"type": "ClusterIP"}}));
    assert!(matches!(asked(&service(&former), None), Asked::NotOurs(NotOurs::Former(_))));
}

#[test]
fn the_status_is_read_in_its_order_and_what_is_not_ours_in_it_is_noticed() {
    let status = |ingress: Value| ours(&json!({"status": {"loadBalancer": {"ingress": ingress}}}));
    let cases = [
        (
            json!([{"ip": "10.0.0.2", "ipMode": "VIP"}, {"ip": "fd00::1"}]),
            vec!["10.0.0.2", "fd00::1"],
            true,
        ),
        (json!([{"ip": "fd00:0::0001"}]), vec!["fd00::1"], true),
        (json!([{"ip": "10.0.0.2"}, {"ip": "10.0.0.2"}]), vec!["10.0.0.2"], false),
        (json!([{"hostname": "example.org"}]), vec![], false),
        (json!([{"ip": "10.0.0.2", "hostname": "example.org"}]), vec!["10.0.0.2"], false),
        (json!([{"ip": "10.0.0.2", "ipMode": "Proxy"}]), vec!["10.0.0.2"], false),
        (
            json!([{"ip": "10.0.0.2", "ports": [{"port": 80, "protocol": "TCP"}]}]),
            vec!["10.0.0.2"],
            false,
        ),
        (json!([{}]), vec![], false),
    ];
    for (ingress, expected, plain) in cases {
        let found = status(ingress.clone());
        let expected: Vec<IpAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!((found.demand.held, found.plain), (expected, plain), "{ingress}");
    }
}

#[test]
fn deprecated_keys_are_named_when_they_are_what_counts() {
    let found = ours(&annotated(&json!({
        "metallb.universe.tf/address-pool": "p",
        "metallb.universe.tf/allow-shared-ip": "k", "metallb.io/allow-shared-ip": "k",
        "metallb.universe.tf/ip-allocated-from-pool": "p",
    })));
    assert_eq!(found.deprecated, ["metallb.universe.tf/address-pool"]);
    assert_eq!(found.demand.recorded_pool, Some("p".into()));
}
