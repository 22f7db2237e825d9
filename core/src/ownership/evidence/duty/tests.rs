use super::*;
use crate::ownership::fixtures::{address, claim, host, link, mac, name, plan, session, version};
use crate::ownership::plan::{Candidates, Interfaces};
use crate::ownership::record::{Claim, LeaseEvent};

struct Scene {
    view: View,
    links: Vec<Link>,
    plan: Plan,
    gateways: BTreeMap<LinkName, Vec<IpAddr>>,
}

/// Node `a` among `others`; node `b` holds addresses 1 and 2.
fn scene(others: &[Session]) -> Scene {
    let mut view = View::default();
    let sessions = others.iter().cloned().chain([session("a", "1", 1)]);
    let claims: Vec<(_, Claim)> = (1..=2).map(|n| (version(1), claim(n, "b", "1"))).collect();
    view.show(LeaseEvent::Listed(sessions.map(|s| (version(1), s)).collect(), claims));
    let nodes: Vec<(String, u64)> = others.iter().map(|s| (s.node.to_string(), 0)).collect();
    let mut nodes: Vec<(&str, u64)> = nodes.iter().map(|(node, score)| (&**node, *score)).collect();
    nodes.push(("a", 0));
    Scene { view, links: vec![link("a")], plan: plan("a", 2, &nodes), gateways: BTreeMap::new() }
}

impl Scene {
    fn of(&self, me: &NodeName) -> (Duties, BTreeMap<LinkName, Hosts>) {
        let links = match self.view.session(me) {
            Some(session) if *me != name("a") => &session.links,
            _ => &self.links,
        };
        let (gateways, view, plan) = (&self.gateways, &self.view, &self.plan);
        let surroundings = Surroundings { me, links, gateways, view, plan };
        (surroundings.duties(), surroundings.hosts())
    }

    fn duty(&self) -> Option<Duty> {
        self.of(&name("a")).0.remove(&("lan0".into(), name("b")))
    }
}

#[test]
fn an_owner_is_probed_for_all_it_answers_for_there() {
    let duty = scene(&[session("b", "1", 1)]).duty().unwrap();
    assert_eq!(duty.addresses, [address(1), address(2)]);
    assert_eq!((duty.mac, duty.macs, duty.second), (mac("b"), vec![mac("b")], false));
}

#[test]
fn of_many_nodes_two_probe_each_owner_and_one_of_them_is_the_first() {
    let nodes = ["b", "c", "d", "e", "f", "g"];
    let sessions: Vec<Session> = nodes.iter().map(|node| session(node, "1", 1)).collect();
    let scene = scene(&sessions);
    let mut second: Vec<bool> = Vec::new();
    for node in nodes.iter().chain(&["a"]) {
        second.extend(scene.of(&name(node)).0.into_values().map(|duty| duty.second));
    }
    second.sort_unstable();
    assert_eq!(second, [false, true]);
}

#[test]
fn nobody_probes_who_is_not_open_or_elsewhere_or_of_a_later_protocol() {
    let open = || session("b", "1", 1);
    assert!(scene(&[open()]).duty().is_some());
    let elsewhere = Link { prefixes: vec!["198.51.100.9/24".parse().unwrap()], ..link("b") };
    for (why, other) in [
        ("closed", Session { open_for: None, ..open() }),
        ("another life", session("b", "2", 1)),
        ("later protocol", Session { protocol: PROTOCOL + 1, ..open() }),
        ("another segment", Session { links: vec![elsewhere], ..open() }),
        ("no carrier", Session { links: vec![Link { carrier: false, ..link("b") }], ..open() }),
    ] {
        assert_eq!(scene(&[other]).duty(), None, "{why}");
    }
}

#[test]
fn who_is_deaf_or_doubted_or_without_carrier_does_not_probe() {
    let mut scene = scene(&[session("b", "1", 1)]);
    let mine = |change: fn(&mut Session)| {
        let mut own = session("a", "1", 2);
        change(&mut own);
        LeaseEvent::Session(version(2), own)
    };
    scene.view.show(mine(|own| own.doubted = true));
    assert_eq!(scene.duty(), None);
    scene.view.show(mine(|own| own.links[0].deaf = true));
    assert_eq!(scene.duty(), None);
    scene.view.show(mine(|own| own.open_for = None));
    assert_eq!(scene.duty(), None);
    scene.view.show(mine(|_| {}));
    assert!(scene.duty().is_some());
    scene.links[0].carrier = false;
    assert_eq!(scene.duty(), None);
}

#[test]
fn addresses_that_the_owner_may_not_answer_for_on_that_link_are_not_asked_for() {
    let mut scene = scene(&[session("b", "1", 1)]);
    let others = plan("a", 2, &[("a", 0)]);
    scene.plan.vips.insert(address(1), others.vips[&address(1)].clone());
    assert_eq!(scene.duty().unwrap().addresses, [address(2)]);
}

#[test]
fn peers_and_gateways_of_the_segment_are_hosts_and_the_node_itself_is_none() {
    let mut scene =
        scene(&[session("b", "1", 1), Session { open_for: None, ..session("c", "1", 1) }]);
    scene.gateways.insert("lan0".into(), vec![address(254), host("b")]);
    let hosts = &scene.of(&name("a")).1[&LinkName::from("lan0")];
    let expected = [(host("b"), Some(mac("b"))), (host("c"), Some(mac("c"))), (address(254), None)];
    assert_eq!(*hosts, Hosts::from(expected));
}

