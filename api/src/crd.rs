//! The kinds of `metallb.io`: every field, default and printer column as users know them.
//!
//! `manifests/crds/` is generated from these types (`cargo run -p herald-api --example crds`), and a test holds the two
//! together. What one object can say about itself is checked by the API server (CEL) as far as its bounds on cost allow,
//! the rest, and what spans objects, by `parse` and `herald_core::config::settle`.
//!
//! Only objects in Herald's own namespace count.

mod bfd_profile;
mod bgp_advertisement;
mod bgp_peer;
mod community;
mod condition;
pub mod configuration_state;
mod guarded;
mod l2_advertisement;
mod pool;
mod service_bgp_status;
mod service_l2_status;
mod unknown;

pub use bfd_profile::{BFDProfile, BFDProfileBody, BFDProfileSpec};
pub use bgp_advertisement::{BGPAdvertisement, BGPAdvertisementBody, BGPAdvertisementSpec};
pub use bgp_peer::{BGPPeer, BGPPeerSpec, DynamicAsn};
pub use community::{Community, CommunityAlias, CommunityBody, CommunitySpec};
pub use condition::{ACCEPTED, ADVERTISED, Statement, conditions, without_effect};
pub use configuration_state::{
    ConfigurationState, ConfigurationStateBody, ConfigurationStateStatus,
};
pub use guarded::{Guarded, Unreadable};
pub use l2_advertisement::{
    L2Advertisement, L2AdvertisementBody, L2AdvertisementSpec, L2AdvertisementStatus,
    PreferredNodeSelector,
};
pub use pool::{
    Counters, IPAddressPool, IPAddressPoolSpec, IPAddressPoolStatus, ServiceAllocation,
};
pub use service_bgp_status::{ServiceBGPStatus, ServiceBGPStatusBody, ServiceBGPStatusStatus};
pub use service_l2_status::{
    AnsweringInterface, ServiceL2Status, ServiceL2StatusBody, ServiceL2StatusStatus,
};
pub use unknown::UnknownFields;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResourceExt;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The definitions of every kind, in the order of their names, as they are applied.
///
/// What an apply does not name it leaves as others wrote it. So each names as absent the conversion webhook that MetalLB
/// gives its BGPPeer, which without MetalLB's controller would make every object of the kind unreadable.
pub fn manifests() -> impl Iterator<Item = Value> {
    definitions().into_iter().map(|definition| {
        let mut manifest = json!(definition);
        manifest["spec"]["conversion"] = json!({ "strategy": "None", "webhook": null });
        manifest
    })
}

/// The definitions of every kind, in the order of their names.
fn definitions() -> Vec<CustomResourceDefinition> {
    vec![
        BFDProfile::crd(),
        BGPAdvertisement::crd(),
        bgp_peer::definition(),
        Community::crd(),
        ConfigurationState::crd(),
        IPAddressPool::crd(),
        L2Advertisement::crd(),
        ServiceBGPStatus::crd(),
        ServiceL2Status::crd(),
    ]
}

/// No fields: on objects of this kind nobody reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NothingReported {}

/// No fields: objects of this kind only report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NothingAsked {}

/// A list of at most `most` names of `longest` bytes, each once. The server admits a rule only if bounds keep its cost,
/// which grows with the square of `most`, within its budget.
fn distinct_names_schema(field: &str, most: u32, longest: u32) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": most,
        "items": { "type": "string", "maxLength": longest },
        "x-kubernetes-validations": [distinct(&format!("duplicate definition in {field} field"))],
    })
}

/// The rule that nothing stands in a list twice.
fn distinct(message: &str) -> Value {
    let rule = "self.all(name, self.exists_one(other, other == name))";
    json!({ "rule": rule, "message": message })
}

/// Names of pools are DNS subdomains (RFC 1123), so 253 bytes at most.
fn pools_schema(_: &mut SchemaGenerator) -> Schema {
    distinct_names_schema("ipAddressPools", 256, 253)
}

/// A text of at most `longest` bytes that obeys `rules`, each a rule in CEL and what is said when it is broken.
fn text_schema(longest: u32, rules: &[(&str, &str)]) -> Schema {
    let rules: Vec<_> =
        rules.iter().map(|(rule, message)| json!({ "rule": rule, "message": message })).collect();
    json_schema!({ "type": "string", "maxLength": longest, "x-kubernetes-validations": rules })
}

/// A name that stays as it was first written.
fn immutable_name_schema(_: &mut SchemaGenerator) -> Schema {
    text_schema(253, &[("self == oldSelf", "Value is immutable")])
}

/// Conditions, keyed by type so that each writer owns its own.
fn conditions_schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": generator.subschema_for::<Condition>(),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn no(flag: &bool) -> bool {
    !flag
}
