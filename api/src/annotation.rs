//! The names of annotations, labels and taints that Herald reads and writes. No other file spells one.

use std::collections::BTreeMap;

/// One name under the prefix of today and under the one of before, which is still read everywhere.
macro_rules! two_keys {
    ($name:literal) => {
        TwoKeys {
            current: concat!("metallb.io/", $name),
            deprecated: concat!("metallb.universe.tf/", $name),
        }
    };
}

/// An annotation that is known by two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwoKeys {
    /// The key under `metallb.io/`: the one to write, and the one that counts when both are there.
    pub current: &'static str,
    /// The key under `metallb.universe.tf/`.
    pub deprecated: &'static str,
}

/// Which of its two keys an annotation was found under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// `metallb.io/`.
    Current,
    /// `metallb.universe.tf/`: worth a word to its owner.
    Deprecated,
}

/// An annotation that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its value as written, perhaps empty.
    pub value: &'a str,
    /// The key it was found under.
    pub key: &'static str,
    /// Which prefix that key bears.
    pub prefix: Prefix,
}

/// The pool that a Service asks for, by name.
pub const ADDRESS_POOL: TwoKeys = two_keys!("address-pool");

/// The addresses that a Service asks for: at most one of each family, separated by commas.
pub const LOAD_BALANCER_IPS: TwoKeys = two_keys!("loadBalancerIPs");

/// The key under which Services agree to share one address.
pub const ALLOW_SHARED_IP: TwoKeys = two_keys!("allow-shared-ip");

/// Output: the pool that a Service's addresses are from.
pub const IP_ALLOCATED_FROM_POOL: TwoKeys = two_keys!("ip-allocated-from-pool");

/// Output, on a Service that shares: a digest of the key, backend and ports that it was given its addresses under. One that
/// bears another than it asks for today has changed its terms since, and yields to its partners.
pub const SHARED_AS: &str = "heraldlb.io/shared-as";

/// On a session: the protocol that its speaker speaks.
pub const PROTOCOL: &str = "heraldlb.io/protocol";
/// On a session: its node's links, as JSON.
pub const LINKS: &str = "heraldlb.io/links";
/// On a session: its speaker is about to go and hands over all its claims (R5).
pub const LEAVING: &str = "heraldlb.io/leaving";
/// On a session: its speaker was found silent not long ago, and lets others come first (R7).
pub const DOUBTED: &str = "heraldlb.io/doubted";
/// On a session: who closed it and why (R7).
pub const CLOSED: &str = "heraldlb.io/closed";
/// On a session: the count of this incarnation's renewals, by which a speaker knows its own writes again.
pub const RENEWAL: &str = "heraldlb.io/renewal";
/// On a claim: the node that its holder asks to take it (R5).
pub const HANDING_OVER_TO: &str = "heraldlb.io/handing-over-to";
/// On a claim: a stranger has the address, and its holder does not answer for it (R9).
pub const CONTESTED: &str = "heraldlb.io/contested";

/// The label of a Node that shall carry no load balancer's traffic, whatever its value.
pub const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The taint of a Node that its operator has declared dead.
pub const OUT_OF_SERVICE_TAINT: &str = "node.kubernetes.io/out-of-service";
/// The label of an EndpointSlice that names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

impl TwoKeys {
    /// The annotation among `annotations`. The current key counts when it is there at all, even when it is empty: that
    /// is how a user takes back what an old manifest still says under the deprecated one.
    pub fn find<'a>(&self, annotations: &'a BTreeMap<String, String>) -> Option<Found<'a>> {
        let found = |key, prefix| {
            let value = annotations.get(key)?.as_str();
            Some(Found { value, key, prefix })
        };
        found(self.current, Prefix::Current).or_else(|| found(self.deprecated, Prefix::Deprecated))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_current_key_counts_whenever_it_is_there_even_empty() {
        let (old, new) = ("metallb.universe.tf/address-pool", "metallb.io/address-pool");
        let cases = [
            (annotations(&[]), None),
            (annotations(&[(old, "a")]), Some(("a", Prefix::Deprecated, old))),
            (annotations(&[(new, "b")]), Some(("b", Prefix::Current, new))),
            (annotations(&[(old, "a"), (new, "b")]), Some(("b", Prefix::Current, new))),
            (annotations(&[(old, "a"), (new, "")]), Some(("", Prefix::Current, new))),
            (annotations(&[("metallb.io/address-pools", "c")]), None),
        ];
        for (annotations, expected) in cases {
            let found = ADDRESS_POOL.find(&annotations).map(|f| (f.value, f.prefix, f.key));
            assert_eq!(found, expected, "{annotations:?}");
        }
    }
}
