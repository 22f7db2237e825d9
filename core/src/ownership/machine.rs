//! The whole of one speaker's part: a sans-IO machine that is fed what happens and asked what to do.
//!
//! Feed it with [`Machine::handle`], or [`Machine::handle_all`], and with [`Machine::handle_deadline`] when [`Machine::next_deadline`] has come; after
//! each, drain [`Machine::poll_output`]. It reads no clock: `now` never goes back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use self::held::Held;
use self::inquiries::Inquiries;
use self::questions::LOOK_UP;
use self::refusals::Refusals;
use self::relisting::Relisting;
use self::report::Cause;
pub use self::report::Report;
use self::rivals::Rivals;
use self::vouching::Vouching;
pub use self::wire::Neighbours;
use super::announcement::{Announcements, Due};
use super::choices::Choices;
use super::claim::{self, HAND_OVER, Leaving, Standing, State};
use super::evidence::{Evidence, Question, Voice};
use super::peers::Peers;
use super::plan::{Interfaces, Plan};
use super::record::{Claim, Holder, LeaseEvent, LeaseWrite, Link, WriteOutcome};
use super::session::{self, OwnSession, Wishes};
use super::timers::Timers;
use super::view::{LeaseKey, View};
use crate::name::{LinkName, NodeName};
use crate::time::{Moment, Span};

mod facts;
mod held;
mod inquiries;
mod leases;
mod questions;
mod refusals;
mod relief;
mod relisting;
pub mod report;
mod rivals;
mod vouching;
mod wire;

/// One delay of R4, unless writes are slow.
const DELAY: Span = Span::millis(250);
/// How long closing the session may take before the process leaves without.
const CLOSING: Span = Span::secs(1);

/// What happens to a speaker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Every cache has synced, and this follows from what they hold.
    Plan(Arc<Plan>),
    /// The Lease watch, or a list that was asked for, shows this.
    Leases(LeaseEvent),
    /// The node's links are these.
    Links(Vec<Link>),
    /// A write came to this, so long after it was asked for.
    Written(LeaseKey, WriteOutcome, Span),
    /// The default gateways of each link.
    Gateways(BTreeMap<LinkName, Vec<IpAddr>>),
    /// Another host announced an address, or answered for it.
    Heard(Voice),
    /// A question on this link could not be sent, or what came in there was lost unread.
    Unsent(LinkName),
    /// The process is asked to stop.
    Stop,
}

/// What a speaker does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Write this Lease. At most one write of each is under way.
    Write(LeaseKey, LeaseWrite),
    /// List all Leases anew, consistently, and feed the result as [`LeaseEvent::Listed`].
    ListAnew,
    /// From now on answer for the address on these interfaces.
    Answer(IpAddr, Interfaces),
    /// From now on do not.
    Silence(IpAddr),
    /// Announce the address now.
    Announce {
        /// The address.
        address: IpAddr,
        /// The first since it was taken: gateways are asked, too (R6).
        first: bool,
    },
    /// Ask this. Who answers is to be heard.
    Ask(Question),
    /// From now on answer unicast probes of other speakers for the address, whether it is answered for or not; or do so
    /// no more.
    Vouch(IpAddr, bool),
    /// These are around now.
    Neighbours(Neighbours),
    /// Something changed that people want to know.
    Report(Report),
    /// The session is closed, nothing is answered: the process may end.
    Left,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Part {
    state: State,
    interfaces: Option<Interfaces>,
    announced: bool,
    /// Why the claim was written, to be told when it is mine.
    taking: Option<Cause>,
    /// Since when nobody has owned the address, as far as this speaker saw while it was about to take it.
    vacant_since: Option<Moment>,
    /// When a stranger was last reported.
    stranger: Option<Moment>,
    /// Another node was heard to use the address, and a list has shown since that it is not its.
    disputed: bool,
}

