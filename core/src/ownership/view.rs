//! All sessions and claims, as this speaker knows them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::record::{Claim, Holder, Incarnation, LeaseEvent, Session, Version, WriteOutcome};
use super::register::Register;
use crate::name::NodeName;
use crate::wire::Mac;

/// Names one Lease.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeaseKey {
    /// The session of a node.
    Session(NodeName),
    /// The claim on an address.
    Claim(IpAddr),
}

/// What an event changed, as far as anybody decides on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A session opened, closed, or changed its links, its incarnation or its leaving: candidates changed.
    Candidates(NodeName),
    /// A session was renewed and nothing else.
    Renewal(NodeName),
    /// A claim changed.
    Claim(IpAddr),
    /// Anything may have changed.
    Everything,
}

/// The Leases of Herald's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    sessions: BTreeMap<NodeName, Register<Session>>,
    claims: BTreeMap<IpAddr, Register<Claim>>,
    complete: bool,
}

impl View {
    /// Whether a consistent list has been seen at all.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes in what the watch shows.
    pub fn show(&mut self, event: LeaseEvent) -> Change {
        match event {
            LeaseEvent::Session(version, session) => {
                let node = session.node.clone();
                let register = self.sessions.entry(node.clone()).or_default();
                let same = register.current().is_some_and(|known| is_same(known, &session));
                register.show(Some((version, session)));
                if same { Change::Renewal(node) } else { Change::Candidates(node) }
            }
            LeaseEvent::SessionGone(node) => {
                if let Some(register) = self.sessions.get_mut(&node) {
                    register.show(None);
                }
                tidy(&mut self.sessions, &node);
                Change::Candidates(node)
            }
            LeaseEvent::Claim(version, claim) => {
                let address = claim.address;
                self.claims.entry(address).or_default().show(Some((version, claim)));
                Change::Claim(address)
            }
            LeaseEvent::ClaimGone(address) => {
                if let Some(register) = self.claims.get_mut(&address) {
                    register.show(None);
                }
                tidy(&mut self.claims, &address);
                Change::Claim(address)
            }
            LeaseEvent::Listed(sessions, claims) => {
                list(&mut self.sessions, sessions, |session| session.node.clone());
                list(&mut self.claims, claims, |claim| claim.address);
                self.complete = true;
                Change::Everything
            }
        }
    }

    /// Takes in what became of the write on `key`; says what it changed in what stands, if anything.
    pub fn settle(&mut self, key: &LeaseKey, outcome: &WriteOutcome) -> Option<Change> {
        self.alter(key, |session| session.settle(outcome), |claim| claim.settle(outcome))
    }

    /// The watch has shown something later than the confirmed write on `key`: what it has shown of `key` stands.
    pub fn forget_unshown(&mut self, key: &LeaseKey) -> Option<Change> {
        self.alter(key, Register::forget_unshown, Register::forget_unshown)
    }

    /// Whether a confirmed write on `key` has not been shown yet.
    pub fn is_unshown(&self, key: &LeaseKey) -> bool {
        match key {
            LeaseKey::Session(node) => self.sessions.get(node).is_some_and(Register::is_unshown),
            LeaseKey::Claim(address) => self.claims.get(address).is_some_and(Register::is_unshown),
        }
    }

    fn alter(
        &mut self,
        key: &LeaseKey,
        session: impl FnOnce(&mut Register<Session>),
        claim: impl FnOnce(&mut Register<Claim>),
    ) -> Option<Change> {
        match key {
            LeaseKey::Session(node) => {
                let register = self.sessions.get_mut(node)?;
                let before = register.current().cloned();
                session(register);
                let after = register.current();
                let same = match (&before, after) {
                    (Some(before), Some(after)) => is_same(before, after),
                    (before, after) => before.is_none() && after.is_none(),
                };
                let renewed = before.as_ref() != after;
                tidy(&mut self.sessions, node);
                match same {
                    false => Some(Change::Candidates(node.clone())),
                    true => renewed.then(|| Change::Renewal(node.clone())),
                }
            }
            LeaseKey::Claim(address) => {
                claim(self.claims.get_mut(address)?);
                tidy(&mut self.claims, address);
                // Even where nothing stands otherwise than before: the claim may be written again.
                Some(Change::Claim(*address))
            }
        }
    }

