//! The segment: who hears whose questions and announcements, and who answers.

use std::net::{IpAddr, Ipv4Addr};

use herald_core::ownership::choices::STOOD_STILL;
use herald_core::ownership::evidence::{Question, Voice};
use herald_core::ownership::machine::Input;
use herald_core::wire::Mac;

use super::{Cluster, Happening};

/// How long a frame takes.
const TRAVEL: u64 = 1;

/// The address of a node itself, for which its kernel answers while it has power.
fn host(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200 + u8::try_from(index).unwrap_or(0)))
}

/// A question on its way to one node.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) to: usize,
    pub(crate) from: usize,
    pub(crate) address: IpAddr,
    pub(crate) unicast: bool,
    /// When it came in: what waits too long is not answered.
    pub(crate) at: u64,
}

impl Cluster {
    /// Whether a frame of one node gets to the other, this time.
    fn passes(&mut self, from: usize, to: usize) -> bool {
        let cut = self.cut.contains(&(from.min(to), from.max(to)));
        self.nodes[from].lan
            && self.nodes[to].lan
            && !self.nodes[from].unplugged
            && !self.nodes[to].unplugged
            && !cut
            && self.dice.below(100) >= self.loss
    }

    pub(super) fn announce(&mut self, index: usize, address: IpAddr) {
        self.announced.push((self.now, index, address));
        let mac = self.nodes[index].mac;
        for other in (0..self.nodes.len()).filter(|other| *other != index) {
            if self.passes(index, other) {
                let voice = voice(address, mac, false);
                self.later(TRAVEL, Happening::Frame(other, voice));
            }
        }
    }

    pub(super) fn ask(&mut self, from: usize, question: &Question) {
        self.asked += 1;
        let Question { address, to, .. } = *question;
        for other in (0..self.nodes.len()).filter(|other| *other != from) {
            if to.is_some_and(|mac| mac != self.nodes[other].mac) || !self.passes(from, other) {
                continue;
            }
            let (unicast, at) = (to.is_some(), self.now + TRAVEL);
            let asked = Asked { to: other, from, address, unicast, at };
            if address == host(other) {
                self.later(TRAVEL, Happening::Kernel(asked));
            } else {
                self.later(TRAVEL, Happening::Asked(asked));
            }
        }
        if let Some(mac) = self.strangers.get(&address).copied().filter(|_| to.is_none()) {
            self.later(TRAVEL, Happening::Frame(from, voice(address, mac, true)));
        }
    }

    /// The speaker of a node reads a question.
    pub(super) fn read(&mut self, asked: &Asked) {
        let node = &self.nodes[asked.to];
        let vouches = asked.unicast && node.vouched.contains(&asked.address);
        let knows = node.answering.contains(&asked.address) || vouches;
        let in_time = self.now <= asked.at + STOOD_STILL.0;
        if node.machine.is_some() && knows && in_time {
            self.answer(asked);
        }
    }

    /// An answer goes back.
    pub(super) fn answer(&mut self, asked: &Asked) {
        if self.nodes[asked.to].power && self.passes(asked.to, asked.from) {
            let mac: Mac = self.nodes[asked.to].mac;
            let voice = voice(asked.address, mac, true);
            self.later(TRAVEL, Happening::Frame(asked.from, voice));
        }
    }

    pub(super) fn hear(&mut self, index: usize, voice: Voice) {
        self.feed(index, Input::Heard(voice));
    }
}

fn voice(address: IpAddr, mac: Mac, answer: bool) -> Voice {
    Voice { address, mac, link: "lan0".into(), answer }
}
