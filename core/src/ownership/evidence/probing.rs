//! One peer on one link: what it answered, and what it did not though it was asked and waited for.

use super::duty::Duty;
use super::{ADDRESSES_ASKED, ASKS, Ask, Voice};
use crate::ownership::choices::{MISSES, Periods};
use crate::time::{Moment, Span};
use crate::wire::Mac;

/// Between two times that everybody is asked for a peer which was found silent and whose session is still open.
const ASKED_AGAIN: Span = Span::millis(500);
/// How much longer the second prober waits than the first: one write, so that two do not write one thing.
const SECOND_WAITS: Span = Span::millis(50);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// A probe each interval; `sent` while one awaits its answer.
    Probing { sent: bool },
    /// Everybody is asked for the peer's addresses, and a third host whether it hears. `third` is after how many rounds
    /// one was first heard: what was asked before may have been asked on a cut link, so the peer is asked once more.
    Asking { since: Moment, rounds: u8, third: Option<u8> },
    /// It was found silent. If its session is still open after a while, it is asked about again.
    Found,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Probing {
    duty: Duty,
    pace: Periods,
    /// This life of the peer's speaker has answered here: who never did, cannot fall silent.
    answered: bool,
    misses: u64,
    phase: Phase,
    due: Moment,
    /// The position of the next address to ask for.
    turn: usize,
}

impl Probing {
    pub(super) fn new(duty: Duty, pace: Periods, now: Moment) -> Self {
        let phase = Phase::Probing { sent: false };
        Self { duty, pace, answered: false, misses: 0, phase, due: now, turn: 0 }
    }

    pub(super) fn reassign(&mut self, duty: Duty, now: Moment) {
        if duty.incarnation != self.duty.incarnation || duty.mac != self.duty.mac {
            *self = Self::new(duty, self.pace, now);
        } else {
            self.duty = duty;
        }
    }

    pub(super) fn due(&self) -> Moment {
        self.due
    }

    pub(super) fn macs(&self) -> &[Mac] {
        &self.duty.macs
    }

    /// Somebody was heard, on the link that is probed or on another.
    pub(super) fn hear(&mut self, voice: &Voice, here: bool, now: Moment) {
        let of_peer = self.duty.macs.contains(&voice.mac);
        let for_duty = self.duty.addresses.binary_search(&voice.address).is_ok();
        if of_peer && for_duty && (here || self.duty.anywhere) {
            self.answered |= voice.answer;
            self.misses = 0;
            if self.phase != (Phase::Probing { sent: true }) {
                self.due = self.due.min(now + self.pace.probe);
            }
            self.phase = Phase::Probing { sent: false };
        } else if let Phase::Asking { rounds, third, .. } = &mut self.phase
            // Its kernel answers for the node although its speaker is dead: that is no third host. Nor is who is heard
            // on another link: this one may be cut all the same.
            && voice.answer
            && here
            && !of_peer
        {
            third.get_or_insert(*rounds);
        }
    }

    /// Nothing of what was counted counts.
    pub(super) fn discard(&mut self, now: Moment) {
        self.misses = 0;
        self.phase = Phase::Probing { sent: false };
        self.due = now + self.pace.probe;
    }

    /// What to ask now, and whether the peer is found silent.
    pub(super) fn look(&mut self, now: Moment) -> (Vec<Ask>, bool) {
        if now.since(self.due) > self.pace.late() {
            self.misses = 0;
            return (self.probe(now), false);
        }
        match self.phase {
            Phase::Probing { sent } => {
                self.misses += u64::from(sent && self.answered);
                if self.misses < MISSES {
                    return (self.probe(now), false);
                }
                (self.ask(now, 0, None), false)
            }
            Phase::Asking { since, rounds, third } if rounds < ASKS || third == Some(rounds) => {
                (self.ask(since, rounds, third), false)
            }
            Phase::Asking { third: Some(_), .. } => {
                self.phase = Phase::Found;
                self.due = now + ASKED_AGAIN;
                (Vec::new(), true)
            }
            // Nobody answers at all: it may be my own cable that is cut.
            Phase::Asking { third: None, .. } => {
                self.misses = 0;
                (self.probe(now), false)
            }
            Phase::Found => (self.ask(now, 0, None), false),
        }
    }

    fn probe(&mut self, now: Moment) -> Vec<Ask> {
        self.phase = Phase::Probing { sent: true };
        self.due = now + self.pace.probe;
        let address = self.duty.addresses[self.turn % self.duty.addresses.len()];
        self.turn = self.turn.wrapping_add(1);
        vec![Ask { address, to: Some(self.duty.mac) }]
    }

    /// The next of the rounds that began at `since`; third hosts are asked by the ear of this link. Who is silent on
    /// purpose answers the one question that is for it alone.
    fn ask(&mut self, since: Moment, rounds: u8, third: Option<u8>) -> Vec<Ask> {
        let rounds = rounds + 1;
        self.phase = Phase::Asking { since, rounds, third };
        let wait = if rounds >= ASKS && self.duty.second { SECOND_WAITS } else { Span::ZERO };
        self.due = self.pace.round(since, rounds) + wait;
        let start = self.turn % self.duty.addresses.len();
        let addresses = self.duty.addresses.iter().cycle().skip(start);
        let count = self.duty.addresses.len().min(ADDRESSES_ASKED);
        let alone = Ask { address: self.duty.addresses[start], to: Some(self.duty.mac) };
        let everybody = addresses.take(count).map(|address| Ask { address: *address, to: None });
        [alone].into_iter().chain(everybody).collect()
    }

    /// Whether a third host is to be asked whether this link hears anybody.
    pub(super) fn wants_third(&self) -> bool {
        matches!(self.phase, Phase::Asking { third: None, .. })
    }
}
