//! R7, expired: a session that has not changed for its duration may be closed by another speaker.
//!
//! The duration is counted on this speaker's own clock, and only while it is sure: a watch that shows nothing says
//! nothing about anybody's death.

use std::collections::BTreeMap;

use super::record::Session;
use super::timers::Timers;
use super::view::View;
use crate::name::NodeName;
use crate::time::{Moment, Span};

/// Between one closer's turn and the next one's, and between one speaker's attempts.
const TURN: Span = Span::millis(250);

/// How long each peer's session has gone unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Peers {
    silence: BTreeMap<NodeName, Silence>,
    timers: Timers<NodeName>,
    running: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Silence {
    /// Counted before `since`.
    counted: Span,
    since: Moment,
    duration: Span,
}

impl Silence {
    fn ends(&self) -> Moment {
        self.since + Span(self.duration.0.saturating_sub(self.counted.0))
    }

    /// For how long it has been expired.
    fn overdue(&self, now: Moment) -> Span {
        let silent = self.counted + now.since(self.since);
        Span(silent.0.saturating_sub(self.duration.0))
    }
}

impl Peers {
    /// The view shows another version of `node`'s session, or that it is gone.
    pub fn changed(&mut self, node: &NodeName, view: &View, now: Moment) {
        match view.session(node).filter(|session| session.open_for.is_some()) {
            Some(session) => {
                let silence =
                    Silence { counted: Span::ZERO, since: now, duration: session.duration };
                self.silence.insert(node.clone(), silence);
                self.timers.set(node.clone(), self.running.then(|| silence.ends()));
            }
            None => {
                self.silence.remove(node);
                self.timers.set(node.clone(), None);
            }
        }
    }

    /// The view was listed anew: a session that is as it was `before` goes on being counted.
    pub fn listed(&mut self, before: &BTreeMap<NodeName, Session>, view: &View, now: Moment) {
        let known: Vec<NodeName> = self.silence.keys().cloned().collect();
        let listed = view.sessions().map(|session| session.node.clone());
        for node in known.into_iter().chain(listed).collect::<std::collections::BTreeSet<_>>() {
            if before.get(&node) != view.session(&node) || !self.silence.contains_key(&node) {
                self.changed(&node, view, now);
            }
        }
    }

    /// The speaker is sure no longer: nothing counts from `now` on.
    pub fn freeze(&mut self, now: Moment) {
        if !std::mem::replace(&mut self.running, false) {
            return;
        }
        for (node, silence) in &mut self.silence {
            silence.counted = silence.counted + now.since(silence.since);
            self.timers.set(node.clone(), None);
        }
    }

    /// The speaker is sure again.
    pub fn thaw(&mut self, now: Moment) {
        self.running = true;
        for (node, silence) in &mut self.silence {
            silence.since = now;
            self.timers.set(node.clone(), Some(silence.ends()));
        }
    }

    /// When the next session may be due for closing.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.timers.next()
    }

    /// The node of a session that is expired and that this speaker should see to now, and for how long it has been
    /// while this speaker was sure.
    ///
    /// The speakers whose sessions live take turns by hash, so that one write is made and not one by each.
    pub fn pop_expired(
        &mut self,
        me: &NodeName,
        view: &View,
        now: Moment,
    ) -> Option<(NodeName, Span)> {
        while let Some(node) = self.timers.pop_due(now) {
            let Some(silence) = self.silence.get(&node).copied() else { continue };
            if node == *me || view.session(&node).is_none() {
                continue;
            }
            let turn = silence.ends() + TURN.times(self.rank(me, &node, view, now));
            if now < turn {
                self.timers.set(node, Some(turn));
                continue;
            }
            // Closing may fail; the timer goes when the view shows the session closed or changed.
            self.timers.set(node.clone(), Some(now + TURN));
            if view.is_session_writable(&node) {
                return Some((node, silence.overdue(now)));
            }
        }
        None
    }

    /// Whether the session of `node` has not changed for its duration.
    pub fn is_expired(&self, node: &NodeName, now: Moment) -> bool {
        self.running && self.silence.get(node).is_some_and(|silence| now >= silence.ends())
    }

    /// The expired session of `node` is not to be looked at again before `moment`.
    pub fn postpone(&mut self, node: &NodeName, moment: Moment) {
        if self.running && self.silence.contains_key(node) {
            self.timers.set(node.clone(), Some(moment));
        }
    }

    /// How many speakers come before `me` in closing the session of `node`.
    fn rank(&self, me: &NodeName, node: &NodeName, view: &View, now: Moment) -> u64 {
        let mine = turn_hash(me, node);
        let before = view.open_sessions().filter(|session| {
            let alive = self.silence.get(&session.node).is_some_and(|s| now < s.ends());
            alive && session.node != *me && turn_hash(&session.node, node) < mine
        });
        before.count() as u64
    }
}

fn turn_hash(closer: &NodeName, closed: &NodeName) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(format!("{closer}#{closed}").as_bytes()).into()
}

#[cfg(test)]
mod tests;
