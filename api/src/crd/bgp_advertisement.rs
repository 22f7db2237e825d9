//! BGPAdvertisement.
// Each column of `kubectl get` is a `printcolumn(..)` of its own, which the lint takes for a slip.
#![expect(clippy::duplicated_attributes, reason = "printcolumn repeats by design")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::community::IS_A_COMMUNITY;
use super::{NothingReported, distinct_names_schema};

/// What stands beside an advertisement's metadata: its spec, which may be absent (see `L2AdvertisementBody`).
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "BGPAdvertisement",
    plural = "bgpadvertisements",
    namespaced,
    no_spec,
    status = "NothingReported",
    derive = "PartialEq",
    doc = "BGPAdvertisement says which routes to which pools' addresses are told to which peers.",
    printcolumn(name = "IPAddressPools", type_ = "string", json_path = ".spec.ipAddressPools"),
    printcolumn(
        name = "IPAddressPool Selectors",
        type_ = "string",
        json_path = ".spec.ipAddressPoolSelectors"
    ),
    printcolumn(name = "Peers", type_ = "string", json_path = ".spec.peers"),
    printcolumn(
        name = "Node Selectors",
        type_ = "string",
        json_path = ".spec.nodeSelectors",
        priority = 10
    )
)]
pub struct BGPAdvertisementBody {
    /// What it asks for.
    #[serde(default)]
    pub spec: BGPAdvertisementSpec,
}

/// Which routes to which pools' addresses are told to which peers. An empty spec, or none at all, is a route to each
/// address of every pool, from every node to every peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.serviceSelectors) || self.serviceSelectors.size() == 0 || \
                 !has(self.aggregationLength) || self.aggregationLength == 32",
        "message": "serviceSelectors and aggregationLength are mutually exclusive",
    },
    {
        "rule": "!has(self.serviceSelectors) || self.serviceSelectors.size() == 0 || \
                 !has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128",
        "message": "serviceSelectors and aggregationLengthV6 are mutually exclusive",
    },
]))]
pub struct BGPAdvertisementSpec {
    /// The length of the prefix that stands for an IPv4 address, 1 to 32. No shorter than any of the pool's.
    #[serde(default = "v4_bits")]
    #[schemars(with = "i32", range(min = 1, max = 32))]
    pub aggregation_length: u8,

    /// The length of the prefix that stands for an IPv6 address, 1 to 128. No shorter than any of the pool's.
    #[serde(default = "v6_bits", rename = "aggregationLengthV6")]
    #[schemars(with = "i32", range(min = 1, max = 128))]
    pub aggregation_length_v6: u8,

    /// LOCAL_PREF (RFC 4271): routers of our own AS prefer the route with the highest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = 4_294_967_295_i64))]
    pub local_pref: Option<u32>,

    /// The communities of the route, each `64500:100` (RFC 1997), `large:64500:1:2` (RFC 8092), or a name that a
    /// Community gives to one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "communities_schema")]
    pub communities: Vec<String>,

    /// Pools by name. A name that no pool has is no error. With `ipAddressPoolSelectors` a union; when both are
    /// empty, every pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::pools_schema")]
    pub ip_address_pools: Vec<String>,

    /// Pools by label. One that matches is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pool_selectors: Vec<LabelSelector>,

    /// The nodes whose speakers tell it, by label. One that matches is enough; none given: every node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,

    /// The BGPPeers that are told, by name; none given: every one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "peers_schema")]
    pub peers: Vec<String>,

    /// The Services it is for, by label. One that matches is enough; none given: every Service. Not together with a
    /// prefix that stands for more than one address, where other Services may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,
}

impl Default for BGPAdvertisementSpec {
    fn default() -> Self {
        Self {
            aggregation_length: v4_bits(),
            aggregation_length_v6: v6_bits(),
            local_pref: None,
            communities: Vec::new(),
            ip_address_pools: Vec::new(),
            ip_address_pool_selectors: Vec::new(),
            node_selectors: Vec::new(),
            peers: Vec::new(),
            service_selectors: Vec::new(),
        }
    }
}

fn v4_bits() -> u8 {
    32
}

fn v6_bits() -> u8 {
    128
}

/// What has neither the form of a community nor a colon too many is a name.
fn communities_schema(_: &mut SchemaGenerator) -> Schema {
    let name = "!(self.split(':').size() in [2, 4])";
    json_schema!({
        "type": "array",
        "maxItems": 128,
        "items": {
            "type": "string",
            "maxLength": 253,
            "x-kubernetes-validations": [{
                "rule": format!("{name} || {IS_A_COMMUNITY}"),
                "message": "invalid community value",
            }],
        },
        "x-kubernetes-validations": [super::distinct("duplicate definition of community")],
    })
}

/// Names of peers are DNS subdomains (RFC 1123), so 253 bytes at most.
fn peers_schema(_: &mut SchemaGenerator) -> Schema {
    distinct_names_schema("peers", 256, 253)
}
