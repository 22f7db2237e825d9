//! What stays the same for the whole of one run: nodes, addresses, delays, and what each speaker plans.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use herald_core::name::{LinkName, NodeName};
use herald_core::ownership::choices::Periods;
use herald_core::ownership::plan::{Candidacy, Candidates, Interfaces, Plan, Vip};
use herald_core::ownership::record::Link;
use herald_core::why::announcement::Unfit;
use herald_core::wire::Mac;

use crate::ledger::Broken;
use crate::mutations::Rule;

/// How many nodes there are.
pub(crate) const NODES: usize = 3;
const NAMES: [&str; NODES] = ["node1", "node2", "node3"];

/// One run's circumstances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// When each speaker starts, in milliseconds after the first: the phase of its renewals, and of all that follows.
    pub(crate) starts: [u64; NODES],
    /// How long each node's writes take to the API server, their outcomes back, and what its watch shows.
    pub(crate) delays: [u64; NODES],
    /// How many addresses there are.
    pub(crate) vips: u8,
    /// What operators chose for all speakers.
    pub(crate) periods: Periods,
    /// The rule that is switched off.
    pub(crate) without: Option<Rule>,
    /// Only this is looked for; where a rule is switched off or a pace is no good, other things may break as well.
    pub(crate) sought: Option<Broken>,
    /// Each node's plan, and what it is while the endpoint is away from each of the nodes.
    plans: BTreeMap<(usize, Option<usize>), Arc<Plan>>,
}

impl Setting {
    pub(crate) fn new(starts: [u64; NODES], delays: [u64; NODES], vips: u8) -> Self {
        let mut plans = BTreeMap::new();
        for me in 0..NODES {
            for away in (0..NODES).map(Some).chain([None]) {
                plans.insert((me, away), Arc::new(plan(me, away, vips)));
            }
        }
        Self {
            starts,
            delays,
            vips,
            periods: Periods::default(),
            without: None,
            sought: None,
            plans,
        }
    }

    /// The same at another pace.
    pub(crate) fn at(self, periods: Periods) -> Self {
        Self { periods, ..self }
    }

    /// The same, a rule switched off; what it prevents is looked for.
    pub(crate) fn without(self, rule: Rule) -> Self {
        Self { without: Some(rule), ..self }.seeking(rule.prevents())
    }

    /// The same, and only this is looked for.
    pub(crate) fn seeking(self, broken: Broken) -> Self {
        Self { sought: Some(broken), ..self }
    }

    /// What node `me` plans while the first address's endpoint is on every node but `away`.
    pub(crate) fn plan(&self, me: usize, away: Option<usize>) -> Arc<Plan> {
        self.plans[&(me, away)].clone()
    }

    /// The longest that anything takes to or from the API server.
    pub(crate) fn slowest(&self) -> u64 {
        self.delays.into_iter().max().unwrap_or_default()
    }

    /// The longest that two may be `Owner` (I1): so long one is sure after its last renewal was sent.
    pub(crate) fn two_owners(&self) -> u64 {
        self.periods.renew.and_a_half().0
    }

    /// The longest that two answer where something kept one from hearing the other (I1): one renew period.
    pub(crate) fn apart(&self) -> u64 {
        self.periods.renew.0 + self.round_trip()
    }

    /// A session's duration and one renew period: the longest without an answer where time alone decides (I2).
    pub(crate) fn expiry(&self) -> u64 {
        self.periods.renew.times(4).0
    }

    /// The longest until everybody has been asked for who fell silent; what the API server takes is left out (I2).
    pub(crate) fn evidence(&self) -> u64 {
        (self.periods.probe.times(4) + self.periods.ask).0
    }

    /// Two writes and what the watch shows of them.
    pub(crate) fn takeover(&self) -> u64 {
        5 * self.slowest()
    }

    /// How long after the last fault ended sessions may still open, views catch up and addresses move to who hears.
    pub(crate) fn convalescence(&self) -> u64 {
        self.periods.renew.times(10).0
    }

    /// To the API server, to another node, and a moment for frames.
    pub(crate) fn round_trip(&self) -> u64 {
        2 * self.slowest() + 20
    }

    /// All addresses.
    pub(crate) fn vips(&self) -> impl Iterator<Item = IpAddr> + use<> {
        (1..=self.vips).map(vip)
    }
}

/// The `n`th address that Services have, from 1.
pub(crate) fn vip(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))
}

/// The address of a node itself, for which its kernel answers.
pub(crate) fn host(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200 + mac(index).0[5]))
}

pub(crate) fn mac(index: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, u8::try_from(index).unwrap_or(u8::MAX)])
}

pub(crate) fn name(index: usize) -> NodeName {
    NAMES[index].into()
}

/// The node of that name.
pub(crate) fn index(node: &NodeName) -> usize {
    let at = NAMES.iter().position(|name| *name == node.as_str());
    at.expect("a node of this cluster")
}

pub(crate) fn lan() -> LinkName {
    "lan0".into()
}

pub(crate) fn link(index: usize, carrier: bool) -> Link {
    let prefix = format!("{}/24", host(index)).parse().expect("a prefix");
    Link { name: lan(), mac: mac(index), prefixes: vec![prefix], carrier, deaf: false }
}

fn plan(me: usize, away: Option<usize>, vips: u8) -> Plan {
    let candidacy = || Candidacy { score: 0, interfaces: Interfaces::Any, ready: true };
    let candidates = |away: Option<usize>| {
        let nodes = (0..NODES).filter(|node| Some(*node) != away);
        let nodes = nodes.map(|node| (name(node), candidacy())).collect();
        Arc::new(Candidates { nodes, scored: false })
    };
    let vip = |n: u8| {
        let away = away.filter(|_| n == 1);
        let unfit = (away == Some(me)).then_some(Unfit::NoLocalEndpoint);
        let siblings: Arc<[IpAddr]> = Arc::new([]);
        let vip = Vip {
            services: Vec::new(),
            first: vip(n),
            siblings,
            candidates: candidates(away),
            unfit,
        };
        (self::vip(n), vip)
    };
    Plan {
        vips: (1..=vips).map(vip).collect(),
        takes_part: true,
        node_uid: Some("uid".into()),
        node_unfit: None,
    }
}
