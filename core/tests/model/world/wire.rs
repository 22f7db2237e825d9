//! The segment: who hears whose questions and announcements, and who answers.

use std::net::IpAddr;

use herald_core::ownership::choices::STOOD_STILL;
use herald_core::ownership::evidence::{Question, Voice};
use herald_core::ownership::machine::Input;

use super::{Letter, World};
use crate::settings::{NODES, host, lan, mac};

/// How long a frame takes.
const TRAVEL: u64 = 1;

/// A question on its way to one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    to: usize,
    from: usize,
    address: IpAddr,
    unicast: bool,
    /// When it comes in: what waits too long is not answered.
    at: u64,
}

fn voice(address: IpAddr, of: usize, answer: bool) -> Voice {
    Voice { address, mac: mac(of), link: lan(), answer }
}

impl World {
    /// Whether frames pass from one node to another.
    pub(crate) fn passes(&self, from: usize, to: usize) -> bool {
        let (sender, receiver) = (&self.nodes[from], &self.nodes[to]);
        let ports = sender.carrier && sender.heard && receiver.carrier && receiver.hears;
        ports && !self.cut.contains(&(from.min(to), from.max(to)))
    }

    pub(super) fn announce(&mut self, from: usize, address: IpAddr) {
        for to in (0..NODES).filter(|to| *to != from) {
            if self.passes(from, to) {
                let voice = voice(address, from, false);
                self.post(TRAVEL, Letter::Heard { to, voice });
            }
        }
    }

    pub(super) fn ask(&mut self, from: usize, question: &Question) {
        let Question { address, to: target, .. } = *question;
        if target.is_none() {
            self.speak_for_a_third(from, address);
        }
        for to in (0..NODES).filter(|to| *to != from) {
            let (unicast, at) = (target.is_some(), self.now + TRAVEL);
            let meant = target.is_none_or(|target| target == mac(to));
            if meant && self.passes(from, to) && !self.loses(unicast) {
                let asked = Asked { to, from, address, unicast, at };
                self.post(TRAVEL, Letter::Question(asked));
            }
        }
    }

    /// A question has come to a node: its kernel answers for the node, its speaker for addresses.
    pub(super) fn read(&mut self, asked: Asked) {
        let Asked { to, from, address, unicast, at } = asked;
        let (now, heeds_vouching) = (self.now, self.vouching_counts());
        let node = self.node(to);
        let of_kernel = address == host(to);
        if let Some(suspension) = node.suspended.as_mut().filter(|_| !of_kernel) {
            suspension.waiting.push(Letter::Question(asked));
            return;
        }
        let vouches = heeds_vouching && unicast && node.vouched.contains(&address);
        let in_time = now <= at + STOOD_STILL.0;
        let speaks = node.machine.is_some() && in_time;
        let answers = speaks && (node.answering.contains(&address) || vouches);
        if (of_kernel && node.power || answers) && self.passes(to, from) {
            let voice = voice(address, to, true);
            self.post(TRAVEL, Letter::Heard { to: from, voice });
        }
    }

    pub(super) fn hear(&mut self, to: usize, voice: Voice) {
        if !self.mishears(to, &voice) {
            self.feed(to, Input::Heard(voice));
        }
    }

    /// A voice that is not there, of the node's kernel.
    pub(crate) fn pretend_voice(&mut self, to: usize, of: usize) {
        let voice = voice(host(of), of, true);
        self.post(2 * TRAVEL, Letter::Heard { to, voice });
    }
}
