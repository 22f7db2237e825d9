use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::super::exclusion::Exclusion;
use super::picture::{Change, Picture};
use super::*;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn interface(name: &str) -> Interface {
    Interface {
        index: 2,
        name: name.into(),
        mac: Some(MAC),
        up: true,
        carrier: true,
        broadcast: true,
        no_arp: false,
        enslaved: false,
        addresses: BTreeSet::new(),
        prefixes: BTreeSet::from(["192.0.2.0/24".parse().unwrap()]),
        link_local: None,
        gateways: BTreeSet::new(),
    }
}

/// One interface of each kind.
fn kinds() -> [(Interface, Result<Mac, Ineligible>); 7] {
    [
        (interface("good"), Ok(MAC)),
        (Interface { carrier: false, ..interface("unplugged") }, Ok(MAC)),
        (Interface { up: false, carrier: false, ..interface("down") }, Err(Ineligible::Down)),
        (Interface { enslaved: true, ..interface("port") }, Err(Ineligible::Enslaved)),
        (Interface { no_arp: true, ..interface("tunnel") }, Err(Ineligible::NoArp)),
        (Interface { broadcast: false, ..interface("line") }, Err(Ineligible::NoBroadcast)),
        (Interface { mac: None, ..interface("fabric") }, Err(Ineligible::NotEthernet)),
    ]
}

#[test]
fn each_kind_of_interface_is_eligible_or_has_its_reason() {
    for (interface, expected) in kinds() {
        assert_eq!(interface.eligibility(), expected, "{}", interface.name);
    }
}

#[test]
fn a_session_records_what_could_carry_announcements_sorted_by_name() {
    let links: Links = kinds().into_iter().map(|(interface, _)| interface).collect();
    let records = links.records();
    let recorded: Vec<_> = records.iter().map(|link| (link.name.as_str(), link.carrier)).collect();
    assert_eq!(recorded, [("down", false), ("good", true), ("unplugged", false)]);
    assert!(records.iter().all(|link| link.prefixes.len() == 1 && link.mac == MAC));
    let eligible: Vec<_> = links.eligible().map(|(of, _)| of.name.as_str()).collect();
    assert_eq!(eligible, ["good", "unplugged"]);
}

#[test]
fn what_a_bridge_says_of_its_port_does_not_change_the_link() {
    let mut link = LinkMessage::default();
    link.header.index = 2;
    link.header.link_layer_type = LinkLayerType::Ether;
    link.header.flags = LinkFlags::Up | LinkFlags::Broadcast | LinkFlags::LowerUp;
    link.attributes =
        vec![LinkAttribute::IfName("good".to_owned()), LinkAttribute::Address(MAC.0.to_vec())];
    let mut of_bridge = link.clone();
    of_bridge.header.interface_family = AddressFamily::Bridge;
    of_bridge.attributes.push(LinkAttribute::Controller(7));

    let mut picture = Picture::new(Exclusion::default());
    assert_eq!(picture.apply(&RouteNetlinkMessage::NewLink(link.clone())), Change::Links);
    let before = picture.links();
    assert_eq!(before.get(&"good".into()).map(Interface::eligibility), Some(Ok(MAC)));
    for message in [
        RouteNetlinkMessage::NewLink(link.clone()),
        RouteNetlinkMessage::NewLink(of_bridge.clone()),
        RouteNetlinkMessage::DelLink(of_bridge),
    ] {
        assert_eq!(picture.apply(&message), Change::Nothing, "{message:?}");
        assert_eq!(picture.links(), before);
    }
    assert_eq!(picture.apply(&RouteNetlinkMessage::DelLink(link)), Change::Links);
    assert_eq!(picture.links(), Links::default());
}
