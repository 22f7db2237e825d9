//! A live speaker answers its peers' probes for every address whose claim names it, or did a moment ago, in any state:
//! silence on purpose is not death (R7).

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::ownership::timers::Timers;
use crate::time::{Moment, Span};

/// How long a speaker answers these probes after its claim went: it lives, though it is silent.
const VOUCHED_FOR: Span = Span::secs(10);

/// The addresses for which probes are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Vouching {
    vouched: BTreeSet<IpAddr>,
    ends: Timers<IpAddr>,
}

impl Vouching {
    /// The claim of `address` names this speaker, or does not; whether vouching begins.
    pub(super) fn see(&mut self, address: IpAddr, mine: bool, now: Moment) -> bool {
        let known = self.vouched.contains(&address);
        if mine {
            self.ends.set(address, None);
            return self.vouched.insert(address);
        }
        if known && !self.ends.has(&address) {
            self.ends.set(address, Some(now + VOUCHED_FOR));
        }
        false
    }

    /// When vouching for the next address ends.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.ends.next()
    }

    /// An address that is vouched for no more.
    pub(super) fn pop_ended(&mut self, now: Moment) -> Option<IpAddr> {
        let address = self.ends.pop_due(now)?;
        self.vouched.remove(&address);
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn an_address_is_vouched_for_until_ten_seconds_after_its_claim_went() {
        let mut vouching = Vouching::default();
        assert!(!vouching.see(VIP, false, Moment(0)));
        assert!(vouching.see(VIP, true, Moment(0)));
        assert!(!vouching.see(VIP, true, Moment(0)), "it has begun already");
        vouching.see(VIP, false, Moment(1));
        vouching.see(VIP, false, Moment(2));
        let ends = Moment(1) + VOUCHED_FOR;
        assert_eq!(vouching.next_deadline(), Some(ends));
        assert_eq!(vouching.pop_ended(Moment(2)), None);
        assert_eq!(vouching.pop_ended(ends), Some(VIP));
        assert!(vouching.see(VIP, true, ends));
        vouching.see(VIP, false, ends);
        vouching.see(VIP, true, ends);
        assert_eq!(vouching.next_deadline(), None, "it is mine again");
    }
}
