//! The simulated cluster: Leases with versions, watches with delays, frames with connectivity, one clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use herald_core::name::NodeName;
use herald_core::ownership::choices::Choices;
use herald_core::ownership::machine::{Input, Machine, Output};
use herald_core::ownership::plan::{Candidacy, Candidates, Interfaces, Plan, Vip};
use herald_core::ownership::record::{
    Claim, LeaseEvent, LeaseWrite, Link, Session, Version, WriteOutcome,
};
use herald_core::ownership::view::LeaseKey;
use herald_core::time::{Moment, Span};
use herald_core::why::announcement::Unfit;
use herald_core::wire::Mac;

use crate::dice::Dice;
use herald_core::ownership::evidence::Voice;

mod server;
mod wire;

use self::wire::Asked;

#[derive(Clone)]
enum Stored {
    Session(Session),
    Claim(Claim),
}

enum Happening {
    /// The watch of a node's life may deliver what it has not delivered.
    Watch(usize, u32),
    Arrive(usize, u32, LeaseKey, LeaseWrite, u64),
    Outcome(usize, u32, LeaseKey, WriteOutcome, u64),
    List(usize, u32),
    Listed(usize, u32, LeaseEvent, usize),
    Frame(usize, Voice),
    Asked(Asked),
    Kernel(Asked),
    Wake(usize, u32),
    Feed(usize, u32, Input),
}

impl Happening {
    /// The node whose process would have to read it.
    fn reader(&self) -> Option<usize> {
        match self {
            Self::Outcome(index, ..)
            | Self::List(index, _)
            | Self::Listed(index, ..)
            | Self::Frame(index, ..)
            | Self::Watch(index, _)
            | Self::Wake(index, _)
            | Self::Feed(index, ..) => Some(*index),
            Self::Asked(asked) => Some(asked.to),
            // What was sent travels on without its sender, and a kernel needs no process.
            Self::Arrive(..) | Self::Kernel(_) => None,
        }
    }
}

pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) machine: Option<Machine>,
    pub(crate) answering: BTreeSet<IpAddr>,
    pub(crate) api: bool,
    pub(crate) lan: bool,
    /// Its port of the switch is dead, which it does not see.
    pub(crate) unplugged: bool,
    /// Whether its kernel runs.
    pub(crate) power: bool,
    vouched: BTreeSet<IpAddr>,
    pub(crate) has_left: bool,
    pub(crate) unfit: Option<Unfit>,
    /// Whether its watch shows anything; lists work all the same.
    pub(crate) watch: bool,
    /// What came to a process that is suspended, in order.
    suspended: Option<Vec<Happening>>,
    suspended_at: u64,
    /// How far its clock is behind: it stood still in some pauses.
    behind: u64,
    life: u32,
    mac: Mac,
    /// What the watch has delivered of the log; `None` while a list is under way, which the watch then follows.
    cursor: Option<usize>,
    woken_for: Option<u64>,
}

/// One stretch of time in which a node answered for an address.
pub(crate) struct Stretch {
    pub(crate) node: usize,
    pub(crate) address: IpAddr,
    pub(crate) from: u64,
    pub(crate) to: Option<u64>,
}

pub(crate) struct Cluster {
    pub(crate) now: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) vips: BTreeMap<IpAddr, BTreeSet<usize>>,
    pub(crate) scores: BTreeMap<usize, u64>,
    pub(crate) api_up: bool,
    pub(crate) writes: Vec<(u64, usize, LeaseKey)>,
    pub(crate) announced: Vec<(u64, usize, IpAddr)>,
    pub(crate) stretches: Vec<Stretch>,
    leases: BTreeMap<LeaseKey, (Version, Stored)>,
    log: Vec<LeaseEvent>,
    revision: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    serial: u64,
    dice: Dice,
    /// Happenings at this very millisecond: a machine that asks for the past would stop time.
    busy: u32,
    pub(crate) slowest: u64,
    /// Of a hundred frames so many are lost.
    pub(crate) loss: u64,
    /// Pairs of nodes between which the segment is cut.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// Hosts that are no speakers, by the address that they use.
    pub(crate) strangers: BTreeMap<IpAddr, Mac>,
    /// What the operator of all speakers chose.
    pub(crate) choices: Choices,
    /// Questions asked.
    pub(crate) asked: u64,
}

