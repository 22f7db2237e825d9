//! This speaker's own session: opened, renewed, marked as leaving, closed; and whether the speaker is *sure*.
//!
//! ```text
//!          view shows no other life            write shown            asked to close
//!   Shut ─────────────────────────▶ Opening ─────────────▶ Open ─────────────────────▶ Closing
//!    ▲                                 │ lost the race       │ seen closed               │ shown
//!    └─────────────────────────────────┴─────────────────────┴────────(next life)────────┘
//! ```
//!
//! A speaker is **sure** while the watch has shown it a renewal of its own that was sent less than one and a half renew
//! periods ago: everything written before that renewal has then reached it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::record::{Closed, ClosedWhy, Incarnation, Link, PROTOCOL, Session};
use super::view::View;
use crate::name::NodeName;
use crate::time::{Moment, Span};

/// With many sessions the renew period stretches so that all of them together renew 25 times a second.
const MILLIS_PER_SESSION: u64 = 40;
/// A session lasts this many renew periods without renewal.
const PERIODS_PER_DURATION: u64 = 3;
/// Changes of links are written at most this often; and those without which peers would ask where nobody answers, at once
/// and at most this often.
const LINKS_INTERVAL: Span = Span::secs(1);
/// How long nothing is written after the API server refused a write.
const REFUSED_REST: Span = Span::secs(1);
/// A renewal that the watch has not shown for so long makes the speaker list anew.
const SHOWN_WITHIN: Span = Span::secs(1);
/// How long a speaker that was found silent though it lives lets others come first; it doubles each time.
const FIRST_DOUBT: Span = Span::secs(10);
const LONGEST_DOUBT: Span = Span::secs(600);
/// After so long without, the first doubt is short again.
const DOUBTS_FORGOTTEN: Span = Span::secs(3600);
/// So many renewals are remembered until they are shown; of older ones it is no matter any more.
const UNSHOWN: usize = 16;

/// How often each of `sessions` open sessions is renewed, where few are every `shortest`.
pub fn renew_period(sessions: usize, shortest: Span) -> Span {
    let stretched = Span::millis(MILLIS_PER_SESSION.saturating_mul(sessions as u64));
    stretched.max(shortest)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Shut,
    Opening,
    Open,
    Closing,
    Left,
}

/// What the rest of the machine asks of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes<'a> {
    /// The Node's uid, when this node takes part.
    pub node_uid: Option<&'a Arc<str>>,
    /// The node's links as they are.
    pub links: &'a [Link],
    /// Whether all claims are to be handed over.
    pub leaving: bool,
    /// Whether to close now, because handing over is done or took too long.
    pub close: bool,
    /// Whether to stay closed for good.
    pub shut_down: bool,
}

/// What became of the session, for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionNews {
    /// It is open.
    Opened(Incarnation),
    /// It was closed, by us or by another.
    Closed(Option<Closed>),
    /// Another process renews a session under this node's name.
    Refused(Incarnation),
}

/// The machine of one speaker's own session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnSession {
    node: NodeName,
    seed: Arc<str>,
    life: u32,
    incarnation: Incarnation,
    phase: Phase,
    opened_at: Moment,
    renewal: u64,
    last_sent: Moment,
    /// When a change of links was last written that could not wait.
    hurried: Option<Moment>,
    /// Renewals that the watch has not shown yet.
    unshown: VecDeque<Renewal>,
    /// The latest that the watch has shown.
    shown: Option<Renewal>,
    /// Until when nothing is written, as the API server refused the last write.
    resting: Moment,
    /// Another life's session under this name: what it last looked like, and since when.
    rival: Option<(Incarnation, u64, Moment)>,
    refused: bool,
    doubt: Option<Doubt>,
}

/// A renewal of this life, or its opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Renewal {
    number: u64,
    sent: Moment,
    /// The next was promised within so long.
    period: Span,
}

/// This speaker was closed as silent, at `since`, and is last in every order for `span`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Doubt {
    since: Moment,
    span: Span,
}

impl OwnSession {
    /// A session of `node` that is not open yet. `seed` makes its incarnations unlike any other process's.
    pub fn new(node: NodeName, seed: Arc<str>) -> Self {
        Self {
            node,
            incarnation: incarnation(&seed, 1),
            seed,
            life: 1,
            phase: Phase::Shut,
            opened_at: Moment(0),
            renewal: 0,
            last_sent: Moment(0),
            hurried: None,
            unshown: VecDeque::new(),
            shown: None,
            resting: Moment(0),
            rival: None,
            refused: false,
            doubt: None,
        }
    }

