//! What Herald decides, as values: nothing here waits, performs I/O, draws a random number or reads a clock.
//!
//! ```text
//! config + demands ──▶ allocation ──▶ plan        (the controller's decision)
//! plan + leases + wire + time ──▶ ownership ──▶ writes, answers, announcements   (the speaker's)
//! bytes ◀──▶ wire                                  (ARP and NDP as view and value)
//! ```
#![forbid(unsafe_code)]

pub mod address;
pub mod allocation;
pub mod config;
pub mod label;
pub mod name;
pub mod ownership;
pub mod port;
pub mod time;
pub mod why;
pub mod wire;