pub(crate) fn vip(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))
}

impl Cluster {
    pub(crate) fn new(nodes: usize, vips: u8, seed: u64) -> Self {
        let nodes: Vec<Node> = (0..nodes).map(node).collect();
        let all: BTreeSet<usize> = (0..nodes.len()).collect();
        Self {
            now: 0,
            vips: (1..=vips).map(|n| (vip(n), all.clone())).collect(),
            scores: BTreeMap::new(),
            nodes,
            api_up: true,
            writes: Vec::new(),
            announced: Vec::new(),
            stretches: Vec::new(),
            leases: BTreeMap::new(),
            log: Vec::new(),
            revision: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            serial: 0,
            dice: Dice::new(seed),
            busy: 0,
            slowest: 20,
            loss: 0,
            cut: BTreeSet::new(),
            strangers: BTreeMap::new(),
            choices: Choices::default(),
            asked: 0,
        }
    }

    /// Starts the speaker of every node.
    pub(crate) fn start_all(&mut self) {
        for index in 0..self.nodes.len() {
            self.start(index);
        }
    }

    pub(crate) fn start(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.life += 1;
        node.power = true;
        node.vouched.clear();
        node.has_left = false;
        node.woken_for = None;
        let seed = format!("{}{}", node.name, node.life);
        let machine = Machine::new(node.name.clone(), seed.into());
        node.machine = Some(machine.choosing(self.choices));
        node.cursor = None;
        let (life, link) = (node.life, link(node));
        self.feed(index, Input::Links(vec![link]));
        self.later(0, Happening::List(index, life));
        self.replan_one(index);
    }

    /// SIGKILL: nothing is answered any more, nothing is said.
    pub(crate) fn crash(&mut self, index: usize) {
        self.nodes[index].machine = None;
        self.nodes[index].suspended = None;
        self.nodes[index].life += 1;
        let answered = std::mem::take(&mut self.nodes[index].answering);
        for address in answered {
            self.end_stretch(index, address);
        }
    }

    pub(crate) fn stop(&mut self, index: usize) {
        self.feed(index, Input::Stop);
    }

    pub(crate) fn is_suspended(&self, index: usize) -> bool {
        self.nodes[index].suspended.is_some()
    }

    /// The plug is pulled: its kernel answers nothing either.
    pub(crate) fn power_off(&mut self, index: usize) {
        self.crash(index);
        self.nodes[index].power = false;
    }

    /// SIGSTOP: nothing is read, answered or sent; what comes in waits.
    pub(crate) fn suspend(&mut self, index: usize) {
        if self.nodes[index].machine.is_none() || self.is_suspended(index) {
            return;
        }
        self.nodes[index].suspended = Some(Vec::new());
        self.nodes[index].suspended_at = self.now;
        for address in self.nodes[index].answering.clone() {
            self.end_stretch(index, address);
        }
    }

    /// As [`Cluster::resume`], after a pause in which the machine's clock stood still as well.
    pub(crate) fn resume_unaware(&mut self, index: usize) {
        if self.is_suspended(index) {
            self.nodes[index].behind += self.now - self.nodes[index].suspended_at;
            self.resume(index);
        }
    }

    /// SIGCONT: it answers as it did, until it has read what waited.
    pub(crate) fn resume(&mut self, index: usize) {
        let Some(waited) = self.nodes[index].suspended.take() else { return };
        // The responder answers nothing until the loop has looked up.
        let now = self.clock(index);
        if let Some(machine) = &mut self.nodes[index].machine {
            machine.handle_deadline(now);
        }
        for address in self.nodes[index].answering.clone() {
            let from = self.now;
            self.stretches.push(Stretch { node: index, address, from, to: None });
        }
        self.drain(index);
        for happening in waited {
            self.later(1, happening);
        }
        let life = self.nodes[index].life;
        self.later(2, Happening::Watch(index, life));
    }

