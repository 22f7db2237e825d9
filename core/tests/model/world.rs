//! Three nodes, the API server between them and the segment that they share: one state of the model.
//!
//! A state is cheap to clone: nodes and Leases are shared until they change. Between two instants at which something is
//! due nothing happens, so time leaps from one to the next.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use herald_core::ownership::choices::Choices;
use herald_core::ownership::evidence::Voice;
use herald_core::ownership::machine::{Input, Machine, Output};
use herald_core::ownership::record::{LeaseEvent, LeaseWrite, WriteOutcome};
use herald_core::ownership::view::LeaseKey;
use herald_core::time::Moment;

use crate::canon::{EPOCH, Names, Shape, relative};
use crate::faults::Ailment;
use crate::ledger::Ledger;
use crate::settings::{NODES, Setting, link, name};

mod api;
mod wire;

pub(crate) use api::{Api, PATIENCE, RESEND};
use wire::Asked;

/// What is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Letter {
    /// A write to the API server, of the process of `from` that lives its `life`th life.
    Request { from: usize, life: u32, key: LeaseKey, write: LeaseWrite, sent: u64 },
    /// What became of it.
    Outcome { to: usize, key: LeaseKey, outcome: WriteOutcome, sent: u64 },
    /// A list is asked of the API server.
    List { from: usize },
    /// What the watch, or a list, shows.
    Shown { to: usize, event: Arc<LeaseEvent> },
    /// A question on the wire.
    Question(Asked),
    /// Another host's voice.
    Heard { to: usize, voice: Voice },
    /// What the node itself tells its speaker.
    Fed { to: usize, input: Input },
    /// A fault ends.
    Over(Ailment),
}

impl Letter {
    /// The node whose process reads it.
    fn reader(&self) -> Option<usize> {
        match self {
            Self::Outcome { to, .. }
            | Self::Shown { to, .. }
            | Self::Heard { to, .. }
            | Self::Fed { to, .. } => Some(*to),
            Self::List { from } => Some(*from),
            // The kernel takes questions in, and answers some by itself.
            Self::Request { .. } | Self::Question(_) | Self::Over(_) => None,
        }
    }

    fn is_frame(&self) -> bool {
        matches!(self, Self::Question(_) | Self::Heard { .. })
    }

    /// What it is and whom it concerns, whatever it says.
    fn shape<H: Hasher>(&self, hasher: &mut H) {
        let of = match self {
            Self::Request { from, .. } => Some(*from),
            _ => self.reader(),
        };
        mem::discriminant(self).hash(hasher);
        hasher.write_u8(of.and_then(|of| u8::try_from(of).ok()).unwrap_or(u8::MAX));
    }
}

/// One node and its speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) machine: Option<Machine>,
    /// What its responder answers everybody for.
    pub(crate) answering: BTreeSet<IpAddr>,
    /// What it answers other speakers' unicast questions for.
    vouched: BTreeSet<IpAddr>,
    life: u32,
    pub(crate) power: bool,
    /// Whether it reaches the API server.
    pub(crate) api: bool,
    /// Whether its watch shows anything; lists work all the same.
    pub(crate) watch: bool,
    /// Whether its watch has begun: what happened before is in its list.
    watching: bool,
    /// Whether frames get out by its port of the switch, and in, which it does not see.
    pub(crate) heard: bool,
    pub(crate) hears: bool,
    pub(crate) carrier: bool,
    pub(crate) suspended: Option<Suspension>,
    /// How far its clock is behind: it stood still in some pauses.
    behind: u64,
    /// The node that the first address's endpoint has left, as this one knows.
    planned: Option<usize>,
    /// What its watch has not shown yet.
    backlog: Vec<Arc<LeaseEvent>>,
    /// When its machine is to be woken, by the model's clock; follows from the machine.
    deadline: Option<u64>,
}

/// A process that is not run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Suspension {
    pub(crate) since: u64,
    /// What waits for it.
    waiting: Vec<Letter>,
}

impl Node {
    fn new() -> Self {
        Self {
            machine: None,
            answering: BTreeSet::new(),
            vouched: BTreeSet::new(),
            life: 0,
            power: true,
            api: true,
            watch: true,
            watching: false,
            heard: true,
            hears: true,
            carrier: true,
            suspended: None,
            behind: 0,
            planned: None,
            backlog: Vec::new(),
            deadline: None,
        }
    }

    /// The process, if it runs.
    pub(crate) fn running(&self) -> Option<&Machine> {
        self.machine.as_ref().filter(|_| self.suspended.is_none())
    }

    /// Whether its speaker means to answer for `address`.
    pub(crate) fn answers(&self, address: IpAddr) -> bool {
        self.running().is_some() && self.answering.contains(&address)
    }

    /// Whether a client on the switch that asks for `address` has an answer of it.
    pub(crate) fn serves(&self, address: IpAddr) -> bool {
        self.answers(address) && self.carrier && self.hears && self.heard
    }

