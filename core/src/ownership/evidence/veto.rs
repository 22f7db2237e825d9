//! The veto on expiry: a speaker that lost only the API server still answers, and keeps its session.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{ASKS, Question, Voice};
use crate::name::LinkName;
use crate::ownership::choices::Periods;
use crate::time::{Moment, Span};
use crate::wire::Mac;

/// How long an answer for every address asked for protects the session.
pub const VETOED_FOR: Span = Span::secs(1);

/// What a peer is asked to show that it lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Defence {
    /// Addresses that it should answer for, each with a link of this node and the peer's hardware address there.
    pub addresses: Vec<(IpAddr, LinkName, Mac)>,
    /// All its hardware addresses.
    pub macs: Vec<Mac>,
}

/// What a peer showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answered for every address.
    Alive,
    /// For one at least it did not, where others are heard.
    Unanswering,
    /// For one at least it did not, but there nobody was heard: this node's own link may be cut.
    Undecided,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Veto {
    defence: Defence,
    pace: Periods,
    answered: BTreeSet<IpAddr>,
    /// The links on which anybody has answered, each with after how many rounds: what was asked before may have been
    /// asked on a cut link, so the peer is asked once more.
    heard: BTreeMap<LinkName, u8>,
    since: Moment,
    rounds: u8,
    due: Moment,
}

impl Veto {
    pub(super) fn new(defence: Defence, pace: Periods, now: Moment) -> Self {
        let (answered, heard) = Default::default();
        Self { defence, pace, answered, heard, since: now, rounds: 0, due: now }
    }

    pub(super) fn due(&self) -> Moment {
        self.due
    }

    pub(super) fn asks_on(&self, link: &LinkName) -> bool {
        self.defence.addresses.iter().any(|(_, on, _)| on == link)
    }

    pub(super) fn hear(&mut self, voice: &Voice) {
        if self.defence.macs.contains(&voice.mac) {
            self.answered.insert(voice.address);
        }
        // The kernel of the peer's own node, too, shows that the link hears.
        if voice.answer && self.rounds > 0 {
            self.heard.entry(voice.link.clone()).or_insert(self.rounds);
        }
    }

    fn unanswered(&self) -> impl Iterator<Item = &(IpAddr, LinkName, Mac)> {
        self.defence.addresses.iter().filter(|(of, _, _)| !self.answered.contains(of))
    }

    /// The links on which hosts are to be asked whether they hear, while the peer is asked.
    pub(super) fn unheard(&self) -> BTreeSet<LinkName> {
        let links = self.unanswered().map(|(_, link, _)| link);
        links.filter(|link| !self.heard.contains_key(*link)).cloned().collect()
    }

    /// What to ask now, and in the end what the peer has shown. `mute` are links on which nobody ever answered, so
    /// that nobody is missed there.
    pub(super) fn look(
        &mut self,
        now: Moment,
        mute: impl Fn(&LinkName) -> bool,
    ) -> (Vec<Question>, Option<Verdict>) {
        if now.since(self.due) > self.pace.late() {
            (self.since, self.rounds) = (now, 0);
            self.heard.clear();
        }
        let mut unanswered = self.unanswered().peekable();
        if unanswered.peek().is_none() {
            return (Vec::new(), Some(Verdict::Alive));
        }
        if self.rounds >= ASKS && self.heard.values().all(|round| *round < self.rounds) {
            let hears = |link: &LinkName| self.heard.contains_key(link) || mute(link);
            let missed = unanswered.any(|(_, link, _)| hears(link));
            let verdict = if missed { Verdict::Unanswering } else { Verdict::Undecided };
            return (Vec::new(), Some(verdict));
        }
        let question = |(address, link, mac): &(IpAddr, LinkName, Mac)| Question {
            address: *address,
            link: link.clone(),
            to: Some(*mac),
        };
        let questions = unanswered.map(question).collect();
        self.rounds += 1;
        self.due = self.pace.round(self.since, self.rounds);
        (questions, None)
    }
}
