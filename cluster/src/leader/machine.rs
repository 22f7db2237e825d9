//! The election as one candidate sees it: pure, times handed in.
//!
//! | It knows | and | so it |
//! |---|---|---|
//! | nothing yet | | waits for the first list |
//! | that there is no Lease | | creates it |
//! | a Lease that nobody holds | | takes it |
//! | a Lease of another | it was seen to change less than its duration ago | waits |
//! | the same | and should have been seen to change since | has it listed, once: the watch may be what is silent |
//! | a Lease of another | it was not | takes it |
//! | that it leads | its last renewal was sent less than `renew_every` ago | waits |
//! | that it leads | it was sent longer ago | renews |
//! | that it leads | it was sent `renew_deadline` ago | leads no more, and is a candidate like any other |
//!
//! Each write is a compare-and-swap on the version that it was decided on. After one that failed or that nobody
//! answered, only what is seen next decides.

use herald_core::ownership::record::{Version, WriteOutcome};
use herald_core::time::{Moment, Span};

#[cfg(test)]
mod tests;

/// How fast an election goes. `renew_every < renew_deadline < duration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a Lease may be seen unchanged before others take it.
    pub duration: Span,
    /// From one renewal to the next.
    pub renew_every: Span,
    /// How long after sending its last successful renewal a leader leads.
    pub renew_deadline: Span,
}

impl Default for Timing {
    /// A leader that crashes is replaced within 5 s; one that is cut off has stopped a second before.
    fn default() -> Self {
        Self { duration: Span::secs(4), renew_every: Span::secs(1), renew_deadline: Span::secs(3) }
    }
}

/// The Lease as the watch or a list showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its version.
    pub version: Version,
    /// Who holds it; `None` when it was released.
    pub holder: Option<String>,
    /// How long it may go unchanged.
    pub duration: Span,
    /// How often it changed hands.
    pub transitions: u32,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until something is seen, a write is answered, or this moment.
    Wait(Option<Moment>),
    /// This write.
    Write(Write),
    /// Have the Lease listed, consistently.
    List,
    /// Nothing any more: it was released.
    Done,
}

/// A write to the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Over this version; `None` creates it.
    pub over: Option<Version>,
    /// Who shall hold it; `None` releases it.
    pub holder: Option<String>,
    /// Its duration.
    pub duration: Span,
    /// How often it has changed hands.
    pub transitions: u32,
    /// Whether the holder is new.
    pub takes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// No list has come yet.
    Nothing,
    Absent,
    /// Since when it is known unchanged, and whether it was listed again since.
    Present(Seen, Moment, Listed),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    No,
    Again,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    version: Version,
    /// The version that the last write of ours replaced: a list that was under way meanwhile may still show it.
    replaced: Option<Version>,
    transitions: u32,
    /// When the last renewal that is known to be stored was sent.
    sent: Moment,
}

/// One candidate.
#[derive(Clone, Debug)]
pub struct Machine {
    identity: String,
    timing: Timing,
    known: Known,
    held: Option<Held>,
    under_way: Option<(Write, Moment)>,
    /// When the first write was sent of those whose outcome is unknown.
    unresolved: Option<Moment>,
    /// Nothing is written before this, or before something is seen.
    blocked: Block,
    releasing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Free,
    UntilSeen,
    UntilSeenOr(Moment),
}

