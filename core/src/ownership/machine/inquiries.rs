//! What this speaker asks of everybody: before it answers for an address (R8's gate, R9), and while it holds one (R8).

use std::net::IpAddr;

use super::report::Cause;
use super::{Machine, Output, Part};
use crate::name::LinkName;
use crate::ownership::choices::STOOD_STILL;
use crate::ownership::claim::{State, Wire};
use crate::ownership::evidence::Question;
use crate::ownership::order::usable;
use crate::ownership::timers::Timers;
use crate::time::{Moment, Span};

/// So often at least the machine looks up while it answers or takes, so that standing still is noticed.
pub(super) const LOOK_UP: Span = Span::millis(150);
/// Questions of one inquiry.
const INQUIRIES: u64 = 2;
/// An inquiry whose questions do not leave begins anew so often; then it is over all the same.
const PROLONGED: u8 = 5;
/// Between two questions while a stranger has the address, and how long it must have been silent.
const STRANGER_ASKED: Span = Span::secs(1);
const STRANGER_GONE: Span = Span::millis(2500);
/// Between two questions for an address that is held.
const HELD_ASKED: Span = Span::secs(2);
/// Between two questions for any that are held, on whatever link: a hundred a second at most.
const HELD_APART: Span = Span::millis(10);

/// The wire is asked for an address before it is answered for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inquiry {
    until: Moment,
    next: Moment,
    /// Whether strangers count: not when this speaker answered before, for to them it never yields (R9).
    pub(super) heeds_strangers: bool,
    stranger: Option<Moment>,
    prolonged: u8,
}

impl Inquiry {
    /// A stranger was heard to use the address.
    pub(super) fn hear_stranger(&mut self, now: Moment) {
        self.stranger = Some(now);
    }
}

/// When each address that is held is asked for next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Held {
    timers: Timers<IpAddr>,
    /// Before this another was asked for a moment ago.
    free_at: Moment,
}

impl Held {
    /// `address` is asked for at `at` by so many questions, or a little later where others are asked for then.
    fn ask(&mut self, address: IpAddr, questions: u64, at: Moment) {
        let at = at.max(self.free_at);
        self.free_at = at + HELD_APART.times(questions);
        self.timers.set(address, Some(at));
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.timers.next()
    }
}

impl Part {
    /// Whether the address is answered for, or is about to be: also once the questions that are being put go unanswered.
    fn heeds_pauses(&self) -> bool {
        self.state.answers() || self.state == State::Taking || self.inquiry.is_some()
    }
}

impl Machine {
    /// Whether standing still would be noticed too late if the machine did not look up often.
    pub(super) fn heeds_pauses(&self) -> bool {
        self.parts.values().any(Part::heeds_pauses)
    }

    /// Begins to ask for `address` before it is answered for.
    pub(super) fn inquire(&mut self, address: IpAddr, heeds_strangers: bool, now: Moment) {
        let until = now + self.choices.periods.ask;
        let part = self.parts.entry(address).or_default();
        let (stranger, prolonged) = (None, 0);
        part.inquiry = Some(Inquiry { until, next: now, heeds_strangers, stranger, prolonged });
        self.inquiries.set(address, Some(now));
    }

    pub(super) fn wire(&self, address: IpAddr) -> Wire {
        let inquiry = self.parts.get(&address).and_then(|part| part.inquiry.as_ref());
        inquiry.map_or(Wire::Clear, |inquiry| match inquiry.stranger {
            Some(_) => Wire::Barred(inquiry.until),
            None => Wire::Asked(inquiry.until),
        })
    }

