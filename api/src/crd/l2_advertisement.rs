//! L2Advertisement.
// Each column of `kubectl get` is a `printcolumn(..)` of its own, which the lint takes for a slip.
#![expect(clippy::duplicated_attributes, reason = "printcolumn repeats by design")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::unknown::{UnknownFields, paths};

/// What stands beside an advertisement's metadata: its spec, which may be absent.
///
/// kube's derive makes a spec mandatory, and one stored object without it would make the list of all of them unreadable.
/// So the derive is told that there is no spec, and finds it here as an ordinary field with a default.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "L2Advertisement",
    plural = "l2advertisements",
    namespaced,
    no_spec,
    status = "L2AdvertisementStatus",
    derive = "PartialEq",
    doc = "L2Advertisement says which nodes answer ARP and NDP for which pools' addresses.",
    printcolumn(name = "IPAddressPools", type_ = "string", json_path = ".spec.ipAddressPools"),
    printcolumn(
        name = "IPAddressPool Selectors",
        type_ = "string",
        json_path = ".spec.ipAddressPoolSelectors"
    ),
    printcolumn(name = "Interfaces", type_ = "string", json_path = ".spec.interfaces"),
    printcolumn(
        name = "Node Selectors",
        type_ = "string",
        json_path = ".spec.nodeSelectors",
        priority = 10
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#
    )
)]
pub struct L2AdvertisementBody {
    /// What it asks for.
    #[serde(default)]
    pub spec: L2AdvertisementSpec,
}

/// Which nodes answer ARP and NDP for which pools' addresses. An empty spec, or none at all, is for every pool, on
/// every node and interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct L2AdvertisementSpec {
    /// Pools by name. A name that no pool has is no error. With `ipAddressPoolSelectors` a union; when both are
    /// empty, every pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::pools_schema")]
    pub ip_address_pools: Vec<String>,

    /// Pools by label. One that matches is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pool_selectors: Vec<LabelSelector>,

    /// The nodes that may answer, by label. One that matches is enough; none given: every node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,

    /// The Services it is for, by label. One that matches is enough; none given: every Service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,

    /// The interfaces that may be answered on, by exact name; none given: every interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,

    /// Which of the nodes that may answer should rather do so: a node's score is the sum of the weights of the terms
    /// that select it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred_node_selectors: Vec<PreferredNodeSelector>,

    /// Fields beside these.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

impl L2Advertisement {
    /// The fields of the spec that mean nothing to Herald, as `spec.aFeild`, in order.
    pub fn unknown_fields(&self) -> Vec<String> {
        let spec = &self.spec.spec;
        let terms = spec.preferred_node_selectors.iter().enumerate().flat_map(|(at, term)| {
            let place = format!("spec.preferredNodeSelectors[{at}]");
            paths(&place, &term.unknown).collect::<Vec<_>>()
        });
        paths("spec", &spec.unknown).chain(terms).collect()
    }
}

/// One preference for some nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct PreferredNodeSelector {
    /// How much it counts, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,

    /// The nodes it is for; an empty selector is every node.
    pub preference: LabelSelector,

    /// Fields beside these.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: UnknownFields,
}

/// What has become of an advertisement. Written by the controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct L2AdvertisementStatus {
    /// What the controller thinks of the advertisement: `Accepted`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions_schema")]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_that_mean_nothing_are_named_and_written_back() {
        let written = json!({
            "apiVersion": "metallb.io/v1beta1",
            "kind": "L2Advertisement",
            "metadata": {"name": "a"},
            "spec": {
                "interface": "eth0",
                "preferredNodeSelectors": [
                    {"weight": 1, "preference": {}},
                    {"weight": 2, "preference": {}, "sticky": true},
                ],
            },
        });
        let read: L2Advertisement = serde_json::from_value(written.clone()).expect("one");
        let named = ["spec.interface", "spec.preferredNodeSelectors[1].sticky"];
        assert_eq!(read.unknown_fields(), named);
        assert_eq!(serde_json::to_value(&read).expect("JSON"), written);
    }
}