    /// Somebody deletes a Lease by hand.
    pub(crate) fn delete(&mut self, key: &LeaseKey) {
        self.revision += 1;
        if self.leases.remove(key).is_some() {
            self.log.push(match key {
                LeaseKey::Session(node) => LeaseEvent::SessionGone(node.clone()),
                LeaseKey::Claim(address) => LeaseEvent::ClaimGone(*address),
            });
            self.wake_watches();
        }
    }

    /// The cable of a node is cut, or mended.
    pub(crate) fn plug(&mut self, index: usize, carrier: bool) {
        self.nodes[index].lan = carrier;
        self.feed(index, Input::Links(vec![link(&self.nodes[index])]));
    }

    /// The objects of the cluster changed: every speaker plans anew.
    pub(crate) fn replan(&mut self) {
        for index in 0..self.nodes.len() {
            self.replan_one(index);
        }
    }

    fn replan_one(&mut self, index: usize) {
        let plan = Arc::new(self.plan_for(index));
        self.feed(index, Input::Plan(plan));
    }

    fn plan_for(&self, me: usize) -> Plan {
        let vips = self.vips.iter().map(|(address, allowed)| {
            let fit = allowed.iter().filter(|index| self.nodes[**index].unfit.is_none());
            let nodes: BTreeMap<NodeName, Candidacy> = fit
                .map(|index| {
                    let score = self.scores.get(index).copied().unwrap_or(0);
                    let candidacy = Candidacy { score, interfaces: Interfaces::Any, ready: true };
                    (self.nodes[*index].name.clone(), candidacy)
                })
                .collect();
            let unfit = (!nodes.contains_key(&self.nodes[me].name))
                .then(|| self.nodes[me].unfit.clone().unwrap_or(Unfit::NoLocalEndpoint));
            let vip = Vip {
                services: Vec::new(),
                first: *address,
                siblings: Arc::new([]),
                candidates: Arc::new(Candidates { nodes, scored: !self.scores.is_empty() }),
                unfit,
            };
            (*address, vip)
        });
        Plan {
            vips: vips.collect(),
            takes_part: true,
            node_uid: Some("uid".into()),
            node_unfit: self.nodes[me].unfit.clone(),
        }
    }

    /// Lets time pass until `moment`.
    pub(crate) fn run_until(&mut self, moment: u64) {
        while let Some(Reverse((at, serial))) = self.queue.peek().copied() {
            if at > moment {
                break;
            }
            self.queue.pop();
            self.busy = if at == self.now { self.busy + 1 } else { 0 };
            assert!(self.busy < 100_000, "time stands still at {at}");
            self.now = at;
            if let Some(happening) = self.happenings.remove(&serial) {
                self.happen(happening);
            }
        }
        self.now = moment;
    }

    pub(crate) fn run_for(&mut self, span: u64) {
        self.run_until(self.now + span);
    }

    pub(crate) fn owner(&self, address: IpAddr) -> Option<usize> {
        let claim = match &self.leases.get(&LeaseKey::Claim(address))?.1 {
            Stored::Claim(claim) => claim,
            Stored::Session(_) => return None,
        };
        self.nodes.iter().position(|node| node.name == claim.holder.node)
    }

    pub(crate) fn answering(&self, address: IpAddr) -> Vec<usize> {
        let answers = |i: &usize| self.nodes[*i].answering.contains(&address);
        (0..self.nodes.len()).filter(|i| answers(i) && !self.is_suspended(*i)).collect()
    }

    /// The longest time within `from..now` in which nobody answered for `address`.
    pub(crate) fn longest_gap(&self, address: IpAddr, from: u64) -> u64 {
        let mut stretches: Vec<(u64, u64)> = self
            .stretches
            .iter()
            .filter(|s| s.address == address)
            .map(|s| (s.from, s.to.unwrap_or(self.now)))
            .collect();
        stretches.sort_unstable();
        let (mut covered, mut gap) = (from, 0);
        for (start, end) in stretches {
            if end > covered {
                gap = gap.max(start.saturating_sub(covered));
                covered = end;
            }
        }
        gap.max(self.now.saturating_sub(covered))
    }

