//! What this speaker asks of everybody: before it answers for an address (R8's gate, R9), and while it holds one (R8).

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::inquiries::Next;
use super::report::Cause;
use super::{Machine, Output, Part};
use crate::name::LinkName;
use crate::ownership::choices::STOOD_STILL;
use crate::ownership::claim::State;
use crate::ownership::evidence::Question;
use crate::ownership::order::usable;
use crate::time::{Moment, Span};

/// So often at least the machine looks up while it answers or takes, so that standing still is noticed.
pub(super) const LOOK_UP: Span = Span::millis(150);

impl Part {
    /// Whether the address is answered for, or is about to be.
    fn heeds_pauses(&self) -> bool {
        self.state.answers() || self.state == State::Taking
    }
}

impl Machine {
    /// Whether standing still would be noticed too late if the machine did not look up often: also while the questions
    /// are being put that, unanswered, let it answer.
    pub(super) fn heeds_pauses(&self) -> bool {
        !self.inquiries.is_empty() || self.parts.values().any(Part::heeds_pauses)
    }

    /// R8's gate: what was answered before a pause, or was about to be, is asked for before it is answered again.
    pub(super) fn notice_pause(&mut self, now: Moment) {
        if now.since(self.advanced_at) < STOOD_STILL {
            return;
        }
        let parts = self.parts.iter().filter(|(_, part)| part.heeds_pauses());
        let concerned: BTreeSet<IpAddr> =
            parts.map(|(address, _)| *address).chain(self.inquiries.addresses()).collect();
        for address in concerned {
            let heeds_strangers = self.inquiries.heeds_strangers(address);
            self.inquiries.begin(address, heeds_strangers, now);
            if self.state(address).answers() {
                self.enter(address, State::Asking, None, Cause::StoodStill, now);
            }
            self.dirty.insert(address);
        }
    }

    /// Puts the questions that are due, and ends the inquiries that are over.
    pub(super) fn drive_inquiries(&mut self, now: Moment) -> bool {
        let next = self.inquiries.look(now);
        for one in &next {
            match one {
                Next::Ask(address) => self.ask_all(*address),
                Next::Over(address) => drop(self.dirty.insert(*address)),
            }
        }
        !next.is_empty()
    }

    /// Questions on `link` did not leave, or answers there were lost.
    pub(super) fn prolong_inquiries(&mut self, link: &LinkName, now: Moment) {
        let allowed = |address: &IpAddr| {
            self.allowed_interfaces(*address).is_some_and(|interfaces| interfaces.allow(link))
        };
        let concerned: Vec<IpAddr> = self.inquiries.addresses().filter(allowed).collect();
        self.inquiries.prolong(&concerned, now);
    }

    /// R8: whoever took an address meanwhile answers when it is asked for.
    pub(super) fn ask_for_held(&mut self, now: Moment) {
        while let Some(address) = self.held.pop_due(now) {
            self.held.go_on(address, self.questions(address), now);
            self.ask_all(address);
        }
    }

    /// How many questions asking everybody for `address` takes: one on each link.
    pub(super) fn questions(&self, address: IpAddr) -> u64 {
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
