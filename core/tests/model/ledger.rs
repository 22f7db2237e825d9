//! What must hold, written a second time: from what the cluster does, without the rules by which it does it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use herald_core::ownership::claim::State;
use herald_core::ownership::record::{ClosedWhy, LeaseWrite};

use crate::faults::Ailment;
use crate::mutations::Rule;
use crate::settings::{NODES, Setting, index};
use crate::world::{Api, World};

/// One and a half renew periods: the longest that two may be `Owner` (I1).
const TWO_OWNERS: u64 = 3_000;
/// Of a planned move the successor may go unheard for so long (R5).
const PLANNED_MOVE: u64 = 1_000;
/// A session's duration and one renew period: the longest without an answer where time alone decides (I2).
const EXPIRY: u64 = 8_000;
/// The longest without an answer where the wire tells, what the API server takes left out (I2).
const EVIDENCE: u64 = 700;
/// R4's delay for each candidate that comes before and is dead.
const TURN: u64 = 250;
/// Whatever ailed a node, its peers may judge it by that for so long after.
const AFTERMATH: u64 = 1_000;

/// What does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    /// Two were `Owner` of one address for longer than sureness lasts (I1).
    TwoOwners,
    /// Two answered for one address side by side for too long (I1).
    TwoAnswer,
    /// A process that noticed that it had stood still answered beside another (R8).
    AnsweredAfterAPause,
    /// A claim was taken whose holder's session was open, and which was not handed over (R2).
    TakenUnclosed,
    /// The same, and its holder answered.
    Robbed,
    /// A session was closed as silent whose node answered on the wire (R7).
    Indicted,
    /// A session was closed as expired whose node answered on the wire (R7, I4).
    ExpiredThoughAnswering,
    /// Nobody answered for too long after the last fault (I2).
    Unanswered,
    /// Nobody answered for too long where the wire told that the owner was gone (I2).
    Slow,
    /// An address moved in a healthy cluster.
    Moved,
}

/// What is remembered of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Account {
    /// Since when two have been `Owner`.
    owners: Option<u64>,
    /// Since when two have answered that hear each other, and whether one of them hands over.
    together: Option<(u64, bool)>,
    /// Since when nobody has answered.
    unanswered: Option<u64>,
    /// Who answers, while the cluster is healthy.
    answerer: Option<usize>,
}

/// What is remembered of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Patient {
    /// How many things are wrong with how it answers on the wire.
    ailments: u8,
    /// When the last of them ended, for a while.
    recovered: Option<u64>,
    /// Since when it has been suspended, and what it answered for.
    suspended: Option<(u64, BTreeSet<IpAddr>)>,
    /// When it went on after a pause that it noticed and in which it was replaced, for a while.
    resumed: Option<(u64, BTreeSet<IpAddr>)>,
}

impl Patient {
    fn is_well(&self) -> bool {
        self.ailments == 0 && self.recovered.is_none()
    }
}

/// What must be remembered to judge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ledger {
    accounts: Vec<Account>,
    patients: [Patient; NODES],
    /// How many things are wrong that will end.
    ailments: u8,
    /// The wire tells of the only thing that has gone wrong since all was well.
    told: bool,
    /// Whether anything kept views, voices or clocks from telling the truth.
    misled: bool,
    /// When something last went wrong or right, until all is well again.
    disturbed: Option<u64>,
    pub(crate) healthy: Option<u64>,
    pub(crate) broken: Option<Broken>,
    /// Only this is looked for: a rule is switched off, and other things break as well.
    sought: Option<Broken>,
}

impl Ledger {
    pub(crate) fn new(setting: &Setting) -> Self {
        let accounts = setting.vips().map(|_| Account::default()).collect();
        Self { accounts, sought: setting.without.map(Rule::prevents), ..Self::default() }
    }

    fn breach(&mut self, broken: Broken) {
        if self.sought.is_none_or(|sought| sought == broken) {
            self.broken.get_or_insert(broken);
        }
    }

    /// A fault that is none of a node's.
    pub(crate) fn disturbed(&mut self, now: u64) {
        (self.healthy, self.misled, self.told) = (None, true, false);
        self.disturbed = Some(now);
    }

    /// A fault that lasts for `length`, or for good.
    pub(crate) fn struck(&mut self, world: &World, ailment: Ailment, length: Option<u64>) {
        let now = world.now;
        self.ailments += u8::from(length.is_some());
        self.told = self.healthy.is_some() && !self.misled && ailment.is_told_by_the_wire(length);
        (self.disturbed, self.healthy) = (Some(now), None);
        self.misled |= ailment.misleads();
        for index in ailment.silences() {
            self.patients[index].ailments += 1;
        }
        if let Ailment::Suspended(index) = ailment {
            self.patients[index].suspended = Some((now, world.nodes[index].answering.clone()));
        }
    }

