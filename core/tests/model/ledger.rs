//! What must hold, written a second time: from what the cluster does, without the rules by which it does it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use herald_core::ownership::claim::State;
use herald_core::ownership::record::{ClosedWhy, LeaseWrite};

use crate::faults::Ailment;
use crate::settings::{NODES, Setting, index};
use crate::world::{Api, World};

/// Of a planned move the successor may go unheard for so long (R5).
const PLANNED_MOVE: u64 = 1_000;
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
    /// Nobody answered for longer than the one thing that was wrong explains: a takeover where the wire tells that the
    /// owner is gone (I2), and no moment where only the API server, a watch or an endpoint is (I4, I5).
    Slow,
    /// An address moved in a healthy cluster.
    Moved,
    /// Long after the last fault ended, not all was as it should be.
    NotWell,
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
    /// When it went on after a pause, for a while, and for what another had come to answer in its stead.
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
    /// Pairs of nodes that do not hear each other; and for a while since when they do again.
    parted: BTreeMap<(usize, usize), Option<u64>>,
    /// How many things are wrong that will end.
    ailments: u8,
    /// How long nobody may answer; not told where several things have gone wrong since all was well.
    tolerated: Option<u64>,
    /// Whether anything has kept frames from somebody, or a clock from going on, since all was well.
    wire_misled: bool,
    /// Whether anything has kept news of the API server from somebody since all was well.
    api_misled: bool,
    /// When something last went wrong or right, until all is well again.
    disturbed: Option<u64>,
    pub(crate) healthy: Option<u64>,
    pub(crate) broken: Option<Broken>,
    /// Only this is looked for, if anything.
    sought: Option<Broken>,
}

impl Ledger {
    pub(crate) fn new(setting: &Setting) -> Self {
        let accounts = setting.vips().map(|_| Account::default()).collect();
        Self { accounts, sought: setting.sought, ..Self::default() }
    }

    fn breach(&mut self, broken: Broken) {
        if self.sought.is_none_or(|sought| sought == broken) {
            self.broken.get_or_insert(broken);
        }
    }

    /// A fault that is none of a node's.
    pub(crate) fn disturbed(&mut self, now: u64) {
        self.tolerated = self.healthy.and(Some(0));
        (self.healthy, self.api_misled) = (None, true);
        self.disturbed = Some(now);
    }

    /// A fault that lasts for `length`, or for good.
    pub(crate) fn struck(&mut self, world: &World, ailment: Ailment, length: Option<u64>) {
        let now = world.now;
        self.ailments += u8::from(length.is_some());
        self.tolerated = self.healthy.map(|_| ailment.tolerated(&world.setting));
        (self.disturbed, self.healthy) = (Some(now), None);
        self.wire_misled |= ailment.keeps_frames();
        self.api_misled |= matches!(ailment, Ailment::ApiCut(_) | Ailment::WatchStalled(_));
        if let Ailment::PairCut(one, other) = ailment {
            self.parted.insert((one, other), None);
        }
        if let Some(index) = ailment.silences() {
            self.patients[index].ailments += 1;
        }
        if let Ailment::Suspended(index) = ailment {
            self.patients[index].suspended = Some((now, world.nodes[index].answering.clone()));
        }
    }

    /// A fault ends; its node does not know yet.
    pub(crate) fn recovered(&mut self, world: &World, ailment: Ailment) {
        let now = world.now;
        self.ailments = self.ailments.saturating_sub(1);
        (self.disturbed, self.healthy) = (Some(now), None);
        if let Some(index) = ailment.silences() {
            let patient = &mut self.patients[index];
            patient.ailments = patient.ailments.saturating_sub(1);
            patient.recovered = Some(now);
        }
        if let Ailment::PairCut(one, other) = ailment {
            self.parted.insert((one, other), Some(now));
        }
        if let Ailment::Suspended(index) = ailment {
            let replaced = |address: &IpAddr| !answering(world, *address).is_empty();
            let patient = &mut self.patients[index];
            let answered = patient.suspended.take().map(|(_, answered)| answered);
            let replaced = answered.into_iter().flatten().filter(replaced).collect();
            patient.resumed = Some((now, replaced));
        }
    }

