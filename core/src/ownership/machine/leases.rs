//! What the watch of all Leases shows, what becomes of writes, and when to list anew.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Machine, Output};
use crate::name::NodeName;
use crate::ownership::record::{Claim, LeaseEvent, LeaseWrite, Session, WriteOutcome};
use crate::ownership::view::{Change, LeaseKey};
use crate::time::{Moment, Span};

/// Between two consistent lists that this machine asks for.
const RELIST_INTERVAL: Span = Span::secs(1);
/// So many renew periods lie at most between two lists, where lists come and none shows a renewal of this speaker's own:
/// the API server is slow, or stores nothing, and all speakers do the same to it. Fewer than a session lasts.
const PERIODS_BETWEEN_LISTS: u64 = 2;
/// How long an owner that heard another speaker waits for a list before it only holds (R9).
const RIVAL_SETTLED_WITHIN: Span = Span::millis(500);

impl Machine {
    pub(super) fn show(&mut self, event: LeaseEvent, now: Moment) {
        let before = match &event {
            LeaseEvent::Listed(..) => {
                Some(self.view.sessions().map(|s| (s.node.clone(), s.clone())).collect())
            }
            _ => None,
        };
        let before: Option<BTreeMap<NodeName, Session>> = before;
        if before.is_some() && !self.rivals.is_empty() {
            // A list that began before the rival was heard says nothing of it.
            let (settled, heard_later) =
                std::mem::take(&mut self.rivals).into_iter().partition(|(_, at)| at.is_some());
            let settled: BTreeMap<IpAddr, Option<Moment>> = settled;
            self.rivals = heard_later;
            for address in settled.into_keys() {
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
            self.fruitless = 0;
            self.forget_overtaken(now);
        }
        self.relist_at =
            self.relist_at.filter(|_| !self.rivals.is_empty() || self.view.is_blocked());
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
                self.peers.postpone(node, now + RELIST_INTERVAL);
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
            WriteOutcome::Conflict => RELIST_INTERVAL,
            WriteOutcome::Unknown => Span::ZERO,
            // What stood stands.
            WriteOutcome::Refused => return,
        };
        if self.view.is_blocked() {
            self.want_list(now + patience);
        }
    }

    /// From when on an owner that listed anew because of a rival, and was shown nothing, is not to be called sure (R9).
    pub(super) fn rival_due(&self) -> Option<Moment> {
        self.rivals.values().flatten().min().map(|asked| *asked + RIVAL_SETTLED_WITHIN)
    }

    pub(super) fn is_doubtful(&self, address: IpAddr, now: Moment) -> bool {
        let asked = self.rivals.get(&address).copied().flatten();
        asked.is_some_and(|asked| now >= asked + RIVAL_SETTLED_WITHIN)
    }

    pub(super) fn doubt_rivalled(&mut self, now: Moment) {
        if self.rival_due().is_some_and(|at| now >= at) {
            self.dirty.extend(self.rivals.keys());
        }
    }

    pub(super) fn want_list(&mut self, at: Moment) {
        self.relist_at = Some(self.relist_at.map_or(at, |known| known.min(at)));
    }

    /// When a list is to be asked for: because a write failed, a rival was heard or a renewal is not shown.
    pub(super) fn relist_due(&self) -> Option<Moment> {
        let wanted = [self.relist_at, self.session.overdue_at()].into_iter().flatten().min()?;
        let rival = self.rivals.values().any(Option::is_none);
        let interval = match self.fruitless {
            more if more > 1 && !rival => {
                self.period().times((more - 1).min(PERIODS_BETWEEN_LISTS))
            }
            _ => RELIST_INTERVAL,
        };
        Some(self.relisted.map_or(wanted, |last| wanted.max(last + interval)))
    }

    pub(super) fn write_session(&mut self, session: Session) {
        let node = session.node.clone();
        let base = self.view.session_register(&node).send(Some(session.clone()));
        let write = LeaseWrite::Session(base, session);
        self.outputs.push_back(Output::Write(LeaseKey::Session(node), write));
    }

    pub(super) fn relist(&mut self, now: Moment) {
        if !self.left && self.relist_due().is_some_and(|at| now >= at) {
            self.relisted = Some(now);
            let overdue = self.session.overdue_at().is_some_and(|at| at <= now);
            self.fruitless = self.fruitless.saturating_add(u64::from(overdue));
            for asked in self.rivals.values_mut() {
                asked.get_or_insert(now);
            }
            self.outputs.push_back(Output::ListAnew);
        }
    }
}
