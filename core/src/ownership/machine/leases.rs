//! What the watch of all Leases shows, what becomes of writes, and when to list anew.

use std::collections::BTreeMap;

use super::{Machine, Output, relisting};
use crate::name::NodeName;
use crate::ownership::record::{Claim, LeaseEvent, LeaseWrite, Session, WriteOutcome};
use crate::ownership::view::{Change, LeaseKey};
use crate::time::{Moment, Span};

impl Machine {
    pub(super) fn show(&mut self, event: LeaseEvent, now: Moment) {
        let before = match &event {
            LeaseEvent::Listed(..) => {
                Some(self.view.sessions().map(|s| (s.node.clone(), s.clone())).collect())
            }
            _ => None,
        };
        let before: Option<BTreeMap<NodeName, Session>> = before;
        if before.is_some() {
            for address in self.rivals.settle() {
                self.dirty.insert(address);
                if let Some(part) = self.parts.get_mut(&address) {
                    part.disputed = true;
                }
            }
        }
        if let LeaseEvent::Claim(_, Claim { address, .. }) | LeaseEvent::ClaimGone(address) = &event
        {
            self.refusals.forget(*address);
        }
        let change = self.view.show(event);
        self.follow(change, before, now);
        let shown_before = self.session.shown_at();
        self.session.shown(&self.view);
        if self.session.shown_at() != shown_before {
            self.relisting.see_renewal();
            self.forget_overtaken(now);
        }
        // Whether anything is blocked is dear to know.
        if self.relisting.is_wanted() && self.rivals.is_empty() && !self.view.is_blocked() {
            self.relisting.want_no_more();
        }
    }

    fn follow(&mut self, change: Change, before: Option<BTreeMap<NodeName, Session>>, now: Moment) {
        match change {
            Change::Renewal(node) => {
                self.peers.changed(&node, &self.view, now);
                self.evidence.acquit(&node);
            }
            Change::Candidates(node) => {
                self.peers.changed(&node, &self.view, now);
                self.evidence.acquit(&node);
                self.assign_at = Some(now);
                self.networks = None;
                self.mark_all();
            }
            Change::Claim(address) => {
                self.dirty.insert(address);
                self.reassign_soon(now);
            }
            Change::Everything => {
                self.assign_at = Some(now);
                self.networks = None;
                self.peers.listed(&before.unwrap_or_default(), &self.view, now);
                self.mark_all();
            }
        }
    }

    /// What was confirmed before a renewal left that is now shown has been shown as well, or was overtaken unseen: by a
    /// deletion between two watches.
    fn forget_overtaken(&mut self, now: Moment) {
        let Some(shown) = self.session.shown_at() else { return };
        let (old, young) =
            std::mem::take(&mut self.confirmed).into_iter().partition(|(_, at)| *at < shown);
        self.confirmed = young;
        let old: BTreeMap<LeaseKey, Moment> = old;
        for key in old.keys().filter(|key| self.view.is_unshown(key)).cloned().collect::<Vec<_>>() {
            if let Some(change) = self.view.forget_unshown(&key) {
                self.follow(change, None, now);
            }
        }
    }

    pub(super) fn settle(
        &mut self,
        key: LeaseKey,
        outcome: &WriteOutcome,
        took: Span,
        now: Moment,
    ) {
        if let Some(change) = self.view.settle(&key, outcome) {
            self.follow(change, None, now);
        }
        match (&key, outcome) {
            (LeaseKey::Claim(address), WriteOutcome::Refused) => self.refusals.add(*address, now),
            (LeaseKey::Claim(address), WriteOutcome::Stored(_)) => self.refusals.forget(*address),
            (LeaseKey::Session(node), WriteOutcome::Refused) if *node == self.me => {
                self.session.refused(now);
            }
            (LeaseKey::Session(node), WriteOutcome::Refused) => {
                self.peers.postpone(node, now + relisting::INTERVAL);
            }
            _ => {}
        }
        let patience = match outcome {
            WriteOutcome::Stored(_) => {
                if self.view.is_unshown(&key) {
                    self.confirmed.insert(key, now);
                }
                self.write_time = Span((self.write_time.0 * 7 + took.0) / 8);
                return;
            }
            WriteOutcome::Conflict => relisting::INTERVAL,
            WriteOutcome::Unknown => Span::ZERO,
            // What stood stands.
            WriteOutcome::Refused => return,
        };
        if self.view.is_blocked() {
            self.relisting.want(now + patience);
        }
    }

    pub(super) fn doubt_rivalled(&mut self, now: Moment) {
        if self.rivals.next_deadline().is_some_and(|at| now >= at) {
            self.dirty.extend(self.rivals.addresses());
        }
    }

    /// When a list is to be asked for.
    pub(super) fn relist_due(&self) -> Option<Moment> {
        self.relisting.due(self.session.overdue_at(), self.rivals.wants_list(), || self.period())
    }

    pub(super) fn write_session(&mut self, session: Session) {
        let node = session.node.clone();
        let base = self.view.session_register(&node).send(Some(session.clone()));
        let write = LeaseWrite::Session(base, session);
        self.outputs.push_back(Output::Write(LeaseKey::Session(node), write));
    }

    pub(super) fn relist(&mut self, now: Moment) {
        if !self.left && self.relist_due().is_some_and(|at| now >= at) {
            let overdue = self.session.overdue_at().is_some_and(|at| at <= now);
            self.relisting.ask(overdue, now);
            self.rivals.ask(now);
            self.outputs.push_back(Output::ListAnew);
        }
    }
}
