//! Whether the picture of the links follows the kernel's.

use std::collections::BTreeSet;
use std::net::IpAddr;

use herald_speaker::net::exclusion::Exclusion;
use herald_speaker::net::links::{Ineligible, Interface, Links, Watcher};
use tokio::sync::watch;

use super::host::{Host, LAN, eventually, pair};

fn watch(host: &Host) -> watch::Receiver<Links> {
    host.run(async {
        let watcher = Watcher::open(Exclusion::default()).await.unwrap();
        let links = watcher.links();
        tokio::spawn(watcher.run());
        links
    })
}

/// Waits until the interface `name` satisfies `condition`.
#[track_caller]
fn becomes(
    links: &watch::Receiver<Links>,
    name: &str,
    what: &str,
    condition: impl Fn(&Interface) -> bool,
) {
    let what = format!("{name} {what}: {:#?}", *links.borrow());
    eventually(&what, || links.borrow().get(&name.into()).filter(|of| condition(of)).map(|_| ()));
}

fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn what_is_there_at_the_start_is_known() {
    let (node, _neighbour) = pair();
    node.assign("192.0.2.10/24");
    node.assign("192.0.2.77/32");
    node.assign("2001:db8::10/64");
    node.assign("fe80::a/64");
    node.ip(&format!("route add default via 192.0.2.1 dev {LAN}"));
    node.ip(&format!("-6 route add default via fe80::1 dev {LAN}"));
    node.ip(&format!("route add default via 192.0.2.2 dev {LAN} table 100"));
    let links = watch(&node);
    let links = links.borrow();
    assert_eq!(links.iter().count(), 1, "lo is excluded: {links:#?}");
    let lan = links.get(&LAN.into()).unwrap();
    assert_eq!(lan.eligibility(), Ok(node.mac));
    assert!(lan.carrier);
    assert_eq!(lan.addresses, addresses(&["192.0.2.10", "192.0.2.77", "2001:db8::10", "fe80::a"]));
    let prefixes = ["192.0.2.0/24", "2001:db8::/64"].map(|text| text.parse().unwrap());
    assert_eq!(lan.prefixes, prefixes.into());
    assert_eq!(lan.link_local, Some("fe80::a".parse().unwrap()));
    assert_eq!(lan.gateways, addresses(&["192.0.2.1", "fe80::1"]), "the main table's alone");
    let records = links.records();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].mac, records[0].carrier), (node.mac, true));
    let assigned = ["192.0.2.10/24", "192.0.2.77/24", "2001:db8::10/64"];
    assert_eq!(records[0].prefixes, assigned.map(|text| text.parse().unwrap()));
}

#[test]
fn every_change_of_a_link_is_followed() {
    let (node, neighbour) = pair();
    let links = watch(&node);
    neighbour.ip(&format!("link set {LAN} down"));
    becomes(&links, LAN, "loses its carrier but stays eligible", |lan| {
        !lan.carrier && lan.eligibility().is_ok()
    });
    neighbour.ip(&format!("link set {LAN} up"));
    becomes(&links, LAN, "has carrier again", |lan| lan.carrier);
    node.ip(&format!("link set {LAN} arp off"));
    becomes(&links, LAN, "does not resolve", |lan| lan.eligibility() == Err(Ineligible::NoArp));
    node.ip(&format!("link set {LAN} arp on"));
    node.ip(&format!("link set {LAN} down"));
    becomes(&links, LAN, "is down", |lan| lan.eligibility() == Err(Ineligible::Down));
    assert!(!links.borrow().records()[0].carrier, "what is down is recorded without carrier");
    node.ip(&format!("link set {LAN} address 02:00:00:00:00:0c"));
    node.ip(&format!("link set {LAN} name wan0"));
    node.ip("link set wan0 up");
    let mac = herald_core::wire::Mac([2, 0, 0, 0, 0, 0xc]);
    becomes(&links, "wan0", "is up under its new name and address", |wan| {
        wan.eligibility() == Ok(mac)
    });
    assert_eq!(links.borrow().get(&LAN.into()), None);
    node.ip("link set wan0 down");
    node.ip("link set wan0 name veth9");
    eventually("an excluded name is not known", || {
        (links.borrow().iter().count() == 0).then_some(())
    });
    node.ip("link set veth9 name lan9");
    becomes(&links, "lan9", "is known again", |_| true);
    node.ip("link delete lan9");
    eventually("what is deleted is gone", || (links.borrow().iter().count() == 0).then_some(()));
}

#[test]
fn a_bridges_port_is_not_eligible_but_the_bridge_is() {
    let (node, _neighbour) = pair();
    let links = watch(&node);
    node.ip("link add br0 type bridge");
    node.ip("link set br0 up");
    node.ip(&format!("link set {LAN} master br0"));
    becomes(&links, LAN, "is enslaved", |lan| lan.eligibility() == Err(Ineligible::Enslaved));
    becomes(&links, "br0", "is eligible", |bridge| bridge.eligibility().is_ok());
    let recorded: Vec<_> = links.borrow().records().into_iter().map(|link| link.name).collect();
    assert_eq!(recorded, ["br0".into()]);
    // The bridge tells this as the deletion of a link.
    node.ip(&format!("link set {LAN} nomaster"));
    becomes(&links, LAN, "is free again", |lan| lan.eligibility().is_ok());
}

#[test]
fn addresses_and_default_routes_come_and_go() {
    let (node, _neighbour) = pair();
    let links = watch(&node);
    node.assign("192.0.2.10/24");
    becomes(&links, LAN, "has a prefix", |lan| lan.prefixes.len() == 1);
    node.ip("route add default via 192.0.2.1");
    becomes(&links, LAN, "has a gateway", |lan| lan.gateways == addresses(&["192.0.2.1"]));
    node.ip("route replace default via 192.0.2.2");
    becomes(&links, LAN, "has another", |lan| lan.gateways == addresses(&["192.0.2.2"]));
    node.ip(&format!(
        "route replace default nexthop via 192.0.2.3 dev {LAN} nexthop via 192.0.2.4 dev {LAN}"
    ));
    becomes(&links, LAN, "has two", |lan| lan.gateways == addresses(&["192.0.2.3", "192.0.2.4"]));
    node.ip("route delete default");
    becomes(&links, LAN, "has none", |lan| lan.gateways.is_empty());
    node.ip(&format!("address delete 192.0.2.10/24 dev {LAN}"));
    becomes(&links, LAN, "has no prefix", |lan| lan.prefixes.is_empty());
}

#[test]
fn after_events_were_lost_everything_is_listed_anew() {
    let (node, _neighbour) = pair();
    let links = watch(&node);
    let path = std::env::temp_dir().join(format!("herald-overrun-{}", std::process::id()));
    // Far more events than the socket's buffer holds, while nobody reads; the last, which matters, is lost.
    let mut batch = String::new();
    for n in 0..3000 {
        let of = format!("10.{}.{}.1/32 dev {LAN}\n", n / 250, n % 250);
        batch += &format!("address add {of}address delete {of}");
    }
    batch += &format!("address add 192.0.2.10/24 dev {LAN}\n");
    std::fs::write(&path, batch).unwrap();
    node.ip(&format!("-batch {}", path.display()));
    std::fs::remove_file(&path).unwrap();
    becomes(&links, LAN, "has the last address alone", |lan| {
        lan.addresses == addresses(&["192.0.2.10"])
    });
}
