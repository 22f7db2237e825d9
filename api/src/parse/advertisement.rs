//! L2Advertisement → advertisement.

use std::collections::BTreeSet;
use std::sync::Arc;

use herald_core::config::{Advertisement, Offer, Preference, Refusal};
use herald_core::name::{AdvertisementName, LinkName, PoolName};
use kube::ResourceExt;

use super::selector;
use crate::crd::{L2Advertisement, PreferredNodeSelector};

/// What the object offers: the advertisement that it means, or all that is wrong with it.
pub fn offer(object: &L2Advertisement) -> (AdvertisementName, Offer<Advertisement>) {
    let name = AdvertisementName::from(object.name_any());
    let spec = &object.spec.spec;
    let mut refusals = Vec::new();
    let mut pools = BTreeSet::new();
    for pool in &spec.ip_address_pools {
        if !pools.insert(PoolName::from(pool.as_str())) {
            let value = pool.clone();
            refusals.push(Refusal::Duplicate { field: "ipAddressPools", value });
        }
    }
    let preferred_nodes = preferences(&spec.preferred_node_selectors, &mut refusals);
    let mut selectors = |field, selectors| {
        let (selectors, faults) = selector::list(field, selectors);
        refusals.extend(faults);
        selectors
    };
    let advertisement = Advertisement {
        name: name.clone(),
        pools,
        pool_selectors: selectors("ipAddressPoolSelectors", &spec.ip_address_pool_selectors),
        node_selectors: selectors("nodeSelectors", &spec.node_selectors),
        service_selectors: selectors("serviceSelectors", &spec.service_selectors),
        interfaces: spec.interfaces.iter().map(|name| LinkName::from(name.as_str())).collect(),
        preferred_nodes,
    };
    let says = if refusals.is_empty() { Ok(Arc::new(advertisement)) } else { Err(refusals) };
    let labels = object.labels().clone();
    let conditions = object.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let accepted = super::accepted(&object.metadata, conditions);
    (name, Offer { created: super::created(&object.metadata), labels, accepted, says })
}

/// The preferences in their order. The same selector may stand there twice: the weights add up.
fn preferences(terms: &[PreferredNodeSelector], refusals: &mut Vec<Refusal>) -> Vec<Preference> {
    let mut preferences = Vec::with_capacity(terms.len());
    for (at, term) in terms.iter().enumerate() {
        let weight = u32::try_from(term.weight).ok().filter(|weight| (1..=100).contains(weight));
        if weight.is_none() {
            refusals.push(Refusal::InvalidWeight { weight: term.weight, at });
        }
        match (weight, selector::one(&term.preference)) {
            (Some(weight), Ok(selector)) => preferences.push(Preference { weight, selector }),
            (None, Ok(_)) => {}
            (_, Err(fault)) => {
                let field = "preferredNodeSelectors";
                refusals.push(Refusal::InvalidSelector { field, at, fault });
            }
        }
    }
    preferences
}

#[cfg(test)]
mod tests;