    /// Whether `one` may have taken `other` for dead because the two do not hear each other.
    fn are_parted(&self, one: usize, other: usize) -> bool {
        self.parted.contains_key(&(one.min(other), one.max(other)))
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
                let hears = !self.are_parted(node, from);
                let answers = self.patients[node].is_well() && lives && hears;
                match why.filter(|_| node != from && answers) {
                    Some(ClosedWhy::Silent) => self.breach(Broken::Indicted),
                    // Who has nothing to answer for, or does not know that it has, has nothing to show.
                    Some(ClosedWhy::Expired)
                        if before.is_owner(node, &world.nodes[node], &world.nodes[from]) =>
                    {
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
        self.parted.retain(|_, since| since.is_none_or(|at| now - at < AFTERMATH));
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
        if since.is_some_and(|since| world.now - since > world.setting.two_owners()) {
            self.breach(Broken::TwoOwners);
        }
    }

    fn count_answers(&mut self, world: &World, at: usize, address: IpAddr) {
        let now = world.now;
        let answering = serving(world, address);
        // Where two do not hear each other the API server tells them, if it can.
        let hear = |one: usize, other: usize| {
            one != other && (world.passes(one, other) || !self.api_misled)
        };
        let beside = |one: usize| answering.iter().any(|other| hear(one, *other));
        let together = answering.iter().any(|one| beside(*one));
        let returned = |of: &&usize| {
            let resumed = self.patients[**of].resumed.as_ref();
            resumed.is_some_and(|(_, answered)| answered.contains(&address)) && beside(**of)
        };
        if !self.wire_misled && answering.iter().find(returned).is_some() {
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
        let setting = &world.setting;
        let bound = match (self.wire_misled, planned) {
            (true, _) => setting.apart(),
            (false, true) => PLANNED_MOVE + setting.round_trip(),
            (false, false) => setting.round_trip(),
        };
        if now - since > bound {
            self.breach(Broken::TwoAnswer);
        }
    }

    fn count_silence(&mut self, world: &World, at: usize, address: IpAddr) {
        let now = world.now;
        let silent = serving(world, address).is_empty();
        let account = &mut self.accounts[at];
        let since = account.unanswered.or(silent.then_some(now));
        account.unanswered = since.filter(|_| silent);
        let Some(since) = since else { return };
        if self.tolerated.is_some_and(|bound| now - since > bound) {
            self.breach(Broken::Slow);
        }
        let left_alone = since.max(self.disturbed.unwrap_or(since));
        let lives = world.nodes.iter().any(|node| node.running().is_some());
        let bound = world.setting.expiry() + 2 * TURN + world.setting.takeover();
        if lives && self.ailments == 0 && now - left_alone > bound {
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
            (self.disturbed, self.wire_misled, self.api_misled) = (None, false, false);
        }
        let ended = self.disturbed.filter(|_| self.ailments == 0);
        if ended.is_some_and(|at| world.now - at > world.setting.convalescence()) {
            self.breach(Broken::NotWell);
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

/// The nodes that mean to answer for `address`.
fn answering(world: &World, address: IpAddr) -> Vec<usize> {
    (0..NODES).filter(|index| world.nodes[*index].answers(address)).collect()
}

/// Those whose answers a client gets.
fn serving(world: &World, address: IpAddr) -> Vec<usize> {
    (0..NODES).filter(|index| world.nodes[*index].serves(address)).collect()
}

impl Ailment {
    /// The node that answers on the wire no more.
    fn silences(self) -> Option<usize> {
        match self {
            Self::Dead(index)
            | Self::Off(index)
            | Self::Suspended(index)
            | Self::StoodStill(index)
            | Self::PortDead(index)
            | Self::Unheard(index)
            | Self::Unhearing(index)
            | Self::NoCarrier(index) => Some(index),
            Self::PairCut(..) | Self::ApiCut(_) | Self::WatchStalled(_) | Self::Away(_) => None,
        }
    }

    /// Whether somebody does not hear, or does not know how late it is.
    fn keeps_frames(self) -> bool {
        match self {
            Self::StoodStill(_)
            | Self::PairCut(..)
            | Self::PortDead(_)
            | Self::Unheard(_)
            | Self::Unhearing(_)
            | Self::NoCarrier(_) => true,
            Self::Dead(_)
            | Self::Off(_)
            | Self::Suspended(_)
            | Self::ApiCut(_)
            | Self::WatchStalled(_)
            | Self::Away(_) => false,
        }
    }

    /// The longest that nobody may answer if nothing else is wrong.
    fn tolerated(self, setting: &Setting) -> u64 {
        match self {
            // Peers learn by the wire, or by the node itself, that it is gone; or it is back before, and asks first.
            Self::Dead(_)
            | Self::Off(_)
            | Self::Suspended(_)
            | Self::StoodStill(_)
            | Self::PortDead(_)
            | Self::Unheard(_)
            | Self::Unhearing(_)
            | Self::NoCarrier(_)
            | Self::PairCut(..) => setting.evidence() + setting.periods.ask.0 + setting.takeover(),
            Self::ApiCut(_) | Self::WatchStalled(_) | Self::Away(_) => 0,
        }
    }
}
