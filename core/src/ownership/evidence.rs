//! What the wire tells of peers and of this node's own links (R7).
//!
//! ```text
//!                 answers, on time                       no answer but a third host's
//!   duty ──▶ Probing ◀───────────────┐       3 misses  ┌────────────────────────────▶ silent: close the session
//!                └───────────────────┴──▶ Asking ──────┤
//!                                                      └─▶ nobody answers: my own link may be cut, begin again
//! ```
//!
//! [`duty`] says which peers this speaker probes on each link and what for. Three small machines hear: `probing` counts
//! what one peer answers on one link, `ear` knows whether anybody answers there at all (deaf), and `veto` asks a peer whose
//! session has expired whether it lives all the same. None of them decides more than what it heard: the
//! [`super::machine::Machine`] closes sessions, and only while it is sure.

pub mod duty;
mod ear;
mod probing;
mod veto;

use std::collections::BTreeMap;
use std::net::IpAddr;

pub use self::duty::{Duties, Duty, Hosts};
use self::ear::Ear;
use self::probing::Probing;
pub use self::veto::{Defence, VETOED_FOR};
use self::veto::{Verdict, Veto};
use super::choices::Periods;
use crate::name::{LinkName, NodeName};
use crate::time::{Moment, Span};
use crate::wire::Mac;

/// Questions for one address in that time.
const ASKS: u8 = 3;
/// At most so many of a peer's addresses are asked for at a time.
const ADDRESSES_ASKED: usize = 16;

/// The question who has an address, asked so that it changes nobody's cache (RFC 5227 §1.1's probe; for IPv6 a
/// solicitation in the name of the link-local address).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// The address.
    pub address: IpAddr,
    /// The link on which it is asked.
    pub link: LinkName,
    /// Whom it is put to; `None` is everybody on the link.
    pub to: Option<Mac>,
}

/// A claim to an address that another host made on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voice {
    /// The address.
    pub address: IpAddr,
    /// The host's hardware address.
    pub mac: Mac,
    /// The link that it was heard on.
    pub link: LinkName,
    /// Whether it was said in answer to a question, so that the way there works too.
    pub answer: bool,
}

/// What follows from what was heard, or was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// This is to be asked now.
    Ask(Question),
    /// The peer's speaker does not answer, while others do.
    Silent(NodeName),
    /// Whether the link hears anybody changed: whether it is deaf now.
    Deaf(LinkName, bool),
    /// The peer, whose session has expired, answers all the same.
    Alive(NodeName),
    /// The peer, whose session has expired, does not answer for one address at least, where others are heard.
    Unanswering(NodeName),
    /// The same, but nobody at all answered where it was asked, though some once did: the link may be cut.
    Undecided(NodeName),
}

/// The machines, by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Evidence {
    pace: Periods,
    probings: BTreeMap<(LinkName, NodeName), Probing>,
    ears: BTreeMap<LinkName, Ear>,
    vetoes: BTreeMap<NodeName, Veto>,
}

impl Evidence {
    /// Evidence gathered at this pace.
    pub fn new(pace: Periods) -> Self {
        Self { pace, ..Self::default() }
    }

    /// From now on these peers are probed, and these hosts are there to be heard. What was counted of a peer's
    /// incarnation is kept while it is still probed on the same link.
    pub fn assign(&mut self, duties: Duties, hosts: BTreeMap<LinkName, Hosts>, now: Moment) {
        self.probings.retain(|of, _| duties.contains_key(of));
        for (of, duty) in duties {
            match self.probings.get_mut(&of) {
                Some(probing) => probing.reassign(duty, now),
                None => drop(self.probings.insert(of, Probing::new(duty, self.pace, now))),
            }
        }
        self.ears.retain(|link, _| hosts.contains_key(link));
        for (link, hosts) in hosts {
            match self.ears.get_mut(&link) {
                Some(ear) => ear.surround(hosts),
                None => drop(self.ears.insert(link, Ear::new(hosts, now))),
            }
        }
    }

    /// Asks a peer whose session has expired for addresses that it should answer for. Does nothing while it is being
    /// asked.
    pub fn hear_out(&mut self, peer: NodeName, defence: Defence, now: Moment) {
        let pace = self.pace;
        self.vetoes.entry(peer).or_insert_with(|| Veto::new(defence, pace, now));
    }

