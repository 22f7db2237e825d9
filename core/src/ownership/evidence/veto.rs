//! The veto on expiry: a speaker that lost only the API server still answers, and keeps its session.

use std::collections::BTreeSet;
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

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Veto {
    defence: Defence,
    pace: Periods,
    answered: BTreeSet<IpAddr>,
    since: Moment,
    rounds: u8,
    due: Moment,
}

impl Veto {
    pub(super) fn new(defence: Defence, pace: Periods, now: Moment) -> Self {
        Self { defence, pace, answered: BTreeSet::new(), since: now, rounds: 0, due: now }
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
    }

    /// What to ask now, and in the end whether the peer lives.
    pub(super) fn look(&mut self, now: Moment) -> (Vec<Question>, Option<bool>) {
        if now.since(self.due) > self.pace.late() {
            (self.since, self.rounds) = (now, 0);
        }
        let unanswered =
            self.defence.addresses.iter().filter(|(of, _, _)| !self.answered.contains(of));
        let questions: Vec<Question> = unanswered
            .map(|(address, link, mac)| Question {
                address: *address,
                link: link.clone(),
                to: Some(*mac),
            })
            .collect();
        if questions.is_empty() || self.rounds == ASKS {
            return (Vec::new(), Some(questions.is_empty()));
        }
        self.rounds += 1;
        self.due = self.pace.round(self.since, self.rounds);
        (questions, None)
    }
}
