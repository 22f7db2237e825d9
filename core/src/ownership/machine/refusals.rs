//! Claims that the API server refuses to store: each is written the more rarely the oftener that happened in a row.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::time::{Moment, Span};

/// The wait after a first refusal; it doubles with each further one.
const FIRST_WAIT: Span = Span::secs(1);
/// The longest wait.
const LONGEST_WAIT: Span = Span::secs(30);

/// What was refused, and until when it is not tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Refusals(BTreeMap<IpAddr, Refused>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Refused {
    wait: Span,
    until: Moment,
}

impl Refusals {
    /// A write on the claim of `address` was refused.
    pub(super) fn add(&mut self, address: IpAddr, now: Moment) {
        // What nobody tried again when it could have been says nothing of the next attempt.
        self.0.retain(|_, refused| now < refused.until + LONGEST_WAIT);
        let last = self.0.get(&address).map(|refused| refused.wait);
        let wait = last.map_or(FIRST_WAIT, |last| last.times(2).min(LONGEST_WAIT));
        self.0.insert(address, Refused { wait, until: now + wait });
    }

    /// A write on it was stored, or another's: the refusals before tell nothing any more.
    pub(super) fn forget(&mut self, address: IpAddr) {
        self.0.remove(&address);
    }

    /// Until when the claim is not to be written, if that lies ahead.
    pub(super) fn until(&self, address: IpAddr, now: Moment) -> Option<Moment> {
        self.0.get(&address).map(|refused| refused.until).filter(|until| now < *until)
    }
}
