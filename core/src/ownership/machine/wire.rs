//! What the wire lets this speaker know, and what it asks there: R7's evidence, R8's gate, R9's conflicts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::report::Cause;
use super::{Machine, Output, Report};
use crate::name::{LinkName, NodeName};
use crate::ownership::choices::STOOD_STILL;
use crate::ownership::claim::{self, State, Wire};
use crate::ownership::evidence::duty::Surroundings;
use crate::ownership::evidence::{Defence, Finding, Question, VETOED_FOR, Voice};
use crate::ownership::order::usable;
use crate::ownership::record::{Closed, ClosedWhy, Link};
use crate::ownership::session::close;
use crate::time::{Moment, Span};
use crate::wire::Mac;

/// Between two reports of strangers that use one address.
const STRANGER_INTERVAL: Span = Span::secs(1);
/// Duties follow claims at most so often; what opens and closes they follow at once.
const ASSIGN_INTERVAL: Span = Span::millis(50);
/// A session that has been expired for so long is closed whatever its speaker answers.
const VETO_ENDS: Span = Span::secs(60);
/// Addresses that a peer whose session has expired is asked for at a time.
const DEFENDED: usize = 16;
/// How long a speaker answers its peers' probes for an address after its claim went: it lives, though it is silent.
const VOUCHED_FOR: Span = Span::secs(10);
/// So often at least the machine looks up while it answers, so that standing still is noticed.
pub(super) const LOOK_UP: Span = Span::millis(150);
/// Questions of one inquiry.
const INQUIRIES: u64 = 2;
/// Between two questions while a stranger has the address, and how long it must have been silent.
const STRANGER_ASKED: Span = Span::secs(1);
const STRANGER_GONE: Span = Span::millis(2500);

/// The wire is asked for an address before it is answered for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inquiry {
    until: Moment,
    next: Moment,
    /// Whether strangers count: not when this speaker answered before, for to them it never yields (R9).
    heeds_strangers: bool,
    stranger: Option<Moment>,
}

/// Who is around, as far as the wire's part depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Neighbours {
    /// The hardware addresses of other speakers: their unicast probes are answered for what is vouched for.
    pub speakers: BTreeSet<Mac>,
    /// The addresses of hosts whose answers are to be heard.
    pub hosts: BTreeSet<IpAddr>,
}

impl Machine {
    pub(super) fn relink(&mut self, mut links: Vec<Link>, now: Moment) {
        for link in &mut links {
            link.deaf = self.evidence.is_deaf(&link.name);
        }
        let returned = links.iter().any(|link| {
            let before = self.links.iter().find(|known| known.name == link.name);
            link.carrier && before.is_none_or(|known| !known.carrier || known.mac != link.mac)
        });
        self.links = links;
        self.assign_at = Some(now);
        self.mark_all();
        if returned {
            let owned = |part: &super::Part| matches!(part.state, State::Owner { .. });
            for (address, part) in &self.parts {
                if owned(part) {
                    self.announcements.start(*address, now);
                }
            }
        }
    }

    pub(super) fn hear(&mut self, voice: &Voice, now: Moment) {
        let Voice { address, mac, .. } = *voice;
        if self.links.iter().any(|link| link.mac == mac) {
            return;
        }
        self.evidence.hear(voice, now);
        let state = self.state(address).clone();
        if !state.answers() && state != State::Asking && state != State::Taking {
            return;
        }
        let Some(speaker) = self.view.speaker_with(mac).cloned() else {
            self.hear_stranger(voice, now);
            return;
        };
        if state == State::Taking {
            return;
        }
        if matches!(state, State::Owner { .. } | State::Asking) {
            if matches!(state, State::Owner { .. }) {
                self.announcements.start(address, now);
            }
            self.rivals.entry(address).or_insert(now);
            self.want_list(now);
        }
        let state = claim::hear_rival(&state, now);
        self.enter(address, state, None, Cause::HeardSpeaker(speaker), now);
        self.dirty.insert(address);
    }

