//! Why a node does not announce an address.

use std::fmt;

use crate::name::PoolName;

/// What keeps a node from being a candidate (R3). The reasons are few, so they are metric labels too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unfit {
    /// There is no Node object of its name.
    UnknownNode,
    /// The Node bears the exclude label.
    Excluded,
    /// The Node's condition NetworkUnavailable is True.
    NetworkUnavailable,
    /// The Node carries the out-of-service taint.
    OutOfService,
    /// No pool in force holds the address.
    NotInAnyPool,
    /// No advertisement selects the pool.
    NoAdvertisement(PoolName),
    /// Advertisements select the pool, but none of them this Service.
    ServiceNotSelected(PoolName),
    /// Advertisements apply, but none of them selects this node.
    NodeNotSelected(PoolName),
    /// The Service has no servable endpoint.
    NoEndpoint,
    /// externalTrafficPolicy is Local, and no servable endpoint is on this node.
    NoLocalEndpoint,
    /// It satisfies some of the Services that share the address, but not all.
    NotForAllSharing,
    /// No interface that the advertisement allows is up with carrier.
    NoInterface,
    /// The node's session is not open.
    NoSession,
    /// The node is about to go.
    Leaving,
}

impl Unfit {
    /// The reason in one word, for metric labels and conditions.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::UnknownNode => "UnknownNode",
            Self::Excluded => "Excluded",
            Self::NetworkUnavailable => "NetworkUnavailable",
            Self::OutOfService => "OutOfService",
            Self::NotInAnyPool => "NotInAnyPool",
            Self::NoAdvertisement(_) => "NoAdvertisement",
            Self::ServiceNotSelected(_) => "ServiceNotSelected",
            Self::NodeNotSelected(_) => "NodeNotSelected",
            Self::NoEndpoint => "NoEndpoint",
            Self::NoLocalEndpoint => "NoLocalEndpoint",
            Self::NotForAllSharing => "NotForAllSharing",
            Self::NoInterface => "NoInterface",
            Self::NoSession => "NoSession",
            Self::Leaving => "Leaving",
        }
    }

    /// Whether it concerns the node as such, whatever the address: then the session says `leaving` (R5).
    pub const fn is_of_node(&self) -> bool {
        matches!(
            self,
            Self::UnknownNode | Self::Excluded | Self::NetworkUnavailable | Self::OutOfService
        )
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownNode => f.write_str("there is no Node of this name"),
            Self::Excluded => f.write_str(
                "the node bears the label node.kubernetes.io/exclude-from-external-load-balancers",
            ),
            Self::NetworkUnavailable => f.write_str("the node's NetworkUnavailable is True"),
            Self::OutOfService => f.write_str("the node carries the out-of-service taint"),
            Self::NotInAnyPool => f.write_str("no IPAddressPool holds the address"),
            Self::NoAdvertisement(pool) => {
                write!(f, "no L2Advertisement selects the pool \"{pool}\"")
            }
            Self::ServiceNotSelected(pool) => {
                write!(f, "no L2Advertisement of the pool \"{pool}\" selects the Service")
            }
            Self::NodeNotSelected(pool) => {
                write!(f, "no L2Advertisement of the pool \"{pool}\" selects the node")
            }
            Self::NoEndpoint => f.write_str("the Service has no endpoint that can serve"),
            Self::NoLocalEndpoint => f.write_str(
                "externalTrafficPolicy is Local and the node hosts no endpoint that can serve",
            ),
            Self::NotForAllSharing => {
                f.write_str("the node does not suit all Services that share the address")
            }
            Self::NoInterface => {
                f.write_str("no interface that the L2Advertisement allows is up with carrier")
            }
            Self::NoSession => f.write_str("the speaker's session is not open"),
            Self::Leaving => f.write_str("the speaker is about to stop"),
        }
    }
}