    pub(crate) fn recovered(&mut self, ailment: Ailment, now: u64, slowest: u64) {
        self.ailments = self.ailments.saturating_sub(1);
        (self.disturbed, self.healthy) = (Some(now), None);
        for index in ailment.silences() {
            let patient = &mut self.patients[index];
            patient.ailments = patient.ailments.saturating_sub(1);
            patient.recovered = Some(now);
        }
        if let Ailment::Suspended(index) = ailment {
            let patient = &mut self.patients[index];
            // Who pauses for less may wake while it is being replaced: nobody answers it yet, and its watch is late.
            let replaced = EVIDENCE + 5 * slowest;
            let since = patient.suspended.take();
            patient.resumed =
                since.filter(|(since, _)| now - since >= replaced).map(|(_, of)| (now, of));
        }
    }

    /// A write was stored; `before` is what stood until then.
    pub(crate) fn stored(&mut self, world: &World, before: &Api, from: usize, write: &LeaseWrite) {
        match write {
            LeaseWrite::Claim(_, claim) => {
                let Some((_, old)) = before.claims.get(&claim.address) else { return };
                let Some((_, session)) = before.sessions.get(&index(&old.holder.node)) else {
                    return;
                };
                let open = session.open_for.as_ref() == Some(&old.holder.incarnation);
                let given =
                    session.leaving || old.handing_over_to == Some(claim.holder.node.clone());
                if claim.holder != old.holder && open && !given {
                    let node = index(&old.holder.node);
                    let machine = world.nodes[node].running();
                    let answers = machine.is_some_and(|of| of.state(claim.address).answers());
                    if answers && self.patients[node].ailments == 0 {
                        self.breach(Broken::Robbed);
                    }
                    self.breach(Broken::TakenUnclosed);
                }
            }
            LeaseWrite::Session(_, session) => {
                let node = index(&session.node);
                let why = session.closed.as_ref().map(|closed| closed.why);
                // A process that has just started may find the session of its former life.
                let lives = world.nodes[node].running().is_some_and(|machine| machine.is_open());
                let answers = self.patients[node].is_well() && lives;
                match why.filter(|_| node != from && answers) {
                    Some(ClosedWhy::Silent) => self.breach(Broken::Indicted),
                    // Who has nothing to answer for, or does not know that it has, has nothing to show.
                    Some(ClosedWhy::Expired) if before.is_owner(node, &world.nodes[node]) => {
                        self.breach(Broken::ExpiredThoughAnswering);
                    }
                    _ => {}
                }
            }
            LeaseWrite::DeleteClaim(..) => {}
        }
    }

    /// Looks at the cluster after everything that happens at one instant has happened.
    pub(crate) fn look(&mut self, world: &World) {
        let now = world.now;
        for patient in &mut self.patients {
            patient.recovered = patient.recovered.filter(|at| now - at < AFTERMATH);
            patient.resumed = patient.resumed.take().filter(|(at, _)| now - at < AFTERMATH);
        }
        for (at, address) in world.setting.vips().enumerate() {
            self.count_owners(world, at, address);
            self.count_answers(world, at, address);
            self.count_silence(world, at, address);
        }
        self.judge_health(world);
    }

    fn count_owners(&mut self, world: &World, at: usize, address: IpAddr) {
        let machines = world.nodes.iter().filter_map(|node| node.running());
        let owners = machines.filter(|m| matches!(m.state(address), State::Owner { .. })).count();
        let account = &mut self.accounts[at];
        let since = account.owners.or((owners > 1).then_some(world.now));
        account.owners = since.filter(|_| owners > 1);
        if since.is_some_and(|since| world.now - since > TWO_OWNERS) {
            self.breach(Broken::TwoOwners);
        }
    }

    fn count_answers(&mut self, world: &World, at: usize, address: IpAddr) {
        let now = world.now;
        let answering = answering(world, address);
        let hear = |one: usize, other: usize| one != other && world.passes(one, other);
        let beside = |one: usize| answering.iter().any(|other| hear(one, *other));
        let together = answering.iter().any(|one| beside(*one));
        let returned = |of: &&usize| {
            let resumed = self.patients[**of].resumed.as_ref();
            resumed.is_some_and(|(_, answered)| answered.contains(&address)) && beside(**of)
        };
        if !self.misled && answering.iter().find(returned).is_some() {
            self.breach(Broken::AnsweredAfterAPause);
        }
        let hands_over = world
            .nodes
            .iter()
            .filter_map(|node| node.running())
            .any(|machine| matches!(machine.state(address), State::HandingOver { .. }));
        let known = self.accounts[at].together;
        let since = known.or(together.then_some((now, hands_over)));
        let since = since.map(|(since, planned)| (since, planned || hands_over));
        self.accounts[at].together = since.filter(|_| together);
        let Some((since, planned)) = since else { return };
        let slowest = 2 * world.setting.slowest() + 20;
        let bound = match (self.misled, planned) {
            (true, _) => TWO_OWNERS + slowest,
            (false, true) => PLANNED_MOVE + slowest,
            (false, false) => slowest,
        };
        if now - since > bound {
            self.breach(Broken::TwoAnswer);
        }
    }