    fn digest<H: Hasher>(&self, now: u64, names: &Names, inner: &mut H) {
        relative(&self.machine, now - self.behind, names, inner);
        let wire = (self.heard, self.hears, self.carrier);
        let state = (self.power, self.api, self.watch, self.watching, wire);
        let sets = (&self.answering, &self.vouched, self.life, self.planned);
        relative(&(state, sets, &self.suspended, &self.backlog), now, names, inner);
    }

    fn shape<H: Hasher>(&self, hasher: &mut Shape<H>) {
        (&self.machine, &self.answering, self.suspended.is_some()).hash(hasher);
    }
}

/// One state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) setting: Arc<Setting>,
    pub(crate) nodes: [Arc<Node>; NODES],
    pub(crate) api: Arc<Api>,
    /// What is on its way, and when it arrives: in that order, and what was sent first first.
    pub(crate) mail: Vec<(u64, Letter)>,
    /// Pairs of nodes between which the segment is cut, the lower first.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// The node that the first address's endpoint has left.
    pub(crate) away: Option<usize>,
    /// How many faults there have been.
    pub(crate) faults: usize,
    /// When the last one struck, or the cluster had settled; zero when no other may strike.
    pub(crate) struck: u64,
    pub(crate) ledger: Ledger,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let names = Names::default();
        for node in &self.nodes {
            node.digest(self.now, &names, state);
        }
        let rest = (&self.api, &self.mail, &self.ledger, self.struck);
        relative(&rest, self.now, &names, state);
        (self.setting.starts, self.setting.delays, self.setting.periods).hash(state);
        (&self.cut, self.away).hash(state);
        self.faults.hash(state);
    }
}

impl World {
    /// The cluster when its first speaker starts, `late` milliseconds after the clock began.
    pub(crate) fn new(setting: Arc<Setting>, late: u64) -> Self {
        let node = || Arc::new(Node::new());
        let mut world = Self {
            now: EPOCH + late,
            nodes: [node(), node(), node()],
            api: Arc::default(),
            mail: Vec::new(),
            cut: BTreeSet::new(),
            away: None,
            faults: 0,
            struck: 0,
            ledger: Ledger::new(&setting),
            setting,
        };
        for index in 0..NODES {
            let start = world.setting.starts[index];
            world.post(start, Letter::Over(Ailment::Dead(index)));
        }
        world
    }