/// One speaker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    me: NodeName,
    plan: Option<Arc<Plan>>,
    view: View,
    session: OwnSession,
    peers: Peers,
    parts: BTreeMap<IpAddr, Part>,
    timers: Timers<IpAddr>,
    announcements: Announcements,
    links: Vec<Link>,
    gateways: BTreeMap<LinkName, Vec<IpAddr>>,
    evidence: Evidence,
    inquiries: Inquiries,
    held: Held,
    rivals: Rivals,
    vouching: Vouching,
    /// When duties are to be assigned anew, and when they last were.
    assign_at: Option<Moment>,
    assigned: Moment,
    neighbours: Neighbours,
    /// The networks that peers are on; nothing while they are to be gathered anew.
    networks: Option<BTreeSet<IpNetwork>>,
    sure: bool,
    stopping: Option<Moment>,
    drained: Option<Moment>,
    left: bool,
    advanced_at: Moment,
    write_time: Span,
    relisting: Relisting,
    refusals: Refusals,
    /// Confirmed writes that the watch may not have shown yet, and when each was confirmed.
    confirmed: BTreeMap<LeaseKey, Moment>,
    choices: Choices,
    /// The address that is to move for balance's sake, and when that was last looked into.
    relief: Option<(IpAddr, NodeName)>,
    relief_sought: Moment,
    dirty: BTreeSet<IpAddr>,
    /// Every address is to be looked at, not only the dirty ones.
    all_dirty: bool,
    outputs: VecDeque<Output>,
}

impl Machine {
    /// The speaker of node `me`. `seed` is random: it tells this process from every other.
    pub fn new(me: NodeName, seed: Arc<str>) -> Self {
        let choices = Choices::default();
        Self {
            session: OwnSession::new(me.clone(), seed),
            me,
            plan: None,
            view: View::default(),
            peers: Peers::default(),
            parts: BTreeMap::new(),
            timers: Timers::default(),
            announcements: Announcements::default(),
            links: Vec::new(),
            gateways: BTreeMap::new(),
            evidence: Evidence::default(),
            inquiries: Inquiries::lasting(choices.periods.ask),
            held: Held::default(),
            rivals: Rivals::default(),
            vouching: Vouching::default(),
            assign_at: None,
            assigned: Moment::default(),
            neighbours: Neighbours::default(),
            networks: None,
            sure: false,
            stopping: None,
            drained: None,
            left: false,
            advanced_at: Moment::default(),
            write_time: Span::ZERO,
            relisting: Relisting::default(),
            refusals: Refusals::default(),
            confirmed: BTreeMap::new(),
            choices,
            relief: None,
            relief_sought: Moment::default(),
            dirty: BTreeSet::new(),
            all_dirty: false,
            outputs: VecDeque::new(),
        }
    }

    /// This speaker, with what its operator chose. To be called before anything is fed to it.
    #[must_use]
    pub fn choosing(self, choices: Choices) -> Self {
        let announcements = Announcements::every(choices.refresh);
        let inquiries = Inquiries::lasting(choices.periods.ask);
        let evidence = Evidence::new(choices.periods);
        Self { choices, announcements, inquiries, evidence, ..self }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Moment) {
        self.handle_all([input], now);
    }

    /// Takes in what happened one after the other, and then sees what follows from it. When a switch fails, a hundred
    /// sessions may say so at once, and each concerns every address.
    pub fn handle_all(&mut self, inputs: impl IntoIterator<Item = Input>, now: Moment) {
        self.notice_pause(now);
        if self.sure && self.session.sure_until().is_none_or(|until| now >= until) {
            // The process may have slept: it must not judge what waited by what it was before.
            self.move_on(now);
        }
        for input in inputs {
            self.take_in(input, now);
        }
        self.advance(now);
    }

