//! The one door to the API server. It decides nothing: it carries what is there to those who plan, and what they
//! decided back.
//!
//! ```text
//! client ─▶ Door ─┬─▶ feed (list, then watch) ─┬─▶ cache   (parsed objects, one Dirty mark for all)
//!                 │                            ├─▶ leases  (LeaseEvents in their order)
//!                 │                            ├─▶ leader  (who leads)
//!                 │                            └─▶ configuration_state (one object, kept as it should be)
//!                 └─▶ one compare-and-swap ◀──── leases::LeaseWriter, leader
//! Client ─▶ events (core/v1 Events, never waiting)
//! ```
#![forbid(unsafe_code)]

pub mod cache;
pub mod client;
pub mod configuration_state;
pub mod events;
pub mod feed;
pub mod leader;
pub mod leases;
pub mod servers;

mod connection;
mod swap;

#[cfg(test)]
mod fake;
