//! What operators configured, as meant: pools and advertisements, free of Kubernetes' shapes.
//!
//! ```text
//! objects ──parse──▶ offers ──settle──▶ the configuration in force, and a problem for each object that is not
//!                               ▲   what was in force before
//! ```

mod advertised;
mod refusal;
mod settle;

pub use advertised::{BgpAdvertisement, Unadvertised, unadvertised};
pub use refusal::{EntryFault, Refusal, SelectorFault};
pub use settle::{
    Configuration, InForce, Object, Offer, Offers, Problem, RefusedPool, RefusedPools,
    refused_pool_of, settle,
};

use std::collections::BTreeSet;
use std::time::Duration;

use crate::address::AddressRange;
use crate::label::{Labels, Selector};
use crate::name::{AdvertisementName, LinkName, PoolName};

/// How long the pools in force must have been the same before an address that none of them holds is taken from its Service,
/// and before nobody answers for it any more: a pool that is renamed, split or restored comes in several writes. Nothing
/// else waits for it.
pub const SETTLING: Duration = Duration::from_secs(1);

/// An IPAddressPool: where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// The object's own labels, which advertisements select by.
    pub labels: Labels,
    /// The ranges in the order the user listed them: addresses are given out in this order, lowest first in each.
    /// Never empty, and no two overlap.
    pub ranges: Vec<AddressRange>,
    /// Whether a Service that names neither pool nor address may be served from it.
    pub auto_assign: bool,
    /// Whether IPv4 addresses that end in .0 or .255 are left out.
    pub avoid_buggy: bool,
    /// Whom the pool serves; `None` is everybody.
    pub allocation: Option<ServiceAllocation>,
}

/// `spec.serviceAllocation`: the pool is pinned to some Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAllocation {
    /// Lower comes first; 0 comes last.
    pub priority: i32,
    /// Namespaces by name.
    pub namespaces: BTreeSet<String>,
    /// Namespaces by label.
    pub namespace_selectors: Vec<Selector>,
    /// Services by label.
    pub service_selectors: Vec<Selector>,
}

/// An L2Advertisement: which nodes answer for which pools' addresses, on which interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Its name.
    pub name: AdvertisementName,
    /// Pools by name. With `pool_selectors` a union; both empty is every pool.
    pub pools: BTreeSet<PoolName>,
    /// Pools by label.
    pub pool_selectors: Vec<Selector>,
    /// Nodes that may answer; empty is every node.
    pub node_selectors: Vec<Selector>,
    /// Services it is for; empty is every Service.
    pub service_selectors: Vec<Selector>,
    /// Interfaces it may be answered on; empty is every interface.
    pub interfaces: BTreeSet<LinkName>,
    /// Soft preferences: a node's score is the sum of the weights of those that select it.
    pub preferred_nodes: Vec<Preference>,
}

/// One of an advertisement's `preferredNodeSelectors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// 1 to 100.
    pub weight: u32,
    /// The nodes it is for; an empty selector is every node.
    pub selector: Selector,
}
