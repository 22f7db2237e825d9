//! Objects → the core's model and problems.

pub mod advertisement;
pub mod bgp_advertisement;
pub mod demand;
pub mod endpoints;
pub mod node;
pub mod pool;
pub mod selector;
pub mod service;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// When an object was created, in whole seconds since 1970; 0 for one that does not say.
pub(crate) fn created(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}
