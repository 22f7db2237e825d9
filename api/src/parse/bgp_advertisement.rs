//! BGPAdvertisement → the pools that it is for, which is all that Herald needs of it.

use herald_core::config::BgpAdvertisement;
use herald_core::name::PoolName;
use kube::ResourceExt;

use super::selector;
use crate::crd::BGPAdvertisement;

/// What the object is for; `None` when a selector of its pools means nothing.
pub fn selection(object: &BGPAdvertisement) -> Option<BgpAdvertisement> {
    let spec = &object.spec.spec;
    let selectors = spec.ip_address_pool_selectors.iter().map(|text| selector::one(text).ok());
    Some(BgpAdvertisement {
        name: object.name_any().into(),
        pools: spec.ip_address_pools.iter().map(|name| PoolName::from(name.as_str())).collect(),
        pool_selectors: selectors.collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(spec: &Value) -> Option<BgpAdvertisement> {
        let object = json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "BGPAdvertisement",
            "metadata": { "name": "tor" }, "spec": spec,
        });
        selection(&serde_json::from_value(object).expect("a BGPAdvertisement"))
    }

    #[test]
    fn its_pools_are_read_and_a_selector_that_means_nothing_is_not_one_for_every_pool() {
        let spec = json!({
            "ipAddressPools": ["gold"],
            "ipAddressPoolSelectors": [{ "matchLabels": { "lan": "a" } }],
        });
        let read_spec = read(&spec).expect("it can be read");
        assert!(read_spec.selects_pool(&"gold".into(), &[].into()));
        assert!(read_spec.selects_pool(&"iron".into(), &[("lan".into(), "a".into())].into()));
        assert!(!read_spec.selects_pool(&"iron".into(), &[].into()));
        let broken = json!({
            "ipAddressPoolSelectors": [{ "matchExpressions": [{ "key": "lan", "operator": "Is" }] }],
        });
        assert_eq!(read(&broken), None);
    }
}