    /// What stands, whatever the time is: who has which part, what is under way.
    pub(crate) fn shape(&self) -> u64 {
        let mut hasher = Shape(DefaultHasher::new());
        for node in &self.nodes {
            node.shape(&mut hasher);
        }
        for (_, letter) in &self.mail {
            letter.shape(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether a frame is on the wire: the moment it arrives decides, not the one in between.
    pub(crate) fn is_wire_busy(&self) -> bool {
        self.mail.iter().any(|(_, letter)| letter.is_frame())
    }

    pub(crate) fn node(&mut self, index: usize) -> &mut Node {
        Arc::make_mut(&mut self.nodes[index])
    }

    /// When something happens next.
    fn due(&self) -> Option<u64> {
        let letter = self.mail.first().map(|(at, _)| *at);
        let awake = self.nodes.iter().filter(|node| node.suspended.is_none());
        awake.filter_map(|node| node.deadline).chain(letter).min()
    }

    /// Lets everything happen that happens next.
    pub(crate) fn step(&mut self) {
        let Some(due) = self.due() else { return };
        self.now = due.max(self.now);
        while self.mail.first().is_some_and(|(at, _)| *at <= self.now) {
            let (_, letter) = self.mail.remove(0);
            self.deliver(letter);
        }
        for index in 0..NODES {
            let node = &self.nodes[index];
            let due = node.deadline.is_some_and(|at| at <= self.now) && node.suspended.is_none();
            if due {
                self.look_up(index);
            }
        }
        let mut ledger = mem::take(&mut self.ledger);
        ledger.look(self);
        self.ledger = ledger;
    }

    pub(crate) fn post(&mut self, delay: u64, letter: Letter) {
        let at = self.now + delay;
        let place = self.mail.partition_point(|(other, _)| *other <= at);
        self.mail.insert(place, (at, letter));
    }

    fn clock(&self, index: usize) -> Moment {
        Moment(self.now - self.nodes[index].behind)
    }

    fn look_up(&mut self, index: usize) {
        let now = self.clock(index);
        if let Some(machine) = &mut self.node(index).machine {
            machine.handle_deadline(now);
        }
        self.perform_all(index);
    }

    pub(crate) fn feed(&mut self, index: usize, input: Input) {
        let now = self.clock(index);
        let node = self.node(index);
        if let Some(suspension) = &mut node.suspended {
            suspension.waiting.push(Letter::Fed { to: index, input });
            return;
        }
        if let Some(machine) = &mut node.machine {
            machine.handle(input, now);
        }
        self.perform_all(index);
    }

    fn deliver(&mut self, letter: Letter) {
        if let Some(suspension) =
            letter.reader().and_then(|index| self.node(index).suspended.as_mut())
        {
            suspension.waiting.push(letter);
            return;
        }
        match letter {
            Letter::Request { from, life, key, write, sent } => {
                self.arrive((from, life), key, write, sent);
            }
            Letter::Outcome { to, key, outcome, sent } => self.tell(to, key, outcome, sent),
            Letter::List { from } => self.list(from),
            Letter::Shown { to, event } => self.show(to, event),
            Letter::Question(asked) => self.read(asked),
            Letter::Heard { to, voice } => self.hear(to, voice),
            Letter::Fed { to, input } => self.feed(to, input),
            Letter::Over(ailment) => self.recover(ailment),
        }
    }

    fn perform_all(&mut self, index: usize) {
        loop {
            let Some(machine) = &mut self.node(index).machine else { return };
            let Some(output) = machine.poll_output() else { break };
            self.perform(index, output);
        }
        let node = self.node(index);
        let deadline = node.machine.as_ref().and_then(Machine::next_deadline);
        node.deadline = deadline.map(|moment| moment.0 + node.behind);
    }

    fn perform(&mut self, index: usize, output: Output) {
        match output {
            Output::Write(key, write) => self.write(index, key, write),
            Output::ListAnew => {
                let delay = self.setting.delays[index];
                self.post(delay, Letter::List { from: index });
            }
            Output::Answer(address, _) => drop(self.node(index).answering.insert(address)),
            Output::Silence(address) => drop(self.node(index).answering.remove(&address)),
            Output::Announce { address, .. } => self.announce(index, address),
            Output::Ask(question) => self.ask(index, &question),
            Output::Vouch(address, true) => drop(self.node(index).vouched.insert(address)),
            Output::Vouch(address, false) => drop(self.node(index).vouched.remove(&address)),
            // Whom a speaker hears is all of them here, and people are told elsewhere.
            Output::Neighbours(_) | Output::Report(_) | Output::Left => {}
        }
    }

    /// A speaker's process starts.
    pub(crate) fn start(&mut self, index: usize) {
        let away = self.away;
        let plan = self.setting.plan(index, away);
        let node = self.node(index);
        node.life += 1;
        node.power = true;
        node.planned = away;
        let (seed, carrier) = (format!("{}.{}", name(index), node.life), node.carrier);
        let choices = Choices { periods: self.setting.periods, ..Choices::default() };
        let node = self.node(index);
        node.machine = Some(Machine::new(name(index), seed.into()).choosing(choices));
        self.feed(index, Input::Links(vec![link(index, carrier)]));
        self.feed(index, Input::Plan(plan));
        let delay = self.setting.delays[index];
        self.post(delay, Letter::List { from: index });
    }

    /// The process is killed: nothing is answered any more, nothing is said.
    pub(crate) fn kill(&mut self, index: usize) {
        let node = self.node(index);
        let left = Node { life: node.life, ..Node::new() };
        let (power, api, watch) = (node.power, node.api, node.watch);
        let (heard, hears, carrier) = (node.heard, node.hears, node.carrier);
        *node = Node { power, api, watch, heard, hears, carrier, ..left };
        self.mail.retain(|(_, letter)| letter.reader() != Some(index));
    }

    /// The process is not run any more.
    pub(crate) fn suspend(&mut self, index: usize) {
        let since = self.now;
        self.node(index).suspended = Some(Suspension { since, waiting: Vec::new() });
    }

    /// The process runs again. It looks at its clock, which may have stood still, before it answers anything.
    pub(crate) fn resume(&mut self, index: usize, stood_still: bool) {
        let now = self.now;
        let node = self.node(index);
        let Some(suspension) = node.suspended.take() else { return };
        if stood_still {
            let paused = now - suspension.since;
            node.behind += paused;
            node.deadline = node.deadline.map(|at| at + paused);
        }
        self.look_up(index);
        // What comes in now is read after what has waited.
        let (mut mine, now) = (suspension.waiting, self.now);
        let soon = |at: u64, of: &Letter| at <= now + 1 && of.reader() == Some(index);
        mine.extend(self.mail.iter().filter(|(at, of)| soon(*at, of)).map(|(_, of)| of.clone()));
        self.mail.retain(|(at, of)| !soon(*at, of));
        for letter in mine {
            self.post(1, letter);
        }
    }
}

impl World {
    /// Who does what, for people.
    pub(crate) fn told(&self) -> String {
        let part = |index: usize| {
            let node = &self.nodes[index];
            let Some(machine) = &node.machine else { return "dead".to_string() };
            let parts: Vec<String> = self
                .setting
                .vips()
                .map(|address| {
                    let mark = if node.answers(address) { "!" } else { "" };
                    format!("{}{mark}", machine.state(address).name())
                })
                .collect();
            let session = if machine.is_open() { "open" } else { "shut" };
            let sure = if machine.is_sure() { "+" } else { "-" };
            let asleep = if node.suspended.is_some() { " asleep" } else { "" };
            format!("{} {session}{sure}{asleep}", parts.join(","))
        };
        format!("[{} | {} | {}]", part(0), part(1), part(2))
    }
}
