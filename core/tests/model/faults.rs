//! What may go wrong, for how long, and what it does to the cluster.

use std::ops::Range;

use herald_core::ownership::machine::Input;
use herald_core::ownership::record::WriteOutcome;

use crate::settings::{NODES, link};
use crate::world::{Letter, PATIENCE, RESEND, World};

/// Something that is wrong, until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ailment {
    /// A speaker's process was killed; its kernel answers for the node.
    Dead(usize),
    /// A node has no power.
    Off(usize),
    /// A process is not run.
    Suspended(usize),
    /// A process is not run, and its clock stands still meanwhile.
    StoodStill(usize),
    /// A node does not reach the API server.
    ApiCut(usize),
    /// A node's watch shows nothing; lists and writes work.
    WatchStalled(usize),
    /// A node's port of the switch is dead, which it does not see. For a moment: its frames are lost.
    PortDead(usize),
    /// The same one way: its frames do not get out.
    Unheard(usize),
    /// The same the other way: no frames get to it.
    Unhearing(usize),
    /// A node's cable is cut, which it sees.
    NoCarrier(usize),
    /// Two nodes do not hear each other.
    PairCut(usize, usize),
    /// The first address has no endpoint on a node.
    Away(usize),
}

/// One choice of what goes wrong now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// This, for so many milliseconds; for good without.
    Strike(Ailment, Option<u64>),
    /// What is at this place of what is on its way takes so much longer.
    Late(usize, u64),
    /// The write at this place is lost however often it is sent; its sender learns only that it does not know.
    LostWrite(usize),
    /// The same, but it is stored after all, so much later than its sender gave it up.
    LingeringWrite(usize, u64),
    /// What became of a write is lost. It is sent again, which conflicts with the first: its sender learns only that it
    /// does not know.
    LostOutcome(usize),
}

/// How many faults there are to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breadth {
    /// One length for each kind, that which is most unlike health.
    Kinds,
    /// Short and long of each kind.
    Lengths,
    /// All lengths at which something may turn over.
    All,
}

impl Breadth {
    fn of(self, all: &[u64], lengths: Range<usize>, kind: usize) -> &[u64] {
        match self {
            Self::Kinds => &all[kind..=kind],
            Self::Lengths => &all[lengths],
            Self::All => all,
        }
    }
}

impl World {
    /// What may go wrong now.
    pub(crate) fn possible(&self, breadth: Breadth) -> Vec<Fault> {
        let mut found = Vec::new();
        let mut offer = |ailment, lengths: &[u64]| {
            found.extend(lengths.iter().map(|length| Fault::Strike(ailment, Some(*length))));
        };
        for index in 0..NODES {
            let node = &self.nodes[index];
            if node.running().is_some() {
                offer(
                    Ailment::Suspended(index),
                    breadth.of(&[300, 430, 460, 620, 1_000, 3_500, 9_000], 3..6, 4),
                );
                offer(Ailment::StoodStill(index), breadth.of(&[460, 1_000, 3_500], 1..2, 1));
                offer(Ailment::Dead(index), breadth.of(&[200, 1_500], 0..1, 0));
                offer(Ailment::Off(index), breadth.of(&[3_000], 0..0, 0));
            }
            if node.api && node.watch && node.machine.is_some() {
                offer(Ailment::ApiCut(index), breadth.of(&[1_200, 3_200, 8_500], 1..3, 2));
                offer(Ailment::WatchStalled(index), breadth.of(&[1_200, 3_200, 8_500], 1..3, 1));
            }
            if node.heard && node.hears && node.carrier && node.power {
                offer(
                    Ailment::PortDead(index),
                    breadth.of(&[100, 400, 700, 1_500, 4_000], 2..4, 3),
                );
                offer(Ailment::Unheard(index), breadth.of(&[100, 400, 4_000], 1..3, 2));
                offer(Ailment::Unhearing(index), breadth.of(&[100, 400, 4_000], 1..3, 2));
                offer(Ailment::NoCarrier(index), breadth.of(&[200, 2_000], 1..2, 1));
            }
            for other in index + 1..NODES {
                if !self.cut.contains(&(index, other)) {
                    let lengths = breadth.of(&[400, 700, 4_000], 1..3, 2);
                    offer(Ailment::PairCut(index, other), lengths);
                }
            }
            if self.away.is_none() {
                offer(Ailment::Away(index), breadth.of(&[300, 3_000], 1..2, 1));
            }
        }
        let running = (0..NODES).filter(|index| self.nodes[*index].running().is_some());
        found.extend(running.clone().map(|index| Fault::Strike(Ailment::Dead(index), None)));
        if breadth == Breadth::All {
            found.extend(running.map(|index| Fault::Strike(Ailment::Off(index), None)));
        }
        self.possible_on_the_way(breadth, &mut found);
        found
    }

    fn possible_on_the_way(&self, breadth: Breadth, found: &mut Vec<Fault>) {
        let late = breadth.of(&[100, 300, 500], 1..2, 1);
        for (place, (_, letter)) in self.mail.iter().enumerate() {
            match letter {
                Letter::Request { .. } => {
                    found.push(Fault::LostWrite(place));
                    // Before its sender has listed anew, and after.
                    let lingers = breadth.of(&[1, 400], 0..2, 1);
                    found.extend(lingers.iter().map(|by| Fault::LingeringWrite(place, *by)));
                }
                Letter::Outcome { .. } => found.push(Fault::LostOutcome(place)),
                Letter::Shown { .. } => {}
                _ => continue,
            }
            found.extend(late.iter().map(|by| Fault::Late(place, *by)));
        }
    }

