//! Writes that were decided and are not yet seen: what they claim, and which may go.
//!
//! A letter is bound to the version of the object that was planned on. The API server takes it for that version only, so
//! of all letters for one version at most one ever has an effect, and the next version that the watch shows contains
//! it or has made it impossible. That is when the outbox forgets a letter, and never before: an address that was granted
//! is claimed from the moment the letter leaves until the watch tells what became of it. A letter that failed without being
//! refused is sent again meanwhile: if it can still be stored, nothing has overtaken it.
//!
//! ```text
//!              send                landed
//!   (none) ──────────▶ InFlight ──────────▶ Landed
//!                       │ ▲   │ conflict
//!      no clear answer  │ │   └──────────▶ Overtaken        each is forgotten when the watch
//!                       ▼ │ the same again                  shows a newer version, or none
//!                      Unclear            refused
//!                     InFlight ──────────▶ Refused ── after a while ──▶ (another letter may go)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use herald_api::condition::AddressAllocated;
use herald_api::crd::Counters;
use herald_api::parse::demand::Version;
use herald_cluster::events::Note;
use herald_core::allocation::Unechoed;
use herald_core::config::Object;
use herald_core::name::{PoolName, ServiceId};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use tokio::time::Instant;

/// The wait after a first failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait between two attempts, and how long a Service must be left as it was written to until what is written
/// to it again counts as new.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Between two letters to one object of configuration: while many Services come and go, its counters follow at this pace.
const PACE: Duration = Duration::from_millis(500);

/// The object that a letter is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A Service.
    Service(ServiceId),
    /// An object of configuration.
    Configuration(Object),
}

/// What a letter changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A Service's addresses, and the annotations that name their pool and what they are shared under (no addresses, no
    /// annotation); and the condition that says so in words.
    Addresses {
        /// The ingress list, in its order.
        addresses: Vec<IpAddr>,
        /// The pool.
        pool: Option<PoolName>,
        /// The terms of sharing that they are given under; `None` without addresses, and for who shares with nobody.
        terms: Option<Box<str>>,
        /// The condition.
        allocated: AddressAllocated,
    },
    /// Annotations and condition go from a Service that is no LoadBalancer any more.
    Unmark,
    /// What the status of an object of configuration says of it.
    Judgement(Judgement),
}

impl Content {
    /// Whether both make the same of an object, whenever they came to say it.
    fn says_as(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Addresses { addresses, pool, terms, allocated },
                Self::Addresses { addresses: list, pool: of, terms: under, allocated: said },
            ) => (addresses, pool, terms) == (list, of, under) && allocated.says_as(said),
            (Self::Unmark, Self::Unmark) => true,
            (Self::Judgement(judgement), Self::Judgement(other)) => judgement.says_as(other),
            (Self::Addresses { .. } | Self::Unmark | Self::Judgement(_), _) => false,
        }
    }
}

/// What the status of an object of configuration says of it: all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// How full a pool is; `None` for what is no pool.
    pub counters: Option<Counters>,
    /// Our conditions, and those of others as they were.
    pub conditions: Vec<Condition>,
}

impl Judgement {
    /// Whether both say the same to who reads them, whenever they came to say it.
    fn says_as(&self, other: &Self) -> bool {
        let words = |conditions: &[Condition]| {
            let timeless = conditions.iter().map(|condition| Condition {
                last_transition_time: Time(Timestamp::UNIX_EPOCH),
                ..condition.clone()
            });
            timeless.collect::<Vec<_>>()
        };
        self.counters == other.counters && words(&self.conditions) == words(&other.conditions)
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// To which object.
    pub subject: Subject,
    /// To which version of it.
    pub version: Version,
    /// What it changes.
    pub content: Content,
    /// What is told once it has landed.
    pub notes: Vec<Note>,
    /// Whether it takes an address that another Service has as well, and by rights.
    pub heals: bool,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored.
    Landed,
    /// The answer shows the version that it was sent to: the object said so already, or its schema has no room for what was
    /// new.
    Unchanged,
    /// The object has a newer version, or is gone: it was not stored by this attempt, nor will be.
    Overtaken,
    /// The API server will not have it, and has not stored it.
    Refused,
    /// It may be stored or not.
    Unclear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InFlight,
    Landed,
    /// As [`Outcome::Unchanged`]: a letter that says something else may go.
    Unchanged,
    /// Sent again, word for word, from this moment on: what overtook it should be seen long before.
    Overtaken(Instant),
    /// Sent again, word for word, from this moment on.
    Unclear(Instant),
    /// Another letter may go from this moment on.
    Refused(Instant),
}

#[derive(Debug)]
struct Sent {
    letter: Letter,
    state: State,
    failures: u32,
}

/// What a Service was last told, and for how long.
#[derive(Debug)]
struct Told {
    content: Content,
    /// How often it has been told again.
    repeats: u32,
    /// From when on it may be told the same once more.
    again: Instant,
    /// The version that was told so last, unless more than one attempt was made: one that was overtaken told nothing.
    once: Option<Version>,
}

/// The letters that are out.
#[derive(Debug, Default)]
pub struct Outbox {
    sent: BTreeMap<Subject, Sent>,
    /// Until when no other letter goes to an object of configuration.
    paces: BTreeMap<Subject, Instant>,
    /// What Services were told within the last while.
    told: BTreeMap<ServiceId, Told>,
    healed: u64,
}

/// What the watch shows of an object.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Its version.
    pub version: &'a Version,
    /// The addresses in its status.
    pub addresses: &'a [IpAddr],
    /// What its status says of them.
    pub allocated: Option<&'a AddressAllocated>,
}