    /// The session of `node`, if a Lease exists.
    pub fn session(&self, node: &NodeName) -> Option<&Session> {
        self.sessions.get(node)?.current()
    }

    /// All sessions that are open.
    pub fn open_sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions
            .values()
            .filter_map(Register::current)
            .filter(|session| session.open_for.is_some())
    }

    /// All sessions, open or closed.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values().filter_map(Register::current)
    }

    /// Whether the session of `holder` is open for the very incarnation it names (R2).
    pub fn is_open_for(&self, holder: &Holder) -> bool {
        self.open_for(&holder.node) == Some(&holder.incarnation)
    }

    /// The incarnation that the session of `node` is open for.
    pub fn open_for(&self, node: &NodeName) -> Option<&Incarnation> {
        self.session(node)?.open_for.as_ref()
    }

    /// The claim on `address`.
    pub fn claim(&self, address: IpAddr) -> Option<&Claim> {
        self.claims.get(&address)?.current()
    }

    /// All addresses that have a claim, or a write on one under way.
    pub fn claimed(&self) -> impl Iterator<Item = IpAddr> {
        self.claims.keys().copied()
    }

    /// All claims.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims.values().filter_map(Register::current)
    }

    /// The node whose session lists `mac`: whether a voice on the wire is a speaker's (R9).
    pub fn speaker_with(&self, mac: Mac) -> Option<&NodeName> {
        self.sessions()
            .find(|session| session.links.iter().any(|link| link.mac == mac))
            .map(|session| &session.node)
    }

    /// The register of a session.
    pub fn session_register(&mut self, node: &NodeName) -> &mut Register<Session> {
        self.sessions.entry(node.clone()).or_default()
    }

    /// The register of a claim.
    pub fn claim_register(&mut self, address: IpAddr) -> &mut Register<Claim> {
        self.claims.entry(address).or_default()
    }

    /// Whether a write on the session of `node` may be decided now.
    pub fn is_session_writable(&self, node: &NodeName) -> bool {
        self.sessions.get(node).is_none_or(Register::is_writable)
    }

    /// Whether a write on the claim of `address` may be decided now.
    pub fn is_claim_writable(&self, address: IpAddr) -> bool {
        self.claims.get(&address).is_none_or(Register::is_writable)
    }

    /// What the watch has shown of the session of `node`, own writes left out.
    pub fn shown_session(&self, node: &NodeName) -> Option<&Session> {
        self.sessions.get(node)?.shown()
    }

    /// Whether any failed write waits for the view.
    pub fn is_blocked(&self) -> bool {
        self.sessions.values().any(Register::is_blocked)
            || self.claims.values().any(Register::is_blocked)
    }
}

/// Whether two versions of a session are alike in all that others decide on.
fn is_same(a: &Session, b: &Session) -> bool {
    (&a.open_for, a.leaving, a.doubted, &a.links) == (&b.open_for, b.leaving, b.doubted, &b.links)
}

/// Forgets the register of `key` if it holds nothing.
fn tidy<K: Ord, T>(registers: &mut BTreeMap<K, Register<T>>, key: &K) {
    if registers.get(key).is_some_and(Register::is_empty) {
        registers.remove(key);
    }
}

fn list<K: Ord, T>(
    registers: &mut BTreeMap<K, Register<T>>,
    entries: Vec<(Version, T)>,
    key: impl Fn(&T) -> K,
) {
    let mut listed: BTreeMap<K, (Version, T)> =
        entries.into_iter().map(|(version, value)| (key(&value), (version, value))).collect();
    for (key, register) in registers.iter_mut() {
        register.list(listed.remove(key));
    }
    for (key, entry) in listed {
        let mut register = Register::default();
        register.list(Some(entry));
        registers.insert(key, register);
    }
    registers.retain(|_, register| !register.is_empty());
}

#[cfg(test)]
mod tests;
