//! What the wire lets this speaker know: R7's evidence, and R9's conflicts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::report::Cause;
use super::{Machine, Output, Report};
use crate::name::{LinkName, NodeName};
use crate::ownership::claim::{self, State};
use crate::ownership::evidence::duty::{Surroundings, is_in_earshot};
use crate::ownership::evidence::{Defence, Finding, VETOED_FOR, Voice};
use crate::ownership::order::usable;
use crate::ownership::record::{Closed, ClosedWhy, Link};
use crate::ownership::session::close;
use crate::time::{Moment, Span};
use crate::wire::Mac;

/// Between two reports of strangers that use one address.
const STRANGER_INTERVAL: Span = Span::secs(10);
/// Duties follow claims at most so often; what opens and closes they follow at once.
const ASSIGN_INTERVAL: Span = Span::millis(50);
/// A session that has been expired for so long is closed whatever its speaker answers.
const VETO_ENDS: Span = Span::secs(60);
/// Addresses that a peer whose session has expired is asked for at a time.
const DEFENDED: usize = 16;

/// Who hears whether a peer lives that does not renew its session (R7).
enum Hearing {
    /// This node, if the peer answers.
    Of(Defence),
    /// Not this node, but others do: they judge.
    ByOthers,
    /// The peer owns nothing that it should answer for, or nobody is there to hear it.
    None,
}

/// Who is around, as far as the wire's part depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Neighbours {
    /// The hardware addresses of other speakers: their unicast probes are answered for what is vouched for.
    pub speakers: BTreeSet<Mac>,
    /// The addresses of hosts whose answers are to be heard.
    pub hosts: BTreeSet<IpAddr>,
}

impl Machine {
    pub(super) fn relink(&mut self, mut links: Vec<Link>, now: Moment) {
        for link in &mut links {
            link.deaf = self.evidence.is_deaf(&link.name);
        }
        let returned = links.iter().any(|link| {
            let before = self.links.iter().find(|known| known.name == link.name);
            link.carrier && before.is_none_or(|known| !known.carrier || known.mac != link.mac)
        });
        self.links = links;
        self.assign_at = Some(now);
        self.mark_all();
        if returned {
            for (address, part) in &mut self.parts {
                if matches!(part.state, State::Owner { .. }) {
                    // Gateways that ignore what is announced must learn of another hardware address, too.
                    part.announced = false;
                    self.announcements.start(*address, now);
                }
            }
        }
    }

    pub(super) fn hear(&mut self, voice: &Voice, now: Moment) {
        let Voice { address, mac, .. } = *voice;
        if self.links.iter().any(|link| link.mac == mac) {
            return;
        }
        self.evidence.hear(voice, now);
        let state = self.state(address).clone();
        if !state.answers() && state != State::Asking && state != State::Taking {
            return;
        }
        let speaker = self.view.speaker_with(mac).filter(|node| !self.is_own_of(node, address));
        let Some(speaker) = speaker.cloned() else {
            self.hear_stranger(voice, now);
            return;
        };
        if state == State::Taking {
            return;
        }
        if matches!(state, State::Owner { .. } | State::Asking) {
            if matches!(state, State::Owner { .. }) {
                self.announcements.start(address, now);
                if self.parts.get(&address).is_some_and(|part| part.disputed) {
                    // Its speaker knows better by now: another program announces it there.
                    self.tell_of_stranger(voice, false, now);
                }
            }
            self.rivals.hear(address);
            self.relisting.want(now);
        }
        let cause = match state {
            State::HandingOver { .. } => Cause::HeardSuccessor(speaker),
            _ => Cause::HeardSpeaker(speaker),
        };
        let state = claim::hear_rival(&state, now);
        self.enter(address, state, None, cause, now);
        self.dirty.insert(address);
    }

    /// Whether `node` itself has `address`: then not its speaker is heard, which would yield, but its kernel.
    fn is_own_of(&self, node: &NodeName, address: IpAddr) -> bool {
        let links = self.view.session(node).into_iter().flat_map(|session| &session.links);
        links.flat_map(|link| &link.prefixes).any(|prefix| prefix.ip() == address)
    }

