//! A host that asks, again and again, who has an address, and records every answer and announcement.
//!
//! Each question has a sender address of its own, so that an answer tells which question it answers, however late it
//! comes. The addresses belong to nobody; answers find their way by the hardware address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use herald_core::wire::{Mac, arp, ndp};
use herald_speaker::net::socket::{PacketSocket, Protocol};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::namespace::Namespace;
use super::network::Segment;
use super::observation::{Announcement, Answer, Ask, Form, Observation};

/// Sender addresses, used in turn: an answer that is later than this many questions is taken for another's.
const SENDERS: usize = 20_000;
/// The first sender address: the LAN's prefix, where no lab puts a host or a VIP.
const FIRST_SENDER_V4: Ipv4Addr = Ipv4Addr::new(192, 168, 160, 0);
const FIRST_SENDER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0xa5a5, 0, 0);
/// Questions for one address that a prober keeps: at one each 10 ms, two hours and a half.
const MOST_ASKS: usize = 1 << 20;
/// How long after the last question an answer is waited for.
const LAST_ANSWERS: Duration = Duration::from_millis(200);
/// No frame of either protocol that matters is longer.
pub(super) const FRAME: usize = 256;

type Observations = Arc<Mutex<BTreeMap<IpAddr, Observation>>>;

/// A running prober. Dropped, it stops.
#[derive(Debug)]
pub struct Prober {
    observations: Observations,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Prober {
    /// Asks for each of `addresses` every `period`, from host number `host` of the LAN, which lives in `namespace`.
    ///
    /// It listens when this returns, and asks its first questions at once.
    pub async fn start(
        namespace: &Namespace,
        host: u8,
        addresses: &[IpAddr],
        period: Duration,
    ) -> anyhow::Result<Self> {
        let now = SystemTime::now();
        let fresh = addresses.iter().map(|&address| (address, Observation::new(now)));
        let observations: Observations = Arc::new(Mutex::new(fresh.collect()));
        let wire = namespace
            .spawn(async move { Wire::open(Segment::Lan.interface(), Segment::Lan.mac(host)) })
            .await
            .context("open the prober's sockets")??;
        let (stop, stopped) = oneshot::channel();
        let task = namespace.spawn(probe(wire, Arc::clone(&observations), period, stopped));
        Ok(Self { observations, stop: Some(stop), task })
    }

    /// What was seen of `address` so far; an error if it is not asked for.
    pub fn seen(&self, address: IpAddr) -> anyhow::Result<Observation> {
        let found = lock(&self.observations).get(&address).cloned();
        found.with_context(|| format!("the prober does not ask for {address}"))
    }

    /// Stops asking, waits for late answers, and returns what was seen of each address.
    pub async fn finish(mut self) -> anyhow::Result<BTreeMap<IpAddr, Observation>> {
        if let Some(stop) = self.stop.take() {
            // A prober that has failed no longer listens; why it failed comes next.
            stop.send(()).ok();
        }
        (&mut self.task).await.context("the prober's task")??;
        Ok(lock(&self.observations).clone())
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(observations: &Observations) -> MutexGuard<'_, BTreeMap<IpAddr, Observation>> {
    observations.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks and listens until `stopped`, and listens a little longer.
async fn probe(
    wire: Wire,
    observations: Observations,
    period: Duration,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let asking = async {
        let mut ticks = interval(period);
        // A host that was late asks later; it does not make up for it by a burst.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            wire.ask(&observations)?;
        }
    };
    tokio::select! {
        failed = asking => return failed,
        failed = wire.listen(&observations) => return failed,
        // The sender's end alone, as on a drop, is as good.
        _ = stopped => {}
    }
    match timeout(LAST_ANSWERS, wire.listen(&observations)).await {
        Ok(failed) => failed,
        Err(_) => Ok(()),
    }
}

/// The prober's sockets on its link.
struct Wire {
    mac: Mac,
    arp: PacketSocket,
    ndp: PacketSocket,
}

impl Wire {
    fn open(interface: &str, mac: Mac) -> anyhow::Result<Self> {
        let index = nix::net::if_::if_nametoindex(interface)
            .with_context(|| format!("find the interface {interface}"))?;
        let arp = PacketSocket::open(index, Protocol::Arp)?;
        let ndp = PacketSocket::open(index, Protocol::Ndp)?;
        Ok(Self { mac, arp, ndp })
    }

    /// One question for each address.
    fn ask(&self, observations: &Observations) -> anyhow::Result<()> {
        for (&address, observation) in lock(observations).iter_mut() {
            let number = observation.asks.len();
            ensure!(number < MOST_ASKS, "{number} questions for {address} are too many to keep");
            let at = SystemTime::now();
            let sent = match (address, sender(address, number)) {
                (IpAddr::V4(target), IpAddr::V4(sender)) => {
                    self.arp.try_send(&arp::Message::ask(target, sender, self.mac).to_frame())
                }
                (IpAddr::V6(target), IpAddr::V6(sender)) => {
                    self.ndp.try_send(&ndp::Message::ask(target, sender, self.mac).to_frame())
                }
                _ => Ok(()),
            };
            sent.with_context(|| format!("ask for {address}"))?;
            observation.asks.push(Ask { at, answers: Vec::new() });
            observation.ended = at;
        }
        Ok(())
    }

    /// Records what comes, until a socket fails.
    async fn listen(&self, observations: &Observations) -> anyhow::Result<()> {
        let (mut arp_frame, mut ndp_frame) = ([0; FRAME], [0; FRAME]);
        loop {
            let (received, said) = tokio::select! {
                received = self.arp.recv(&mut arp_frame) => {
                    let received = received.context("receive ARP")?;
                    (received, said_by_arp(&arp_frame[..received.length.min(FRAME)]))
                }
                received = self.ndp.recv(&mut ndp_frame) => {
                    let received = received.context("receive NDP")?;
                    (received, said_by_ndp(&ndp_frame[..received.length.min(FRAME)]))
                }
            };
            ensure!(received.lost == 0, "the prober lost {} frames", received.lost);
            if let Some(said) = said {
                record(&mut lock(observations), said, received.at);
            }
        }
    }
}

/// What a frame says: that `address` is at `mac`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) address: IpAddr,
    pub(super) mac: Mac,
    pub(super) to: To,
}

/// Whom it is said to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// The host that asked from this address.
    Asker(IpAddr),
    /// Everybody.
    All(Form),
}

