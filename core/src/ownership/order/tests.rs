use super::*;
use crate::ownership::fixtures::{address, candidates, claim, name, session, version};
use crate::ownership::plan::Candidates;
use crate::ownership::record::{Claim, LeaseEvent, Session};
use std::sync::Arc;

fn by_hash(nodes: &[&str], first: &str) -> Vec<String> {
    let first: IpAddr = first.parse().unwrap();
    let mut nodes: Vec<NodeName> = nodes.iter().map(|node| NodeName::from(*node)).collect();
    nodes.sort_by_key(|node| hash(node, first));
    nodes.iter().map(ToString::to_string).collect()
}

/// Vectors that MetalLB's own election gives.
#[test]
fn the_hash_orders_nodes_as_metallb_does() {
    let abc = ["node-a", "node-b", "node-c"];
    assert_eq!(by_hash(&abc, "10.0.0.1"), ["node-b", "node-a", "node-c"]);
    assert_eq!(by_hash(&abc, "10.0.0.2"), ["node-b", "node-c", "node-a"]);
    assert_eq!(by_hash(&abc, "10.20.30.1"), ["node-b", "node-c", "node-a"]);
    assert_eq!(by_hash(&abc, "2001:db8::1"), ["node-b", "node-a", "node-c"]);
    assert_eq!(by_hash(&["edge-a", "edge-b"], "10.20.30.1"), ["edge-b", "edge-a"]);
    let kind = ["kind-control-plane", "kind-worker", "kind-worker2"];
    assert_eq!(
        by_hash(&kind, "192.168.10.1"),
        ["kind-worker2", "kind-worker", "kind-control-plane"]
    );
}

/// What three nodes look like to each other.
struct Scene {
    sessions: Vec<Session>,
    claims: Vec<Claim>,
    candidates: Arc<Candidates>,
    siblings: Vec<IpAddr>,
}

/// Alike in all but their hash, which orders them as [`ALIKE`] says.
fn alike() -> Scene {
    Scene {
        sessions: ALIKE.map(|node| session(node, "1", 1)).to_vec(),
        claims: vec![],
        candidates: candidates(&ALIKE.map(|node| (node, 0))),
        siblings: vec![],
    }
}

const ALIKE: [&str; 3] = ["c", "a", "b"];

impl Scene {
    fn of(&mut self, node: &str) -> &mut Session {
        self.sessions.iter_mut().find(|session| session.node == name(node)).unwrap()
    }

    fn vip(&self) -> Vip {
        Vip {
            services: vec![],
            first: address(1),
            siblings: self.siblings.clone().into(),
            candidates: self.candidates.clone(),
            unfit: None,
        }
    }

    fn view(&self) -> View {
        let mut view = View::default();
        let sessions = self.sessions.iter().map(|s| (version(1), s.clone())).collect();
        let claims = self.claims.iter().map(|c| (version(1), c.clone())).collect();
        view.show(LeaseEvent::Listed(sessions, claims));
        view
    }

    /// The order of address 1; checks that each node's place says the same.
    fn order(&self) -> Vec<String> {
        let (vip, view) = (self.vip(), self.view());
        let order = order(address(1), &vip, &view);
        for node in ["a", "b", "c", "z"].map(name) {
            let found = order.iter().position(|other| **other == node).map(|at| at as u64);
            assert_eq!(place(address(1), &vip, &view, &node), found, "{node}");
        }
        order.into_iter().map(ToString::to_string).collect()
    }
}

#[test]
fn nodes_alike_stand_as_metallb_has_them() {
    let mut by_hash = ALIKE.map(name);
    by_hash.sort_by_key(|node| hash(node, address(1)));
    assert_eq!(by_hash, ALIKE.map(name), "the tests below suppose this");
    assert_eq!(alike().order(), ALIKE);
}

/// Puts node `b`, the last by hash, before the others for one reason each; every reason yields to those above it.
#[test]
fn each_reason_outweighs_those_that_follow_it() {
    type Reason = fn(&mut Scene, &str);
    let beside: Reason = |scene, node| {
        scene.siblings = vec![address(2)];
        scene.claims.push(claim(2, node, "1"));
    };
    let score: Reason = |scene, node| {
        let mut all = (*scene.candidates).clone();
        all.nodes.get_mut(&name(node)).unwrap().score += 10;
        scene.candidates = all.into();
    };
    let former: Reason = |scene, node| {
        let marked = scene.claims.iter().position(|claim| claim.address == address(1));
        match marked {
            Some(at) => scene.claims[at].holder = claim(1, node, "0").holder,
            None => scene.claims.push(claim(1, node, "0")),
        }
    };
    let hearing: Reason = |scene, node| {
        for other in ALIKE.iter().filter(|other| **other != node) {
            scene.of(other).links[0].deaf = true;
        }
    };
    let trusted: Reason = |scene, node| {
        for other in ALIKE.iter().filter(|other| **other != node) {
            scene.of(other).doubted = true;
        }
    };
    let named: Reason = |scene, node| {
        let held = scene.claims.iter().position(|claim| claim.address == address(1));
        let at = held.unwrap_or_else(|| {
            scene.claims.push(claim(1, "x", "0"));
            scene.claims.len() - 1
        });
        scene.claims[at].handing_over_to = Some(name(node));
    };
    let reasons = [beside, score, former, hearing, trusted, named];
    for (weight, reason) in reasons.iter().enumerate() {
        let mut scene = alike();
        reason(&mut scene, "b");
        assert_eq!(scene.order()[0], "b", "reason {weight}");
        for (less, other) in reasons[..weight].iter().enumerate() {
            let mut scene = alike();
            other(&mut scene, "a");
            assert_eq!(scene.order()[0], "a");
            reason(&mut scene, "b");
            assert_eq!(scene.order()[0], "b", "reason {weight} against {less}");
        }
    }
}

