//! Objects → the core's model and problems.

pub mod advertisement;
pub mod bgp_advertisement;
pub mod demand;
pub mod endpoints;
pub mod node;
pub mod pool;
pub mod selector;
pub mod service;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};

use crate::crd::ACCEPTED;

/// When an object was created, in whole seconds since 1970; 0 for one that does not say.
pub(crate) fn created(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}

/// Whether `conditions`, those of an object's status, say that its present version is in force.
pub(crate) fn accepted(metadata: &ObjectMeta, conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| {
        condition.type_ == ACCEPTED
            && condition.status == "True"
            && condition.observed_generation.is_some()
            && condition.observed_generation == metadata.generation
    })
}