pub(super) fn said_by_arp(frame: &[u8]) -> Option<Said> {
    let message = arp::View::parse(frame).ok()?;
    let gratuitous = message.sender() == message.target();
    let to = match message.operation() {
        arp::Operation::Request if gratuitous => To::All(Form::Request),
        arp::Operation::Reply if gratuitous => To::All(Form::Reply),
        arp::Operation::Reply => To::Asker(message.target().into()),
        arp::Operation::Request => return None,
    };
    Some(Said { address: message.sender().into(), mac: message.sender_mac(), to })
}

fn said_by_ndp(frame: &[u8]) -> Option<Said> {
    let message = ndp::View::parse(frame).ok()?;
    let to = match message.kind() {
        ndp::Kind::Advertisement { solicited: true, .. } => To::Asker(message.destination().into()),
        ndp::Kind::Advertisement { .. } => To::All(Form::Advertisement),
        ndp::Kind::Solicitation => return None,
    };
    let mac = message.link_layer().unwrap_or(message.ethernet_source());
    Some(Said { address: message.target().into(), mac, to })
}

fn record(observations: &mut BTreeMap<IpAddr, Observation>, said: Said, at: SystemTime) {
    let Said { address, mac, to } = said;
    let Some(observation) = observations.get_mut(&address) else { return };
    match to {
        To::All(form) => observation.announcements.push(Announcement { mac, at, form }),
        To::Asker(asker) => {
            let asked = observation.asks.len();
            if let Some(ask) = asked_by(asker, asked).and_then(|at| observation.asks.get_mut(at)) {
                ask.answers.push(Answer { mac, at });
            }
        }
    }
}