    /// A stranger may send as fast as it likes; people are told at a measured pace.
    fn hear_stranger(&mut self, voice: &Voice, now: Moment) {
        let Voice { address, .. } = *voice;
        // On a network where the address is not answered for, another may have it.
        let Some(interfaces) = self.allowed_interfaces(address) else { return };
        if usable(&self.links, &interfaces).all(|link| link.name != voice.link) {
            return;
        }
        let barred = self.inquiries.hear_stranger(address, now);
        self.dirty.extend(barred.then_some(address));
        if barred || self.state(address).answers() {
            self.tell_of_stranger(voice, barred, now);
        }
    }

    fn tell_of_stranger(&mut self, voice: &Voice, barred: bool, now: Moment) {
        let Voice { address, mac, .. } = *voice;
        let Some(own) = self.links.iter().find(|link| link.name == voice.link) else { return };
        let own = own.mac;
        let Some(part) = self.parts.get_mut(&address) else { return };
        if part.stranger.is_none_or(|last| now >= last + STRANGER_INTERVAL) {
            part.stranger = Some(now);
            let node = self.view.speaker_with(mac).cloned();
            let report = Report::Stranger { address, mac, node, own, barred };
            self.outputs.push_back(Output::Report(report));
        }
    }

    /// What the wire says of peers and links; whether anything followed.
    pub(super) fn consult_wire(&mut self, now: Moment) -> bool {
        self.assign(now);
        let progressed = self.drive_inquiries(now);
        self.ask_for_held(now);
        let findings = match self.evidence.next_deadline() {
            Some(due) if due <= now => self.evidence.look(now),
            _ => Vec::new(),
        };
        let progressed = progressed || !findings.is_empty();
        for finding in findings {
            match finding {
                Finding::Ask(question) => self.outputs.push_back(Output::Ask(question)),
                Finding::Silent(node) => self.close_peer(&node, ClosedWhy::Silent),
                Finding::Deaf(link, deaf) => self.deafen(&link, deaf),
                Finding::Alive(node) | Finding::Undecided(node) => {
                    self.peers.postpone(&node, now + VETOED_FOR);
                }
                Finding::Unanswering(node) => {
                    if self.peers.is_expired(&node, now) {
                        self.close_peer(&node, ClosedWhy::Expired);
                    }
                }
            }
        }
        progressed
    }

    pub(super) fn deafen(&mut self, link: &LinkName, deaf: bool) {
        if let Some(link) = self.links.iter_mut().find(|known| known.name == *link) {
            link.deaf = deaf;
        }
        self.mark_all();
    }

    /// R7: only who is sure closes, and only on the version that stands.
    fn close_peer(&mut self, node: &NodeName, why: ClosedWhy) {
        if !self.sure || !self.session.is_open() || !self.view.is_session_writable(node) {
            return;
        }
        let Some(session) = self.view.session(node).filter(|s| s.open_for.is_some()) else {
            return;
        };
        let session = close(session, Closed { by: self.me.clone(), why });
        self.outputs.push_back(Output::Report(Report::ClosedPeer(node.clone(), why)));
        self.write_session(session);
    }

    /// R7, expired: who may still live is heard first.
    pub(super) fn close_expired(&mut self, now: Moment) -> bool {
        if !self.sure {
            return false;
        }
        let mut progressed = false;
        while let Some((node, overdue)) = self.peers.pop_expired(&self.me, &self.view, now) {
            progressed = true;
            if overdue >= VETO_ENDS {
                self.close_peer(&node, ClosedWhy::Expired);
                continue;
            }
            match self.hearing(&node, overdue, now) {
                Hearing::Of(defence) => self.evidence.hear_out(node, defence, now),
                Hearing::ByOthers => self.peers.postpone(&node, now + VETOED_FOR),
                Hearing::None => self.close_peer(&node, ClosedWhy::Expired),
            }
        }
        progressed
    }