    /// A stranger may send as fast as it likes; people are told at a measured pace.
    fn hear_stranger(&mut self, voice: &Voice, now: Moment) {
        let Voice { address, mac, .. } = *voice;
        let own = self.links.iter().find(|link| link.name == voice.link).map(|link| link.mac);
        let Some(part) = self.parts.get_mut(&address) else { return };
        let inquiry = part.inquiry.as_mut().filter(|inquiry| inquiry.heeds_strangers);
        let barred = inquiry.is_some_and(|inquiry| {
            inquiry.stranger = Some(now);
            true
        });
        if !barred && !part.state.answers() {
            return;
        }
        if part.stranger.is_none_or(|last| now >= last + STRANGER_INTERVAL) {
            part.stranger = Some(now);
            self.outputs.push_back(Output::Report(Report::Stranger { address, mac, own, barred }));
        }
    }

    /// Begins to ask for `address` before it is answered for.
    pub(super) fn inquire(&mut self, address: IpAddr, heeds_strangers: bool, now: Moment) {
        let until = now + self.choices.periods.ask;
        let part = self.parts.entry(address).or_default();
        part.inquiry = Some(Inquiry { until, next: now, heeds_strangers, stranger: None });
        self.inquiries.set(address, Some(now));
    }

    pub(super) fn wire(&self, address: IpAddr) -> Wire {
        let inquiry = self.parts.get(&address).and_then(|part| part.inquiry.as_ref());
        inquiry.map_or(Wire::Clear, |inquiry| Wire::Asked(inquiry.until))
    }

    /// R8's gate: what was answered before a pause is asked for before it is answered again.
    pub(super) fn notice_pause(&mut self, now: Moment) {
        if now.since(self.advanced_at) < STOOD_STILL || !self.is_answering() {
            return;
        }
        let answering: Vec<IpAddr> = self
            .parts
            .iter()
            .filter(|(_, part)| part.state.answers())
            .map(|(address, _)| *address)
            .collect();
        for address in answering {
            self.inquire(address, false, now);
            self.enter(address, State::Asking, None, Cause::StoodStill, now);
            self.dirty.insert(address);
        }
    }

    /// Puts the questions that are due, and ends the inquiries that are over.
    fn drive_inquiries(&mut self, now: Moment) -> bool {
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

    /// Asks everybody on the links where this speaker would answer for `address`.
    fn ask_all(&mut self, address: IpAddr) {
        let Some(interfaces) = self.allowed_interfaces(address) else { return };
        for link in usable(&self.links, &interfaces) {
            let question = Question { address, link: link.name.clone(), to: None };
            self.outputs.push_back(Output::Ask(question));
        }
    }

    /// What the wire says of peers and links; whether anything followed.
    pub(super) fn consult_wire(&mut self, now: Moment) -> bool {
        self.assign(now);
        let progressed = self.drive_inquiries(now);
        let findings = match self.evidence.next_deadline() {
            Some(due) if due <= now => self.evidence.look(now),
            _ => Vec::new(),
        };
        let progressed = progressed || !findings.is_empty();
        for finding in findings {
            match finding {
                Finding::Ask(question) => self.outputs.push_back(Output::Ask(question)),
                Finding::Silent(node) => self.close_peer(&node, ClosedWhy::Silent),
                Finding::Deaf(link, deaf) => self.deafen(&link, deaf),
                Finding::Alive(node) => self.peers.postpone(&node, now + VETOED_FOR),
                Finding::Unanswering(node) => {
                    if self.peers.is_expired(&node, now) {
                        self.close_peer(&node, ClosedWhy::Expired);
                    }
                }
            }
        }
        progressed
    }

    fn deafen(&mut self, link: &LinkName, deaf: bool) {
        if let Some(link) = self.links.iter_mut().find(|known| known.name == *link) {
            link.deaf = deaf;
        }
        self.mark_all();
    }

    /// R7: only who is sure closes, and only on the version that stands.
    fn close_peer(&mut self, node: &NodeName, why: ClosedWhy) {
        if !self.sure || !self.session.is_open() || !self.view.is_session_writable(node) {
            return;
        }
        let Some(session) = self.view.session(node).filter(|s| s.open_for.is_some()) else {
            return;
        };
        let session = close(session, Closed { by: self.me.clone(), why });
        self.outputs.push_back(Output::Report(Report::ClosedPeer(node.clone(), why)));
        self.write_session(session);
    }

    /// R7, expired: who may still live is heard first.
    pub(super) fn close_expired(&mut self, now: Moment) -> bool {
        if !self.sure {
            return false;
        }
        let mut progressed = false;
        while let Some((node, overdue)) = self.peers.pop_expired(&self.me, &self.view, now) {
            progressed = true;
            if overdue >= VETO_ENDS {
                self.close_peer(&node, ClosedWhy::Expired);
                continue;
            }
            if self.is_deaf() && self.is_anybody_else_hearing(&node, now) {
                self.peers.postpone(&node, now + VETOED_FOR);
                continue;
            }
            match self.defence(&node, overdue) {
                Some(defence) => self.evidence.hear_out(node, defence, now),
                None => self.close_peer(&node, ClosedWhy::Expired),
            }
        }
        progressed
    }

    /// What the peer is asked for; `None` when it has nothing that it could be asked for.
    fn defence(&self, node: &NodeName, overdue: Span) -> Option<Defence> {
        let (surroundings, session) = (self.surroundings()?, self.view.session(node)?);
        let mut addresses = surroundings.within_earshot(session);
        if addresses.is_empty() {
            return None;
        }
        // Others each time, so that in the end all have been asked for.
        let turn = usize::try_from(overdue.0 / VETOED_FOR.0).unwrap_or(0) * DEFENDED;
        let start = turn % addresses.len();
        addresses.rotate_left(start);
        addresses.truncate(DEFENDED);
        Some(Defence { addresses, macs: session.links.iter().map(|link| link.mac).collect() })
    }

    /// Whether none of this node's links hears anybody.
    pub(super) fn is_deaf(&self) -> bool {
        let mut links = self.links.iter().filter(|link| link.carrier).peekable();
        links.peek().is_some() && links.all(|link| link.deaf)
    }

    fn is_anybody_else_hearing(&self, but: &NodeName, now: Moment) -> bool {
        self.view.open_sessions().any(|session| {
            session.node != self.me
                && session.node != *but
                && !self.peers.is_expired(&session.node, now)
                && session.links.iter().any(|link| link.carrier && !link.deaf)
        })
    }

    fn surroundings(&self) -> Option<Surroundings<'_>> {
        Some(Surroundings {
            me: &self.me,
            links: &self.links,
            gateways: &self.gateways,
            view: &self.view,
            plan: self.plan.as_deref()?,
        })
    }

