//! One speaker's part in one address: R1, R2, R4, R5 and the simplest form of R8.
//!
//! ```text
//!            free, my turn          stored                 sure no longer
//!   Idle ──▶ Waiting ──▶ Taking ─▶ (Asking) ──▶ Owner ◀───────────────────────▶ Holding
//!    ▲                                            │ must go, or a better node      │ hears another speaker
//!    │      another took it, 1 s or heard         ▼                                ▼
//!    └──────────────────────────────────── HandingOver                         Yielded
//! ```
//!
//! [`step`] is the whole table: from a state, the facts and the time to the next state, at most one write, and when to
//! look again. It is level-triggered: what led here does not matter, only what is.

use crate::name::NodeName;
use crate::time::{Moment, Span};

/// How long a speaker that hands over waits for its successor.
pub const HAND_OVER: Span = Span::secs(10);
/// How long it goes on answering after it saw the claim taken, if it does not hear the successor first.
pub const OVERLAP: Span = Span::secs(1);
/// How long another node must have been the better one before the address moves there.
pub const SETTLING: Span = Span::secs(5);

/// What this speaker is to one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// Another owns it, or nobody can, or this node is no candidate.
    #[default]
    Idle,
    /// It is free, and others come first (R4).
    Waiting {
        /// When it was seen to be free.
        since: Moment,
    },
    /// The claim is being written.
    Taking,
    /// The claim is mine by a view that is known to be fresh: I answer.
    Owner {
        /// Since when another node has been the better one.
        better_since: Option<Moment>,
    },
    /// The claim is, or just was, mine, and another is to take it: I still answer (R5).
    HandingOver {
        /// Since when.
        since: Moment,
        /// When the claim was seen taken.
        taken: Option<Moment>,
    },
    /// The claim was mine when the API was last heard: I answer (R8).
    Holding,
    /// The claim is mine, and the wire is asked before I answer: nobody owned the address before (R9), or this process
    /// stood still (R8).
    Asking,
    /// The claim may still be mine, but another speaker was heard to announce the address: I do not answer.
    Yielded {
        /// When it was heard.
        since: Moment,
    },
}

impl State {
    /// R1: whether a speaker in this state answers for the address.
    pub const fn answers(&self) -> bool {
        matches!(self, Self::Owner { .. } | Self::HandingOver { .. } | Self::Holding)
    }

    /// The state's name, for people.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Waiting { .. } => "Waiting",
            Self::Taking => "Taking",
            Self::Owner { .. } => "Owner",
            Self::HandingOver { .. } => "HandingOver",
            Self::Holding => "Holding",
            Self::Asking => "Asking",
            Self::Yielded { .. } => "Yielded",
        }
    }
}

/// What this speaker knows of the address now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// My session is open.
    pub open: bool,
    /// My view is fresh.
    pub sure: bool,
    /// Some Service has the address.
    pub wanted: bool,
    /// This node may answer for it (R3), my leaving aside.
    pub fit: bool,
    /// Whether, and how, my session is leaving.
    pub leaving: Leaving,
    /// Whose the claim is.
    pub claim: Standing,
    /// What the wire says before I answer.
    pub wire: Wire,
    /// A write on the claim may be decided now.
    pub writable: bool,
    /// One delay of R4.
    pub delay: Span,
}

impl Facts {
    /// Whether this speaker may answer for the address and is not about to go.
    pub fn stays(&self) -> bool {
        self.fit && self.leaving == Leaving::No
    }
}

/// Whether the wire is, or need not be, asked before the address is answered for (R8, R9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// Nothing on it stands against answering.
    Clear,
    /// It is being asked: the next look is at this moment.
    Asked(Moment),
    /// A stranger has the address: the next look is at this moment.
    Barred(Moment),
}

/// Why the whole speaker hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leaving {
    /// It does not.
    No,
    /// The node is excluded or out of service: claims without successor are deleted.
    Drained,
    /// The process is stopping: claims without successor are left for it to find again.
    Stopping,
}

/// Whose the claim is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It names my incarnation.
    Mine {
        /// The node that it is marked for.
        marked_for: Option<NodeName>,
        /// The first in R4's order beside me.
        successor: Option<NodeName>,
        /// A node that is strictly better than this one.
        better: Option<NodeName>,
        /// It says that a stranger has the address.
        contested: bool,
    },
    /// Its holder is open, and does not hand it over to me.
    Held,
    /// It is free, and I am not in R4's order.
    NotForMe,
    /// It may be taken, or deleted where no Service wants it, and this many come before me.
    Free {
        /// My place in R4's order, from 0.
        place: u64,
        /// A claim exists.
        exists: bool,
        /// Its holder's session is open: it hands over.
        held: bool,
    },
    /// It does not exist, and a cold start waits for other sessions until this moment (R4).
    ColdStart {
        /// Two periods after my session opened.
        until: Moment,
    },
}

