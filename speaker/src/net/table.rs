//! Which addresses are answered for where, and what a received frame therefore asks of us. Pure: no I/O, no clock.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use herald_core::name::LinkName;
use herald_core::wire::{Mac, arp, ndp};

use super::count::{AddressCounters, Dropped, increment};
use super::socket::Protocol;

/// The links that something is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every eligible link.
    Every,
    /// Those of these names that are eligible.
    Only(Arc<BTreeSet<LinkName>>),
}

impl Reach {
    /// Whether `link` is among them.
    pub fn includes(&self, link: &LinkName) -> bool {
        match self {
            Self::Every => true,
            Self::Only(names) => names.contains(link),
        }
    }
}

/// How somebody laid claim to an address on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum How {
    /// Told to all: a gratuitous message, an unsolicited advertisement, or the address as the sender of a question.
    Announced,
    /// Told in answer to a question, of ours or, where all hear the answer, of others.
    Answered,
}

/// Somebody else laid claim to an address that this speaker is interested in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The address.
    pub address: IpAddr,
    /// Where it is, by that claim. Never one of this node's own.
    pub mac: Mac,
    /// The link that it was heard on.
    pub link: LinkName,
    /// How.
    pub how: How,
}

/// One address that is answered for.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reach: Reach,
    pub(super) counters: Arc<AddressCounters>,
}

/// The link that a frame came in by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) link: LinkName,
    pub(super) mac: Mac,
}

/// Everything that is known of addresses. Lookups cost the same for one address as for ten thousand.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) answers: HashMap<IpAddr, Answer>,
    pub(super) interesting: HashSet<IpAddr>,
    /// Hosts whose answers are reported as well: by them a link knows that it hears anybody.
    pub(super) hosts: BTreeSet<IpAddr>,
    /// Other speakers, by hardware address.
    pub(super) speakers: BTreeSet<Mac>,
    /// Addresses for which unicast probes of other speakers are answered although nobody else's questions are (R7).
    pub(super) vouched: HashSet<IpAddr>,
    pub(super) own: BTreeSet<Mac>,
}

/// A frame to send, and whose counters count it, where it is an answer to a neighbour.
pub(super) struct Reply {
    pub(super) frame: Vec<u8>,
    pub(super) counters: Option<Arc<AddressCounters>>,
}

/// What a frame means for us.
pub(super) struct Judgement {
    /// A claim that somebody else made by it.
    pub(super) claim: Option<(IpAddr, Mac, How)>,
    /// The answer that it asks for, or why there is none.
    pub(super) reply: Result<Reply, Dropped>,
}

impl Judgement {
    fn none(why: Dropped) -> Self {
        Self { claim: None, reply: Err(why) }
    }
}

impl Table {
    /// Answers for `address` as `answer` says, or not at all; returns what was said of it before.
    pub(super) fn replace(&mut self, address: IpAddr, answer: Option<Answer>) -> Option<Answer> {
        match answer {
            Some(answer) => self.answers.insert(address, answer),
            None => self.answers.remove(&address),
        }
    }

    /// Whether `address` is answered for on `link`.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn answer(&self, address: IpAddr, link: &LinkName) -> Result<&Answer, Dropped> {
        let answer = self.answers.get(&address).ok_or(Dropped::NotAnswered)?;
        if answer.reach.includes(link) { Ok(answer) } else { Err(Dropped::NotOnLink) }
    }

    /// Judges `frame`, which came in at `place`.
    pub(super) fn judge(&self, protocol: Protocol, place: &Place, frame: &[u8]) -> Judgement {
        match protocol {
            Protocol::Arp => match arp::View::parse(frame) {
                Ok(view) => self.judge_arp(place, &view),
                Err(_) => Judgement::none(Dropped::Malformed),
            },
            Protocol::Ndp => match ndp::View::parse(frame) {
                Ok(view) => self.judge_ndp(place, &view),
                Err(_) => Judgement::none(Dropped::Malformed),
            },
        }
    }

    /// A question names a sender other than its target: one that names the target itself announces it.
    fn judge_arp(&self, place: &Place, view: &arp::View<'_>) -> Judgement {
        if view.destination() != Mac::BROADCAST && view.destination() != place.mac {
            return Judgement::none(Dropped::NotForUs);
        }
        let told_to_all = view.destination() == Mac::BROADCAST;
        let how = match view.operation() {
            arp::Operation::Reply if !told_to_all => How::Answered,
            arp::Operation::Reply | arp::Operation::Request => How::Announced,
        };
        let claim = self.claim(IpAddr::V4(view.sender()), view.sender_mac(), how);
        let asks = view.operation() == arp::Operation::Request && view.sender() != view.target();
        let reply = if asks {
            // RFC 5227's probe: nobody asks so whose cache could keep the answer.
            let probe = !told_to_all && view.sender().is_unspecified();
            let prober = probe.then_some(view.sender_mac());
            self.reply(IpAddr::V4(view.target()), place, prober, || {
                arp::Message::answer(view, place.mac).to_frame().to_vec()
            })
        } else {
            Err(Dropped::NoQuestion)
        };
        Judgement { claim, reply }
    }

    fn judge_ndp(&self, place: &Place, view: &ndp::View<'_>) -> Judgement {
        if !view.ethernet_destination().is_group() && view.ethernet_destination() != place.mac {
            return Judgement::none(Dropped::NotForUs);
        }
        let told = view.link_layer().unwrap_or(view.ethernet_source());
        match view.kind() {
            ndp::Kind::Advertisement { solicited, override_cache, .. } => {
                // Ours to one who has no address yet goes to all, but does not override.
                let how = if solicited || !override_cache { How::Answered } else { How::Announced };
                let claim = self.claim(IpAddr::V6(view.target()), told, how);
                Judgement { claim, reply: Err(Dropped::NoQuestion) }
            }
            ndp::Kind::Solicitation => {
                let claim = self.claim(IpAddr::V6(view.source()), told, How::Announced);
                let reply = if view.source() == view.target() {
                    Err(Dropped::NoQuestion)
                } else {
                    let unicast = !view.ethernet_destination().is_group();
                    let prober = unicast.then_some(view.ethernet_source());
                    self.reply(IpAddr::V6(view.target()), place, prober, || {
                        ndp::Message::answer(view, place.mac).to_frame()
                    })
                };
                Judgement { claim, reply }
            }
        }
    }

    fn claim(&self, address: IpAddr, mac: Mac, how: How) -> Option<(IpAddr, Mac, How)> {
        let heeded = self.interesting.contains(&address) || self.hosts.contains(&address);
        let foreign = heeded && !self.own.contains(&mac);
        foreign.then_some((address, mac, how))
    }

    /// `prober` is who asks this node alone, perhaps to know whether its speaker lives: that is answered, and counted as
    /// no neighbour's question.
    fn reply(
        &self,
        address: IpAddr,
        place: &Place,
        prober: Option<Mac>,
        frame: impl FnOnce() -> Vec<u8>,
    ) -> Result<Reply, Dropped> {
        let answer = self.answer(address, &place.link);
        let probed = prober.is_some_and(|mac| self.speakers.contains(&mac));
        if probed && (answer.is_ok() || self.vouched.contains(&address)) {
            return Ok(Reply { frame: frame(), counters: None });
        }
        let answer = answer?;
        increment(&answer.counters.requests_received);
        Ok(Reply { frame: frame(), counters: Some(Arc::clone(&answer.counters)) })
    }
}

#[cfg(test)]
mod tests;
