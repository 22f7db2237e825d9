//! The wire is asked for an address before it is answered for (R8's gate, R9): each question of it, and how it ends.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::ownership::claim::Wire;
use crate::ownership::timers::Timers;
use crate::time::{Moment, Span};

/// Questions of one inquiry.
const QUESTIONS: u64 = 2;
/// An inquiry whose questions do not leave begins anew so often; then it is over all the same.
const PROLONGED: u8 = 5;
/// Between two questions while a stranger has the address, and how long it must have been silent.
const STRANGER_ASKED: Span = Span::secs(1);
const STRANGER_GONE: Span = Span::millis(2500);

/// The inquiries that are under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inquiries {
    /// How long one lasts where nobody answers.
    lasting: Span,
    open: BTreeMap<IpAddr, Inquiry>,
    due: Timers<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Inquiry {
    until: Moment,
    next: Moment,
    /// Whether strangers count: not when this speaker answered before, for to them it never yields (R9).
    heeds_strangers: bool,
    stranger: Option<Moment>,
    prolonged: u8,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Everybody is to be asked for this address.
    Ask(IpAddr),
    /// The inquiry for this address is over, and bars nothing any more.
    Over(IpAddr),
}

impl Inquiries {
    /// None yet; each lasts so long.
    pub(super) fn lasting(lasting: Span) -> Self {
        Self { lasting, open: BTreeMap::new(), due: Timers::default() }
    }

    /// Begins to ask for `address`, anew if it is being asked for.
    pub(super) fn begin(&mut self, address: IpAddr, heeds_strangers: bool, now: Moment) {
        let until = now + self.lasting;
        let inquiry = Inquiry { until, next: now, heeds_strangers, stranger: None, prolonged: 0 };
        self.open.insert(address, inquiry);
        self.due.set(address, Some(now));
    }

    /// What would be heard of `address` matters no more.
    pub(super) fn forget(&mut self, address: IpAddr) {
        if self.open.remove(&address).is_some() {
            self.due.set(address, None);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The addresses that are being asked for.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.open.keys().copied()
    }

    /// Whether `address` is being asked for, and a stranger would bar it.
    pub(super) fn heeds_strangers(&self, address: IpAddr) -> bool {
        self.open.get(&address).is_some_and(|inquiry| inquiry.heeds_strangers)
    }

    /// What the wire says of `address`.
    pub(super) fn wire(&self, address: IpAddr) -> Wire {
        self.open.get(&address).map_or(Wire::Clear, |inquiry| match inquiry.stranger {
            Some(_) => Wire::Barred(inquiry.until),
            None => Wire::Asked(inquiry.until),
        })
    }

    /// A stranger was heard to use `address`; whether that bars it.
    pub(super) fn hear_stranger(&mut self, address: IpAddr, now: Moment) -> bool {
        let inquiry = self.open.get_mut(&address).filter(|inquiry| inquiry.heeds_strangers);
        inquiry.is_some_and(|inquiry| {
            inquiry.stranger = Some(now);
            true
        })
    }

    /// Questions for these did not leave, or answers were lost: who was asked for has not been heard out.
    pub(super) fn prolong(&mut self, addresses: &[IpAddr], now: Moment) {
        let (again, until) = (now + self.between(), now + self.lasting);
        for address in addresses {
            let inquiry = self.open.get_mut(address);
            let Some(inquiry) = inquiry.filter(|inquiry| inquiry.prolonged < PROLONGED) else {
                continue;
            };
            inquiry.prolonged += 1;
            inquiry.until = inquiry.until.max(until);
            inquiry.next = inquiry.next.min(again);
            self.due.set(*address, Some(again));
        }
    }

    /// When [`Inquiries::look`] is to be called next.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.due.next()
    }

