//! R9: another speaker was heard to use an address that this one owns. The claims tell which of them is right, and only a
//! list of them that began after the voice was heard says what they are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::time::{Moment, Span};

/// How long an owner waits for that list before it only holds.
const SETTLED_WITHIN: Span = Span::millis(500);

/// The addresses at issue, and when a list was asked for since the rival was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Rivals(BTreeMap<IpAddr, Option<Moment>>);

impl Rivals {
    /// A rival was heard to use `address`.
    pub(super) fn hear(&mut self, address: IpAddr) {
        self.0.entry(address).or_default();
    }

    /// `address` is this speaker's no more.
    pub(super) fn forget(&mut self, address: IpAddr) {
        self.0.remove(&address);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The addresses at issue.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.0.keys().copied()
    }

    /// Whether a list has yet to be asked for.
    pub(super) fn wants_list(&self) -> bool {
        self.0.values().any(Option::is_none)
    }

    /// A list was asked for.
    pub(super) fn ask(&mut self, now: Moment) {
        for asked in self.0.values_mut() {
            asked.get_or_insert(now);
        }
    }

    /// A list came: the addresses that it settles. One that began before a rival was heard says nothing of it.
    pub(super) fn settle(&mut self) -> Vec<IpAddr> {
        self.0.extract_if(.., |_, asked| asked.is_some()).map(|(address, _)| address).collect()
    }

    /// From when on one of them is doubtful.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.0.values().flatten().min().map(|asked| *asked + SETTLED_WITHIN)
    }

    /// Whether a list was asked for in vain, so that the owner of `address` is not to be called sure.
    pub(super) fn is_doubtful(&self, address: IpAddr, now: Moment) -> bool {
        let asked = self.0.get(&address).copied().flatten();
        asked.is_some_and(|asked| now >= asked + SETTLED_WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn a_list_settles_what_was_heard_before_it_was_asked_for() {
        let mut rivals = Rivals::default();
        rivals.hear(VIP);
        assert!(rivals.wants_list());
        rivals.ask(Moment(0));
        assert!(!rivals.wants_list());
        rivals.hear(OTHER);
        assert_eq!(rivals.settle(), [VIP]);
        assert!(rivals.wants_list(), "{OTHER} was heard while the list was under way");
        assert!(rivals.settle().is_empty());
    }

    #[test]
    fn an_owner_doubts_half_a_second_after_a_list_was_asked_for_in_vain() {
        let mut rivals = Rivals::default();
        rivals.hear(VIP);
        assert_eq!(rivals.next_deadline(), None, "nothing was asked for yet");
        rivals.ask(Moment(0));
        rivals.ask(Moment(0) + Span::millis(400));
        let doubtful_at = Moment(0) + SETTLED_WITHIN;
        assert_eq!(rivals.next_deadline(), Some(doubtful_at), "the first list counts");
        assert!(!rivals.is_doubtful(VIP, Moment(0)) && rivals.is_doubtful(VIP, doubtful_at));
        assert!(!rivals.is_doubtful(OTHER, doubtful_at));
        rivals.forget(VIP);
        assert!(rivals.is_empty());
    }
}
