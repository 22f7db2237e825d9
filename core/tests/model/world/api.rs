//! The API server: Leases with versions, writes that compare and swap, watches.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use herald_core::ownership::machine::Input;
use herald_core::ownership::record::{
    Claim, LeaseEvent, LeaseWrite, Session, Version, WriteOutcome,
};
use herald_core::ownership::view::LeaseKey;
use herald_core::time::Span;

use super::{Letter, Node, World};
use crate::canon::VERSION;
use crate::settings::{NODES, index, vip};

/// After so long without an answer the outcome of a write is unknown.
pub(crate) const PATIENCE: u64 = 1_500;
/// After so long without an answer it is sent once more.
pub(crate) const RESEND: u64 = 300;
/// Between two attempts to list.
const RETRY: u64 = 500;

/// What is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Api {
    /// The sessions, by node.
    pub(crate) sessions: BTreeMap<usize, (Version, Session)>,
    pub(crate) claims: BTreeMap<IpAddr, (Version, Claim)>,
    /// When each session was last written.
    pub(crate) renewed: BTreeMap<usize, u64>,
    /// Not hashed as it is: versions are, by their order.
    revision: Revision,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Revision(u32);

impl std::hash::Hash for Revision {
    /// The next one is unlike all that exist; which one it is says nothing.
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Api {
    fn version(&mut self, before: Option<&Version>) -> Version {
        self.revision.0 += 1;
        let name = |of: char| format!("{}{of}{}", char::from(VERSION), self.revision.0);
        let uid = before.map_or_else(|| name('u').into(), |version| version.uid.clone());
        Version { uid, resource: name('r').into() }
    }

    /// Whether claims name the life that a node's session is open for, and it answers its peers for all that do. What it
    /// may not answer for, as `judge` plans, does not count.
    pub(crate) fn is_owner(&self, index: usize, node: &Node, judge: &Node) -> bool {
        let Some((_, session)) = self.sessions.get(&index) else { return false };
        let names = |claim: &Claim| session.open_for.as_ref() == Some(&claim.holder.incarnation);
        let may = |address: IpAddr| judge.planned != Some(index) || address != vip(1);
        let claims = self.claims.values().map(|(_, claim)| claim);
        let claims = claims.filter(|claim| names(claim) && may(claim.address));
        let mut known = claims.map(|claim| {
            node.answering.contains(&claim.address) || node.vouched.contains(&claim.address)
        });
        known.next() == Some(true) && known.all(|known| known)
    }

    /// The outcome of `write`, and what a watch shows of it if it is stored.
    fn store(&mut self, write: LeaseWrite, now: u64) -> (WriteOutcome, Option<LeaseEvent>) {
        let stored = |version: &Version| WriteOutcome::Stored(Some(version.clone()));
        match write {
            LeaseWrite::Session(base, session) => {
                let node = index(&session.node);
                let current = self.sessions.get(&node).map(|(version, _)| version.clone());
                if current != base {
                    return (WriteOutcome::Conflict, None);
                }
                let version = self.version(current.as_ref());
                self.sessions.insert(node, (version.clone(), session.clone()));
                self.renewed.insert(node, now);
                (stored(&version), Some(LeaseEvent::Session(version, session)))
            }
            LeaseWrite::Claim(base, claim) => {
                let current = self.claims.get(&claim.address).map(|(version, _)| version.clone());
                if current != base {
                    return (WriteOutcome::Conflict, None);
                }
                let version = self.version(current.as_ref());
                self.claims.insert(claim.address, (version.clone(), claim.clone()));
                (stored(&version), Some(LeaseEvent::Claim(version, claim)))
            }
            LeaseWrite::DeleteClaim(base, address) => {
                if self.claims.get(&address).map(|(version, _)| version) != Some(&base) {
                    return (WriteOutcome::Conflict, None);
                }
                self.claims.remove(&address);
                (WriteOutcome::Stored(None), Some(LeaseEvent::ClaimGone(address)))
            }
        }
    }
}

impl World {
    pub(super) fn write(&mut self, from: usize, key: LeaseKey, write: LeaseWrite) {
        if self.pretends(from, &key, &write) {
            return;
        }
        let (life, sent) = (self.nodes[from].life, self.now);
        self.post(self.setting.delays[from], Letter::Request { from, life, key, write, sent });
    }