    /// The longest time in which two nodes answered for `address` side by side.
    pub(crate) fn longest_overlap(&self, address: IpAddr) -> u64 {
        let of: Vec<&Stretch> = self.stretches.iter().filter(|s| s.address == address).collect();
        let mut longest = 0;
        for (i, a) in of.iter().enumerate() {
            for b in &of[i + 1..] {
                let (a_end, b_end) = (a.to.unwrap_or(self.now), b.to.unwrap_or(self.now));
                let both = a_end.min(b_end).saturating_sub(a.from.max(b.from));
                if a.node != b.node {
                    longest = longest.max(both);
                }
            }
        }
        longest
    }

    fn later(&mut self, delay: u64, happening: Happening) {
        self.serial += 1;
        self.queue.push(Reverse((self.now + delay, self.serial)));
        self.happenings.insert(self.serial, happening);
    }

    fn delay(&mut self) -> u64 {
        1 + self.dice.below(self.slowest)
    }

    fn clock(&self, index: usize) -> Moment {
        Moment(self.now - self.nodes[index].behind)
    }

    fn feed(&mut self, index: usize, input: Input) {
        let now = self.clock(index);
        let node = &mut self.nodes[index];
        if let Some(waiting) = &mut node.suspended {
            waiting.push(Happening::Feed(index, node.life, input));
            return;
        }
        if let Some(machine) = &mut node.machine {
            machine.handle(input, now);
        }
        self.drain(index);
    }

    fn alive(&self, index: usize, life: u32) -> bool {
        self.nodes[index].life == life && self.nodes[index].machine.is_some()
    }

    fn reaches(&self, index: usize) -> bool {
        self.api_up && self.nodes[index].api
    }

    fn happen(&mut self, happening: Happening) {
        if let Some(index) = happening.reader()
            && let Some(waiting) = &mut self.nodes[index].suspended
        {
            waiting.push(happening);
            return;
        }
        match happening {
            Happening::Watch(index, life) => self.deliver(index, life),
            Happening::Arrive(index, life, key, write, sent) => {
                // A request that was sent may still arrive after its sender died.
                let outcome = match self.reaches(index) {
                    true => self.store(index, &key, write),
                    false => WriteOutcome::Unknown,
                };
                let delay = match outcome {
                    WriteOutcome::Unknown => 600,
                    _ => self.delay(),
                };
                self.later(delay, Happening::Outcome(index, life, key, outcome, sent));
            }
            Happening::Outcome(index, life, key, outcome, sent) if self.alive(index, life) => {
                let lost = !self.reaches(index);
                let outcome = if lost { WriteOutcome::Unknown } else { outcome };
                let took = Span(self.now - sent);
                self.feed(index, Input::Written(key, outcome, took));
            }
            Happening::List(index, life) if self.alive(index, life) => {
                if !self.reaches(index) {
                    self.later(500, Happening::List(index, life));
                    return;
                }
                self.nodes[index].cursor = None;
                let (listed, upto) = (self.list(), self.log.len());
                let delay = self.delay();
                self.later(delay, Happening::Listed(index, life, listed, upto));
            }
            Happening::Listed(index, life, event, upto) if self.alive(index, life) => {
                self.nodes[index].cursor = Some(upto);
                self.feed(index, Input::Leases(event));
                self.later(1, Happening::Watch(index, life));
            }
            Happening::Frame(index, voice) if self.nodes[index].lan => self.hear(index, voice),
            Happening::Asked(asked) => self.read(&asked),
            Happening::Kernel(asked) => self.answer(&asked),
            Happening::Feed(index, life, input) if self.alive(index, life) => {
                self.feed(index, input);
            }
            Happening::Wake(index, life) if self.alive(index, life) => {
                self.nodes[index].woken_for = None;
                let now = self.clock(index);
                if let Some(machine) = &mut self.nodes[index].machine {
                    machine.handle_deadline(now);
                }
                self.drain(index);
            }
            _ => {}
        }
    }

