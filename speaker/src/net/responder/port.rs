//! One protocol on one link: its socket, and the task that answers and announces by it.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use herald_core::wire::{Mac, arp, ndp};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::debug;

use super::super::count::{AddressCounters, Dropped, increment};
use super::super::socket::{OpenError, PacketSocket, Protocol, Received};
use super::super::table::{Heard, Place};
use super::Shared;

/// Announcements that wait for one socket, and as many questions. When it is full, further ones are dropped and counted:
/// an announcement is repeated, and a gratuitous burst for more addresses than this is paced by its caller.
const OUTBOX: usize = 4096;
/// Longer than any frame of the two protocols that makes sense; the NDP filter hands over no more.
const FRAME: usize = 2048;
/// After an error on receiving, so that one that stays does not spin.
const AFTER_ERROR: Duration = Duration::from_millis(20);

/// `address` is here; each of `gateways` is asked for in its name.
#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) address: IpAddr,
    pub(super) gateways: Vec<IpAddr>,
}

/// Who has `address`? `from` is where an answer for IPv6 comes to.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) address: IpAddr,
    pub(super) from: Ipv6Addr,
    pub(super) host: Option<Mac>,
}

/// The handle of the task. Dropping it ends the task and closes the socket.
#[derive(Debug)]
pub(super) struct Port {
    questions: mpsc::Sender<Question>,
    announcements: mpsc::Sender<Announcement>,
    task: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Port {
    pub(super) fn open(
        shared: Arc<Shared>,
        index: u32,
        protocol: Protocol,
        place: Place,
    ) -> Result<Self, OpenError> {
        let socket = PacketSocket::open(index, protocol)?;
        let (questions, asked) = mpsc::channel(OUTBOX);
        let (announcements, announced) = mpsc::channel(OUTBOX);
        let worker = Worker { shared, socket, protocol, place, lost: 0 };
        let task = tokio::spawn(worker.run(asked, announced));
        Ok(Self { questions, announcements, task })
    }

    pub(super) fn lives(&self) -> bool {
        !self.task.is_finished()
    }

    /// Queues `question`: before all announcements, for its answer is waited for.
    ///
    /// # Errors
    /// When the queue is full, or the task has ended.
    pub(super) fn ask(&self, question: Question) -> Result<(), ()> {
        self.questions.try_send(question).map_err(|_| ())
    }

    /// Queues `announcement`.
    ///
    /// # Errors
    /// When the queue is full, or the task has ended.
    pub(super) fn announce(&self, announcement: Announcement) -> Result<(), ()> {
        self.announcements.try_send(announcement).map_err(|_| ())
    }
}

struct Worker {
    shared: Arc<Shared>,
    socket: PacketSocket,
    protocol: Protocol,
    place: Place,
    lost: u32,
}

impl Worker {
    async fn run(
        mut self,
        mut questions: mpsc::Receiver<Question>,
        mut announcements: mpsc::Receiver<Announcement>,
    ) {
        let mut frame = [0; FRAME];
        loop {
            tokio::select! {
                biased;
                question = questions.recv() => match question {
                    Some(question) => self.put(&question).await,
                    None => return,
                },
                received = self.socket.recv(&mut frame) => match received {
                    Ok(received) => self.receive(&frame, received),
                    Err(error) => {
                        // The link went down; when it is up again, frames come again.
                        debug!(link = %self.place.link, protocol = ?self.protocol, %error, "no frames");
                        self.shared.counts.drop_one(Dropped::ReceiveFailed);
                        tokio::time::sleep(AFTER_ERROR).await;
                    }
                },
                announcement = announcements.recv() => match announcement {
                    Some(announcement) => self.announce(&announcement).await,
                    None => return,
                },
            }
        }
    }

    fn receive(&mut self, buffer: &[u8], received: Received) {
        let lost = received.lost.wrapping_sub(self.lost);
        self.lost = received.lost;
        if lost > 0 {
            self.shared.counts.drop_many(Dropped::Lost, lost.into());
            self.shared.lose(&self.place.link);
        }
        let frame = &buffer[..received.length.min(buffer.len())];
        let claim = {
            let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
            let judgement = table.judge(self.protocol, &self.place, frame);
            let outcome = judgement.reply.and_then(|reply| {
                self.may_answer(received.at)?;
                self.send(&reply.frame)?;
                if let Some(counters) = &reply.counters {
                    increment(&counters.responses_sent);
                }
                Ok(())
            });
            if let Err(why) = outcome {
                self.shared.counts.drop_one(why);
            }
            judgement.claim
        };
        if let Some((address, mac, how)) = claim {
            let link = self.place.link.clone();
            let heard = Heard { address, mac, link, how };
            if self.shared.heard.try_send(heard).is_err() {
                self.shared.counts.drop_one(Dropped::HeardFull);
                self.shared.lose(&self.place.link);
            }
        }
    }

