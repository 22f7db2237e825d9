//! Leases, links and plans that the tests of this module share.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::plan::{Candidacy, Candidates, Interfaces, Plan, Vip};
use super::record::{Claim, Holder, Incarnation, Link, PROTOCOL, Session, Version};
use crate::name::{LinkName, NodeName, ServiceId};
use crate::time::Span;
use crate::why::announcement::Unfit;
use crate::wire::Mac;

/// How long the sessions made here last.
pub(super) const DURATION: Span = Span::secs(6);

pub(super) fn address(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))
}

pub(super) fn name(node: &str) -> NodeName {
    node.into()
}

/// The stored version `n` of some Lease.
pub(super) fn version(n: u32) -> Version {
    Version { uid: "uid".into(), resource: n.to_string().into() }
}

pub(super) fn incarnation(life: &str) -> Incarnation {
    Incarnation(life.into())
}

pub(super) fn mac(node: &str) -> Mac {
    Mac([2, 0, 0, 0, 0, node.bytes().fold(0, u8::wrapping_add)])
}

/// The address of a node itself.
pub(super) fn host(node: &str) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100 + mac(node).0[5] % 100))
}

/// A link in the prefix of every [`address`].
pub(super) fn link(node: &str) -> Link {
    Link {
        name: LinkName::from("lan0"),
        mac: mac(node),
        prefixes: vec![format!("{}/24", host(node)).parse().unwrap()],
        carrier: true,
        deaf: false,
    }
}

/// A session of `node` that is open for `life`.
pub(super) fn session(node: &str, life: &str, renewal: u64) -> Session {
    Session {
        node: name(node),
        node_uid: "node-uid".into(),
        open_for: Some(incarnation(life)),
        renewal,
        duration: DURATION,
        protocol: PROTOCOL,
        links: vec![link(node)],
        leaving: false,
        doubted: false,
        closed: None,
    }
}

pub(super) fn claim(n: u8, node: &str, life: &str) -> Claim {
    Claim {
        address: address(n),
        holder: Holder { node: name(node), incarnation: incarnation(life) },
        transitions: 0,
        handing_over_to: None,
        contested: false,
    }
}

/// Candidates on every interface, each with its score.
pub(super) fn candidates(nodes: &[(&str, u64)]) -> Arc<Candidates> {
    let candidacy = |score| Candidacy { score, interfaces: Interfaces::Any, ready: true };
    let nodes: BTreeMap<NodeName, Candidacy> =
        nodes.iter().map(|(node, score)| (name(node), candidacy(*score))).collect();
    let scored = nodes.values().any(|candidacy| candidacy.score > 0);
    Arc::new(Candidates { nodes, scored })
}

/// What node `me` plans when addresses 1 to `vips` may be answered by `nodes`.
pub(super) fn plan(me: &str, vips: u8, nodes: &[(&str, u64)]) -> Plan {
    let candidates = candidates(nodes);
    let vip = |n: u8| Vip {
        services: vec![ServiceId::new("default", format!("service{n}"))],
        first: address(n),
        siblings: Arc::new([]),
        unfit: (!candidates.nodes.contains_key(&name(me))).then_some(Unfit::NoLocalEndpoint),
        candidates: candidates.clone(),
    };
    Plan {
        vips: (1..=vips).map(|n| (address(n), vip(n))).collect(),
        takes_part: true,
        node_uid: Some("node-uid".into()),
        node_unfit: None,
    }
}
