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
    /// No such interface has the address on-link, and another node that may answer has one.
    OffLink,
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
            Self::OffLink => "OffLink",
            Self::NoSession => "NoSession",
            Self::Leaving => "Leaving",
        }
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
            Self::OffLink => {
                f.write_str("no such interface has the address on-link, and another node's has")
            }
            Self::NoSession => f.write_str("the speaker's session is not open"),
            Self::Leaving => f.write_str("the speaker is about to stop"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_and_a_sentence_of_its_own_and_names_its_pool() {
        let pool = || PoolName::from("green");
        let all = [
            Unfit::UnknownNode,
            Unfit::Excluded,
            Unfit::NetworkUnavailable,
            Unfit::OutOfService,
            Unfit::NotInAnyPool,
            Unfit::NoAdvertisement(pool()),
            Unfit::ServiceNotSelected(pool()),
            Unfit::NodeNotSelected(pool()),
            Unfit::NoEndpoint,
            Unfit::NoLocalEndpoint,
            Unfit::NotForAllSharing,
            Unfit::NoInterface,
            Unfit::OffLink,
            Unfit::NoSession,
            Unfit::Leaving,
        ];
        let words: std::collections::BTreeSet<_> = all.iter().map(Unfit::reason).collect();
        let texts: std::collections::BTreeSet<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!((words.len(), texts.len()), (all.len(), all.len()));
        for unfit in &all {
            // A metric label is bounded: it does not name the pool, the sentence does.
            let pooled = format!("{unfit:?}").contains("green");
            assert_eq!(unfit.to_string().contains("green"), pooled, "{unfit:?}");
            assert!(format!("{unfit:?}").starts_with(unfit.reason()), "{unfit:?}");
        }
    }
}