    /// Lets it go wrong.
    pub(crate) fn suffer(&mut self, fault: Fault) {
        (self.faults, self.struck) = (self.faults + 1, self.now);
        match fault {
            Fault::Strike(ailment, length) => {
                let mut ledger = std::mem::take(&mut self.ledger);
                ledger.struck(self, ailment, length);
                self.ledger = ledger;
                self.strike(ailment);
                if let Some(length) = length {
                    self.post(length, Letter::Over(ailment));
                }
            }
            Fault::Late(place, by) => self.detain(place, by),
            Fault::LostWrite(place) => self.lose_write(place, None),
            Fault::LingeringWrite(place, by) => self.lose_write(place, Some(by)),
            Fault::LostOutcome(place) => {
                if let (_, Letter::Outcome { to, key, sent, .. }) = self.mail.remove(place) {
                    let again = RESEND + 2 * self.setting.delays[to];
                    let outcome = WriteOutcome::Unknown;
                    self.post(again, Letter::Outcome { to, key, outcome, sent });
                }
            }
        }
        if !matches!(fault, Fault::Strike(..)) {
            self.ledger.disturbed(self.now);
        }
    }

    fn lose_write(&mut self, place: usize, stored_after: Option<u64>) {
        let (_, letter) = self.mail.remove(place);
        let Letter::Request { from, key, write, sent, .. } = letter else { return };
        if let Some(by) = stored_after {
            // No life waits for what becomes of it.
            let (key, life, write) = (key.clone(), 0, write);
            self.post(PATIENCE + by, Letter::Request { from, life, key, write, sent });
        }
        let (to, outcome) = (from, WriteOutcome::Unknown);
        self.post(PATIENCE, Letter::Outcome { to, key, outcome, sent });
    }

    /// Keeps a letter back, and what its watch shows after it as well.
    fn detain(&mut self, place: usize, by: u64) {
        let (_, letter) = self.mail[place].clone();
        let follows = |other: &Letter| match (&letter, other) {
            (Letter::Shown { to, .. }, Letter::Shown { to: other, .. }) => to == other,
            (one, other) => one == other,
        };
        let mail = std::mem::take(&mut self.mail);
        let (late, mail): (Vec<_>, Vec<_>) = mail
            .into_iter()
            .enumerate()
            .partition(|(at, (_, other))| *at >= place && follows(other));
        self.mail = mail.into_iter().map(|(_, letter)| letter).collect();
        for (_, (at, letter)) in late {
            self.post(at - self.now + by, letter);
        }
    }

    fn strike(&mut self, ailment: Ailment) {
        match ailment {
            Ailment::Dead(index) => self.kill(index),
            Ailment::Off(index) => {
                self.kill(index);
                self.node(index).power = false;
            }
            Ailment::Suspended(index) | Ailment::StoodStill(index) => self.suspend(index),
            Ailment::ApiCut(index) => self.node(index).api = false,
            Ailment::WatchStalled(index) => self.node(index).watch = false,
            Ailment::PortDead(index) => self.open_port(index, false, false),
            Ailment::Unheard(index) => self.open_port(index, false, true),
            Ailment::Unhearing(index) => self.open_port(index, true, false),
            Ailment::NoCarrier(index) => self.plug(index, false),
            Ailment::PairCut(one, other) => drop(self.cut.insert((one, other))),
            Ailment::Away(index) => self.replan(Some(index)),
        }
    }

    /// It ends.
    pub(crate) fn recover(&mut self, ailment: Ailment) {
        let mut ledger = std::mem::take(&mut self.ledger);
        ledger.recovered(self, ailment);
        self.ledger = ledger;
        match ailment {
            Ailment::Dead(index) | Ailment::Off(index) => {
                if self.nodes[index].machine.is_none() {
                    self.start(index);
                }
            }
            Ailment::Suspended(index) => self.resume(index, self.hides_pauses()),
            Ailment::StoodStill(index) => self.resume(index, true),
            Ailment::ApiCut(index) => {
                self.node(index).api = true;
                self.catch_up(index);
            }
            Ailment::WatchStalled(index) => {
                self.node(index).watch = true;
                self.catch_up(index);
            }
            Ailment::PortDead(index) | Ailment::Unheard(index) | Ailment::Unhearing(index) => {
                self.open_port(index, true, true);
            }
            Ailment::NoCarrier(index) => self.plug(index, true),
            Ailment::PairCut(one, other) => drop(self.cut.remove(&(one, other))),
            Ailment::Away(_) => self.replan(None),
        }
    }

    fn open_port(&mut self, index: usize, heard: bool, hears: bool) {
        let node = self.node(index);
        (node.heard, node.hears) = (heard, hears);
    }

    fn plug(&mut self, index: usize, carrier: bool) {
        self.node(index).carrier = carrier;
        self.feed(index, Input::Links(vec![link(index, carrier)]));
    }

    fn replan(&mut self, away: Option<usize>) {
        self.away = away;
        for index in 0..NODES {
            self.learn_plan(index);
        }
    }
}
