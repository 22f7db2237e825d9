//! What a Service asks for and what it has, free of Kubernetes' shapes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::Family;
use crate::label::Labels;
use crate::name::{PoolName, ServiceId};
use crate::port::Port;
use crate::why::address::Why;

/// A Service of ours, as the planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Which Service.
    pub id: ServiceId,
    /// When the object was created: decides who keeps what two of them hold.
    pub age: Age,
    /// The Service's own labels, which pinned pools select by.
    pub labels: Labels,
    /// The addresses it needs, or why none can be given as the Service stands; what it holds is then taken from it.
    pub families: Result<Families, Why>,
    /// What it asks for by name, or why that contradicts itself; what it holds then stays.
    pub wants: Result<Wants, Why>,
    /// With whom it may share; `None` shares with nobody.
    pub sharing: Option<Sharing>,
    /// Its ports: no two Services on one address may have the same.
    pub ports: BTreeSet<Port>,
    /// The addresses in its status, in the status' order, without duplicates.
    pub held: Vec<IpAddr>,
    /// The pool that its annotation says they came from.
    pub recorded_pool: Option<PoolName>,
    /// Whether it was given what it holds under other terms of sharing than today's: another key, backend or ports. It
    /// then yields to those who hold the same under the terms that they have.
    pub changed: bool,
}

/// The order in which Services were created; lesser is older.
///
/// Two controllers that see the same objects see the same order, whatever they saw first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    /// Seconds since 1970 at which the object was created; 0 when it does not say.
    pub created_s: i64,
    /// Its UID, which separates objects of one second.
    pub uid: Arc<str>,
}

/// Which families of addresses a Service needs. All of them always come from one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Families {
    /// One address of this family.
    Single(Family),
    /// One of each, or nothing.
    RequireDual,
    /// One of each where a pool can give both, else one of `primary`, else one of the other.
    PreferDual {
        /// The first of the Service's `ipFamilies`.
        primary: Family,
    },
}

impl Families {
    /// Whether an address of `family` has a place among them.
    pub fn admit(self, family: Family) -> bool {
        match self {
            Self::Single(single) => single == family,
            Self::RequireDual | Self::PreferDual { .. } => true,
        }
    }

    /// The families that a request for exact addresses has to name, v4 first.
    pub const fn all(self) -> &'static [Family] {
        match self {
            Self::Single(Family::V4) => &[Family::V4],
            Self::Single(Family::V6) => &[Family::V6],
            Self::RequireDual | Self::PreferDual { .. } => &[Family::V4, Family::V6],
        }
    }

    /// Whether a Service may be left with exactly these addresses: no family twice, none without a place, none missing
    /// but for the second of `PreferDual`.
    pub fn satisfied_by(self, addresses: &[IpAddr]) -> bool {
        let mut count = [0_usize; 2];
        for address in addresses {
            count[Family::of(*address) as usize] += 1;
        }
        match self {
            Self::Single(Family::V4) => count == [1, 0],
            Self::Single(Family::V6) => count == [0, 1],
            Self::RequireDual => count == [1, 1],
            Self::PreferDual { .. } => matches!(count, [1, 1] | [1, 0] | [0, 1]),
        }
    }
}

/// What a Service asks for by name. Both empty: any address of any pool that gives on its own account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Only from this pool.
    pub pool: Option<PoolName>,
    /// Exactly these addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
}

/// With whom a Service shares its address: with those whose `Sharing` is equal, as long as no port clashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sharing {
    /// The key that the user chose; never empty.
    pub key: Arc<str>,
    /// The canonical selector for `externalTrafficPolicy: Local`, because the node that answers must host the endpoints
    /// of every Service on the address; empty without a selector, and for `Cluster`.
    pub backend: Arc<str>,
}
