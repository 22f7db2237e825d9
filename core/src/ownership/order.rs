//! R4: in which order the candidates of one address take it. Every node computes the same order from the same view.

use std::cmp::Reverse;
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use super::plan::{Candidacy, Interfaces, Vip};
use super::record::Link;
use super::view::View;
use crate::name::NodeName;

/// What a candidate is ranked by; the least comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// The holder named another node when it handed the address over.
    not_named: bool,
    /// It was found silent not long ago.
    doubted: bool,
    /// No link on which it would answer hears anybody.
    deaf: bool,
    /// It is not the node that held the claim before its speaker restarted: with the same hardware address, clients
    /// notice nothing.
    not_former: bool,
    /// No link of it has the address on-link; then none of those beside whom it stands has (R3).
    off_link: bool,
    score: Reverse<u64>,
    /// It holds no other address of the same Service.
    alone: bool,
}

/// The candidates of `vip` that could take it now, first the first: their session is open and stays, and a link that the
/// advertisement allows has carrier, one that has the address on-link where any of them has one.
pub fn order<'p>(address: IpAddr, vip: &'p Vip, view: &View) -> Vec<&'p NodeName> {
    sorted(address, vip, view, None).into_iter().map(|(_, _, node)| node).collect()
}

/// The first in the [`order`] as it will be once `leaver` says that it goes: until then it may be the only one that has the
/// address on-link, and keep out all others.
pub fn successor<'p>(
    address: IpAddr,
    vip: &'p Vip,
    view: &View,
    leaver: &NodeName,
) -> Option<&'p NodeName> {
    sorted(address, vip, view, Some(leaver)).into_iter().map(|(_, _, node)| node).next()
}

/// Those of the [`order`] to which `address` may move though its owner could keep it: they hear, and are not doubted.
/// A move that is not made does no harm; one to another node does.
pub fn welcome<'p>(address: IpAddr, vip: &'p Vip, view: &View) -> Vec<&'p NodeName> {
    welcomed(address, vip, view).map(|(_, _, node)| node).collect()
}

/// The node to which `address` belongs by MetalLB's order among those that are [`welcome`] to it (R4, `--failback`): what
/// the owner holds besides does not matter, so that all addresses of a Service go home together.
pub fn home<'p>(address: IpAddr, vip: &'p Vip, view: &View) -> Option<&'p NodeName> {
    welcomed(address, vip, view)
        .min_by_key(|(rank, digest, node)| (rank.score, *digest, *node))
        .map(|(_, _, node)| node)
}

fn welcomed<'p>(
    address: IpAddr,
    vip: &'p Vip,
    view: &View,
) -> impl Iterator<Item = (Rank, [u8; 32], &'p NodeName)> + use<'p> {
    let sorted = sorted(address, vip, view, None).into_iter();
    sorted.filter(|(rank, _, _)| !rank.deaf && !rank.doubted)
}

fn sorted<'p>(
    address: IpAddr,
    vip: &'p Vip,
    view: &View,
    without: Option<&NodeName>,
) -> Vec<(Rank, [u8; 32], &'p NodeName)> {
    let first = vip.first.to_string();
    let mut all: Vec<(Rank, [u8; 32], &NodeName)> = ranked(address, vip, view)
        .filter(|(_, node)| without != Some(*node))
        .map(|(rank, node)| (rank, digest(node, &first), node))
        .collect();
    if all.iter().any(|(rank, _, _)| !rank.off_link) {
        all.retain(|(rank, _, _)| !rank.off_link);
    }
    all.sort_unstable();
    all
}

/// How many come before `me` in the [`order`] of `vip`; `None` when `me` is not in it.
pub fn place(address: IpAddr, vip: &Vip, view: &View, me: &NodeName) -> Option<u64> {
    let mine = rank(address, vip, vip.candidates.nodes.get(me)?, me, view)?;
    if mine.off_link && is_anybody_beside(address, vip, view, me) {
        return None;
    }
    let first = vip.first.to_string();
    let my_digest = digest(me, &first);
    let before = ranked(address, vip, view).filter(|(rank, node)| {
        // Most stand alike, and a digest is dear.
        let by_digest = || (digest(node, &first), *node).cmp(&(my_digest, me));
        rank.off_link == mine.off_link && rank.cmp(&mine).then_with(by_digest).is_lt()
    });
    Some(before.count() as u64)
}

fn ranked<'p>(
    address: IpAddr,
    vip: &'p Vip,
    view: &View,
) -> impl Iterator<Item = (Rank, &'p NodeName)> {
    vip.candidates.nodes.iter().filter_map(move |(node, candidacy)| {
        Some((rank(address, vip, candidacy, node, view)?, node))
    })
}

fn rank(
    address: IpAddr,
    vip: &Vip,
    candidacy: &Candidacy,
    node: &NodeName,
    view: &View,
) -> Option<Rank> {
    let session = view.session(node).filter(|s| s.open_for.is_some() && !s.leaving)?;
    let links = || usable(&session.links, &candidacy.interfaces);
    links().next()?;
    let claim = view.claim(address);
    let named = claim.and_then(|claim| claim.handing_over_to.as_ref()) == Some(node);
    let former = claim.is_some_and(|claim| {
        claim.holder.node == *node && session.open_for.as_ref() != Some(&claim.holder.incarnation)
    });
    let beside = vip.siblings.iter().any(|sibling| {
        view.claim(*sibling).is_some_and(|c| c.holder.node == *node && view.is_open_for(&c.holder))
    });
    Some(Rank {
        not_named: !named,
        doubted: session.doubted,
        deaf: is_deaf(&session.links, &candidacy.interfaces, address),
        not_former: !former,
        off_link: !links().any(|link| link.is_beside(address)),
        score: Reverse(candidacy.score),
        alone: !beside,
    })
}

/// Whether a node other than `me` that could take `address` now has it on-link.
pub fn is_anybody_beside(address: IpAddr, vip: &Vip, view: &View, me: &NodeName) -> bool {
    vip.candidates.nodes.iter().filter(|(node, _)| *node != me).any(|(node, candidacy)| {
        let session = view.session(node).filter(|s| s.open_for.is_some() && !s.leaving);
        session.is_some_and(|session| {
            usable(&session.links, &candidacy.interfaces).any(|link| link.is_beside(address))
        })
    })
}

/// Whether a node hears nobody where it would answer for `address`: on the links that have it on-link, if any do.
pub fn is_deaf(links: &[Link], interfaces: &Interfaces, address: IpAddr) -> bool {
    let usable = || usable(links, interfaces);
    let on_link = usable().any(|link| link.is_beside(address));
    let mut answering = usable().filter(|link| link.is_beside(address) == on_link).peekable();
    answering.peek().is_some() && answering.all(|link| link.deaf)
}

/// The links of a node on which it may and can answer.
pub fn usable<'l>(links: &'l [Link], interfaces: &'l Interfaces) -> impl Iterator<Item = &'l Link> {
    links.iter().filter(|link| link.carrier && interfaces.allow(&link.name))
}

/// MetalLB's order: SHA-256 of `<node>#<first address>`, the least first. It spreads addresses over nodes, and a cluster
/// that changes over from MetalLB keeps each address where it is.
pub fn hash(node: &NodeName, first: IpAddr) -> [u8; 32] {
    digest(node, &first.to_string())
}

fn digest(node: &NodeName, first: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(node.as_str())
        .chain_update("#")
        .chain_update(first)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests;
