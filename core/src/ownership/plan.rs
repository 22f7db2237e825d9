//! What the objects of the cluster allow: for each address, the nodes that may answer for it. Sessions, links and claims
//! come on top of it, in the machine.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::name::{LinkName, NodeName, ServiceId};
use crate::why::announcement::Unfit;

/// The outcome of planning, the same on every node but for what concerns the node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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

impl Plan {
    /// The addresses for which this plan says something other than `other`, in order.
    pub fn differing<'p>(&'p self, other: &'p Self) -> impl Iterator<Item = IpAddr> + 'p {
        let (mut ours, mut theirs) = (self.vips.iter().peekable(), other.vips.iter().peekable());
        std::iter::from_fn(move || {
            loop {
                let order = match (ours.peek(), theirs.peek()) {
                    (None, None) => return None,
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some((a, _)), Some((b, _))) => a.cmp(b),
                };
                let our = ours.next_if(|_| order.is_le());
                let their = theirs.next_if(|_| order.is_ge());
                if our != their {
                    return our.or(their).map(|(address, _)| *address);
                }
            }
        })
    }

    /// Takes over from `other` all candidates that are the same, so that to compare the two plans costs little, however
    /// many nodes there are.
    pub fn share_with(&mut self, other: &Self) {
        let mut same: HashMap<(*const Candidates, *const Candidates), bool> = HashMap::new();
        let mut theirs = other.vips.iter().peekable();
        for (address, vip) in &mut self.vips {
            while theirs.next_if(|(other, _)| *other < address).is_some() {}
            let Some((_, Vip { candidates: known, .. })) =
                theirs.next_if(|(other, _)| *other == address)
            else {
                continue;
            };
            let pair = (Arc::as_ptr(&vip.candidates), Arc::as_ptr(known));
            if *same.entry(pair).or_insert_with(|| vip.candidates == *known) {
                vip.candidates = Arc::clone(known);
            }
        }
    }
}

/// One address and who may answer for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Candidates {
    /// Each with what is particular to it.
    pub nodes: BTreeMap<NodeName, Candidacy>,
    /// Whether any of them has a preference score.
    pub scored: bool,
}

/// What is particular to one node for one address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::fixtures::{address, candidates, plan};

    #[test]
    fn plans_differ_in_what_came_what_went_and_what_is_said_otherwise() {
        let mut before = plan("a", 5, &[("a", 0), ("b", 0)]);
        let mut after = before.clone();
        assert_eq!(after.differing(&before).count(), 0);
        before.vips.remove(&address(1));
        after.vips.remove(&address(3));
        after.vips.remove(&address(5));
        after.vips.get_mut(&address(4)).unwrap().candidates = candidates(&[("b", 0)]);
        let differing: Vec<IpAddr> = after.differing(&before).collect();
        assert_eq!(differing, [1, 3, 4, 5].map(address));
        let backwards: Vec<IpAddr> = before.differing(&after).collect();
        assert_eq!(backwards, differing);
    }

    #[test]
    fn a_plan_shares_the_candidates_that_have_not_changed() {
        let before = plan("a", 3, &[("a", 0), ("b", 0)]);
        let mut after = plan("a", 3, &[("a", 0), ("b", 0)]);
        after.vips.get_mut(&address(2)).unwrap().candidates = candidates(&[("b", 0)]);
        let as_planned = after.clone();
        after.share_with(&before);
        assert_eq!(after, as_planned);
        let shared = |n| {
            Arc::ptr_eq(&after.vips[&address(n)].candidates, &before.vips[&address(n)].candidates)
        };
        assert_eq!([1, 2, 3].map(shared), [true, false, true]);
    }

    #[test]
    fn candidates_are_shared_past_addresses_that_came_and_went() {
        let mut before = plan("a", 5, &[("a", 0), ("b", 0)]);
        let mut after = plan("a", 5, &[("a", 0), ("b", 0)]);
        before.vips.retain(|one, _| ![1, 3].map(address).contains(one));
        after.vips.retain(|one, _| ![2, 5].map(address).contains(one));
        after.share_with(&before);
        let before = Arc::as_ptr(&before.vips[&address(4)].candidates);
        let of = |n| Arc::as_ptr(&after.vips[&address(n)].candidates);
        assert_eq!([1, 3, 4].map(|n| of(n) == before), [false, false, true]);
    }
}
