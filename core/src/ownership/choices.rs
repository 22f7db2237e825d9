//! What an operator chooses for all speakers, and which of it would be unsafe.

use crate::time::Span;

/// An operator's choices. The same on every node, or the nodes move addresses to and fro.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Choices {
    /// An address goes back to the first node in MetalLB's order when that can have it again (R4).
    pub failback: bool,
    /// One address at a time moves from the node with most to the one with least, while these differ by more than one
    /// (R4).
    pub rebalance: bool,
    /// An address is answered for also where a stranger was found to use it (R9).
    pub ignore_conflicts: bool,
    /// An owner announces each of its addresses again so often, though nothing has changed (R6): for hosts and switches
    /// that forget, and hear no questions. At least 10 s; never, by default.
    pub refresh: Option<Span>,
    /// How often things are done.
    pub periods: Periods,
}

impl Choices {
    /// These choices, if they are safe.
    ///
    /// # Errors
    /// Why not.
    pub fn checked(self) -> Result<Self, Unsafe> {
        if self.refresh.is_some_and(|refresh| refresh < Span::secs(10)) {
            return Err(Unsafe::Refresh);
        }
        Ok(Self { periods: self.periods.checked()?, ..self })
    }
}

/// How often things are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Periods {
    /// A session is renewed so often, or less often where there are many (R7). 1 to 30 s.
    pub renew: Span,
    /// An owner is probed so often on each link by each of its two probers (R7). 50 ms to 2 s.
    pub probe: Span,
    /// Everybody is asked for so long before a session is closed as silent, or an address nobody owned is answered for.
    /// 20 ms to 1 s.
    pub ask: Span,
}

impl Default for Periods {
    fn default() -> Self {
        Self { renew: Span::secs(2), probe: Span::millis(150), ask: Span::millis(100) }
    }
}

/// A loop that has not turned for so long stood still: another node may have taken over meanwhile (R8). The same for
/// all: peers of this node may have been told other periods.
pub const STOOD_STILL: Span = Span::millis(450);
/// Probes in a row without an answer, before everybody is asked.
pub(super) const MISSES: u64 = 3;

/// Why choices are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// Renewals.
    #[error(
        "the session period must be 1 s to 30 s: below, one slow write ends a session; above, a dead node whose \
             peers cannot ask it is replaced only after minutes"
    )]
    Renew,
    /// Probes.
    #[error("the probe interval must be 50 ms to 2 s: an answer that took longer would be missed")]
    Probe,
    /// Questions.
    #[error("the ask time must be 20 ms to 1 s")]
    Ask,
    /// Announcements.
    #[error("the announcement refresh must be 10 s or more: it is a broadcast for each address")]
    Refresh,
    /// Probes and questions together.
    #[error(
        "three probe intervals and the ask time must be more than 500 ms: a node that only paused looks up after \
             450 ms whether another has taken over, and none may before"
    )]
    FasterThanThePause,
}

impl Periods {
    /// These periods, if they are safe.
    ///
    /// # Errors
    /// Why not.
    pub fn checked(self) -> Result<Self, Unsafe> {
        let slack = Span::millis(50);
        if self.renew < Span::secs(1) || self.renew > Span::secs(30) {
            Err(Unsafe::Renew)
        } else if self.probe < Span::millis(50) || self.probe > Span::secs(2) {
            Err(Unsafe::Probe)
        } else if self.ask < Span::millis(20) || self.ask > Span::secs(1) {
            Err(Unsafe::Ask)
        } else if self.probe.times(MISSES) + self.ask < STOOD_STILL + slack {
            Err(Unsafe::FasterThanThePause)
        } else {
            Ok(self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_safe_and_what_is_faster_than_the_pause_is_not() {
        let default = Periods::default();
        assert_eq!(default.checked(), Ok(default));
        let with = |renew, probe, ask| {
            let [renew, probe, ask] = [renew, probe, ask].map(Span::millis);
            Periods { renew, probe, ask }.checked().err()
        };
        assert_eq!(with(999, 150, 100), Some(Unsafe::Renew));
        assert_eq!(with(30_001, 150, 100), Some(Unsafe::Renew));
        assert_eq!(with(2_000, 2_001, 100), Some(Unsafe::Probe));
        assert_eq!(with(2_000, 49, 1_000), Some(Unsafe::Probe));
        assert_eq!(with(2_000, 0, 1_000), Some(Unsafe::Probe));
        assert_eq!(with(2_000, 150, 19), Some(Unsafe::Ask));
        assert_eq!(with(2_000, 150, 1_001), Some(Unsafe::Ask));
        assert_eq!(with(2_000, 133, 100), Some(Unsafe::FasterThanThePause));
        assert_eq!(with(2_000, 134, 100), None);
        assert_eq!(with(1_000, 2_000, 1_000), None);
    }
}
