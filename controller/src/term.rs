//! The beginning of a term of leadership.
//!
//! A watch may hang, and what the predecessor wrote last is then missing from the caches: who plans on them gives out
//! again what has just been given. So a term begins with a list of everything that a plan depends on, begun after
//! leadership was won and answered consistently; nothing is planned before. The predecessor's writes have ended by then
//! (`herald_cluster::leader::bound`), and so have this process's own of an earlier term, for which it waits.
//!
//! ```text
//!  won ──▶ own writes of an earlier term end ──▶ everything is listed anew ──▶ open: plans and writes
//!               (mostly there are none)              (tried until it works)
//! ```

use std::time::Duration;

use herald_cluster::cache::Fence;
use herald_cluster::leader::bound::{LOST_AFTER, SERVED_WITHIN};
use herald_telemetry::health::Verdict;
use tokio::sync::watch;
use tokio::time::Instant;

#[cfg(test)]
mod tests;

/// The Lease that says which replica works.
pub(crate) const LEASE: &str = "herald-controller";

/// How long after it was sent a write may still be stored.
pub const WRITE_LIFE: Duration = LOST_AFTER.saturating_add(SERVED_WITHIN);

/// The term at hand, if any.
#[derive(Debug)]
pub struct Terms {
    at_hand: Option<Term>,
    /// What the term at hand waits for; empty when it waits for no list.
    awaited: watch::Sender<Vec<Fence>>,
    /// When the last write left that this process sent.
    last_sent: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Term {
    number: u32,
    began: Instant,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Until then a write of an earlier term may be stored.
    Resting(Instant),
    Listing,
    Open,
}

impl Default for Terms {
    fn default() -> Self {
        let (awaited, _) = watch::channel(Vec::new());
        Self { at_hand: None, awaited, last_sent: None }
    }
}

impl Terms {
    /// Which term is at hand.
    pub fn number(&self) -> Option<u32> {
        self.at_hand.map(|term| term.number)
    }

    /// Leadership was won for the so-manieth time.
    pub fn begin(&mut self, number: u32, now: Instant) {
        let rest = self.writes_end().unwrap_or(now);
        self.at_hand = Some(Term { number, began: now, step: Step::Resting(rest) });
        tracing::info!(term = number, "a term begins");
    }

    /// Leadership was lost.
    pub fn end(&mut self) {
        if let Some(term) = self.at_hand.take() {
            tracing::info!(term = term.number, "the term ends");
        }
        self.awaited.send_replace(Vec::new());
    }

    /// A write leaves.
    pub fn sent(&mut self, now: Instant) {
        self.last_sent = Some(now);
    }

    /// From when on no write that has left by now can be stored any more; `None` when there was none.
    pub fn writes_end(&self) -> Option<Instant> {
        self.last_sent.map(|sent| sent + WRITE_LIFE)
    }

    /// Takes the steps that can be taken, and tells whether the term is open. To be asked at [`Terms::wake`], and when a
    /// fence is passed. `list_anew` has everything listed that a plan depends on.
    pub fn is_open(&mut self, now: Instant, list_anew: impl FnOnce() -> Vec<Fence>) -> bool {
        let Some(term) = &mut self.at_hand else { return false };
        if matches!(term.step, Step::Resting(until) if until <= now) {
            self.awaited.send_replace(list_anew());
            term.step = Step::Listing;
        }
        if term.step == Step::Listing && self.awaited.borrow().iter().all(Fence::is_passed) {
            self.awaited.send_replace(Vec::new());
            term.step = Step::Open;
            tracing::info!(term = term.number, after = ?now - term.began, "everything is listed");
        }
        term.step == Step::Open
    }

    /// When the next step can be taken that no fence tells of.
    pub fn wake(&self) -> Option<Instant> {
        match self.at_hand?.step {
            Step::Resting(until) => Some(until),
            Step::Listing | Step::Open => None,
        }
    }

    /// For `/readyz`: a leader that cannot list does not work; the reason names the kinds.
    pub fn readiness(&self) -> impl Fn() -> Verdict + Send + Sync + 'static {
        let awaited = self.awaited.subscribe();
        move || {
            let awaited = awaited.borrow();
            let missing = awaited.iter().filter(|fence| !fence.is_passed());
            let kinds: Vec<&str> = missing.map(Fence::kind).collect();
            if kinds.is_empty() {
                return Ok(());
            }
            Err(format!("it leads, and waits for a list of: {}", kinds.join(", ")))
        }
    }
}
