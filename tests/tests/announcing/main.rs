//! Speakers on real nodes: which one answers for an address, what a client sees when that changes, and what people are
//! told of it.
//!
//! Services get their addresses by hand here, as from a controller, so that only speakers are on trial.
#![forbid(unsafe_code)]

mod broken_pool;
mod cold_start;
mod crash;
mod evidence;
mod faults;
mod leaving;
mod local_policy;
mod lost_server;
mod outage;
mod readings;
mod renamed_pool;
mod same_node;
mod scene;
