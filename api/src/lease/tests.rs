//! Both directions, and nonsense.

use std::net::IpAddr;

use herald_core::ownership::record::PROTOCOL as OUR_PROTOCOL;
use herald_core::wire::Mac;
use proptest::prelude::*;

use super::*;

fn version() -> Version {
    Version { uid: "u-1".into(), resource: "17".into() }
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?"
}

fn link() -> impl Strategy<Value = Link> {
    let prefix = (any::<IpAddr>(), 0_u8..=32)
        .prop_map(|(address, length)| ipnetwork::IpNetwork::new(address, length).expect("0-32"));
    let prefixes = proptest::collection::vec(prefix, 0..4);
    (name(), any::<[u8; 6]>(), prefixes, any::<bool>(), any::<bool>()).prop_map(
        |(name, mac, prefixes, carrier, deaf)| Link {
            name: name.into(),
            mac: Mac(mac),
            prefixes,
            carrier,
            deaf,
        },
    )
}

fn session() -> impl Strategy<Value = Session> {
    let whys =
        prop_oneof![Just(ClosedWhy::Left), Just(ClosedWhy::Expired), Just(ClosedWhy::Silent)];
    let closed = (name(), whys).prop_map(|(by, why)| Closed { by: by.into(), why });
    (
        name(),
        name(),
        proptest::option::of(name()),
        any::<u64>(),
        1_u64..=2_147_483_647,
        any::<u32>(),
        proptest::collection::vec(link(), 0..4),
        any::<[bool; 2]>(),
        proptest::option::of(closed),
    )
        .prop_map(
            |(node, uid, open, renewal, seconds, protocol, links, [leaving, doubted], closed)| {
                Session {
                    node: node.into(),
                    node_uid: uid.into(),
                    open_for: open.map(|incarnation| Incarnation(incarnation.into())),
                    renewal,
                    duration: Span::secs(seconds),
                    protocol,
                    links,
                    leaving,
                    doubted,
                    closed,
                }
            },
        )
}

fn claim() -> impl Strategy<Value = Claim> {
    let to = proptest::option::of(name());
    (any::<IpAddr>(), name(), name(), 0_u32..=2_147_483_647, to, any::<bool>()).prop_map(
        |(address, node, incarnation, transitions, to, contested)| Claim {
            address,
            holder: Holder { node: node.into(), incarnation: Incarnation(incarnation.into()) },
            transitions,
            handing_over_to: to.map(NodeName::from),
            contested,
        },
    )
}

/// The Lease as the API server gives it back.
fn stored(lease: &Lease) -> Lease {
    let text = serde_json::to_string(lease).expect("a Lease is JSON");
    serde_json::from_str(&text).expect("what was written is read")
}

proptest! {
    #[test]
    fn a_session_comes_back_as_it_was_written(session in session()) {
        let lease = encode_session(&session, Some(&version()), Timestamp::UNIX_EPOCH);
        let decoded = decode(&stored(&lease));
        let record = Record::Session(session);
        prop_assert_eq!(decoded, Some(Decoded { version: version(), record, problems: vec![] }));
    }

    #[test]
    fn a_claim_comes_back_as_it_was_written(claim in claim()) {
        let lease = encode_claim(&claim, Some(&version()), Timestamp::UNIX_EPOCH);
        let decoded = decode(&stored(&lease));
        let record = Record::Claim(claim);
        prop_assert_eq!(decoded, Some(Decoded { version: version(), record, problems: vec![] }));
    }

    #[test]
    fn nonsense_is_read_without_a_panic_and_a_session_of_it_is_closed(
        holder in ".{0,40}", annotations in proptest::collection::btree_map(
            proptest::sample::select(vec![PROTOCOL, RENEWAL, LINKS, LEAVING, DOUBTED, CLOSED, CONTESTED]), ".{0,40}", 0..5),
        seconds in any::<Option<i32>>(),
    ) {
        prop_assume!(!holder.starts_with("n1/"));
        let mut lease = lease("speaker-n1");
        let annotations = annotations.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        lease.metadata.annotations = Some(annotations);
        let spec = LeaseSpec {
            holder_identity: Some(holder),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        };
        lease.spec = Some(spec);
        let decoded = decode(&lease).expect("the name is a session's");
        let Record::Session(session) = decoded.record else { panic!("a session") };
        prop_assert_eq!(session.open_for, None);
        prop_assert!(session.duration > Span::ZERO);
        prop_assert!(!decoded.problems.is_empty());
    }
}

