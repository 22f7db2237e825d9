//! Objects → the core's model and problems.

pub mod advertisement;
pub mod demand;
pub mod endpoints;
pub mod node;
pub mod pool;
pub mod selector;
pub mod service;
