//! What the objects of the cluster allow: for each address, the nodes that may answer for it. Sessions, links and claims
//! come on top of it, in the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::name::{LinkName, NodeName, ServiceId};
use crate::why::announcement::Unfit;

/// The outcome of planning, the same on every node but for what concerns the node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every address that some Service of ours has.
    pub vips: BTreeMap<IpAddr, Vip>,
    /// Whether some advertisement selects this node, so that it holds a session.
    pub takes_part: bool,
    /// This Node's uid; `None` when there is no such Node.
    pub node_uid: Option<Arc<str>>,
    /// What keeps this node from announcing anything at all.
    pub node_unfit: Option<Unfit>,
}

/// One address and who may answer for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// The Services that have it, the oldest first. Never empty.
    pub services: Vec<ServiceId>,
    /// The first address of the oldest of them: what MetalLB's order hashes.
    pub first: IpAddr,
    /// Other addresses of the same Services: one node is better for all of them.
    pub siblings: Arc<[IpAddr]>,
    /// The nodes that the objects allow.
    pub candidates: Arc<Candidates>,
    /// Why this node is none of them.
    pub unfit: Option<Unfit>,
}

/// Nodes that may answer. Shared between the addresses for which they are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Each with what is particular to it.
    pub nodes: BTreeMap<NodeName, Candidacy>,
    /// Whether any of them has a preference score.
    pub scored: bool,
}

/// What is particular to one node for one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidacy {
    /// The sum of the weights of `preferredNodeSelectors` that select it.
    pub score: u64,
    /// Where it may answer.
    pub interfaces: Interfaces,
    /// Whether its Node is Ready: a cold start waits for its session.
    pub ready: bool,
}

/// The interfaces that advertisements allow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Interfaces {
    /// Every one.
    Any,
    /// These.
    Only(BTreeSet<LinkName>),
}

impl Interfaces {
    /// Whether `link` is among them.
    pub fn allow(&self, link: &LinkName) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names.contains(link),
        }
    }

    /// These and those of `other`.
    #[must_use]
    pub fn union(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Only(mut names), Self::Only(more)) => {
                names.extend(more.iter().cloned());
                Self::Only(names)
            }
            _ => Self::Any,
        }
    }

    /// Those that are among both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Any, either) | (either, Self::Any) => either.clone(),
            (Self::Only(a), Self::Only(b)) => Self::Only(a.intersection(b).cloned().collect()),
        }
    }
}
