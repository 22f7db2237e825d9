//! Whom this speaker probes, on which link, and for what: the same on every node that has the same view.
//!
//! Each owner is probed, on every link, by the first two open sessions that come after it in hash order and hear
//! anything there. So each speaker probes two peers or so, however many there are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use crate::name::{LinkName, NodeName};
use crate::ownership::plan::Plan;
use crate::ownership::record::{Holder, Incarnation, Link, PROTOCOL, Session};
use crate::ownership::view::View;
use crate::wire::Mac;

/// So many speakers probe one owner on one link.
const PROBERS: usize = 2;

/// What is asked of one peer on one link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Duty {
    /// The life of its speaker that is probed.
    pub incarnation: Incarnation,
    /// Its hardware address on this link's segment.
    pub mac: Mac,
    /// All its hardware addresses: by whichever it answers, it lives.
    pub macs: Vec<Mac>,
    /// The addresses that it answers for there, sorted. Never empty.
    pub addresses: Vec<IpAddr>,
    /// Whether a voice on any link shows that it lives: none of its addresses is on-link anywhere, so that nobody knows
    /// where it has to answer.
    pub anywhere: bool,
    /// Whether another prober comes first, which is given time to close the session.
    pub second: bool,
}

/// By link and peer.
pub type Duties = BTreeMap<(LinkName, NodeName), Duty>;

/// The other hosts of a link's segment that are known by address: peers' nodes and gateways. The hardware address is
/// that of the peer's session; of a gateway nobody knows it beforehand.
pub type Hosts = BTreeMap<IpAddr, Option<Mac>>;

/// What a speaker knows that its duties follow from.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Its node.
    pub me: &'a NodeName,
    /// Its links as they are.
    pub links: &'a [Link],
    /// The gateways of each.
    pub gateways: &'a BTreeMap<LinkName, Vec<IpAddr>>,
    /// All Leases.
    pub view: &'a View,
    /// Who may answer for what.
    pub plan: &'a Plan,
}

impl Surroundings<'_> {
    /// Whom this speaker probes. Nobody unless its session is open.
    pub fn duties(&self) -> Duties {
        let mut duties = Duties::new();
        if self.view.open_for(self.me).is_none() {
            return duties;
        }
        let ring = Ring::of(self.view);
        for (owner, addresses) in self.owners() {
            let Some(session) = self.view.session(owner) else { continue };
            // What a later protocol's speaker answers is not known here.
            if owner == self.me || session.protocol > PROTOCOL {
                continue;
            }
            for link in self.links.iter().filter(|link| link.carrier) {
                let duty = self.duty(link, session, &addresses, &ring);
                duties.extend(duty.map(|duty| ((link.name.clone(), owner.clone()), duty)));
            }
        }
        duties
    }

    /// The addresses of each owner whose session is open.
    fn owners(&self) -> BTreeMap<&NodeName, Vec<IpAddr>> {
        let mut owners: BTreeMap<&NodeName, Vec<IpAddr>> = BTreeMap::new();
        for claim in self.view.claims().filter(|claim| self.view.is_open_for(&claim.holder)) {
            owners.entry(&claim.holder.node).or_default().push(claim.address);
        }
        owners
    }

    fn duty(
        &self,
        link: &Link,
        owner: &Session,
        addresses: &[IpAddr],
        ring: &Ring<'_>,
    ) -> Option<Duty> {
        let answers = |address: &IpAddr, of: &Link| self.answers_on(owner, *address, of);
        let answers_any = |of: &&Link| addresses.iter().any(|address| answers(address, of));
        let there = segment(owner, link).find(answers_any)?;
        // Before all its addresses are looked at: most owners are probed by others.
        let position = ring.probers(owner, there).position(|node| node == self.me)?;
        let addresses: Vec<IpAddr> =
            addresses.iter().copied().filter(|address| answers(address, there)).collect();
        let on_link = |address: &IpAddr| owner.links.iter().any(|of| of.is_beside(*address));
        let anywhere = !addresses.iter().any(on_link);
        Some(Duty {
            incarnation: owner.open_for.clone()?,
            mac: there.mac,
            macs: owner.links.iter().map(|link| link.mac).collect(),
            addresses,
            anywhere,
            second: position > 0,
        })
    }

    /// Whether that link of the owner is where it answers for `address`: where it is on-link, if it is anywhere. On
    /// another network, as that of the API server, silence means nothing to it.
    fn answers_on(&self, owner: &Session, address: IpAddr, link: &Link) -> bool {
        if !link.is_beside(address) && owner.links.iter().any(|of| of.is_beside(address)) {
            return false;
        }
        let vip = self.plan.vips.get(&address);
        let candidacy = vip.and_then(|vip| vip.candidates.nodes.get(&owner.node));
        candidacy.is_some_and(|candidacy| candidacy.interfaces.allow(&link.name))
    }

    /// The other hosts on each link.
    pub fn hosts(&self) -> BTreeMap<LinkName, Hosts> {
        let of = |link: &Link| {
            let peers = self.view.sessions().filter(|session| session.node != *self.me);
            let mut hosts = Hosts::new();
            for there in peers.flat_map(|session| &session.links) {
                if there.shares_segment(link) {
                    hosts.extend(there.addresses().map(|address| (address, Some(there.mac))));
                }
            }
            let gateways = self.gateways.get(&link.name).into_iter().flatten();
            for gateway in gateways {
                hosts.entry(*gateway).or_insert(None);
            }
            for own in link.addresses() {
                hosts.remove(&own);
            }
            (link.name.clone(), hosts)
        };
        self.links.iter().filter(|link| link.carrier).map(of).collect()
    }

    /// The addresses that `peer` owns and should answer for somewhere, as far as the plan says.
    pub fn answerable(&self, peer: &Session) -> Vec<IpAddr> {
        let held = |of: &Holder| of.node == peer.node && self.view.is_open_for(of);
        let held = self.view.claims().filter(|claim| held(&claim.holder));
        let somewhere =
            |address: &IpAddr| peer.links.iter().any(|link| self.answers_on(peer, *address, link));
        held.map(|claim| claim.address).filter(somewhere).collect()
    }

    /// Where a peer's `addresses` can be asked for: each that can, with a link of mine that hears, and the peer's
    /// hardware address there.
    pub fn within_earshot(
        &self,
        peer: &Session,
        addresses: &[IpAddr],
    ) -> Vec<(IpAddr, LinkName, Mac)> {
        let place = |address: IpAddr| {
            let mut hears = self.links.iter().filter(|link| link.carrier && !link.deaf);
            hears.find_map(|link| {
                let answers = |of: &&Link| self.answers_on(peer, address, of);
                let there = segment(peer, link).find(answers)?;
                Some((address, link.name.clone(), there.mac))
            })
        };
        addresses.iter().filter_map(|address| place(*address)).collect()
    }
}