    /// R8's gate: what was answered before a pause, or was about to be, is asked for before it is answered again.
    pub(super) fn notice_pause(&mut self, now: Moment) {
        if now.since(self.advanced_at) < STOOD_STILL {
            return;
        }
        let concerned = self.parts.iter().filter(|(_, part)| part.heeds_pauses());
        let concerned: Vec<(IpAddr, bool)> = concerned
            .map(|(address, part)| {
                let fresh = part.inquiry.as_ref().is_some_and(|inquiry| inquiry.heeds_strangers);
                (*address, fresh)
            })
            .collect();
        for (address, heeds_strangers) in concerned {
            self.inquire(address, heeds_strangers, now);
            if self.state(address).answers() {
                self.enter(address, State::Asking, None, Cause::StoodStill, now);
            }
            self.dirty.insert(address);
        }
    }

    /// Puts the questions that are due, and ends the inquiries that are over.
    pub(super) fn drive_inquiries(&mut self, now: Moment) -> bool {
        let between = Span(self.choices.periods.ask.0 / INQUIRIES);
        let mut progressed = false;
        while let Some(address) = self.inquiries.pop_due(now) {
            progressed = true;
            let Some(part) = self.parts.get_mut(&address) else { continue };
            let Some(inquiry) = &mut part.inquiry else { continue };
            if let Some(heard) = inquiry.stranger {
                inquiry.until = inquiry.until.max(heard + STRANGER_GONE);
            }
            if now >= inquiry.until {
                part.inquiry = None;
                self.dirty.insert(address);
                continue;
            }
            let barred = inquiry.stranger.is_some();
            let interval = if barred { STRANGER_ASKED } else { between };
            let asks = now >= inquiry.next;
            if asks {
                inquiry.next = now + interval;
            }
            let due = inquiry.next.min(inquiry.until);
            self.inquiries.set(address, Some(due));
            if asks {
                self.ask_all(address);
            }
        }
        progressed
    }

    /// Questions on `link` did not leave, or answers there were lost: who was asked for has not been heard out.
    pub(super) fn prolong_inquiries(&mut self, link: &LinkName, now: Moment) {
        let again = now + Span(self.choices.periods.ask.0 / INQUIRIES);
        let until = now + self.choices.periods.ask;
        for address in self.inquiries.keys().copied().collect::<Vec<_>>() {
            let interfaces = self.allowed_interfaces(address);
            let concerned = interfaces.is_some_and(|interfaces| interfaces.allow(link));
            let part = self.parts.get_mut(&address).filter(|_| concerned);
            let Some(inquiry) = part.and_then(|part| part.inquiry.as_mut()) else { continue };
            if inquiry.prolonged < PROLONGED {
                inquiry.prolonged += 1;
                inquiry.until = inquiry.until.max(until);
                inquiry.next = inquiry.next.min(again);
                self.inquiries.set(address, Some(again));
            }
        }
    }

    /// `address` is held, or is not any more.
    pub(super) fn watch_held(&mut self, address: IpAddr, held: bool, now: Moment) {
        match held {
            true if !self.held.timers.has(&address) => {
                self.held.ask(address, self.questions(address), now);
            }
            true => {}
            false => self.held.timers.set(address, None),
        }
    }

    /// R8: whoever took an address meanwhile answers when it is asked for.
    pub(super) fn ask_for_held(&mut self, now: Moment) {
        while let Some(address) = self.held.timers.pop_due(now) {
            self.held.ask(address, self.questions(address), now + HELD_ASKED);
            self.ask_all(address);
        }
    }

    /// How many questions asking everybody for `address` takes: one on each link.
    fn questions(&self, address: IpAddr) -> u64 {
        let interfaces = self.allowed_interfaces(address);
        interfaces.map_or(0, |interfaces| usable(&self.links, &interfaces).count() as u64)
    }

    /// Asks everybody on the links where this speaker would answer for `address`.
    fn ask_all(&mut self, address: IpAddr) {
        let Some(interfaces) = self.allowed_interfaces(address) else { return };
        for link in usable(&self.links, &interfaces) {
            let question = Question { address, link: link.name.clone(), to: None };
            self.outputs.push_back(Output::Ask(question));
        }
    }
}