    fn deliver(&mut self, index: usize, life: u32) {
        if !self.alive(index, life) || !self.reaches(index) || !self.nodes[index].watch {
            return;
        }
        let Some(cursor) = self.nodes[index].cursor else { return };
        let fresh = self.log[cursor..].to_vec();
        self.nodes[index].cursor = Some(self.log.len());
        if self.is_suspended(index) {
            fresh.into_iter().for_each(|event| self.feed(index, Input::Leases(event)));
            return;
        }
        // As the loop does: what has come by the time it turns is taken in together.
        let now = self.clock(index);
        if let Some(machine) = &mut self.nodes[index].machine {
            machine.handle_all(fresh.into_iter().map(Input::Leases), now);
        }
        self.drain(index);
    }

    fn drain(&mut self, index: usize) {
        let life = self.nodes[index].life;
        loop {
            let Some(machine) = &mut self.nodes[index].machine else { return };
            let Some(output) = machine.poll_output() else { break };
            self.perform(index, life, output);
        }
        let now = self.now;
        let node = &mut self.nodes[index];
        let deadline = node.machine.as_ref().and_then(Machine::next_deadline);
        if let Some(deadline) = deadline.map(|moment| (moment.0 + node.behind).max(now))
            && node.woken_for.is_none_or(|at| deadline < at)
        {
            node.woken_for = Some(deadline);
            self.later(deadline - now, Happening::Wake(index, life));
        }
    }

    fn perform(&mut self, index: usize, life: u32, output: Output) {
        match output {
            Output::Write(key, write) => {
                let (delay, sent) = (self.delay(), self.now);
                self.later(delay, Happening::Arrive(index, life, key, write, sent));
            }
            Output::ListAnew => self.later(1, Happening::List(index, life)),
            Output::Answer(address, _) => {
                if self.nodes[index].answering.insert(address) {
                    let from = self.now;
                    self.stretches.push(Stretch { node: index, address, from, to: None });
                }
            }
            Output::Silence(address) => {
                self.nodes[index].answering.remove(&address);
                self.end_stretch(index, address);
            }
            Output::Announce { address, .. } => self.announce(index, address),
            Output::Ask(question) => self.ask(index, &question),
            Output::Vouch(address, true) => drop(self.nodes[index].vouched.insert(address)),
            Output::Vouch(address, false) => drop(self.nodes[index].vouched.remove(&address)),
            Output::Neighbours(_) => {}
            Output::Report(_) => {}
            Output::Left => self.nodes[index].has_left = true,
        }
    }

    fn end_stretch(&mut self, index: usize, address: IpAddr) {
        let now = self.now;
        let open = |s: &&mut Stretch| s.node == index && s.address == address && s.to.is_none();
        if let Some(stretch) = self.stretches.iter_mut().find(open) {
            stretch.to = Some(now);
        }
    }
}

fn node(index: usize) -> Node {
    Node {
        name: format!("node{}", index + 1).into(),
        machine: None,
        answering: BTreeSet::new(),
        api: true,
        lan: true,
        unplugged: false,
        power: true,
        vouched: BTreeSet::new(),
        has_left: false,
        unfit: None,
        watch: true,
        suspended: None,
        suspended_at: 0,
        behind: 0,
        life: 0,
        mac: Mac([2, 0, 0, 0, 0, u8::try_from(index).unwrap_or(u8::MAX)]),
        cursor: None,
        woken_for: None,
    }
}

fn link(node: &Node) -> Link {
    let prefix = format!("192.0.2.{}/24", 200 + node.mac.0[5]);
    Link {
        name: "lan0".into(),
        mac: node.mac,
        prefixes: vec![prefix.parse().expect("a prefix")],
        carrier: node.lan,
        deaf: false,
    }
}
