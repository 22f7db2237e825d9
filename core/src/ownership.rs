//! Who answers for an address: sessions, claims and the wire.
//!
//! One address is answered by exactly one node. Each speaker keeps a **session** open (a Lease that it renews); the
//! owner of an address is named by a **claim** (a Lease that changes only when the owner does). Whoever may take a claim
//! does so by compare-and-swap, so that two views of the cluster cannot make two owners. The rules have numbers, R1 to
//! R10, and `docs/ownership.md` is their text.
//!
//! ```text
//!  world ──▶ eligibility ──▶ Plan ──┐
//!  Lease watch ───────────────────▶ │         ┌─▶ writes (compare-and-swap)
//!  outcomes of writes ────────────▶ Machine ──┼─▶ answer / silence, announcements
//!  links, what the wire lets hear ─▶ │        └─▶ reports: what changed, by which rule
//!  time ──────────────────────────▶ ┘
//! ```
//!
//! The [`machine::Machine`] is composed of small ones, each with its own states: [`session`] (open, renew, sure,
//! leave), [`peers`] (expiry of others' sessions), [`evidence`] (what the wire tells), [`claim`] (one per address),
//! [`announcement`] (bursts).

pub mod announcement;
pub mod choices;
pub mod claim;
pub mod eligibility;
pub mod evidence;
#[cfg(test)]
mod fixtures;
pub mod machine;
pub mod order;
pub mod peers;
pub mod plan;
pub mod record;
pub mod register;
pub mod session;
pub mod timers;
pub mod view;
pub mod world;
