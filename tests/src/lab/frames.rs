//! How many questions and answers travel on the LAN, by whom they reach: one host, or everybody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::Context;
use herald_core::wire::{arp, ndp};
use herald_speaker::net::socket::{PacketSocket, Protocol};
use tokio::task::JoinHandle;

use super::Lab;
use super::namespace::Namespace;
use super::network::Segment;
use super::prober::FRAME;

/// Frames of ARP and NDP that were received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// Questions put to one host.
    pub questions: u64,
    /// Answers to one host.
    pub answers: u64,
    /// Frames to everybody or to a group, as the client receives them.
    pub broadcasts: u64,
    /// Frames that were lost because they came faster than they were counted.
    pub lost: u64,
}

impl Frames {
    fn add(&mut self, frame: Frame, everybodys: bool) {
        match frame {
            Frame::Question => self.questions += 1,
            Frame::Answer => self.answers += 1,
            Frame::Broadcast if everybodys => self.broadcasts += 1,
            Frame::Broadcast => {}
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Question,
    Answer,
    Broadcast,
}

/// Counts from its start until it is dropped.
#[derive(Debug)]
pub struct Count {
    began: SystemTime,
    frames: Arc<Mutex<Frames>>,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Lab {
    /// Counts what the LAN's hosts receive from now on: what goes to one host at that host, what goes to all at the
    /// client, which hears it all once.
    pub async fn count_frames(&self) -> anyhow::Result<Count> {
        let frames = Arc::new(Mutex::new(Frames::default()));
        let client = (self.client_namespace(), true);
        let nodes = self.nodes().iter().map(|node| (node.namespace(), false));
        let mut tasks = Vec::new();
        for (namespace, everybodys) in nodes.chain([client]) {
            for protocol in [Protocol::Arp, Protocol::Ndp] {
                let socket = open(namespace, protocol).await?;
                let count = count(socket, protocol, everybodys, Arc::clone(&frames));
                tasks.push(namespace.spawn(count));
            }
        }
        Ok(Count { began: SystemTime::now(), frames, tasks })
    }
}

impl Count {
    /// When it began.
    pub fn began(&self) -> SystemTime {
        self.began
    }

    /// What was counted so far; an error if some host is counted no more.
    pub async fn so_far(&mut self) -> anyhow::Result<Frames> {
        for task in &mut self.tasks {
            if task.is_finished() {
                task.await.context("the count of frames")??;
            }
        }
        Ok(*lock(&self.frames))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn lock(frames: &Mutex<Frames>) -> MutexGuard<'_, Frames> {
    frames.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn open(namespace: &Namespace, protocol: Protocol) -> anyhow::Result<PacketSocket> {
    let open = async move {
        let interface = Segment::Lan.interface();
        let index = nix::net::if_::if_nametoindex(interface)
            .with_context(|| format!("find the interface {interface}"))?;
        anyhow::Ok(PacketSocket::open(index, protocol)?)
    };
    namespace.spawn(open).await.context("open a socket that counts")?
}

async fn count(
    socket: PacketSocket,
    protocol: Protocol,
    everybodys: bool,
    frames: Arc<Mutex<Frames>>,
) -> anyhow::Result<()> {
    let mut buffer = [0; FRAME];
    let mut lost = 0;
    loop {
        let received = socket.recv(&mut buffer).await.context("receive what is counted")?;
        let bytes = &buffer[..received.length.min(FRAME)];
        let frame = match protocol {
            Protocol::Arp => of_arp(bytes),
            Protocol::Ndp => of_ndp(bytes),
        };
        let mut frames = lock(&frames);
        frames.lost += u64::from(received.lost.wrapping_sub(lost));
        lost = received.lost;
        if let Some(frame) = frame {
            frames.add(frame, everybodys);
        }
    }
}

fn of_arp(bytes: &[u8]) -> Option<Frame> {
    let message = arp::View::parse(bytes).ok()?;
    Some(match message.operation() {
        _ if message.destination().is_group() => Frame::Broadcast,
        arp::Operation::Request => Frame::Question,
        arp::Operation::Reply => Frame::Answer,
    })
}

fn of_ndp(bytes: &[u8]) -> Option<Frame> {
    let message = ndp::View::parse(bytes).ok()?;
    Some(match message.kind() {
        _ if message.ethernet_destination().is_group() => Frame::Broadcast,
        ndp::Kind::Solicitation => Frame::Question,
        ndp::Kind::Advertisement { .. } => Frame::Answer,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use herald_core::wire::Mac;

    use super::*;

    const ME: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn what_goes_to_one_host_is_told_from_what_goes_to_all() {
        let v4 = Ipv4Addr::new(192, 168, 112, 1);
        let v6: Ipv6Addr = "fd00:99::112:1".parse().expect("an address");
        let own: Ipv6Addr = "fe80::1".parse().expect("an address");
        let probe = arp::Message::probe(v4, ME, PEER).to_frame();
        let view = arp::View::parse(&probe).expect("a request");
        let answer = arp::Message::answer(&view, PEER).to_frame();
        let seen = [
            of_arp(&probe),
            of_arp(&answer),
            of_arp(&arp::Message::ask(v4, v4, ME).to_frame()),
            of_ndp(&ndp::Message::probe(v6, own, ME, Some(PEER)).to_frame()),
            of_ndp(&ndp::Message::probe(v6, own, ME, None).to_frame()),
            of_ndp(&ndp::Message::announcement(v6, ME).to_frame()),
        ];
        use Frame::{Answer, Broadcast, Question};
        let expected = [Question, Answer, Broadcast, Question, Broadcast, Broadcast];
        assert_eq!(seen, expected.map(Some));
    }

    #[test]
    fn a_broadcast_counts_once_however_many_hosts_it_reaches() {
        let mut frames = Frames::default();
        for everybodys in [false, false, true] {
            frames.add(Frame::Broadcast, everybodys);
            frames.add(Frame::Question, everybodys);
        }
        assert_eq!((frames.broadcasts, frames.questions), (1, 3));
    }
}
