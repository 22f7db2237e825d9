//! R8: an address that is held is asked for again and again, as whoever took it meanwhile answers.

use std::net::IpAddr;

use crate::ownership::timers::Timers;
use crate::time::{Moment, Span};

/// Between two questions for one address.
const ASKED: Span = Span::secs(2);
/// Between two questions for any, on whatever link: a hundred a second at most.
const APART: Span = Span::millis(10);

/// When each address that is held is asked for next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Held {
    timers: Timers<IpAddr>,
    /// Before this another was asked for a moment ago.
    free_at: Moment,
}

impl Held {
    /// Whether `address` is asked for.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.timers.has(&address)
    }

    /// `address` is held from now on: it is asked for by so many questions, or a little later where others are then.
    pub(super) fn begin(&mut self, address: IpAddr, questions: u64, now: Moment) {
        let at = now.max(self.free_at);
        self.free_at = at + APART.times(questions);
        self.timers.set(address, Some(at));
    }

    /// `address` was asked for, by so many questions, and is to be again.
    pub(super) fn go_on(&mut self, address: IpAddr, questions: u64, now: Moment) {
        self.begin(address, questions, now + ASKED);
    }

    /// `address` is held no more.
    pub(super) fn end(&mut self, address: IpAddr) {
        self.timers.set(address, None);
    }

    /// When the next is to be asked for.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.timers.next()
    }

    /// An address whose question is due.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<IpAddr> {
        self.timers.pop_due(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_addresses_are_asked_for_one_after_the_other_and_each_again_after_two_seconds() {
        let mut held = Held::default();
        let address = |number| IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, number));
        for number in 0..3 {
            held.begin(address(number), 2, Moment(0));
        }
        let mut asked = Vec::new();
        for _ in 0..4 {
            let due = held.next_deadline().expect("they are held");
            let address = held.pop_due(due).expect("it is due");
            asked.push((due.since(Moment(0)), address));
            held.go_on(address, 2, due);
        }
        let expected = [(0, 0), (20, 1), (40, 2), (2000, 0)]
            .map(|(millis, number)| (Span::millis(millis), address(number)));
        assert_eq!(asked, expected);
        for number in 0..3 {
            held.end(address(number));
        }
        assert_eq!(held.next_deadline(), None);
    }
}