    /// Who hears whether a peer lives whose session has been expired for so long.
    fn hearing(&self, node: &NodeName, overdue: Span, now: Moment) -> Hearing {
        let (Some(surroundings), Some(session)) = (self.surroundings(), self.view.session(node))
        else {
            return Hearing::None;
        };
        let answerable = surroundings.answerable(session);
        let mut addresses = surroundings.within_earshot(session, &answerable);
        if addresses.is_empty() {
            let mut others = self.view.open_sessions().filter(|of| {
                of.node != self.me && of.node != *node && !self.peers.is_expired(&of.node, now)
            });
            let heard = !answerable.is_empty() && others.any(|of| is_in_earshot(of, session));
            return if heard { Hearing::ByOthers } else { Hearing::None };
        }
        // Others each time, so that in the end all have been asked for.
        let turn = usize::try_from(overdue.0 / VETOED_FOR.0).unwrap_or(0) * DEFENDED;
        let start = turn % addresses.len();
        addresses.rotate_left(start);
        addresses.truncate(DEFENDED);
        Hearing::Of(Defence { addresses, macs: session.links.iter().map(|of| of.mac).collect() })
    }

    fn surroundings(&self) -> Option<Surroundings<'_>> {
        Some(Surroundings {
            me: &self.me,
            links: &self.links,
            gateways: &self.gateways,
            view: &self.view,
            plan: self.plan.as_deref()?,
        })
    }

    /// Gathers what [`Machine::is_on_a_network`] goes by.
    pub(super) fn gather_networks(&mut self) {
        if self.networks.is_some() {
            return;
        }
        let peers = self.view.open_sessions().filter(|session| session.node != self.me);
        let prefixes = peers.flat_map(|session| &session.links).flat_map(|link| &link.prefixes);
        let network = |prefix: &IpNetwork| IpNetwork::new(prefix.network(), prefix.prefix()).ok();
        self.networks = Some(prefixes.filter_map(network).collect());
    }

    /// Whether any peer may have `address` on-link. Where none has, as with a routed pool, looking at each candidate for
    /// each address would cost their product.
    pub(super) fn is_on_a_network(&self, address: IpAddr) -> bool {
        let networks = self.networks.as_ref();
        networks.is_none_or(|networks| networks.iter().any(|network| network.contains(address)))
    }

    /// Claims have changed: duties follow before long.
    pub(super) fn reassign_soon(&mut self, now: Moment) {
        let at = (self.assigned + ASSIGN_INTERVAL).max(now);
        self.assign_at = Some(self.assign_at.map_or(at, |known| known.min(at)));
    }

    fn assign(&mut self, now: Moment) {
        if self.assign_at.is_none_or(|at| now < at) {
            return;
        }
        (self.assign_at, self.assigned) = (None, now);
        let Some(surroundings) = self.surroundings() else { return };
        let (duties, hosts) = (surroundings.duties(), surroundings.hosts());
        let others = self.view.sessions().filter(|session| session.node != self.me);
        let neighbours = Neighbours {
            speakers: others.flat_map(|s| s.links.iter().map(|link| link.mac)).collect(),
            hosts: hosts.values().flat_map(BTreeMap::keys).copied().collect(),
        };
        if neighbours != self.neighbours {
            self.neighbours = neighbours.clone();
            self.outputs.push_back(Output::Neighbours(neighbours));
        }
        self.evidence.assign(duties, hosts, now);
    }

    /// Sees to it that peers' probes for `address` are answered while its claim names this speaker.
    pub(super) fn vouch(&mut self, address: IpAddr, now: Moment) {
        let mine = self.view.claim(address).is_some_and(|claim| self.is_mine(claim));
        if self.vouching.see(address, mine, now) {
            self.outputs.push_back(Output::Vouch(address, true));
        }
    }

    pub(super) fn end_vouching(&mut self, now: Moment) {
        while let Some(address) = self.vouching.pop_ended(now) {
            self.outputs.push_back(Output::Vouch(address, false));
        }
    }
}