#[test]
fn an_owner_is_probed_where_its_addresses_are_on_link_and_on_no_other_network() {
    let management = |node: &str, prefix: &str| Link {
        name: "mgmt0".into(),
        prefixes: vec![prefix.parse().unwrap()],
        ..link(node)
    };
    let both =
        |node: &str, host: u8| vec![link(node), management(node, &format!("198.51.100.{host}/24"))];
    let mut scene = scene(&[Session { links: both("b", 2), ..session("b", "1", 1) }]);
    scene.links = both("a", 1);
    let own = Session { links: both("a", 1), ..session("a", "1", 2) };
    scene.view.show(LeaseEvent::Session(version(2), own));
    let probed = |scene: &Scene| -> Vec<(String, bool)> {
        let duties = scene.of(&name("a")).0.into_iter();
        duties.map(|((link, _), duty)| (link.to_string(), duty.anywhere)).collect()
    };
    assert_eq!(probed(&scene), [("lan0".to_owned(), false)]);
    // Addresses that are on-link nowhere are probed on every link that the advertisement allows.
    scene.links[0].prefixes = vec!["203.0.113.1/24".parse().unwrap()];
    let moved = |node: &str, host: u8, renewal| {
        let mut links = both(node, host);
        links[0].prefixes = vec![format!("203.0.113.{host}/24").parse().unwrap()];
        Session { links, ..session(node, "1", renewal) }
    };
    scene.view.show(LeaseEvent::Session(version(3), moved("a", 1, 3)));
    scene.view.show(LeaseEvent::Session(version(4), moved("b", 2, 3)));
    assert_eq!(probed(&scene), [("lan0".to_owned(), true), ("mgmt0".to_owned(), true)]);
}

/// Two nodes with two networks: addresses 1 and 2 are on-link in the first.
fn dual_homed() -> Scene {
    let links = |node: &str, host: u8| {
        let mut management = link(node);
        management.name = "mgmt0".into();
        management.mac.0[1] = 1;
        management.prefixes = vec![format!("198.51.100.{host}/24").parse().unwrap()];
        vec![link(node), management]
    };
    let mut scene = scene(&[Session { links: links("b", 2), ..session("b", "1", 1) }]);
    scene.links = links("a", 1);
    let own = Session { links: links("a", 1), ..session("a", "1", 2) };
    scene.view.show(LeaseEvent::Session(version(2), own));
    scene
}

#[test]
fn an_address_that_is_on_link_nowhere_is_heard_anywhere_whatever_else_its_owner_has() {
    let mut scene = dual_homed();
    let away: IpAddr = "203.0.113.9".parse().unwrap();
    let vip = scene.plan.vips[&address(1)].clone();
    scene.plan.vips.insert(away, vip);
    let claim = Claim { address: away, ..claim(9, "b", "1") };
    scene.view.show(LeaseEvent::Claim(version(3), claim));
    let duties = scene.of(&name("a")).0;
    let of = |link: &str| &duties[&(link.into(), name("b"))];
    assert_eq!((of("mgmt0").addresses.clone(), of("mgmt0").anywhere), (vec![away], true));
    assert!(!of("lan0").anywhere);
}

#[test]
fn of_two_links_of_an_owner_on_one_segment_that_is_probed_on_which_it_answers() {
    let mut second = link("b");
    second.name = "lan1".into();
    second.mac.0[1] = 1;
    let mac = second.mac;
    let mut scene = scene(&[Session { links: vec![link("b"), second], ..session("b", "1", 1) }]);
    assert_eq!(scene.duty().unwrap().mac, link("b").mac);
    for vip in scene.plan.vips.values_mut() {
        let mut candidates = Candidates::clone(&vip.candidates);
        for candidacy in candidates.nodes.values_mut() {
            candidacy.interfaces = Interfaces::Only([LinkName::from("lan1")].into());
        }
        vip.candidates = candidates.into();
    }
    assert_eq!(scene.duty().unwrap().mac, mac);
}

#[test]
fn who_is_to_be_heard_out_is_asked_where_this_node_hears() {
    let mut scene = dual_homed();
    // On-link nowhere: it may be asked for on both links.
    for node in ["a", "b"] {
        let mut moved = scene.view.session(&name(node)).unwrap().clone();
        moved.renewal += 1;
        moved.links[0].prefixes = vec!["203.0.113.1/24".parse().unwrap()];
        if node == "a" {
            scene.links.clone_from(&moved.links);
        }
        scene.view.show(LeaseEvent::Session(version(3), moved));
    }
    let places = |scene: &Scene| -> Vec<String> {
        let me = name("a");
        let (gateways, view, plan) = (&scene.gateways, &scene.view, &scene.plan);
        let of = Surroundings { me: &me, links: &scene.links, gateways, view, plan };
        let peer = scene.view.session(&name("b")).unwrap();
        let found = of.within_earshot(peer, &of.answerable(peer));
        found.into_iter().map(|(_, link, _)| link.to_string()).collect()
    };
    assert_eq!(places(&scene), ["lan0", "lan0"]);
    scene.links[0].deaf = true;
    assert_eq!(places(&scene), ["mgmt0", "mgmt0"]);
    scene.links[1].deaf = true;
    assert!(places(&scene).is_empty());
}
