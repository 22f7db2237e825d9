//! What the cluster says that decides who may announce: nodes, Services with addresses, endpoints, advertisements.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{Advertisement, Pool, RefusedPools};
use crate::label::Labels;
use crate::name::{NodeName, PoolName, ServiceId};

/// Everything that [`super::eligibility::plan`] looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// All Nodes.
    pub nodes: BTreeMap<NodeName, Arc<Node>>,
    /// The pools in force, none overlapping another.
    pub pools: Vec<Arc<Pool>>,
    /// Pools that were in force a moment ago. What was answered by them is answered on where no pool in force holds it, until
    /// it is clear what the pools are to be: see [`crate::config::SETTLING`].
    pub former_pools: Vec<Arc<Pool>>,
    /// Pools that exist and of which no version is in force. What they are known to hold, or a Service says to have of them,
    /// is answered for, so that a broken object silences nothing that was answered before.
    pub refused_pools: RefusedPools,
    /// The advertisements in force.
    pub advertisements: Vec<Arc<Advertisement>>,
    /// The Services that are ours and have addresses.
    pub services: Vec<Served>,
    /// Whether nodes with the exclude label announce all the same (`--ignore-exclude-lb`).
    pub ignore_exclude_label: bool,
}

/// A Node, as far as announcing goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its uid, by which its session is garbage-collected with it.
    pub uid: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// Whether it bears `node.kubernetes.io/exclude-from-external-load-balancers`, whatever the value.
    pub excluded: bool,
    /// Whether its condition NetworkUnavailable is True.
    pub network_unavailable: bool,
    /// Whether it carries the taint `node.kubernetes.io/out-of-service`.
    pub out_of_service: bool,
    /// Whether its condition Ready is True.
    pub ready: bool,
}

/// A Service of type LoadBalancer of our class, with the addresses in its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub id: ServiceId,
    /// Its uid, for Events.
    pub uid: Arc<str>,
    /// When it was created, in seconds since 1970: of several that share an address the oldest may have to decide.
    pub created: i64,
    /// Its labels, which advertisements select by.
    pub labels: Labels,
    /// The addresses in its status, in that order.
    pub addresses: Vec<IpAddr>,
    /// The pool that they are from, by the Service's own annotation.
    pub recorded_pool: Option<PoolName>,
    /// Whether externalTrafficPolicy is Local.
    pub local: bool,
}

/// A Service, and what can serve it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The Service.
    pub service: Arc<Service>,
    /// What all its EndpointSlices say.
    pub endpoints: Arc<Endpoints>,
}

/// What can serve a Service: an endpoint that is ready, or one that terminates but still serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Whether there is any at all, on a node or without one.
    pub any: bool,
    /// The nodes that host one.
    pub nodes: BTreeSet<NodeName>,
}

impl Endpoints {
    /// Adds what another EndpointSlice of the same Service says.
    pub fn merge(&mut self, other: &Self) {
        self.any |= other.any;
        self.nodes.extend(other.nodes.iter().cloned());
    }
}
