//! What the client sees of some addresses while something happens: who answers it, and how its new connections go.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use futures::future::try_join_all;
use herald_core::wire::Mac;
use herald_tests::lab::observation::{Ask, Observation};
use herald_tests::lab::prober::Prober;
use herald_tests::lab::steady::{Attempts, Steady};
use herald_tests::lab::wait::await_condition;

use super::stage::{SETTLE, Stage};

/// Between two questions for one address.
pub(crate) const ASK_PERIOD: Duration = Duration::from_millis(10);
/// Between two new connections to one address.
pub(crate) const CONNECT_PERIOD: Duration = Duration::from_millis(20);
/// How long a connection may take to be made, and again to be answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// The client at work.
pub(crate) struct Watch {
    prober: Prober,
    addresses: Vec<IpAddr>,
    clients: BTreeMap<IpAddr, Steady>,
}

impl Watch {
    /// Begins to ask for `addresses`, and to connect to `servers`.
    pub(crate) async fn begin(
        stage: &Stage<'_>,
        addresses: &[IpAddr],
        servers: &[SocketAddr],
    ) -> anyhow::Result<Self> {
        let prober = stage.lab.probe(addresses, ASK_PERIOD).await?;
        let connect = |server: &SocketAddr| {
            (server.ip(), stage.lab.connect_steadily(*server, CONNECT_PERIOD, PATIENCE))
        };
        let clients = servers.iter().map(connect).collect();
        Ok(Self { prober, addresses: addresses.to_vec(), clients })
    }

    /// Waits until each address was asked for `count` times more.
    pub(crate) async fn asked(&self, count: usize) -> anyhow::Result<()> {
        let asks = |address: &IpAddr| Ok(self.prober.seen(*address)?.asks.len());
        let before = self.addresses.iter().map(asks).collect::<anyhow::Result<Vec<_>>>()?;
        for (address, before) in self.addresses.iter().zip(before) {
            let what = format!("{address} is asked for {count} times");
            await_condition(&what, SETTLE, async || {
                let asked = asks(address)? - before;
                ensure!(asked >= count, "{asked} questions");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until another than `former` answers for each of `addresses`.
    pub(crate) async fn moved(&self, addresses: &[IpAddr], former: Mac) -> anyhow::Result<()> {
        for &address in addresses {
            let what = format!("another node answers for {address}");
            await_condition(&what, SETTLE, async || {
                let owner = self.prober.seen(address)?.owner();
                ensure!(owner.is_some_and(|mac| mac != former), "{owner:?} answered last");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Ends the client's work, and tells all of it. `excused` questions may have been answered by two nodes.
    pub(crate) async fn end(self, stage: &Stage<'_>, excused: usize) -> anyhow::Result<Seen> {
        // All at once, as each waits for its last connections.
        let finish = self
            .clients
            .into_iter()
            .map(async |(address, client)| anyhow::Ok((address, client.finish().await?)));
        let attempts = try_join_all(finish).await?.into_iter().collect();
        let seen = Seen { observations: self.prober.finish().await?, attempts };
        let mut asks = stage.asks.borrow_mut();
        asks.excused += excused;
        for observation in seen.observations.values() {
            asks.all += observation.asks.len();
            asks.doubled += observation.answered_by_several().len();
        }
        drop(asks);
        Ok(seen)
    }
}

/// What a client saw.
pub(crate) struct Seen {
    pub(crate) observations: BTreeMap<IpAddr, Observation>,
    pub(crate) attempts: BTreeMap<IpAddr, Attempts>,
}

/// How new connections went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connections {
    /// Served.
    pub(crate) served: usize,
    /// Refused, or answered by nobody.
    pub(crate) lost: usize,
    /// Made, and not served all the same.
    pub(crate) broken: usize,
}

impl Seen {
    /// The questions for `addresses`.
    pub(crate) fn asked(&self, addresses: &[IpAddr]) -> usize {
        self.of(addresses).map(|seen| seen.asks.len()).sum()
    }

    /// Those of them that nobody answered.
    pub(crate) fn unanswered(&self, addresses: &[IpAddr]) -> usize {
        self.of(addresses).map(Observation::unanswered).sum()
    }

    /// Those of them that several nodes answered, for the address that has most.
    pub(crate) fn most_doubled(&self, addresses: &[IpAddr]) -> usize {
        self.of(addresses).map(|seen| seen.answered_by_several().len()).max().unwrap_or_default()
    }

    /// The names of the nodes that answered for `address`, in order, each time that it changed. Questions that several
    /// answered are counted elsewhere.
    pub(crate) fn nodes(&self, stage: &Stage<'_>, address: IpAddr) -> anyhow::Result<Vec<String>> {
        let seen = self.observations.get(&address).map(owners).unwrap_or_default();
        seen.into_iter().map(|mac| Ok(stage.node_at(mac)?.name().to_owned())).collect()
    }

    /// The longest time without an answer for `address`; if nobody was asked, all the time.
    pub(crate) fn gap(&self, address: IpAddr) -> Duration {
        self.observations.get(&address).map_or(Duration::MAX, Observation::longest_gap)
    }

    /// The longest time in which no new connection to `address` was served; if none was made, all the time.
    pub(crate) fn http_gap(&self, address: IpAddr) -> Duration {
        self.attempts.get(&address).map_or(Duration::MAX, Attempts::unserved)
    }

    /// How the new connections to all addresses went.
    pub(crate) fn connections(&self) -> Connections {
        let mut all = Connections::default();
        for attempts in self.attempts.values() {
            let (served, lost) = (attempts.served(), attempts.refused() + attempts.unanswered());
            all.served += served;
            all.lost += lost;
            all.broken += attempts.0.len() - served - lost;
        }
        all
    }

    fn of(&self, addresses: &[IpAddr]) -> impl Iterator<Item = &Observation> {
        addresses.iter().filter_map(|address| self.observations.get(address))
    }
}

/// Who alone answered a question, each time that it changed.
fn owners(seen: &Observation) -> Vec<Mac> {
    let alone = |ask: &Ask| {
        let first = ask.answers.first()?.mac;
        ask.answers.iter().all(|answer| answer.mac == first).then_some(first)
    };
    let mut owners: Vec<_> = seen.asks.iter().filter_map(alone).collect();
    owners.dedup();
    owners
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use herald_tests::lab::observation::Answer as Answered;

    #[test]
    fn a_question_that_two_answer_is_no_move() {
        let [a, b] = [Mac([2, 0, 0, 0, 0, 0xa]), Mac([2, 0, 0, 0, 0, 0xb])];
        let at = SystemTime::UNIX_EPOCH;
        let observed = |answers: &[&[Mac]]| {
            let answer = |&mac: &Mac| Answered { mac, at };
            let ask = |macs: &&[Mac]| Ask { at, answers: macs.iter().map(answer).collect() };
            Observation { asks: answers.iter().map(ask).collect(), ..Observation::new(at) }
        };
        assert_eq!(owners(&observed(&[&[a], &[], &[b, a], &[b, b]])), [a, b]);
        assert_eq!(owners(&observed(&[&[a], &[b], &[a]])), [a, b, a]);
    }
}
