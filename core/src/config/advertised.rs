//! Whether anybody announces a pool's addresses: what users forget most often.

use std::collections::BTreeSet;
use std::fmt;

use super::Advertisement;
use crate::label::{Labels, Selector};
use crate::name::{BgpAdvertisementName, PoolName};

/// A BGPAdvertisement, as far as Herald reads it: the pools whose addresses it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpAdvertisement {
    /// Its name.
    pub name: BgpAdvertisementName,
    /// Pools by name. With `pool_selectors` a union; both empty is every pool.
    pub pools: BTreeSet<PoolName>,
    /// Pools by label.
    pub pool_selectors: Vec<Selector>,
}

/// Why no node announces a pool's addresses, though Services are given them.
///
/// `Display` is the sentence for the pool's condition, [`Unadvertised::reason`] the same in one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unadvertised {
    /// No advertisement of any kind selects the pool.
    NoAdvertisement,
    /// Only these BGPAdvertisements do, and Herald does not speak BGP.
    OnlyBgp(Vec<BgpAdvertisementName>),
}

/// How many BGPAdvertisements a sentence names before it only counts them.
const NAMED_AT_MOST: usize = 5;

impl Advertisement {
    /// Whether it is for the pool of that name and those labels.
    pub fn selects_pool(&self, name: &PoolName, labels: &Labels) -> bool {
        selects(&self.pools, &self.pool_selectors, name, labels)
    }
}

impl BgpAdvertisement {
    /// Whether it is for the pool of that name and those labels.
    pub fn selects_pool(&self, name: &PoolName, labels: &Labels) -> bool {
        selects(&self.pools, &self.pool_selectors, name, labels)
    }
}

fn selects(
    pools: &BTreeSet<PoolName>,
    selectors: &[Selector],
    name: &PoolName,
    labels: &Labels,
) -> bool {
    (pools.is_empty() && selectors.is_empty())
        || pools.contains(name)
        || selectors.iter().any(|selector| selector.selects(labels))
}

/// Why nobody announces the pool of that name and those labels: `None` as soon as one L2Advertisement in force is for it.
pub fn unadvertised<'a>(
    name: &PoolName,
    labels: &Labels,
    by_l2: impl IntoIterator<Item = &'a Advertisement>,
    by_bgp: impl IntoIterator<Item = &'a BgpAdvertisement>,
) -> Option<Unadvertised> {
    if by_l2.into_iter().any(|advertisement| advertisement.selects_pool(name, labels)) {
        return None;
    }
    let by_bgp =
        by_bgp.into_iter().filter(|advertisement| advertisement.selects_pool(name, labels));
    let by_bgp: Vec<_> = by_bgp.map(|advertisement| advertisement.name.clone()).collect();
    Some(if by_bgp.is_empty() {
        Unadvertised::NoAdvertisement
    } else {
        Unadvertised::OnlyBgp(by_bgp)
    })
}

impl Unadvertised {
    /// The reason in one word: the condition's.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoAdvertisement => "NoAdvertisement",
            Self::OnlyBgp(_) => "OnlyBGP",
        }
    }
}

impl fmt::Display for Unadvertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("addresses are given, no node announces them: ")?;
        let Self::OnlyBgp(names) = self else {
            return f.write_str("no L2Advertisement in force selects this pool");
        };
        f.write_str(if names.len() == 1 {
            "only BGPAdvertisement"
        } else {
            "only BGPAdvertisements"
        })?;
        for (at, name) in names.iter().take(NAMED_AT_MOST).enumerate() {
            write!(f, "{} {name}", if at == 0 { "" } else { "," })?;
        }
        match names.len().saturating_sub(NAMED_AT_MOST) {
            0 => {}
            more => write!(f, ", and {more} more")?,
        }
        f.write_str(if names.len() == 1 { " selects" } else { " select" })?;
        f.write_str(" it, and Herald does not speak BGP yet")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::Requirement;

    fn l2(pools: &[&str], selectors: &[Selector]) -> Advertisement {
        Advertisement {
            name: "l2".into(),
            pools: pools.iter().map(|name| PoolName::from(*name)).collect(),
            pool_selectors: selectors.to_vec(),
            node_selectors: Vec::new(),
            service_selectors: Vec::new(),
            interfaces: BTreeSet::new(),
            preferred_nodes: Vec::new(),
        }
    }

    fn bgp(name: &str, pools: &[&str], selectors: &[Selector]) -> BgpAdvertisement {
        let Advertisement { pools, pool_selectors, .. } = l2(pools, selectors);
        BgpAdvertisement { name: name.into(), pools, pool_selectors }
    }

    fn exists(label: &str) -> Selector {
        Selector { requirements: BTreeSet::from([Requirement::Exists(label.to_owned())]) }
    }

    fn said(by_l2: &[Advertisement], by_bgp: &[BgpAdvertisement]) -> Option<String> {
        let labels = Labels::from([("lan".to_owned(), "1".to_owned())]);
        let why = unadvertised(&"gold".into(), &labels, by_l2, by_bgp)?;
        Some(format!("{}: {why}", why.reason()))
    }

    #[test]
    fn an_advertisement_is_for_the_pools_it_names_and_selects_and_for_all_if_it_does_neither() {
        assert_eq!(said(&[l2(&[], &[])], &[]), None);
        assert_eq!(said(&[l2(&["iron"], &[]), l2(&["iron", "gold"], &[])], &[]), None);
        assert_eq!(said(&[l2(&["iron"], &[exists("lan")])], &[]), None);
        let none = "NoAdvertisement: addresses are given, no node announces them: \
                    no L2Advertisement in force selects this pool";
        assert_eq!(said(&[], &[]).as_deref(), Some(none));
        assert_eq!(said(&[l2(&["iron"], &[])], &[]).as_deref(), Some(none));
        assert_eq!(said(&[l2(&[], &[exists("dmz")])], &[]).as_deref(), Some(none));
        assert_eq!(said(&[], &[bgp("b", &["iron"], &[])]).as_deref(), Some(none));
    }

    #[test]
    fn bgp_alone_does_not_do_and_its_advertisements_are_named_up_to_a_bound() {
        let one = "OnlyBGP: addresses are given, no node announces them: only BGPAdvertisement \
                   tor selects it, and Herald does not speak BGP yet";
        assert_eq!(said(&[], &[bgp("tor", &[], &[])]).as_deref(), Some(one));
        let all: Vec<_> = (0..7).map(|n| bgp(&format!("b{n}"), &["gold"], &[])).collect();
        let seven = "OnlyBGP: addresses are given, no node announces them: only BGPAdvertisements \
                     b0, b1, b2, b3, b4, and 2 more select it, and Herald does not speak BGP yet";
        assert_eq!(said(&[], &all).as_deref(), Some(seven));
        assert_eq!(said(&[l2(&[], &[])], &all), None);
    }
}
