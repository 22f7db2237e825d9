//! The kinds of `metallb.io` that Herald reads: every field, default and printer column as users know them.
//!
//! `manifests/crds/` is generated from these types (`cargo run -p herald-api --example crds`), and a test holds the two
//! together. What one field can say about itself is checked by the API server (CEL), what spans fields or objects
//! by `parse` and `herald_core::config::settle`.
//!
//! Only objects in Herald's own namespace count.

mod condition;
mod l2_advertisement;
mod pool;
mod unknown;

pub use condition::{ACCEPTED, accepted};
pub use l2_advertisement::{
    L2Advertisement, L2AdvertisementBody, L2AdvertisementSpec, L2AdvertisementStatus,
    PreferredNodeSelector,
};
pub use pool::{IPAddressPool, IPAddressPoolSpec, IPAddressPoolStatus, ServiceAllocation};
pub use unknown::UnknownFields;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};

/// The definitions of every kind, in the order of their names.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![IPAddressPool::crd(), L2Advertisement::crd()]
}

/// A list of at most `most` names of `longest` bytes, each once. The server admits a rule only if bounds keep its cost,
/// which grows with the square of `most`, within its budget.
fn distinct_names_schema(field: &str, most: u32, longest: u32) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": most,
        "items": { "type": "string", "maxLength": longest },
        "x-kubernetes-validations": [{
            "rule": "self.all(name, self.exists_one(other, other == name))",
            "message": format!("duplicate definition in {field} field"),
        }],
    })
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