    /// The life that this session is, or would be, open for.
    pub fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    /// Whether it is open, as far as this speaker knows.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closing)
    }

    /// Whether it is closed for good.
    pub fn has_left(&self) -> bool {
        self.phase == Phase::Left
    }

    /// When it opened.
    pub fn opened_at(&self) -> Moment {
        self.opened_at
    }

    /// Until when the speaker is sure, if it ever was in this life: by the period that the renewal promised, for when many
    /// sessions end at once, and periods are shorter, the next one is not due any sooner.
    pub fn sure_until(&self) -> Option<Moment> {
        let shown = self.shown.filter(|_| self.is_open())?;
        Some(shown.sent + shown.period.and_a_half())
    }

    /// From when on a list is overdue, because the watch has not shown some renewal.
    pub fn overdue_at(&self) -> Option<Moment> {
        self.unshown.front().map(|renewal| renewal.sent + SHOWN_WITHIN)
    }

    /// When the last renewal that the watch has shown in this life was sent.
    pub fn shown_at(&self) -> Option<Moment> {
        self.shown.map(|renewal| renewal.sent)
    }

    /// The API server refused what was last written: it will never be shown, and the next attempt is not made at once.
    pub fn refused(&mut self, now: Moment) {
        // What closes it is no renewal.
        if self.phase != Phase::Closing {
            self.unshown.pop_back();
            // As if it had not been sent: the next one is due.
            let last = self.unshown.back().or(self.shown.as_ref());
            self.last_sent = last.map_or(Moment(0), |renewal| renewal.sent);
        }
        self.resting = now + REFUSED_REST;
    }

    /// When this machine wants to be driven again.
    pub fn next_deadline(&self, view: &View, links: &[Link], period: Span) -> Option<Moment> {
        if !view.is_session_writable(&self.node) {
            return None;
        }
        let wanted = match self.phase {
            Phase::Shut => self
                .rival
                .as_ref()
                .and_then(|(_, _, since)| Some(*since + patience(view.session(&self.node)?))),
            Phase::Open => {
                let stale = view.session(&self.node).is_some_and(|session| session.links != links);
                let interval = if stale { LINKS_INTERVAL } else { self.interval(view, period) };
                Some(self.last_sent + interval)
            }
            Phase::Opening | Phase::Closing | Phase::Left => None,
        };
        Some(wanted.unwrap_or(self.resting).max(self.resting))
    }

    /// The watch has shown something of this node's session.
    pub fn shown(&mut self, view: &View) {
        let Some(session) = view.shown_session(&self.node) else { return };
        if session.open_for.as_ref() != Some(&self.incarnation) {
            return;
        }
        while let Some(renewal) = self.unshown.front().copied() {
            if renewal.number > session.renewal {
                break;
            }
            self.unshown.pop_front();
            self.shown = Some(renewal);
        }
    }

    /// Moves on as far as the view allows, and says what to write, if anything.
    pub fn drive(
        &mut self,
        view: &View,
        wishes: &Wishes<'_>,
        period: Span,
        now: Moment,
    ) -> (Option<Session>, Option<SessionNews>) {
        let current = view.session(&self.node);
        let mine = current.is_some_and(|s| s.open_for.as_ref() == Some(&self.incarnation));
        let writable = view.is_session_writable(&self.node) && now >= self.resting;
        match self.phase {
            Phase::Shut if wishes.shut_down => {
                self.phase = Phase::Left;
                (None, None)
            }
            Phase::Shut if now < self.resting => (None, None),
            Phase::Shut => self.open(view, wishes, period, now),
            Phase::Opening if mine => {
                self.phase = Phase::Open;
                self.opened_at = now;
                (None, Some(SessionNews::Opened(self.incarnation.clone())))
            }
            Phase::Opening if writable => {
                self.die(false);
                self.drive(view, wishes, period, now)
            }
            Phase::Open | Phase::Closing if !mine => {
                let closed = current.and_then(|session| session.closed.clone());
                if closed.as_ref().is_some_and(|closed| closed.why == ClosedWhy::Silent) {
                    self.doubt(now);
                }
                self.die(wishes.shut_down);
                (None, Some(SessionNews::Closed(closed)))
            }
            Phase::Open | Phase::Closing if writable && wishes.close => {
                self.phase = Phase::Closing;
                let closed = Closed { by: self.node.clone(), why: ClosedWhy::Left };
                let session = current.map(|session| close(session, closed));
                (session, None)
            }
            Phase::Open | Phase::Closing if writable => {
                self.phase = Phase::Open;
                (self.renew(view, wishes, period, now), None)
            }
            Phase::Opening | Phase::Open | Phase::Closing | Phase::Left => (None, None),
        }
    }

    /// Opens where nobody else's life stands in the way; a rival that is silent for half its duration is replaced.
    fn open(
        &mut self,
        view: &View,
        wishes: &Wishes<'_>,
        period: Span,
        now: Moment,
    ) -> (Option<Session>, Option<SessionNews>) {
        let Some(node_uid) = wishes.node_uid else { return (None, None) };
        if !view.is_complete() || !view.is_session_writable(&self.node) {
            return (None, None);
        }
        let current = view.session(&self.node);
        let rival = current.and_then(|session| Some((session, session.open_for.clone()?)));
        if let Some((session, rival)) = rival.filter(|(_, life)| !self.is_former(life)) {
            let seen = self.rival.take();
            let since = match seen {
                Some((life, renewal, since)) if life == rival && renewal == session.renewal => {
                    since
                }
                Some(_) if !self.refused => {
                    self.refused = true;
                    self.rival = Some((rival.clone(), session.renewal, now));
                    return (None, Some(SessionNews::Refused(rival)));
                }
                _ => now,
            };
            if now < since + patience(session) {
                self.rival = Some((rival, session.renewal, since));
                return (None, None);
            }
        }
        self.rival = None;
        self.refused = false;
        self.phase = Phase::Opening;
        (Some(self.record(node_uid.clone(), wishes, period, now)), None)
    }

    /// How long after a renewal the next one is due: a period, or a third of what the last one promised, where since then
    /// sessions became so many that periods are longer.
    fn interval(&self, view: &View, period: Span) -> Span {
        let promised = view.session(&self.node).map(|session| session.duration);
        let promised = promised.map_or(period, |duration| Span(duration.0 / PERIODS_PER_DURATION));
        period.min(promised)
    }

    fn renew(
        &mut self,
        view: &View,
        wishes: &Wishes<'_>,
        period: Span,
        now: Moment,
    ) -> Option<Session> {
        let current = view.session(&self.node)?;
        let age = now.since(self.last_sent);
        let hurries = misleads(&current.links, wishes.links)
            && self.hurried.is_none_or(|last| now.since(last) >= LINKS_INTERVAL);
        if hurries {
            self.hurried = Some(now);
        }
        let due = age >= self.interval(view, period)
            || wishes.leaving != current.leaving
            || hurries
            || (wishes.links != current.links && age >= LINKS_INTERVAL);
        let node_uid = wishes.node_uid.unwrap_or(&current.node_uid).clone();
        due.then(|| self.record(node_uid, wishes, period, now))
    }

    /// The next renewal, which leaves now.
    fn record(
        &mut self,
        node_uid: Arc<str>,
        wishes: &Wishes<'_>,
        period: Span,
        now: Moment,
    ) -> Session {
        self.renewal += 1;
        self.last_sent = now;
        self.unshown.push_back(Renewal { number: self.renewal, sent: now, period });
        if self.unshown.len() > UNSHOWN {
            self.unshown.pop_front();
        }
        Session {
            node: self.node.clone(),
            node_uid,
            open_for: Some(self.incarnation.clone()),
            renewal: self.renewal,
            duration: period.times(PERIODS_PER_DURATION),
            protocol: PROTOCOL,
            links: wishes.links.to_vec(),
            leaving: wishes.leaving,
            doubted: self.doubt.is_some_and(|doubt| now < doubt.since + doubt.span),
            closed: None,
        }
    }

    /// It was silent, or so others saw it: what made it so may come again.
    fn doubt(&mut self, now: Moment) {
        let before = self.doubt.filter(|doubt| now < doubt.since + DOUBTS_FORGOTTEN);
        let span = before.map_or(FIRST_DOUBT, |doubt| doubt.span.times(2).min(LONGEST_DOUBT));
        self.doubt = Some(Doubt { since: now, span });
    }

    /// Whether `life` is an earlier one of this very process, whose opening landed after it was given up.
    fn is_former(&self, life: &Incarnation) -> bool {
        life.0.strip_prefix(&*self.seed).is_some_and(|rest| rest.starts_with('-'))
    }

    /// This life is over; a closed one never comes back.
    fn die(&mut self, for_good: bool) {
        self.life += 1;
        self.incarnation = incarnation(&self.seed, self.life);
        self.phase = if for_good { Phase::Left } else { Phase::Shut };
        self.unshown.clear();
        self.shown = None;
        self.rival = None;
    }
}

fn incarnation(seed: &str, life: u32) -> Incarnation {
    Incarnation(format!("{seed}-{life}").into())
}

/// Whether peers that go by the links `said` would probe one that has lost its carrier, or has another hardware address
/// by now, and take the silence there for that of the speaker.
fn misleads(said: &[Link], are: &[Link]) -> bool {
    let answers = |link: &Link| {
        are.iter().any(|now| now.name == link.name && now.mac == link.mac && now.carrier)
    };
    said.iter().any(|link| link.carrier && !answers(link))
}

/// How long another life's session under this node's name must be silent before it is replaced: it would have renewed
/// once and a half.
fn patience(session: &Session) -> Span {
    Span(session.duration.0 / 2)
}

/// `session`, closed. One that is closed keeps its links, so that the wire's voices can still be told apart.
pub fn close(session: &Session, closed: Closed) -> Session {
    Session { open_for: None, leaving: false, closed: Some(closed), ..session.clone() }
}

#[cfg(test)]
mod tests;