    fn count_silence(&mut self, world: &World, at: usize, address: IpAddr) {
        let now = world.now;
        let silent = answering(world, address).is_empty();
        let account = &mut self.accounts[at];
        let since = account.unanswered.or(silent.then_some(now));
        account.unanswered = since.filter(|_| silent);
        let Some(since) = since else { return };
        let api = 5 * world.setting.slowest();
        if self.told && now - since > EVIDENCE + api {
            self.breach(Broken::Slow);
        }
        let left_alone = since.max(self.disturbed.unwrap_or(since));
        let lives = world.nodes.iter().any(|node| node.running().is_some());
        if lives && self.ailments == 0 && now - left_alone > EXPIRY + 2 * TURN + api {
            self.breach(Broken::Unanswered);
        }
    }

    fn judge_health(&mut self, world: &World) {
        let healthy = self.is_healthy(world);
        let answerers: Vec<Option<usize>> = world
            .setting
            .vips()
            .map(|address| answering(world, address).first().copied())
            .collect();
        let moved = |(account, now): (&Account, &Option<usize>)| account.answerer != *now;
        if self.healthy.is_some() && self.accounts.iter().zip(&answerers).any(moved) {
            self.breach(Broken::Moved);
        }
        self.healthy = self.healthy.or(Some(world.now)).filter(|_| healthy);
        if healthy {
            self.disturbed = None;
        }
        for (account, answerer) in self.accounts.iter_mut().zip(answerers) {
            account.answerer = answerer.filter(|_| healthy);
        }
    }

    /// Whether all that lives is open and sure, and one answers for each address: the one whom its claim names.
    fn is_healthy(&self, world: &World) -> bool {
        let lives = |node: usize| {
            let machine = world.nodes[node].machine.as_ref();
            machine.is_none_or(|machine| machine.is_open() && machine.is_sure())
        };
        let owned = |address: IpAddr| {
            let Some((_, claim)) = world.api.claims.get(&address) else { return false };
            let holder = index(&claim.holder.node);
            let owns = world.nodes[holder].running().is_some_and(|machine| {
                matches!(machine.state(address), State::Owner { better_since: None })
            });
            owns && answering(world, address) == [holder]
        };
        let settled = self.disturbed.is_none_or(|at| world.now - at >= AFTERMATH);
        settled && self.ailments == 0 && (0..NODES).all(lives) && world.setting.vips().all(owned)
    }
}

fn answering(world: &World, address: IpAddr) -> Vec<usize> {
    (0..NODES).filter(|index| world.nodes[*index].answers(address)).collect()
}

impl Ailment {
    /// The nodes that answer on the wire no more, or are not heard by some.
    fn silences(self) -> Vec<usize> {
        match self {
            Self::Dead(index)
            | Self::Off(index)
            | Self::Suspended(index)
            | Self::StoodStill(index)
            | Self::PortDead(index)
            | Self::NoCarrier(index) => vec![index],
            Self::PairCut(one, other) => vec![one, other],
            Self::ApiCut(_) | Self::WatchStalled(_) | Self::Away(_) => Vec::new(),
        }
    }

    /// Whether it keeps a view, a voice or a clock from telling the truth.
    fn misleads(self) -> bool {
        match self {
            Self::StoodStill(_)
            | Self::ApiCut(_)
            | Self::WatchStalled(_)
            | Self::PairCut(..)
            | Self::PortDead(_) => true,
            Self::Dead(_)
            | Self::Off(_)
            | Self::Suspended(_)
            | Self::NoCarrier(_)
            | Self::Away(_) => false,
        }
    }

    /// Whether peers learn by the wire, or by the node itself, that it is gone.
    fn is_told_by_the_wire(self, length: Option<u64>) -> bool {
        match self {
            Self::Dead(_)
            | Self::Off(_)
            | Self::Suspended(_)
            | Self::PortDead(_)
            | Self::NoCarrier(_) => length.is_none_or(|length| length > EVIDENCE),
            Self::StoodStill(_)
            | Self::ApiCut(_)
            | Self::WatchStalled(_)
            | Self::PairCut(..)
            | Self::Away(_) => false,
        }
    }
}
