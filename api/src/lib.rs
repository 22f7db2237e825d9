//! The contract with users of Kubernetes: CRDs, annotations and labels, and what objects mean (`parse`).
//!
//! The only place that reads an annotation. Kubernetes' shapes end here: what leaves is `herald_core`'s model and a
//! list of problems in words.
#![forbid(unsafe_code)]

pub mod annotation;
pub mod condition;
pub mod crd;
pub mod lease;
pub mod parse;
pub mod sparse;