    /// Claims have changed: duties follow before long.
    pub(super) fn reassign_soon(&mut self, now: Moment) {
        let at = (self.assigned + ASSIGN_INTERVAL).max(now);
        self.assign_at = Some(self.assign_at.map_or(at, |known| known.min(at)));
    }

    fn assign(&mut self, now: Moment) {
        if self.assign_at.is_none_or(|at| now < at) {
            return;
        }
        (self.assign_at, self.assigned) = (None, now);
        let Some(surroundings) = self.surroundings() else { return };
        let (duties, hosts) = (surroundings.duties(), surroundings.hosts());
        let others = self.view.sessions().filter(|session| session.node != self.me);
        let neighbours = Neighbours {
            speakers: others.flat_map(|s| s.links.iter().map(|link| link.mac)).collect(),
            hosts: hosts.values().flat_map(BTreeMap::keys).copied().collect(),
        };
        if neighbours != self.neighbours {
            self.neighbours = neighbours.clone();
            self.outputs.push_back(Output::Neighbours(neighbours));
        }
        self.evidence.assign(duties, hosts, now);
    }

    /// A live speaker answers its peers' probes for every address whose claim names it, or did a moment ago, in any
    /// state: silence on purpose is not death.
    pub(super) fn vouch(&mut self, address: IpAddr, now: Moment) {
        let mine = self.view.claim(address).is_some_and(|claim| self.is_mine(claim));
        let known = self.vouched.contains(&address);
        if mine {
            self.vouch_ends.set(address, None);
        } else if known && !self.vouch_ends.has(&address) {
            self.vouch_ends.set(address, Some(now + VOUCHED_FOR));
        }
        if mine && !known {
            self.vouched.insert(address);
            self.outputs.push_back(Output::Vouch(address, true));
        }
    }

    pub(super) fn end_vouching(&mut self, now: Moment) {
        while let Some(address) = self.vouch_ends.pop_due(now) {
            self.vouched.remove(&address);
            self.outputs.push_back(Output::Vouch(address, false));
        }
    }
}