impl Shown<'_> {
    /// Whether it may show what the letter with that content made of it.
    fn bears(&self, content: &Content) -> bool {
        match content {
            Content::Addresses { addresses, allocated, .. } => {
                addresses == self.addresses
                    && self.allocated.is_some_and(|shown| shown.says_as(allocated))
            }
            // Nothing is told of these when they land.
            Content::Unmark | Content::Judgement(_) => false,
        }
    }
}

impl Outbox {
    /// Forgets every letter whose end the watch has shown, and what is long past. Returns what there is to tell of those that
    /// were stored and whose answer was lost, or is later than the watch.
    pub fn reconcile<'a>(
        &mut self,
        shown: impl Fn(&Subject) -> Option<Shown<'a>>,
        now: Instant,
    ) -> Vec<Note> {
        let mut notes = Vec::new();
        self.told.retain(|_, told| now < told.again + LONGEST_WAIT);
        self.sent.retain(|subject, sent| {
            let Some(shown) = shown(subject) else { return false };
            if !is_newer(shown.version, &sent.letter.version) {
                return true;
            }
            if shown.bears(&sent.letter.content) && sent.state != State::Landed {
                notes.append(&mut sent.letter.notes);
                self.healed += u64::from(sent.letter.heals);
            }
            false
        });
        notes
    }

    /// How many letters that heal have been stored since this was last asked.
    pub fn take_healed(&mut self) -> u64 {
        std::mem::take(&mut self.healed)
    }

    /// What the planner must count as held besides what the watch shows.
    pub fn unechoed(&self) -> BTreeMap<ServiceId, Unechoed> {
        let claims = self.sent.values().filter_map(|sent| match (&sent.letter, sent.state) {
            (_, State::Refused(_) | State::Unchanged) => None,
            (Letter { subject: Subject::Service(id), content, .. }, state) => {
                let Content::Addresses { addresses, .. } = content else { return None };
                let landed = state == State::Landed;
                Some((id.clone(), Unechoed { addresses: addresses.clone(), landed }))
            }
            (Letter { subject: Subject::Configuration(_), .. }, _) => None,
        });
        claims.collect()
    }

    /// Whether any new letter for that object may go: none is out for its present version, or what was sent changed nothing,
    /// or was refused long enough ago.
    pub fn is_open(&self, subject: &Subject, now: Instant) -> bool {
        match self.sent.get(subject).map(|sent| sent.state) {
            None | Some(State::Unchanged) => true,
            Some(State::Refused(until)) => until <= now,
            Some(State::InFlight | State::Landed | State::Overtaken(_) | State::Unclear(_)) => {
                false
            }
        }
    }

    /// From when on a letter of this content may go to that object: `None` when the watch must show something first.
    pub fn opens(&self, subject: &Subject, content: &Content, now: Instant) -> Option<Instant> {
        let sent = self.sent.get(subject).filter(|sent| sent.state == State::Unchanged);
        if sent.is_some_and(|sent| sent.letter.content.says_as(content))
            || !self.is_open(subject, now)
        {
            return None;
        }
        let from = match subject {
            Subject::Configuration(_) => self.paces.get(subject).copied(),
            Subject::Service(id) => {
                let told = self.told.get(id).filter(|told| told.content.says_as(content));
                told.map(|told| told.again)
            }
        };
        Some(from.map_or(now, |from| from.max(now)))
    }

    /// The letters to send again now, as they were.
    pub fn due(&self, now: Instant) -> Vec<Letter> {
        let due = self.sent.values().filter(|sent| match sent.state {
            State::Overtaken(again) | State::Unclear(again) => again <= now,
            State::InFlight | State::Landed | State::Unchanged | State::Refused(_) => false,
        });
        due.map(|sent| sent.letter.clone()).collect()
    }

    /// Forgets what was refused and is wanted no more: it may go by now, and is not among `queued`.
    pub fn let_be<'a>(&mut self, queued: impl Iterator<Item = &'a Letter>, now: Instant) {
        let may_go = |sent: &Sent| matches!(sent.state, State::Refused(from) if from <= now);
        if self.sent.values().any(may_go) {
            let queued: BTreeSet<&Subject> = queued.map(|letter| &letter.subject).collect();
            self.sent.retain(|subject, sent| !may_go(sent) || queued.contains(subject));
        }
    }

    /// When there is something to do again although nothing has changed.
    pub fn wake(&self) -> Option<Instant> {
        let waits = self.sent.values().filter_map(|sent| match sent.state {
            State::Overtaken(at) | State::Unclear(at) | State::Refused(at) => Some(at),
            State::InFlight | State::Landed | State::Unchanged => None,
        });
        waits.min()
    }

    /// The letter leaves.
    pub fn send(&mut self, letter: &Letter, now: Instant) {
        match &letter.subject {
            Subject::Configuration(_) => {
                self.paces.retain(|_, until| *until > now);
                self.paces.insert(letter.subject.clone(), now + PACE);
            }
            // The same letter once more is no repetition: the last attempt may have come to nothing.
            Subject::Service(id) if self.sent.contains_key(&letter.subject) => {
                if let Some(told) = self.told.get_mut(id) {
                    told.once = None;
                }
            }
            Subject::Service(id) => self.tell(id, letter, now),
        }
        let failures = self.sent.get(&letter.subject).map_or(0, |sent| sent.failures);
        let sent = Sent { letter: letter.clone(), state: State::InFlight, failures };
        self.sent.insert(letter.subject.clone(), sent);
    }

    fn tell(&mut self, id: &ServiceId, letter: &Letter, now: Instant) {
        let (content, once) = (letter.content.clone(), Some(letter.version.clone()));
        let last = self.told.get(id).filter(|told| told.content.says_as(&content));
        let told = match last.map(|told| told.repeats) {
            None => Told { content, repeats: 0, again: now, once },
            Some(repeats) => {
                let again = now + wait_after(repeats);
                Told { content, repeats: repeats.saturating_add(1), again, once }
            }
        };
        self.told.insert(id.clone(), told);
    }

    /// The letter was its only attempt and told nothing: who is edited all the time would otherwise wait ever longer.
    fn untell(&mut self, letter: &Letter, now: Instant) {
        let Subject::Service(id) = &letter.subject else { return };
        let Some(told) = self.told.get_mut(id) else { return };
        if told.once.as_ref() != Some(&letter.version) {
            return;
        }
        match told.repeats.checked_sub(1) {
            None => drop(self.told.remove(id)),
            Some(repeats) => (told.repeats, told.again, told.once) = (repeats, now, None),
        }
    }

    /// The letter's end. Returns what there is to tell.
    pub fn ended(&mut self, letter: &Letter, outcome: Outcome, now: Instant) -> Vec<Note> {
        if outcome == Outcome::Overtaken {
            self.untell(letter, now);
        }
        let pace = self.paces.get(&letter.subject).copied();
        let Some(sent) = self.sent.get_mut(&letter.subject) else { return Vec::new() };
        if sent.letter.version != letter.version || sent.state != State::InFlight {
            return Vec::new();
        }
        let again = now + wait_after(sent.failures);
        match outcome {
            Outcome::Landed => {
                sent.state = State::Landed;
                self.healed += u64::from(sent.letter.heals);
                return std::mem::take(&mut sent.letter.notes);
            }
            Outcome::Unchanged => {
                sent.state = State::Unchanged;
                return Vec::new();
            }
            Outcome::Overtaken => sent.state = State::Overtaken(again),
            Outcome::Unclear => sent.state = State::Unclear(again),
            // Not before its object's pace allows it: what may go and is not queued is taken to be wanted no more.
            Outcome::Refused => {
                sent.state = State::Refused(pace.map_or(again, |pace| pace.max(again)));
            }
        }
        sent.failures = sent.failures.saturating_add(1);
        Vec::new()
    }
}

/// How long to wait after an attempt that so many in vain came before.
fn wait_after(attempts: u32) -> Duration {
    let doubling = 1_u32.checked_shl(attempts).unwrap_or(u32::MAX);
    FIRST_WAIT.saturating_mul(doubling).min(LONGEST_WAIT)
}

/// Whether `shown` is another object than `planned`, or a later version of it.
///
/// Versions of one kind are decimal numbers that grow; a list may show an older one than the watch before it did, which is
/// no news. Of versions that are no numbers each other one counts as newer.
fn is_newer(shown: &Version, planned: &Version) -> bool {
    if shown.uid != planned.uid {
        return true;
    }
    let number = |version: &Version| version.resource_version.parse::<u64>();
    match (number(shown), number(planned)) {
        (Ok(shown), Ok(planned)) => shown > planned,
        _ => shown.resource_version != planned.resource_version,
    }
}

#[cfg(test)]
mod tests;