/// The sender address of question `number` for `address`, of the same family.
fn sender(address: IpAddr, number: usize) -> IpAddr {
    let turn = u32::try_from(number % SENDERS).expect("less than SENDERS");
    match address {
        IpAddr::V4(_) => Ipv4Addr::from_bits(FIRST_SENDER_V4.to_bits() + turn).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(FIRST_SENDER_V6.to_bits() + u128::from(turn)).into(),
    }
}

/// The latest of the first `asked` questions whose sender was `asker`.
fn asked_by(asker: IpAddr, asked: usize) -> Option<usize> {
    let turn = match asker {
        IpAddr::V4(v4) => u128::from(v4.to_bits().checked_sub(FIRST_SENDER_V4.to_bits())?),
        IpAddr::V6(v6) => v6.to_bits().checked_sub(FIRST_SENDER_V6.to_bits())?,
    };
    let turn = usize::try_from(turn).ok().filter(|&turn| turn < SENDERS)?;
    let rounds = asked.checked_sub(turn + 1)? / SENDERS;
    Some(turn + rounds * SENDERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OWNER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn a_sender_tells_the_latest_question_it_was_used_for() {
        for address in ["192.168.112.1", "fd00:99::112:1"] {
            let address = address.parse().expect("an address");
            for number in [0, 1, SENDERS - 1, SENDERS, 3 * SENDERS + 7] {
                assert_eq!(asked_by(sender(address, number), number + 1), Some(number));
            }
            assert_eq!(asked_by(sender(address, 5), 5), None, "it was not asked yet");
            let reused = asked_by(sender(address, 5), SENDERS + 6);
            assert_eq!(reused, Some(SENDERS + 5), "its second use is the latest");
        }
        assert_eq!(asked_by("192.168.99.200".parse().expect("an address"), 100), None);
    }

    #[test]
    fn an_answer_counts_for_the_question_that_it_answers() {
        let vip: Ipv4Addr = "192.168.112.1".parse().expect("an address");
        let mut seen = BTreeMap::from([(vip.into(), Observation::new(SystemTime::UNIX_EPOCH))]);
        let observation = seen.get_mut(&IpAddr::V4(vip)).expect("just put there");
        for _ in 0..3 {
            let at = SystemTime::UNIX_EPOCH;
            observation.asks.push(Ask { at, answers: Vec::new() });
        }
        let IpAddr::V4(second) = sender(vip.into(), 1) else { unreachable!("same family") };
        let asked = arp::Message::ask(vip, second, ME).to_frame();
        let view = arp::View::parse(&asked).expect("a request");
        let answer = arp::Message::answer(&view, OWNER).to_frame();
        assert_eq!(said_by_arp(&asked), None, "a question tells nothing");
        let said = said_by_arp(&answer).expect("an answer");
        record(&mut seen, said, SystemTime::UNIX_EPOCH);
        let counts: Vec<_> = seen[&vip.into()].asks.iter().map(|ask| ask.answers.len()).collect();
        assert_eq!(counts, [0, 1, 0]);
    }

    #[test]
    fn announcements_are_told_from_answers() {
        let v4: Ipv4Addr = "192.168.112.1".parse().expect("an address");
        let v6: Ipv6Addr = "fd00:99::112:1".parse().expect("an address");
        let request = arp::Message::gratuitous(arp::Operation::Request, v4, OWNER).to_frame();
        let reply = arp::Message::gratuitous(arp::Operation::Reply, v4, OWNER).to_frame();
        let advertisement = ndp::Message::announcement(v6, OWNER).to_frame();
        let forms: Vec<_> =
            [said_by_arp(&request), said_by_arp(&reply), said_by_ndp(&advertisement)]
                .into_iter()
                .map(|said| said.expect("an announcement").to)
                .collect();
        let all = [Form::Request, Form::Reply, Form::Advertisement].map(To::All);
        assert_eq!(forms, all);
    }
}