    /// Whether a question that arrived at `at` may still be answered. A clock set back since makes it young.
    fn may_answer(&self, at: SystemTime) -> Result<(), Dropped> {
        let age = SystemTime::now().duration_since(at).unwrap_or(Duration::ZERO);
        if age > self.shared.settings.answer_within {
            Err(Dropped::Late)
        } else if self.shared.is_stalled() {
            Err(Dropped::Stalled)
        } else {
            Ok(())
        }
    }

    fn send(&self, frame: &[u8]) -> Result<(), Dropped> {
        self.socket.try_send(frame).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Dropped::NoRoom,
            _ => Dropped::SendFailed,
        })
    }

    async fn put(&self, question: &Question) {
        let Question { address, from, host } = *question;
        let frame = probe(address, from, self.place.mac, host);
        if let Err(error) = self.socket.send(&frame).await {
            self.fail(question, &error);
            self.shared.lose(&self.place.link);
        }
    }

    async fn announce(&self, announcement: &Announcement) {
        let Announcement { address, gateways } = announcement;
        if let Err(error) = self.try_to_announce(*address, gateways).await {
            self.fail(announcement, &error);
        }
    }

    fn fail(&self, unsent: &dyn Debug, error: &io::Error) {
        debug!(link = %self.place.link, ?unsent, %error, "not sent");
        self.shared.counts.drop_one(Dropped::SendFailed);
    }

    async fn try_to_announce(&self, address: IpAddr, gateways: &[IpAddr]) -> io::Result<()> {
        for frame in announcements(address, self.place.mac) {
            let count = |counters: &AddressCounters| increment(&counters.gratuitous_sent);
            self.send_while_answered(address, &frame, count).await?;
        }
        for gateway in gateways {
            if let Some(frame) = question_of(address, *gateway, self.place.mac) {
                self.send_while_answered(address, &frame, |_| ()).await?;
            }
        }
        Ok(())
    }

    /// Sends `frame` when there is room, unless `address` is by then no longer answered for here, or the speaker's loop
    /// stands still: another may have the address by now.
    async fn send_while_answered(
        &self,
        address: IpAddr,
        frame: &[u8],
        count: impl Fn(&AddressCounters),
    ) -> io::Result<()> {
        self.socket
            .when_writable(|socket| {
                let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
                if self.shared.is_stalled() {
                    self.shared.counts.drop_one(Dropped::Stalled);
                    return Ok(());
                }
                match table.answer(address, &self.place.link) {
                    Ok(answer) => socket.try_send(frame).map(|()| count(&answer.counters)),
                    Err(_) => Ok(()),
                }
            })
            .await
    }
}

/// The frames that tell all that `address` is at `mac`.
fn announcements(address: IpAddr, mac: Mac) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(v4) => [arp::Operation::Request, arp::Operation::Reply]
            .map(|operation| arp::Message::gratuitous(operation, v4, mac).to_frame().to_vec())
            .into(),
        IpAddr::V6(v6) => vec![ndp::Message::announcement(v6, mac).to_frame()],
    }
}

/// The ordinary question for `gateway` in the name of `address`; there is none across families.
fn question_of(address: IpAddr, gateway: IpAddr, mac: Mac) -> Option<Vec<u8>> {
    match (address, gateway) {
        (IpAddr::V4(address), IpAddr::V4(gateway)) => {
            Some(arp::Message::ask(gateway, address, mac).to_frame().to_vec())
        }
        (IpAddr::V6(address), IpAddr::V6(gateway)) => {
            Some(ndp::Message::ask(gateway, address, mac).to_frame())
        }
        _ => None,
    }
}

/// The question who has `address` that changes nobody's cache.
fn probe(address: IpAddr, from: Ipv6Addr, mac: Mac, host: Option<Mac>) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => {
            let destination = host.unwrap_or(Mac::BROADCAST);
            arp::Message::probe(v4, mac, destination).to_frame().to_vec()
        }
        IpAddr::V6(v6) => ndp::Message::probe(v6, from, mac, host).to_frame(),
    }
}