/// The open sessions in hash order. Made once for all owners: with as many of these as sessions, hashing and sorting for
/// each would take longer than a pause that goes unnoticed.
struct Ring<'a>(Vec<([u8; 32], &'a Session)>);

impl<'a> Ring<'a> {
    fn of(view: &'a View) -> Self {
        let mut ring: Vec<_> =
            view.open_sessions().map(|session| (position(&session.node), session)).collect();
        ring.sort_unstable_by(|(a, one), (b, other)| (a, &one.node).cmp(&(b, &other.node)));
        Self(ring)
    }

    /// Who probes `owner` on the segment of its link `there`, in order.
    fn probers(&self, owner: &Session, there: &Link) -> impl Iterator<Item = &'a NodeName> {
        let origin = (position(&owner.node), &owner.node);
        let next = self.0.partition_point(|(at, session)| (*at, &session.node) <= origin);
        let hears = |session: &&Session| {
            let mut links = session.links.iter();
            session.node != owner.node
                && !session.doubted
                && links.any(|link| link.carrier && !link.deaf && link.shares_segment(there))
        };
        let after = self.0[next..].iter().chain(&self.0[..next]).map(|(_, session)| *session);
        after.filter(hears).take(PROBERS).map(|session| &session.node)
    }
}

/// The links that `node` has on the segment of `link`.
fn segment<'s>(node: &'s Session, link: &'s Link) -> impl Iterator<Item = &'s Link> {
    node.links.iter().filter(|of| of.carrier && of.shares_segment(link))
}

/// Whether `node` hears anything on a segment where `peer` is.
pub fn is_in_earshot(node: &Session, peer: &Session) -> bool {
    let mut hears = node.links.iter().filter(|link| link.carrier && !link.deaf);
    hears.any(|link| segment(peer, link).next().is_some())
}

fn position(node: &NodeName) -> [u8; 32] {
    Sha256::digest(node.as_str().as_bytes()).into()
}

#[cfg(test)]
mod tests;