/// A write on the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Put my name on it.
    Take,
    /// Mark it for this node.
    Mark(NodeName),
    /// Take the mark back.
    Unmark,
    /// Say that a stranger has the address, or that it has it no more.
    Contest(bool),
    /// Delete it.
    Delete,
}

/// What follows from a state and the facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The next state.
    pub state: State,
    /// What to write.
    pub write: Option<Write>,
    /// When to look again though nothing has changed.
    pub deadline: Option<Moment>,
}

impl Step {
    fn to(state: State) -> Self {
        Self { state, write: None, deadline: None }
    }

    fn at(self, deadline: Moment) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    fn writing(self, write: Write, facts: &Facts) -> Self {
        Self { write: facts.writable.then_some(write), ..self }
    }
}

/// The table.
pub fn step(state: &State, facts: &Facts, now: Moment) -> Step {
    if !facts.open {
        return Step::to(State::Idle);
    }
    match &facts.claim {
        Standing::Mine { .. } if !facts.wanted => {
            Step::to(State::Idle).writing(Write::Delete, facts)
        }
        Standing::Mine { marked_for, successor, better, contested } => {
            let yielded = match state {
                State::Yielded { since } => !facts.sure || now < *since + OVERLAP,
                _ => false,
            };
            let asks = facts.stays() && !yielded;
            if let (Wire::Asked(until), true) = (facts.wire, asks) {
                Step::to(State::Asking).at(until)
            } else if let (Wire::Barred(until), true) = (facts.wire, asks) {
                let step = Step::to(State::Asking).at(until);
                contesting(step, facts, *contested, true)
            } else if !facts.sure {
                unsure(state, facts)
            } else if facts.stays() {
                let step = own(state, facts, marked_for.as_ref(), better.as_ref(), now);
                contesting(step, facts, *contested, false)
            } else {
                leave(state, facts, marked_for.as_ref(), successor.as_ref(), now)
            }
        }
        Standing::Held => taken_or_idle(state, now),
        Standing::Free { held: true, .. } if matches!(state, State::HandingOver { .. }) => {
            taken_or_idle(state, now)
        }
        Standing::NotForMe => Step::to(State::Idle),
        Standing::Free { exists: false, .. } | Standing::ColdStart { .. } if !facts.wanted => {
            Step::to(State::Idle)
        }
        Standing::ColdStart { until } => Step::to(State::Idle).at(*until),
        Standing::Free { place, .. } => take_turn(state, facts, *place, now),
    }
}

/// R8: the claim is mine by a view that may be old.
fn unsure(state: &State, facts: &Facts) -> Step {
    Step::to(match state {
        // Handing over has a right of its own, and ends with the session at the latest.
        State::HandingOver { since, .. } => State::HandingOver { since: *since, taken: None },
        State::Yielded { .. } => state.clone(),
        State::Owner { .. } | State::Holding => State::Holding,
        _ if facts.stays() => State::Holding,
        State::Idle | State::Waiting { .. } | State::Taking | State::Asking => State::Idle,
    })
}

/// R4: the owner stays owner, save for a strictly better node.
fn own(
    state: &State,
    facts: &Facts,
    marked_for: Option<&NodeName>,
    better: Option<&NodeName>,
    now: Moment,
) -> Step {
    match (state, better) {
        // The voice may be my successor's, whose claim the view does not show yet.
        (State::Yielded { since }, _) if now < *since + OVERLAP => {
            Step::to(state.clone()).at(*since + OVERLAP)
        }
        (State::HandingOver { since, .. }, Some(node)) if now < *since + HAND_OVER => {
            let state = State::HandingOver { since: *since, taken: None };
            let step = Step::to(state).at(*since + HAND_OVER);
            marking(step, node, marked_for, facts)
        }
        (State::Owner { better_since: Some(since) }, Some(node)) if now >= *since + SETTLING => {
            if !facts.writable {
                return Step::to(state.clone());
            }
            let state = State::HandingOver { since: now, taken: None };
            marking(Step::to(state).at(now + HAND_OVER), node, marked_for, facts)
        }
        (_, Some(_)) => {
            let since = match state {
                State::Owner { better_since: Some(since) } => *since,
                _ => now,
            };
            unmarked(State::Owner { better_since: Some(since) }, marked_for, facts)
                .at(since + SETTLING)
        }
        (_, None) => unmarked(State::Owner { better_since: None }, marked_for, facts),
    }
}