fn lease(name: &str) -> Lease {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        uid: Some("u-1".to_owned()),
        resource_version: Some("17".to_owned()),
        ..ObjectMeta::default()
    };
    Lease { metadata, spec: None }
}

#[test]
fn each_address_has_one_name() {
    let cases = [
        ("192.0.2.1", "vip-192-0-2-1"),
        ("2001:db8::1", "vip-2001-0db8-0000-0000-0000-0000-0000-0001"),
        ("::ffff:192.0.2.1", "vip-0000-0000-0000-0000-0000-ffff-c000-0201"),
    ];
    for (address, name) in cases {
        let subject = Subject::Claim(address.parse().expect("an address"));
        assert_eq!(subject.name(), name);
        assert_eq!(Subject::of(name), Some(subject));
    }
}

#[test]
fn names_that_are_not_ours_are_nobodys() {
    let names = [
        "herald-controller",
        "speaker-",
        "vip-",
        "vip-192-0-2",
        "vip-192-0-2-256",
        "vip-192-0-2-01",
        "vip-2001-db8-0-0-0-0-0-1",
        "vip-2001-0DB8-0000-0000-0000-0000-0000-0001",
        "vip-192-0-2-1-",
        "vip-0000-0000-0000-0000-0000-0000-192.0.2.1",
    ];
    for name in names {
        assert_eq!(Subject::of(name), None, "{name}");
    }
}

#[test]
fn a_claim_held_by_nonsense_is_held_by_nobody_who_lives() {
    for holder in ["", "n1", "n1/", "/x", "n1/x/y"] {
        let mut lease = lease("vip-192-0-2-1");
        let spec = LeaseSpec { holder_identity: Some(holder.to_owned()), ..LeaseSpec::default() };
        lease.spec = Some(spec);
        let decoded = decode(&lease).expect("the name is a claim's");
        assert_eq!(decoded.problems, [Problem::Holder(holder.to_owned())], "{holder}");
        let Record::Claim(claim) = decoded.record else { panic!("a claim") };
        assert_eq!(claim.holder.node.as_str(), "");
    }
}

#[test]
fn a_session_edited_into_nonsense_names_every_problem() {
    let mut lease = lease("speaker-n1");
    let annotations = [(PROTOCOL, "x"), (LINKS, "[{}]"), (LEAVING, "soon"), (CLOSED, "n2/bored")];
    lease.metadata.annotations =
        Some(annotations.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let holder = Some("n2/abc".to_owned());
    lease.spec = Some(LeaseSpec { holder_identity: holder, ..LeaseSpec::default() });
    let decoded = decode(&lease).expect("the name is a session's");
    let told: Vec<String> = decoded.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "spec.holderIdentity \"n2/abc\" is not <node>/<incarnation>",
            "no owner reference to a Node: the Lease will outlive it",
            "annotation heraldlb.io/renewal is None, not a whole number",
            "spec.leaseDurationSeconds None is not a positive number; 6 is assumed",
            "annotation heraldlb.io/protocol is Some(\"x\"), not a whole number",
            "annotation heraldlb.io/links is Some(\"[{}]\"), not a list of links in JSON",
            "annotation heraldlb.io/leaving is Some(\"soon\"), not \"true\"",
            "annotation heraldlb.io/closed is Some(\"n2/bored\"), not <node>/<why>",
        ]
    );
    let Record::Session(session) = decoded.record else { panic!("a session") };
    assert!(session.protocol > OUR_PROTOCOL && session.links.is_empty());
}

#[test]
fn a_session_that_was_read_without_an_owner_is_written_without_one() {
    let decoded = decode(&lease("speaker-n1")).expect("the name is a session's");
    let Record::Session(session) = decoded.record else { panic!("a session") };
    let written = encode_session(&session, Some(&version()), Timestamp::UNIX_EPOCH);
    assert_eq!(written.metadata.owner_references, None, "the API server refuses an empty uid");
}

#[test]
fn an_object_without_a_version_is_not_read() {
    let mut unversioned = lease("speaker-n1");
    unversioned.metadata.resource_version = None;
    assert_eq!(decode(&unversioned), None);
}

#[test]
fn a_link_with_an_odd_mac_is_refused() {
    let good = r#"[{"name":"eth0","mac":"02:00:00:00:00:01","prefixes":[],"carrier":true}]"#;
    assert!(links::decode(good).is_some());
    for mac in ["02:00:00:00:00", "02:00:00:00:00:01:02", "2:0:0:0:0:1", "+2:00:00:00:00:01", ""] {
        assert_eq!(links::decode(&good.replace("02:00:00:00:00:01", mac)), None, "{mac}");
    }
}
