//! Answers questions for addresses on the links, announces them, and reports who else does.
//!
//! ```text
//! the speaker's loop                                          per eligible link: an ARP task, an NDP task
//!   set_links(Links) ──opens, closes──────────────────────────▶ ┌──────────────────────────────┐
//!   answer(changes) ────▶ table ◀──looked up under read lock─── │ frame ▶ judge ▶ answer       │
//!   ask, announce ──▶ a queue of each (OUTBOX) ───────────────▶ │ question, announcement       │
//!   Receiver<Heard> ◀── queue (HEARD) ◀──────────────────────── │ what others claim            │
//! ```
//!
//! Every answer and every announcement is looked up and sent under the table's read lock, and sending never waits. So
//! when [`Responder::answer`] returns, which takes the write lock, nothing leaves any more for an address that it
//! withdrew, whatever was queued.

mod port;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use herald_core::name::LinkName;
use herald_core::ownership::choices::STOOD_STILL;
use herald_core::ownership::evidence::Question;
use herald_core::wire::{Mac, ndp};
use tokio::sync::mpsc;
use tracing::warn;

use self::port::{Announcement, Port};
use super::count::{Counts, Dropped};
use super::groups::{Groups, Membership};
use super::links::Links;
use super::socket::{OpenError, Protocol};
use super::table::{Answer, Place, Table};

pub use super::table::{Heard, How, Reach};

/// Claims of others that wait for the speaker's loop. When it is full, further ones are dropped and counted: those
/// that wait already say that there is a rival.
const HEARD: usize = 1024;

/// How long things may take, so that an answer is never older than a takeover.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A question that waited longer in the socket is not answered.
    pub answer_within: Duration,
    /// Without [`Responder::beat`] for longer than this, nothing is answered.
    pub stalled_after: Duration,
}

impl Default for Settings {
    /// The same for both: no takeover is faster (R8).
    fn default() -> Self {
        let limit = Duration::from_millis(STOOD_STILL.0);
        Self { answer_within: limit, stalled_after: limit }
    }
}

/// What the tasks of all links share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    table: RwLock<Table>,
    counts: Arc<Counts>,
    heard: mpsc::Sender<Heard>,
    /// Links on which questions did not leave or frames were lost, until somebody asks.
    lossy: Mutex<BTreeSet<LinkName>>,
    began: Instant,
    /// Milliseconds from `began` to the last beat of the speaker's loop.
    beat: AtomicU64,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Something on `link` was not sent, or not read.
    fn lose(&self, link: &LinkName) {
        let mut lossy = self.lossy.lock().unwrap_or_else(PoisonError::into_inner);
        if !lossy.contains(link) {
            lossy.insert(link.clone());
        }
    }

    fn is_stalled(&self) -> bool {
        let silent = self.now().saturating_sub(self.beat.load(Ordering::Acquire));
        u128::from(silent) > self.settings.stalled_after.as_millis()
    }
}

/// The two tasks of one link.
#[derive(Debug)]
struct Pair {
    index: u32,
    mac: Mac,
    arp: Port,
    ndp: Port,
}

impl Pair {
    fn port(&self, address: IpAddr) -> &Port {
        match address {
            IpAddr::V4(_) => &self.arp,
            IpAddr::V6(_) => &self.ndp,
        }
    }
}

/// The speaker's mouth and ears. Dropping it closes every socket.
///
/// All methods return at once. They are for one caller, the speaker's loop.
#[derive(Debug)]
pub struct Responder {
    shared: Arc<Shared>,
    links: Links,
    pairs: HashMap<LinkName, Pair>,
    groups: Groups,
}

impl Responder {
    /// One that answers for nothing, on no link, and the queue of what it hears.
    pub fn new(settings: Settings) -> (Self, mpsc::Receiver<Heard>) {
        let (heard, hearing) = mpsc::channel(HEARD);
        let shared = Arc::new(Shared {
            settings,
            table: RwLock::default(),
            counts: Arc::default(),
            heard,
            lossy: Mutex::default(),
            began: Instant::now(),
            beat: AtomicU64::new(0),
        });
        let (links, pairs, groups) = (Links::default(), HashMap::new(), Groups::default());
        (Self { shared, links, pairs, groups }, hearing)
    }