    /// The peer's session is open and renewed, closed or gone: nothing is asked of it any more.
    pub fn acquit(&mut self, peer: &NodeName) {
        self.vetoes.remove(peer);
    }

    /// Somebody was heard.
    pub fn hear(&mut self, voice: &Voice, now: Moment) {
        for ((link, _), probing) in &mut self.probings {
            probing.hear(voice, *link == voice.link, now);
        }
        for veto in self.vetoes.values_mut() {
            veto.hear(voice);
        }
        if let Some(ear) = self.ears.get_mut(&voice.link).filter(|_| voice.answer) {
            ear.hear(voice, now);
        }
    }

    /// A question could not be sent on this link: what has not been asked cannot be missed.
    pub fn unsent(&mut self, link: &LinkName, now: Moment) {
        for ((of, _), probing) in &mut self.probings {
            if of == link {
                probing.discard(now);
            }
        }
        if let Some(ear) = self.ears.get_mut(link) {
            ear.discard(now);
        }
        self.vetoes.retain(|_, veto| !veto.asks_on(link));
    }

    /// Whether nobody who ever answered on the link answers now.
    pub fn is_deaf(&self, link: &LinkName) -> bool {
        self.ears.get(link).is_some_and(Ear::is_deaf)
    }

    /// When [`Evidence::look`] is to be called, if nothing is heard before.
    pub fn next_deadline(&self) -> Option<Moment> {
        let probings = self.probings.values().map(Probing::due);
        let ears = self.ears.values().map(Ear::due);
        probings.chain(ears).chain(self.vetoes.values().map(Veto::due)).min()
    }

    /// What follows from the time that has passed.
    pub fn look(&mut self, now: Moment) -> Vec<Finding> {
        let mut findings = Vec::new();
        for ((link, peer), probing) in &mut self.probings {
            if probing.due() <= now {
                let (mut questions, silent) = probing.look(now);
                if let Some(ear) = self.ears.get_mut(link).filter(|_| probing.wants_third()) {
                    questions.extend(ear.some(probing.macs()));
                }
                findings.extend(questions.into_iter().map(|of| Finding::Ask(of.on(link))));
                findings.extend(silent.then(|| Finding::Silent(peer.clone())));
            }
        }
        for (link, ear) in &mut self.ears {
            let was_deaf = ear.told();
            if ear.due() <= now {
                findings.extend(ear.look(now).into_iter().map(|of| Finding::Ask(of.on(link))));
            }
            if ear.is_deaf() != was_deaf {
                findings.push(Finding::Deaf(link.clone(), ear.tell()));
            }
        }
        self.hear_vetoes(now, &mut findings);
        findings
    }

    fn hear_vetoes(&mut self, now: Moment, findings: &mut Vec<Finding>) {
        let Self { ears, vetoes, .. } = self;
        vetoes.retain(|peer, veto| {
            if veto.due() > now {
                return true;
            }
            let mute = |link: &LinkName| !ears.get(link).is_some_and(Ear::has_heard);
            let (questions, verdict) = veto.look(now, mute);
            findings.extend(questions.into_iter().map(Finding::Ask));
            let Some(verdict) = verdict else {
                for link in veto.unheard() {
                    let hosts = ears.get_mut(&link).map(|ear| ear.some(&[]));
                    let asks = hosts.into_iter().flatten().map(|of| Finding::Ask(of.on(&link)));
                    findings.extend(asks);
                }
                return true;
            };
            findings.push(match verdict {
                Verdict::Alive => Finding::Alive(peer.clone()),
                Verdict::Unanswering => Finding::Unanswering(peer.clone()),
                Verdict::Undecided => Finding::Undecided(peer.clone()),
            });
            false
        });
    }
}

/// A question whose link is known to who relays it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ask {
    address: IpAddr,
    to: Option<Mac>,
}

impl Ask {
    fn on(self, link: &LinkName) -> Question {
        Question { address: self.address, link: link.clone(), to: self.to }
    }
}

impl Periods {
    /// When the question of this round is due, or the judgement after the last.
    fn round(self, since: Moment, round: u8) -> Moment {
        since + Span(self.ask.0 * u64::from(round) / u64::from(ASKS))
    }

    /// Who looks up so much later than it meant to has not waited, it has slept: nothing is counted.
    const fn late(self) -> Span {
        Span(self.probe.0 / 2)
    }
}

#[cfg(test)]
mod tests;