/// The claim says whether a stranger has the address, where nothing else is to be written.
fn contesting(step: Step, facts: &Facts, says: bool, is: bool) -> Step {
    match says == is || step.write.is_some() || !facts.sure {
        true => step,
        false => step.writing(Write::Contest(is), facts),
    }
}

fn unmarked(state: State, marked_for: Option<&NodeName>, facts: &Facts) -> Step {
    match marked_for {
        Some(_) => Step::to(state).writing(Write::Unmark, facts),
        None => Step::to(state),
    }
}

fn marking(step: Step, node: &NodeName, marked_for: Option<&NodeName>, facts: &Facts) -> Step {
    match marked_for == Some(node) {
        true => step,
        false => step.writing(Write::Mark(node.clone()), facts),
    }
}

/// R5: the owner must go.
fn leave(
    state: &State,
    facts: &Facts,
    marked_for: Option<&NodeName>,
    successor: Option<&NodeName>,
    now: Moment,
) -> Step {
    let since = match state {
        State::HandingOver { since, .. } => *since,
        State::Owner { .. } | State::Holding => now,
        State::Yielded { since } if now < *since + OVERLAP => {
            return Step::to(state.clone()).at(*since + OVERLAP);
        }
        // Who is silent has nothing to hand over, and must not begin to answer now.
        State::Idle
        | State::Waiting { .. }
        | State::Taking
        | State::Asking
        | State::Yielded { .. } => {
            return match facts.leaving {
                Leaving::Stopping => Step::to(State::Idle),
                Leaving::No | Leaving::Drained => {
                    Step::to(State::Idle).writing(Write::Delete, facts)
                }
            };
        }
    };
    let handing_over = State::HandingOver { since, taken: None };
    match (facts.leaving, successor) {
        // The session says `leaving` for all claims, and is closed when that has lasted long enough.
        (Leaving::Stopping, _) | (Leaving::Drained, Some(_)) => Step::to(handing_over),
        (Leaving::No, Some(_)) if now >= since + HAND_OVER => {
            Step::to(State::Idle).writing(Write::Delete, facts)
        }
        (Leaving::No, Some(node)) => {
            let step = Step::to(handing_over).at(since + HAND_OVER);
            marking(step, node, marked_for, facts)
        }
        (Leaving::No | Leaving::Drained, None) => {
            Step::to(State::Idle).writing(Write::Delete, facts)
        }
    }
}

/// Another holds the claim: who handed it over answers until the successor is heard, for a second at most.
fn taken_or_idle(state: &State, now: Moment) -> Step {
    match state {
        State::HandingOver { since, taken } => {
            let seen = taken.unwrap_or(now);
            if now >= seen + OVERLAP {
                return Step::to(State::Idle);
            }
            let state = State::HandingOver { since: *since, taken: Some(seen) };
            Step::to(state).at(seen + OVERLAP)
        }
        _ => Step::to(State::Idle),
    }
}

/// R4: those that come before me have a delay each. The same turns serve to delete a claim that nobody wants.
fn take_turn(state: &State, facts: &Facts, place: u64, now: Moment) -> Step {
    let may_act = facts.sure && (!facts.wanted || facts.stays());
    if !may_act {
        return Step::to(State::Idle);
    }
    if !facts.writable {
        return Step::to(match state {
            State::Taking | State::Waiting { .. } => state.clone(),
            _ => State::Idle,
        });
    }
    let since = match state {
        State::Waiting { since } => *since,
        _ => now,
    };
    let turn = since + facts.delay.times(place);
    if now < turn {
        Step::to(State::Waiting { since }).at(turn)
    } else if facts.wanted {
        Step::to(State::Taking).writing(Write::Take, facts)
    } else {
        Step::to(State::Idle).writing(Write::Delete, facts)
    }
}

/// Another speaker was heard to announce the address, or to answer for it.
pub fn hear_rival(state: &State, now: Moment) -> State {
    match state {
        State::HandingOver { taken: Some(_), .. } => State::Idle,
        State::HandingOver { taken: None, .. } | State::Holding | State::Asking => {
            State::Yielded { since: now }
        }
        State::Idle
        | State::Waiting { .. }
        | State::Taking
        | State::Owner { .. }
        | State::Yielded { .. } => state.clone(),
    }
}

#[cfg(test)]
mod tests;