    /// A request has come to the server, if its node's way there works.
    pub(super) fn arrive(
        &mut self,
        (from, life): (usize, u32),
        key: LeaseKey,
        write: LeaseWrite,
        sent: u64,
    ) {
        let mut outcome = WriteOutcome::Unknown;
        if self.refuses(from, &write) {
            outcome = WriteOutcome::Refused;
        } else if self.nodes[from].api {
            let now = self.now;
            let (before, judged) = (self.api.clone(), write.clone());
            let (came_to, event) = Arc::make_mut(&mut self.api).store(write, now);
            if event.is_some() {
                let mut ledger = std::mem::take(&mut self.ledger);
                ledger.stored(self, &before, from, &judged);
                self.ledger = ledger;
            }
            outcome = self.as_its_sender_sees_it(from, &judged, came_to);
            self.publish(event);
        }
        // What was sent by a process that died is stored, and nobody is told.
        if self.nodes[from].life == life && self.nodes[from].machine.is_some() {
            let unknown = outcome == WriteOutcome::Unknown;
            let delay = if unknown { PATIENCE } else { self.setting.delays[from] };
            self.post(delay, Letter::Outcome { to: from, key, outcome, sent });
        }
    }

    fn publish(&mut self, event: Option<LeaseEvent>) {
        let Some(event) = event.map(Arc::new) else { return };
        for to in 0..NODES {
            if self.nodes[to].watching {
                self.send_event(to, event.clone());
            }
        }
    }

    /// One watch shows things in their order.
    fn send_event(&mut self, to: usize, event: Arc<LeaseEvent>) {
        let mine = |letter: &Letter| matches!(letter, Letter::Shown { to: of, .. } if *of == to);
        let last = self.mail.iter().rev().find(|(_, letter)| mine(letter));
        let after = last.map_or(0, |(at, _)| at.saturating_sub(self.now));
        self.post(self.setting.delays[to].max(after), Letter::Shown { to, event });
    }

    pub(super) fn tell(&mut self, to: usize, key: LeaseKey, outcome: WriteOutcome, sent: u64) {
        if !self.nodes[to].api && outcome != WriteOutcome::Unknown {
            let outcome = WriteOutcome::Unknown;
            self.post(PATIENCE, Letter::Outcome { to, key, outcome, sent });
            return;
        }
        let took = Span(self.now - sent);
        self.feed(to, Input::Written(key, outcome, took));
    }

    /// A consistent list; the watch goes on from there.
    pub(super) fn list(&mut self, from: usize) {
        if !self.nodes[from].api {
            self.post(RETRY, Letter::List { from });
            return;
        }
        self.mail.retain(|(_, letter)| !matches!(letter, Letter::Shown { to, .. } if *to == from));
        let node = self.node(from);
        node.backlog.clear();
        node.watching = true;
        let sessions = self.api.sessions.values().cloned().collect();
        let claims = self.api.claims.values().cloned().collect();
        self.send_event(from, Arc::new(LeaseEvent::Listed(sessions, claims)));
    }

    pub(super) fn show(&mut self, to: usize, event: Arc<LeaseEvent>) {
        let node = self.node(to);
        let listed = matches!(*event, LeaseEvent::Listed(..));
        if listed && !node.api {
            node.watching = false;
            self.post(RETRY, Letter::List { from: to });
        } else if !listed && (!node.api || !node.watch) {
            node.backlog.push(event);
        } else {
            self.feed(to, Input::Leases(LeaseEvent::clone(&event)));
        }
    }

    /// A node hears of the endpoint as long as its watches show anything.
    pub(crate) fn learn_plan(&mut self, index: usize) {
        let away = self.away;
        let node = self.node(index);
        if node.api && node.watch && node.planned != away && node.machine.is_some() {
            node.planned = away;
            let plan = self.setting.plan(index, away);
            self.feed(index, Input::Plan(plan));
        }
    }

    /// The way to the server, or the watch, works again: what was held back is shown.
    pub(crate) fn catch_up(&mut self, index: usize) {
        self.learn_plan(index);
        let node = self.node(index);
        if node.api && node.watch {
            for event in std::mem::take(&mut node.backlog) {
                self.send_event(index, event);
            }
        }
    }
}
