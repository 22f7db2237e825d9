//! What the tests of the whole stand on: the [`lab`], a cluster of network namespaces around a real control plane.
#![forbid(unsafe_code)]

pub mod lab;
