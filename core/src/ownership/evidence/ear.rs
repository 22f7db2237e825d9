//! Whether a link hears anybody: it is deaf when no host answers any more, though some once did.
//!
//! Any answer counts, also one to a probe. Only where there was none for a second are hosts asked: two, then all (of many,
//! sixteen from among them), then judgement. So a link on which peers are probed costs nothing more.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::duty::Hosts;
use super::{ADDRESSES_ASKED, Ask, Voice};
use crate::time::{Moment, Span};
use crate::wire::Mac;

/// An answer is good for so long.
const FRESH: Span = Span::secs(1);
/// How long an answer is waited for.
const WAIT: Span = Span::millis(250);
/// Who looks up so much later than it meant to has slept.
const LATE: Span = Span::millis(125);
/// Hosts asked at first, and by who wants to know whether the link hears while it asks a peer.
const FEW: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Nothing is asked.
    Content,
    /// Some hosts are asked.
    Few,
    /// All are, or some from among all.
    All,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ear {
    hosts: Hosts,
    /// By which hardware address each host answered.
    answered: BTreeMap<IpAddr, Mac>,
    /// When anybody last answered, if ever: a link where nobody did is not deaf.
    heard: Option<Moment>,
    stage: Stage,
    due: Moment,
    deaf: bool,
    /// What was last told.
    told: bool,
    turn: usize,
}

impl Ear {
    pub(super) fn new(hosts: Hosts, now: Moment) -> Self {
        Self {
            hosts,
            answered: BTreeMap::new(),
            heard: None,
            stage: Stage::Content,
            due: now,
            deaf: false,
            told: false,
            turn: 0,
        }
    }

    pub(super) fn surround(&mut self, hosts: Hosts) {
        self.answered.retain(|host, _| hosts.contains_key(host));
        self.hosts = hosts;
    }

    pub(super) fn due(&self) -> Moment {
        self.due
    }

    pub(super) fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Whether anybody ever answered.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.is_some()
    }

    pub(super) fn told(&self) -> bool {
        self.told
    }

    pub(super) fn tell(&mut self) -> bool {
        self.told = self.deaf;
        self.deaf
    }

    pub(super) fn hear(&mut self, voice: &Voice, now: Moment) {
        (self.heard, self.deaf) = (Some(now), false);
        if self.hosts.contains_key(&voice.address) {
            self.answered.insert(voice.address, voice.mac);
        }
        self.stage = Stage::Content;
        // What is to be told is told at once.
        self.due = if self.told { now } else { now + FRESH };
    }

    pub(super) fn discard(&mut self, now: Moment) {
        self.stage = Stage::Content;
        self.due = now + FRESH;
    }

    pub(super) fn look(&mut self, now: Moment) -> Vec<Ask> {
        if now.since(self.due) > LATE {
            self.stage = Stage::Content;
        }
        let asked = match self.stage {
            _ if self.hosts.is_empty() => {
                self.due = now + FRESH;
                return Vec::new();
            }
            Stage::Content => {
                self.stage = Stage::Few;
                self.some(&[])
            }
            Stage::Few => {
                self.stage = Stage::All;
                // Of everybody, for a host may have another hardware address by now. Where there are many, of some
                // that are far apart: neighbouring addresses may have lost their power together.
                let hosts = self.hosts.keys().step_by(self.hosts.len().div_ceil(ADDRESSES_ASKED));
                hosts.map(|host| Ask { address: *host, to: None }).collect()
            }
            Stage::All => {
                self.deaf = self.heard.is_some();
                self.stage = Stage::Content;
                self.due = now + FRESH;
                return Vec::new();
            }
        };
        self.due = now + WAIT;
        asked
    }

    /// Questions for a few hosts in turn that are none of `macs`: those that are likely to answer first. One whose
    /// hardware address nobody knows yet, as a gateway's, is asked for by a question to all.
    pub(super) fn some(&mut self, macs: &[Mac]) -> Vec<Ask> {
        let other = |ask: &Ask| ask.to.is_none_or(|mac| !macs.contains(&mac));
        let (mut known, unknown): (Vec<Ask>, Vec<Ask>) = self
            .hosts
            .keys()
            .map(|host| self.question(*host))
            .filter(other)
            .partition(|ask| self.answered.contains_key(&ask.address));
        if !known.is_empty() {
            let turn = self.turn % known.len();
            known.rotate_left(turn);
        }
        self.turn = self.turn.wrapping_add(FEW);
        known.into_iter().chain(unknown).take(FEW).collect()
    }

    fn question(&self, host: IpAddr) -> Ask {
        let known = self.answered.get(&host).copied();
        Ask { address: host, to: known.or_else(|| self.hosts.get(&host).copied().flatten()) }
    }
}
