//! Service → what the speaker announces.

use std::net::IpAddr;

use herald_core::name::{PoolName, ServiceId};
use herald_core::ownership::world::Service as Announced;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;

use crate::annotation;

/// What is to be announced of `service`: nothing unless it is a LoadBalancer of the class and has addresses.
///
/// Any address in its status counts, whoever wrote it there; the pools decide whether it is ours to announce.
pub fn announced(service: &Service, class: Option<&str>) -> Option<Announced> {
    let spec = service.spec.as_ref()?;
    let ours = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.load_balancer_class.as_deref() == class;
    if !ours {
        return None;
    }
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_deref()?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    let listed = ingress.iter().filter_map(|entry| entry.ip.as_deref()?.parse::<IpAddr>().ok());
    for address in listed.map(|address| address.to_canonical()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    (!addresses.is_empty()).then(|| Announced {
        id: ServiceId::new(service.namespace().unwrap_or_default(), service.name_any()),
        uid: service.metadata.uid.clone().unwrap_or_default().into(),
        created: super::created(&service.metadata),
        labels: service.labels().clone(),
        addresses,
        recorded_pool: annotation::IP_ALLOCATED_FROM_POOL
            .find(service.annotations())
            .map(|found| PoolName::from(found.value)),
        local: spec.external_traffic_policy.as_deref() == Some("Local"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value, ingress: Value) -> Service {
        serde_json::from_value(json!({
            "metadata": {"namespace": "n", "name": "s", "uid": "u",
                "annotations": {"metallb.io/ip-allocated-from-pool": "green"}},
            "spec": spec,
            "status": {"loadBalancer": {"ingress": ingress}},
        }))
        .expect("a Service")
    }

    #[test]
    fn addresses_of_the_status_are_announced_each_once_in_order() {
        let ingress = json!([{"ip": "2001:db8::1"}, {"hostname": "x"}, {"ip": "192.0.2.1"},
            {"ip": "2001:db8:0::1"}, {"ip": "nonsense"}]);
        let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
        let found = announced(&service(spec, ingress), None).expect("announced");
        let expected: Vec<IpAddr> =
            ["2001:db8::1", "192.0.2.1"].map(|a| a.parse().expect("an address")).into();
        assert_eq!(found.addresses, expected);
        assert!(found.local);
        assert_eq!(found.recorded_pool, Some(PoolName::from("green")));
    }

    #[test]
    fn an_ipv4_address_in_ipv6_dress_is_the_address_that_the_pool_holds() {
        let ingress = json!([{"ip": "::ffff:192.0.2.1"}, {"ip": "192.0.2.1"}]);
        let found = announced(&service(json!({"type": "LoadBalancer"}), ingress), None);
        let expected: IpAddr = "192.0.2.1".parse().expect("an address");
        assert_eq!(found.expect("announced").addresses, [expected]);
    }

    #[test]
    fn only_load_balancers_of_the_class_with_an_address_are_announced() {
        let one = json!([{"ip": "192.0.2.1"}]);
        let plain = json!({"type": "LoadBalancer"});
        let classed = json!({"type": "LoadBalancer", "loadBalancerClass": "x/y"});
        let is_announced = |spec: &Value, ingress: &Value, class| {
            announced(&service(spec.clone(), ingress.clone()), class).is_some()
        };
        assert!(is_announced(&plain, &one, None));
        assert!(is_announced(&classed, &one, Some("x/y")));
        assert!(!is_announced(&classed, &one, None));
        assert!(!is_announced(&plain, &one, Some("x/y")));
        assert!(!is_announced(&json!({"type": "ClusterIP"}), &one, None));
        assert!(!is_announced(&plain, &json!([]), None));
    }
}