#[test]
fn who_cannot_take_is_not_in_the_order() {
    let cannot: [fn(&mut Session); 4] = [
        |session| session.open_for = None,
        |session| session.leaving = true,
        |session| session.links.clear(),
        |session| session.links[0].carrier = false,
    ];
    for change in cannot {
        let mut scene = alike();
        change(scene.of("b"));
        assert_eq!(scene.order(), ["c", "a"]);
    }
    let mut scene = alike();
    scene.sessions.retain(|session| session.node != name("b"));
    assert_eq!(scene.order(), ["c", "a"]);
}

#[test]
fn who_is_off_link_is_in_the_order_only_where_nobody_is_beside() {
    let mut scene = alike();
    scene.of("b").links[0].prefixes.clear();
    assert_eq!(scene.order(), ["c", "a"]);
    // That those beside are deaf makes no difference: it would not think itself fit.
    scene.of("c").links[0].deaf = true;
    scene.of("a").links[0].deaf = true;
    assert_eq!(scene.order(), ["c", "a"]);
    for node in ["a", "c"] {
        scene.of(node).links[0].prefixes.clear();
    }
    assert_eq!(scene.order()[0], "b");
}

#[test]
fn who_alone_has_the_address_on_link_has_a_successor_all_the_same() {
    let mut scene = alike();
    for node in ["a", "c"] {
        scene.of(node).links[0].prefixes.clear();
    }
    assert_eq!(scene.order(), ["b"]);
    let (vip, view) = (scene.vip(), scene.view());
    assert_eq!(successor(address(1), &vip, &view, &name("b")), Some(&name("c")));
}

#[test]
fn an_address_is_moved_to_none_that_is_deaf_doubted_or_off_link() {
    let spoil: [fn(&mut Session); 3] = [
        |session| session.links[0].deaf = true,
        |session| session.doubted = true,
        |session| session.links[0].prefixes.clear(),
    ];
    for spoil in spoil {
        let mut scene = alike();
        scene.candidates = candidates(&[("a", 0), ("b", 0), ("c", 10)]);
        let welcome = |scene: &Scene| {
            let (vip, view) = (scene.vip(), scene.view());
            let all = welcome(address(1), &vip, &view).into_iter().cloned().collect::<Vec<_>>();
            (all, home(address(1), &vip, &view).cloned())
        };
        assert_eq!(welcome(&scene), (["c", "a", "b"].map(name).to_vec(), Some(name("c"))));
        spoil(scene.of("c"));
        assert_eq!(welcome(&scene), (["a", "b"].map(name).to_vec(), Some(name("a"))));
        spoil(scene.of("a"));
        spoil(scene.of("b"));
        let none = scene.of("c").links[0].prefixes.is_empty();
        assert_eq!(welcome(&scene).0.is_empty(), !none);
    }
}

#[test]
fn a_claim_held_by_the_life_that_is_open_makes_no_former_holder() {
    let mut scene = alike();
    scene.claims.push(claim(1, "b", "1"));
    assert_eq!(scene.order(), ALIKE);
}

#[test]
fn an_interface_that_the_advertisement_does_not_allow_does_not_count() {
    let mut scene = alike();
    let mut all = (*scene.candidates).clone();
    let lan1 = Interfaces::Only(["lan1".into()].into());
    all.nodes.get_mut(&name("b")).unwrap().interfaces = lan1;
    scene.candidates = all.into();
    assert_eq!(scene.order(), ["c", "a"]);
}

#[test]
fn who_is_deaf_where_the_address_is_on_link_is_deaf_though_another_network_hears() {
    let first = ALIKE[0];
    let mut scene = alike();
    let mut management = scene.of(first).links[0].clone();
    management.name = "mgmt0".into();
    management.prefixes = vec!["198.51.100.1/24".parse().unwrap()];
    scene.of(first).links.push(management);
    assert_eq!(scene.order()[0], first);
    scene.of(first).links[0].deaf = true;
    assert_eq!(scene.order()[2], first);
    // An address that is on-link nowhere is answered for on all networks.
    for node in ALIKE {
        scene.of(node).links[0].prefixes = vec!["203.0.113.1/24".parse().unwrap()];
    }
    assert_eq!(scene.order()[0], first);
}