    /// The questions that are due, and the inquiries that are over.
    pub(super) fn look(&mut self, now: Moment) -> Vec<Next> {
        let between = self.between();
        let mut next = Vec::new();
        while let Some(address) = self.due.pop_due(now) {
            let Some(inquiry) = self.open.get_mut(&address) else { continue };
            if let Some(heard) = inquiry.stranger {
                inquiry.until = inquiry.until.max(heard + STRANGER_GONE);
            }
            if now >= inquiry.until {
                self.open.remove(&address);
                next.push(Next::Over(address));
                continue;
            }
            if now >= inquiry.next {
                let barred = inquiry.stranger.is_some();
                inquiry.next = now + if barred { STRANGER_ASKED } else { between };
                next.push(Next::Ask(address));
            }
            self.due.set(address, Some(inquiry.next.min(inquiry.until)));
        }
        next
    }

    fn between(&self) -> Span {
        Span(self.lasting.0 / QUESTIONS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn at(millis: u64) -> Moment {
        Moment::default() + Span::millis(millis)
    }

    fn asking(heeds_strangers: bool) -> Inquiries {
        let mut inquiries = Inquiries::lasting(Span::millis(100));
        inquiries.begin(VIP, heeds_strangers, at(0));
        inquiries
    }

    /// Looks when it should until `until`, and returns what was due, and when.
    fn looked(inquiries: &mut Inquiries, until: u64) -> Vec<(u64, Next)> {
        let mut seen = Vec::new();
        while let Some(due) = inquiries.next_deadline().filter(|due| *due <= at(until)) {
            let millis = due.since(at(0)).0 / Span::millis(1).0;
            seen.extend(inquiries.look(due).into_iter().map(|what| (millis, what)));
        }
        seen
    }

    #[test]
    fn an_address_that_nobody_uses_is_asked_for_twice() {
        let mut inquiries = asking(true);
        assert_eq!(inquiries.wire(VIP), Wire::Asked(at(100)));
        let expected = [(0, Next::Ask(VIP)), (50, Next::Ask(VIP)), (100, Next::Over(VIP))];
        assert_eq!(looked(&mut inquiries, 10_000), expected);
        assert_eq!(inquiries.wire(VIP), Wire::Clear);
        assert!(inquiries.is_empty());
    }

    #[test]
    fn a_stranger_is_asked_for_each_second_until_it_was_silent_for_two_and_a_half() {
        let mut inquiries = asking(true);
        assert_eq!(looked(&mut inquiries, 0), [(0, Next::Ask(VIP))]);
        assert!(inquiries.hear_stranger(VIP, at(20)));
        assert!(matches!(inquiries.wire(VIP), Wire::Barred(_)));
        let expected = [
            (50, Next::Ask(VIP)),
            (1050, Next::Ask(VIP)),
            (2050, Next::Ask(VIP)),
            (2520, Next::Over(VIP)),
        ];
        assert_eq!(looked(&mut inquiries, 10_000), expected);
    }

    #[test]
    fn who_answered_before_is_not_barred_by_a_stranger() {
        let mut inquiries = asking(false);
        assert!(!inquiries.hear_stranger(VIP, at(20)));
        assert_eq!(inquiries.wire(VIP), Wire::Asked(at(100)));
    }

    #[test]
    fn questions_that_do_not_leave_are_put_again_but_not_for_ever() {
        let mut inquiries = asking(true);
        for round in 0..20 {
            let now = round * 90;
            looked(&mut inquiries, now);
            inquiries.prolong(&[VIP], at(now));
        }
        assert!(inquiries.is_empty(), "{inquiries:?}");
        let mut inquiries = asking(true);
        looked(&mut inquiries, 90);
        inquiries.prolong(&[VIP], at(90));
        let expected = [(140, Next::Ask(VIP)), (190, Next::Over(VIP))];
        assert_eq!(looked(&mut inquiries, 10_000), expected);
    }

    #[test]
    fn what_is_forgotten_is_not_asked_for() {
        let mut inquiries = asking(true);
        inquiries.forget(VIP);
        assert_eq!((inquiries.next_deadline(), inquiries.wire(VIP)), (None, Wire::Clear));
    }
}