    /// What was counted, for `/metrics`.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.shared.counts)
    }

    /// Says that the speaker's loop lives. After a silence longer than [`Settings::stalled_after`] answers stop until
    /// the next beat: a loop that finds that it stood still withdraws what it must before it beats again.
    pub fn beat(&self) {
        self.shared.beat.store(self.shared.now(), Ordering::Release);
    }

    /// Opens what became eligible in `links`, closes what no longer is, and leaves the rest alone. Must be called
    /// within a tokio runtime, in the network namespace that `links` is of.
    ///
    /// # Errors
    /// Every socket that could not be opened; its link is tried again with the next call, whatever changed.
    pub fn set_links(&mut self, links: &Links) -> Result<(), Vec<OpenError>> {
        let before = self.memberships();
        self.links = links.clone();
        self.write(|table| table.own = links.macs());
        self.pairs.retain(|name, pair| {
            let now = links.get(name).map(|now| (now.index, now.eligibility()));
            now == Some((pair.index, Ok(pair.mac))) && pair.arp.lives() && pair.ndp.lives()
        });
        let mut failed = Vec::new();
        for (interface, mac) in links.eligible() {
            if self.pairs.contains_key(&interface.name) {
                continue;
            }
            let place = Place { link: interface.name.clone(), mac };
            match open(&self.shared, interface.index, &place) {
                Ok(pair) => drop(self.pairs.insert(place.link, pair)),
                Err(error) => failed.push(error),
            }
        }
        // First joined and then left: what stays is not left for a moment.
        self.join(self.memberships());
        self.groups.release(before);
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    /// From now on answers for each address of `changes` on the links of its reach, or, where that is `None`, not at all;
    /// of all others as before. When it returns, no answer and no announcement leaves for an address or on a link that
    /// it withdrew.
    pub fn answer(&mut self, changes: HashMap<IpAddr, Option<Reach>>) {
        let counts = &self.shared.counts;
        let answer = |address, reach| Answer { reach, counters: counts.of(address) };
        let changes: Vec<(IpAddr, Option<Answer>)> = changes
            .into_iter()
            .map(|(address, reach)| (address, reach.map(|reach| answer(address, reach))))
            .collect();
        let joined: Vec<Membership> = changes
            .iter()
            .flat_map(|(address, answer)| self.memberships_of(*address, answer.as_ref()))
            .collect();
        let replaced: Vec<(IpAddr, Option<Answer>)> = self.write(|table| {
            let replace = |(address, answer)| (address, table.replace(address, answer));
            changes.into_iter().map(replace).collect()
        });
        self.join(joined);
        let left: Vec<Membership> = replaced
            .iter()
            .flat_map(|(address, answer)| self.memberships_of(*address, answer.as_ref()))
            .collect();
        self.groups.release(left);
    }

    /// Reports what others claim for exactly `addresses` from now on. The counts of other addresses go.
    pub fn listen_for(&self, addresses: HashSet<IpAddr>) {
        self.write(|table| {
            let keep = |address: &IpAddr| {
                addresses.contains(address) || table.answers.contains_key(address)
            };
            self.shared.counts.forget_unless(keep);
            table.interesting = addresses;
        });
    }

    /// Tells all on the links of `on` that `address` is here, where it is answered for: a gratuitous ARP request and
    /// reply, or an unsolicited advertisement. The `first` time the links' default gateways are also asked an
    /// ordinary question in its name, from which those learn that heed nothing else (R6).
    pub fn announce(&self, address: IpAddr, on: &Reach, first: bool) {
        for (name, pair) in self.pairs.iter().filter(|(name, _)| on.includes(name)) {
            let gateways = if first { self.gateways(name, address) } else { Vec::new() };
            if pair.port(address).announce(Announcement { address, gateways }).is_err() {
                self.shared.counts.drop_one(Dropped::QueueFull);
            }
        }
    }

    /// Asks what `question` says, without saying who asks. Who answers is heard, if the address is listened for. That
    /// it did not leave, because the link is not open or too much waits for it already, is learnt of
    /// [`Responder::take_losses`].
    pub fn ask(&self, question: &Question) {
        let Question { address, link, to } = question;
        let Some(pair) = self.pairs.get(link) else { return self.shared.lose(link) };
        let from = self.links.get(link).and_then(|interface| interface.link_local);
        let from = from.unwrap_or(Ipv6Addr::UNSPECIFIED);
        if pair.port(*address).ask(port::Question { address: *address, from, host: *to }).is_err() {
            self.shared.counts.drop_one(Dropped::QueueFull);
            self.shared.lose(link);
        }
    }

    /// The links on which, since this was last asked, a question did not leave or what came in was lost unread.
    pub fn take_losses(&self) -> BTreeSet<LinkName> {
        std::mem::take(&mut *self.shared.lossy.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on answers unicast probes of other speakers for these addresses, also while nobody else is answered, or does
    /// so no more.
    pub fn vouch(&self, changes: HashMap<IpAddr, bool>) {
        self.write(|table| {
            for (address, vouches) in changes {
                if vouches {
                    table.vouched.insert(address);
                } else {
                    table.vouched.remove(&address);
                }
            }
        });
    }

    /// From now on these are the other speakers, and these hosts' answers are reported.
    pub fn surround(&self, speakers: BTreeSet<Mac>, hosts: BTreeSet<IpAddr>) {
        self.write(|table| (table.speakers, table.hosts) = (speakers, hosts));
    }

    /// The links on which questions are answered now.
    pub fn open_links(&self) -> impl Iterator<Item = &LinkName> {
        let open = self.pairs.iter().filter(|(_, pair)| pair.arp.lives() && pair.ndp.lives());
        open.map(|(name, _)| name)
    }

    fn gateways(&self, link: &LinkName, address: IpAddr) -> Vec<IpAddr> {
        let gateways = self.links.get(link).into_iter().flat_map(|of| &of.gateways);
        gateways.copied().filter(|of| of.is_ipv4() == address.is_ipv4()).collect()
    }

    fn write<R>(&self, change: impl FnOnce(&mut Table) -> R) -> R {
        // Each change is a few assignments that cannot panic, so a panic elsewhere under the lock leaves the table whole.
        change(&mut self.shared.table.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The groups of all IPv6 addresses answered for, on every open link of their reach.
    fn memberships(&self) -> Vec<Membership> {
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        let all = table.answers.iter();
        all.flat_map(|(address, answer)| self.memberships_of(*address, Some(answer))).collect()
    }

    fn memberships_of(&self, address: IpAddr, answer: Option<&Answer>) -> Vec<Membership> {
        let (IpAddr::V6(v6), Some(Answer { reach, .. })) = (address, answer) else {
            return Vec::new();
        };
        let group = ndp::solicited_node(v6);
        let open = self.pairs.iter().filter(|(name, _)| reach.includes(name));
        open.map(|(_, pair)| Membership { index: pair.index, group }).collect()
    }

    fn join(&mut self, memberships: Vec<Membership>) {
        if let Err(failed) = self.groups.want(memberships)
            && let Some(first) = failed.first()
        {
            // Questions still arrive where no switch filters multicast.
            warn!(count = failed.len(), error = %first, source = %first.source,
                "multicast groups not joined; neighbours behind switches with MLD snooping may not reach us");
        }
    }
}

fn open(shared: &Arc<Shared>, index: u32, place: &Place) -> Result<Pair, OpenError> {
    let port = |protocol| Port::open(Arc::clone(shared), index, protocol, place.clone());
    Ok(Pair { index, mac: place.mac, arp: port(Protocol::Arp)?, ndp: port(Protocol::Ndp)? })
}