    fn take_in(&mut self, input: Input, now: Moment) {
        match input {
            Input::Plan(plan) => self.replan(plan, now),
            Input::Leases(event) => self.show(event, now),
            Input::Links(links) => self.relink(links, now),
            Input::Written(key, outcome, took) => self.settle(key, &outcome, took, now),
            Input::Gateways(gateways) => {
                self.gateways = gateways;
                self.assign_at = Some(now);
            }
            Input::Heard(voice) => self.hear(&voice, now),
            Input::Unsent(link) => {
                self.evidence.unsent(&link, now);
                self.prolong_inquiries(&link, now);
            }
            Input::Stop => {
                self.stopping.get_or_insert(now);
                self.mark_all();
            }
        }
    }

    /// A deadline has come.
    pub fn handle_deadline(&mut self, now: Moment) {
        self.notice_pause(now);
        self.advance(now);
    }

    /// When [`Machine::handle_deadline`] is to be called, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Moment> {
        if self.left {
            return None;
        }
        let period = self.period();
        let deadlines = [
            self.timers.next(),
            self.announcements.next_deadline(),
            self.peers.next_deadline().filter(|_| self.sure),
            self.session.next_deadline(&self.view, &self.links, period),
            self.session.sure_until().filter(|_| self.sure),
            self.relist_due(),
            self.assign_at,
            self.evidence.next_deadline(),
            self.inquiries.next_deadline(),
            self.held.next_deadline(),
            self.vouching.next_deadline(),
            self.heeds_pauses().then(|| self.advanced_at + LOOK_UP),
            self.rivals.next_deadline(),
            self.relief_due(),
            self.drained.filter(|_| self.is_answering()).map(|since| since + HAND_OVER),
            self.stopping.map(|since| since + HAND_OVER),
            self.stopping.map(|since| since + HAND_OVER + CLOSING),
        ];
        // What was due when everything last moved on waits for something to happen, not for time to pass.
        deadlines.into_iter().flatten().filter(|at| *at > self.advanced_at).min()
    }

    /// What to do next, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What this speaker is to `address`.
    pub fn state(&self, address: IpAddr) -> &State {
        const IDLE: &State = &State::Idle;
        self.parts.get(&address).map_or(IDLE, |part| &part.state)
    }

    /// All addresses in which this speaker has a part other than looking on.
    pub fn states(&self) -> impl Iterator<Item = (IpAddr, &State)> {
        self.parts.iter().map(|(address, part)| (*address, &part.state))
    }

    /// Whether this speaker's view is known to be fresh.
    pub fn is_sure(&self) -> bool {
        self.sure
    }

    /// Whether this speaker's session is open.
    pub fn is_open(&self) -> bool {
        self.session.is_open()
    }

    /// The view of all Leases.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The plan in force.
    pub fn plan(&self) -> Option<&Arc<Plan>> {
        self.plan.as_ref()
    }

    fn me(&self) -> Holder {
        Holder { node: self.me.clone(), incarnation: self.session.incarnation().clone() }
    }

    fn period(&self) -> Span {
        session::renew_period(self.view.open_sessions().count(), self.choices.periods.renew)
    }

    fn is_answering(&self) -> bool {
        self.parts.values().any(|part| part.state.answers())
    }

    fn mark_all(&mut self) {
        self.all_dirty = true;
    }

    /// The addresses to look at, in order, which are then dirty no more.
    fn take_dirty(&mut self) -> Vec<IpAddr> {
        let mut dirty: Vec<IpAddr> = std::mem::take(&mut self.dirty).into_iter().collect();
        if std::mem::take(&mut self.all_dirty) {
            dirty.extend(self.plan.iter().flat_map(|plan| plan.vips.keys()));
            dirty.extend(self.view.claimed());
            dirty.extend(self.parts.keys());
            // A few sorted runs, one after the other: a stable sort merges them.
            dirty.sort();
            dirty.dedup();
        }
        dirty
    }

    /// In a burst plans follow each other, and each differs from the one before in a few addresses: only these are looked
    /// at. What concerns the node itself concerns all of them.
    fn replan(&mut self, plan: Arc<Plan>, now: Moment) {
        let drained = plan.node_unfit.is_some().then(|| self.drained.unwrap_or(now));
        match &self.plan {
            Some(known) if self.drained == drained => self.dirty.extend(plan.differing(known)),
            _ => self.mark_all(),
        }
        self.drained = drained;
        self.plan = Some(plan);
        self.reassign_soon(now);
    }

    fn advance(&mut self, now: Moment) {
        self.move_on(now);
        while let Some(Due { address, refresh }) = self.announcements.pop_due(now) {
            let Some(part) = self.parts.get_mut(&address) else { continue };
            if refresh && !matches!(part.state, State::Owner { .. }) {
                // Another may have it, or is about to.
                continue;
            }
            let first = !std::mem::replace(&mut part.announced, true);
            self.outputs.push_back(Output::Announce { address, first });
        }
        self.relist(now);
    }

    /// Moves every state on until nothing follows any more.
    fn move_on(&mut self, now: Moment) {
        self.advanced_at = now;
        self.end_vouching(now);
        self.doubt_rivalled(now);
        self.seek_relief(now);
        while !self.left {
            self.gather_networks();
            self.refresh_sure(now);
            let progressed =
                self.drive_session(now) | self.close_expired(now) | self.consult_wire(now);
            while let Some(address) = self.timers.pop_due(now) {
                self.dirty.insert(address);
            }
            let dirty = self.take_dirty();
            for address in &dirty {
                self.step(*address, now);
            }
            if !progressed && dirty.is_empty() {
                break;
            }
        }
    }

    fn refresh_sure(&mut self, now: Moment) {
        let until = self.session.sure_until();
        let sure = until.is_some_and(|until| now < until);
        if sure == self.sure {
            return;
        }
        self.sure = sure;
        if sure {
            self.peers.thaw(now);
        } else {
            self.peers.freeze(until.unwrap_or(now).min(now));
        }
        self.outputs.push_back(Output::Report(Report::Sure(sure)));
        self.mark_all();
    }

    fn drive_session(&mut self, now: Moment) -> bool {
        let Some(plan) = self.plan.clone() else {
            self.left |= self.stopping.is_some();
            return self.finish_if_left(now);
        };
        let wishes = Wishes {
            node_uid: plan.node_uid.as_ref().filter(|_| plan.takes_part),
            links: &self.links,
            leaving: self.leaving() != Leaving::No && self.is_answering(),
            close: self.is_to_close(&plan, now),
            shut_down: self.stopping.is_some(),
        };
        let period = self.period();
        let (write, news) = self.session.drive(&self.view, &wishes, period, now);
        let progressed = write.is_some() || news.is_some();
        if let Some(session) = write {
            self.write_session(session);
        }
        if let Some(news) = news {
            self.outputs.push_back(Output::Report(Report::Session(news)));
            self.mark_all();
        }
        let overdue = self.stopping.is_some_and(|since| now >= since + HAND_OVER + CLOSING);
        self.left = self.session.has_left() || overdue;
        self.finish_if_left(now) || progressed
    }

    fn finish_if_left(&mut self, now: Moment) -> bool {
        if self.left {
            let parts: Vec<IpAddr> = self.parts.keys().copied().collect();
            for address in parts {
                self.enter(address, State::Idle, None, Cause::MustGo(None), now);
            }
            self.outputs.push_back(Output::Left);
        }
        self.left
    }

    fn step(&mut self, address: IpAddr, now: Moment) {
        self.vouch(address, now);
        let facts = self.facts(address, now);
        let step = claim::step(self.state(address), &facts, now);
        let allowed = self.refusals.until(address, now);
        self.timers.set(address, step.deadline.into_iter().chain(allowed).min());
        if step.write.is_none() && step.state == State::Idle && !self.parts.contains_key(&address) {
            return;
        }
        let cause = self.cause(address, &step.state, &facts);
        if let Some(write) = step.write {
            self.parts.entry(address).or_default();
            let asked_for = self.view.claim(address).is_none_or(|claim| claim.contested);
            if write == claim::Write::Take && asked_for && !self.choices.ignore_conflicts {
                self.inquiries.begin(address, true, now);
            }
            self.write_claim(address, write, &cause);
        }
        let interfaces = self.allowed_interfaces(address);
        let vacant = matches!(facts.claim, Standing::Free { held: false, .. })
            && matches!(step.state, State::Waiting { .. } | State::Taking);
        self.enter(address, step.state, interfaces, cause, now);
        if let Some(part) = self.parts.get_mut(&address).filter(|_| vacant) {
            part.vacant_since.get_or_insert(now);
        }
    }

    fn write_claim(&mut self, address: IpAddr, write: claim::Write, cause: &Cause) {
        let current = self.view.claim(address).cloned();
        let value = match (write, current) {
            (claim::Write::Delete, _) => None,
            (claim::Write::Contest(contested), Some(claim)) => Some(Claim { contested, ..claim }),
            (claim::Write::Take, current) => {
                let contested = current.as_ref().is_some_and(|claim| claim.contested);
                if let Some(part) = self.parts.get_mut(&address) {
                    part.taking = Some(cause.clone());
                }
                let transitions = current.map_or(0, |claim| claim.transitions.saturating_add(1));
                let holder = self.me();
                Some(Claim { address, holder, transitions, handing_over_to: None, contested })
            }
            (claim::Write::Mark(node), Some(claim)) => {
                Some(Claim { handing_over_to: Some(node), ..claim })
            }
            (claim::Write::Unmark, Some(claim)) => Some(Claim { handing_over_to: None, ..claim }),
            (claim::Write::Mark(_) | claim::Write::Unmark | claim::Write::Contest(_), None) => {
                return;
            }
        };
        let register = self.view.claim_register(address);
        let base = register.send(value.clone());
        let write = match (value, base) {
            (Some(claim), base) => LeaseWrite::Claim(base, claim),
            (None, Some(base)) => LeaseWrite::DeleteClaim(base, address),
            (None, None) => {
                register.settle(&WriteOutcome::Stored(None));
                return;
            }
        };
        self.outputs.push_back(Output::Write(LeaseKey::Claim(address), write));
    }

    /// Makes `state` the state of `address`, and the wire follow.
    fn enter(
        &mut self,
        address: IpAddr,
        state: State,
        interfaces: Option<Interfaces>,
        cause: Cause,
        now: Moment,
    ) {
        let part = self.parts.entry(address).or_default();
        let from = std::mem::replace(&mut part.state, state);
        let (before, after) = (from.answers(), part.state.answers());
        let (from, to) = (from.name(), part.state.name());
        let rebound = interfaces.is_some() && interfaces != part.interfaces;
        if rebound {
            part.interfaces = interfaces;
        }
        if after && (!before || rebound) {
            let on = part.interfaces.clone().unwrap_or(Interfaces::Any);
            self.outputs.push_back(Output::Answer(address, on));
        }
        let widened = rebound && matches!(part.state, State::Owner { .. });
        if after && (!before || widened) {
            self.announcements.start(address, now);
        }
        if before && !after {
            (part.announced, part.disputed) = (false, false);
            self.outputs.push_back(Output::Silence(address));
            self.announcements.stop(address);
        }
        if from != to && (before || after) {
            let cause = part.taking.take().filter(|_| !before && after).unwrap_or(cause);
            let answers = (before, after);
            let vacant = part.vacant_since.take().map(|since| now.since(since));
            let report = Report::Moved { address, from, to, answers, cause, vacant };
            self.outputs.push_back(Output::Report(report));
        }
        let (held, idle) = (part.state == State::Holding, part.state == State::Idle);
        match held {
            true if self.held.has(address) => {}
            true => self.held.begin(address, self.questions(address), now),
            false => self.held.end(address),
        }
        if idle {
            self.inquiries.forget(address);
            self.rivals.forget(address);
            self.parts.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests;