impl Machine {
    /// A candidate under a name that no other process bears or bore.
    pub fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            known: Known::Nothing,
            held: None,
            under_way: None,
            unresolved: None,
            blocked: Block::Free,
            releasing: false,
        }
    }

    /// Until when it leads, if nothing more is heard; `None` when it does not lead.
    pub fn leads_until(&self) -> Option<Moment> {
        let held = self.held.as_ref().filter(|_| !self.releasing)?;
        Some(held.sent + self.timing.renew_deadline)
    }

    /// Who held the Lease when it was last seen.
    pub fn leader(&self) -> Option<&str> {
        match &self.known {
            Known::Present(seen, ..) => seen.holder.as_deref(),
            Known::Nothing | Known::Absent => None,
        }
    }

    /// Lead no more, and let go of the Lease. Cannot be taken back.
    pub fn release(&mut self) {
        self.releasing = true;
    }

    /// What to do now.
    pub fn action(&mut self, now: Moment) -> Action {
        if self.under_way.is_some() {
            return Action::Wait(None);
        }
        if self.held.as_ref().is_some_and(|held| held.sent + self.timing.renew_deadline <= now) {
            self.held = None;
        }
        let wanted = match &self.held {
            Some(held) => self.as_leader(held, now),
            None if self.releasing => self.when_gone(),
            None => self.as_candidate(now),
        };
        let Action::Write(write) = wanted else { return wanted };
        match self.blocked {
            Block::UntilSeen => Action::Wait(None),
            Block::UntilSeenOr(moment) if now < moment => Action::Wait(Some(moment)),
            Block::Free | Block::UntilSeenOr(_) => {
                self.under_way = Some((write.clone(), now));
                Action::Write(write)
            }
        }
    }

    fn as_leader(&self, held: &Held, now: Moment) -> Action {
        let due = held.sent + self.timing.renew_every;
        if now < due && !self.releasing {
            return Action::Wait(Some(due));
        }
        Action::Write(Write {
            over: Some(held.version.clone()),
            holder: (!self.releasing).then(|| self.identity.clone()),
            duration: self.timing.duration,
            transitions: held.transitions,
            takes: false,
        })
    }

    /// It has nothing to release, unless a write whose outcome is unknown has made it the holder.
    fn when_gone(&self) -> Action {
        if self.unresolved.is_some() && self.blocked != Block::Free {
            return Action::Wait(None);
        }
        Action::Done
    }

    fn as_candidate(&mut self, now: Moment) -> Action {
        let (over, transitions) = match &mut self.known {
            Known::Nothing => return Action::Wait(None),
            Known::Absent => (None, 0),
            Known::Present(seen, since, listed) => {
                let expires = *since + seen.duration;
                if seen.holder.as_ref().is_some_and(|holder| *holder != self.identity)
                    && now < expires
                {
                    let overdue = *since + Span(self.timing.renew_every.0 * 3 / 2);
                    return match listed {
                        Listed::Again => Action::Wait(Some(expires)),
                        Listed::No if now < overdue => Action::Wait(Some(overdue.min(expires))),
                        Listed::No => {
                            *listed = Listed::Again;
                            Action::List
                        }
                    };
                }
                (Some(seen.version.clone()), seen.transitions.saturating_add(1))
            }
        };
        Action::Write(Write {
            over,
            holder: Some(self.identity.clone()),
            duration: self.timing.duration,
            transitions,
            takes: true,
        })
    }

    /// The watch or a list shows the Lease, or that there is none.
    pub fn observe(&mut self, seen: Option<Seen>, now: Moment) {
        self.blocked = Block::Free;
        let version = seen.as_ref().map(|seen| &seen.version);
        if let Some(held) = &self.held
            && (version == Some(&held.version)
                || (held.replaced.is_some() && version == held.replaced.as_ref()))
        {
            return;
        }
        let ours = seen.as_ref().is_some_and(|seen| seen.holder.as_ref() == Some(&self.identity));
        match &seen {
            // A write of ours whose answer was lost, or an older one that the watch shows late: only the first can
            // be newer than what is held. Where it is the other, the next write fails and the watch is asked anew.
            Some(seen) if ours => self.adopt(seen),
            _ => self.held = None,
        }
        self.unresolved = None;
        self.known = match (seen, &self.known) {
            (None, _) => Known::Absent,
            // The same version again is no sign of life.
            (Some(seen), Known::Present(known, since, listed)) if known.version == seen.version => {
                Known::Present(seen, *since, *listed)
            }
            (Some(seen), _) => Known::Present(seen, now, Listed::No),
        };
    }

    fn adopt(&mut self, seen: &Seen) {
        let Some(sent) = self.unresolved else { return };
        let since = self.held.as_ref().map_or(sent, |held| held.sent.max(sent));
        self.held = Some(Held {
            version: seen.version.clone(),
            replaced: self.held.take().map(|held| held.version),
            transitions: seen.transitions,
            sent: since,
        });
    }

    /// The write that [`Machine::action`] asked for has ended.
    pub fn wrote(&mut self, outcome: WriteOutcome, now: Moment) {
        let Some((write, sent)) = self.under_way.take() else { return };
        match outcome {
            WriteOutcome::Stored(Some(version)) => self.stored(write, version, sent, now),
            WriteOutcome::Stored(None) | WriteOutcome::Conflict => self.blocked = Block::UntilSeen,
            WriteOutcome::Unknown => {
                self.unresolved.get_or_insert(sent);
                // A leader goes on trying while it may: to write over the same version twice harms nothing.
                self.blocked = match self.held {
                    Some(_) => Block::UntilSeenOr(now + Span(self.timing.renew_every.0 / 4)),
                    None => Block::UntilSeen,
                };
            }
            WriteOutcome::Refused => {
                self.blocked = Block::UntilSeenOr(now + self.timing.renew_every);
            }
        }
    }

    fn stored(&mut self, write: Write, version: Version, sent: Moment, now: Moment) {
        self.unresolved = None;
        self.blocked = Block::Free;
        let seen = Seen {
            version: version.clone(),
            holder: write.holder.clone(),
            duration: write.duration,
            transitions: write.transitions,
        };
        self.known = Known::Present(seen, now, Listed::No);
        self.held = write.holder.is_some().then_some(Held {
            version,
            replaced: write.over,
            transitions: write.transitions,
            sent,
        });
    }
}
