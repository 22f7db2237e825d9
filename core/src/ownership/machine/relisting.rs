//! When all Leases are listed anew: because a write failed, a rival was heard, or a renewal is not shown.

use crate::time::{Moment, Span};

/// Between two lists.
pub(super) const INTERVAL: Span = Span::secs(1);
/// So many renew periods lie at most between two lists, where lists come and none shows a renewal of this speaker's own:
/// the API server is slow, or stores nothing, and all speakers do the same to it. Fewer than a session lasts.
const PERIODS_BETWEEN: u64 = 2;

/// The lists that were asked for, and the one that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Relisting {
    /// From when on a list is wanted, until one is shown or the reason is gone.
    wanted: Option<Moment>,
    last: Option<Moment>,
    /// How often a list was asked for while a renewal was overdue, since one was last shown.
    fruitless: u64,
}

impl Relisting {
    /// A list is wanted from `at` on.
    pub(super) fn want(&mut self, at: Moment) {
        self.wanted = Some(self.wanted.map_or(at, |known| known.min(at)));
    }

    /// Whether a list is wanted.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// What a list was wanted for is gone.
    pub(super) fn want_no_more(&mut self) {
        self.wanted = None;
    }

    /// A renewal of this speaker's own was shown.
    pub(super) fn see_renewal(&mut self) {
        self.fruitless = 0;
    }

    /// When the next list is to be asked for. A renewal counts as `overdue` from that moment on; an `urgent` list waits for no
    /// slow server; `period` is that of renewals.
    pub(super) fn due(
        &self,
        overdue: Option<Moment>,
        urgent: bool,
        period: impl FnOnce() -> Span,
    ) -> Option<Moment> {
        let wanted = self.wanted.into_iter().chain(overdue).min()?;
        let interval = match self.fruitless {
            more if more > 1 && !urgent => period().times((more - 1).min(PERIODS_BETWEEN)),
            _ => INTERVAL,
        };
        Some(self.last.map_or(wanted, |last| wanted.max(last + interval)))
    }

    /// A list was asked for, and a renewal was `overdue` or not.
    pub(super) fn ask(&mut self, overdue: bool, now: Moment) {
        self.last = Some(now);
        self.fruitless = self.fruitless.saturating_add(u64::from(overdue));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Span = Span::secs(2);

    fn at(secs: u64) -> Moment {
        Moment(0) + Span::secs(secs)
    }

    #[test]
    fn a_list_waits_for_the_earliest_reason_and_for_the_last_list_to_be_a_second_ago() {
        let mut relisting = Relisting::default();
        assert_eq!(relisting.due(None, false, || PERIOD), None);
        assert_eq!(relisting.due(Some(at(7)), false, || PERIOD), Some(at(7)));
        relisting.want(at(5));
        relisting.want(at(6));
        assert_eq!(relisting.due(Some(at(7)), false, || PERIOD), Some(at(5)));
        relisting.ask(false, at(5));
        assert_eq!(relisting.due(None, false, || PERIOD), Some(at(6)), "none has come yet");
        relisting.want_no_more();
        assert_eq!(relisting.due(None, false, || PERIOD), None);
    }

    #[test]
    fn lists_in_vain_are_ever_rarer_until_a_renewal_is_shown_or_one_is_urgent() {
        let mut relisting = Relisting::default();
        let mut apart = Vec::new();
        for _ in 0..4 {
            relisting.ask(true, at(0));
            let due = relisting.due(Some(at(0)), false, || PERIOD).expect("it is overdue");
            apart.push(due.since(at(0)));
        }
        assert_eq!(apart, [1, 2, 4, 4].map(Span::secs));
        assert_eq!(relisting.due(Some(at(0)), true, || PERIOD), Some(at(1)));
        relisting.see_renewal();
        assert_eq!(relisting.due(Some(at(0)), false, || PERIOD), Some(at(1)));
    }
}
