//! R6: when an address is announced. At once on taking it, then a bounded burst, no two closer than 1.1 s because Linux
//! ignores faster updates of a neighbour entry; and from then on now and then, where an operator wants it. Where many begin at once, as after a pause, they are spread: what is
//! handed to a socket faster than it sends is lost, and each round would lose the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::timers::Timers;
use crate::time::{Moment, Span};

/// Announcements in one burst.
pub const ROUNDS: u8 = 5;
/// Between two announcements of one address.
pub const INTERVAL: Span = Span::millis(1100);

/// So many bursts begin in one millisecond at most.
const ABREAST: u32 = 32;

/// One that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Due {
    /// Of this address.
    pub address: IpAddr,
    /// Its burst is over, and it is announced for good measure.
    pub refresh: bool,
}

/// The bursts under way, and the addresses that are announced now and then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Announcements {
    refresh: Option<Span>,
    bursts: BTreeMap<IpAddr, Burst>,
    timers: Timers<IpAddr>,
    /// The millisecond in which the last burst begins, or began, and how many do with it.
    begun: (Moment, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Burst {
    last: Option<Moment>,
    left: u8,
}

impl Announcements {
    /// After its burst each address is announced again every `refresh`, if that is anything.
    pub fn every(refresh: Option<Span>) -> Self {
        Self { refresh, ..Self::default() }
    }

    /// Begins a burst, the first announcement due at once, or as soon as the last one is old enough.
    pub fn start(&mut self, address: IpAddr, now: Moment) {
        let known = self.bursts.get(&address);
        if known.is_some_and(|burst| burst.last.is_none()) {
            // It has its turn, and would only get a later one.
            return;
        }
        let last = known.and_then(|burst| burst.last);
        let waits = last.map(|last| last + INTERVAL).filter(|due| *due > now);
        let due = waits.unwrap_or_else(|| self.turn(now));
        self.bursts.insert(address, Burst { last, left: ROUNDS });
        self.timers.set(address, Some(due));
    }

    /// The first millisecond from `now` on in which another burst may begin.
    fn turn(&mut self, now: Moment) -> Moment {
        let (at, count) = self.begun;
        self.begun = match at >= now {
            false => (now, 1),
            true if count < ABREAST => (at, count + 1),
            true => (at + Span(1), 1),
        };
        self.begun.0
    }

    /// Nothing more is announced for `address`, and what was is forgotten.
    pub fn stop(&mut self, address: IpAddr) {
        self.bursts.remove(&address);
        self.timers.set(address, None);
    }

    /// When the next announcement is due.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.timers.next()
    }

    /// What to announce now.
    pub fn pop_due(&mut self, now: Moment) -> Option<Due> {
        let address = self.timers.pop_due(now)?;
        let burst = self.bursts.get_mut(&address)?;
        let refresh = burst.left == 0;
        burst.last = Some(now);
        burst.left = burst.left.saturating_sub(1);
        let next = if burst.left > 0 { Some(INTERVAL) } else { self.refresh };
        self.timers.set(address, next.map(|next| now + next));
        Some(Due { address, refresh })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn moments(announcements: &mut Announcements, until: u64) -> Vec<u64> {
        let mut found = Vec::new();
        while let Some(at) = announcements.next_deadline().filter(|at| at.0 <= until) {
            assert_eq!(announcements.pop_due(at).map(|due| due.address), Some(A));
            found.push(at.0);
        }
        found
    }

    #[test]
    fn a_burst_is_five_in_five_seconds_the_first_at_once() {
        let mut announcements = Announcements::default();
        announcements.start(A, Moment(100));
        assert_eq!(moments(&mut announcements, 60_000), [100, 1200, 2300, 3400, 4500]);
    }

    #[test]
    fn after_its_burst_an_address_is_announced_now_and_then_where_that_is_wanted() {
        let mut announcements = Announcements::every(Some(Span::secs(60)));
        announcements.start(A, Moment(0));
        let expected = [0, 1_100, 2_200, 3_300, 4_400, 64_400, 124_400];
        assert_eq!(moments(&mut announcements, 130_000), expected);
        // A burst that begins again is no refresh.
        announcements.start(A, Moment(130_000));
        let due = announcements.pop_due(Moment(130_000));
        assert_eq!(due, Some(Due { address: A, refresh: false }));
        announcements.stop(A);
        assert_eq!(announcements.next_deadline(), None);
    }

    #[test]
    fn a_burst_that_begins_again_keeps_the_distance() {
        let mut announcements = Announcements::default();
        announcements.start(A, Moment(0));
        assert_eq!(moments(&mut announcements, 0), [0]);
        announcements.start(A, Moment(300));
        assert_eq!(moments(&mut announcements, 60_000), [1100, 2200, 3300, 4400, 5500]);
    }

    #[test]
    fn of_many_bursts_that_begin_at_once_few_begin_in_each_millisecond() {
        let mut announcements = Announcements::default();
        let addresses = || (0..10_000_u32).map(|n| IpAddr::V4(n.into()));
        addresses().for_each(|address| announcements.start(address, Moment(50)));
        let mut begun = BTreeMap::<u64, u32>::new();
        while let Some(at) = announcements.next_deadline().filter(|at| at.0 < 1_100) {
            announcements.pop_due(at);
            *begun.entry(at.0).or_default() += 1;
        }
        assert_eq!(begun.keys().next(), Some(&50));
        assert!(begun.values().all(|count| *count <= ABREAST));
        assert_eq!(begun.values().sum::<u32>(), 10_000);
        assert!(begun.len() <= 313, "{}", begun.len());
        // What begins again before its turn has come keeps it.
        let mut waiting = Announcements::default();
        addresses().take(100).for_each(|address| waiting.start(address, Moment(50)));
        waiting.start(IpAddr::V4(0.into()), Moment(50));
        let first = waiting.pop_due(Moment(50)).map(|due| due.address);
        assert_eq!(first, Some(IpAddr::V4(0.into())));
        // One more, later, waits for nobody.
        addresses().for_each(|address| announcements.stop(address));
        announcements.start(A, Moment(5_000));
        assert_eq!(announcements.next_deadline(), Some(Moment(5_000)));
    }

    #[test]
    fn a_stopped_burst_says_nothing_more_and_a_new_owner_speaks_at_once() {
        let mut announcements = Announcements::default();
        announcements.start(A, Moment(0));
        moments(&mut announcements, 0);
        announcements.stop(A);
        assert_eq!(announcements.next_deadline(), None);
        announcements.start(A, Moment(10));
        assert_eq!(announcements.next_deadline(), Some(Moment(10)));
    }
}
