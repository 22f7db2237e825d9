//! The wire as the speaker sees it: which links there are, and who answers for an address on them.
//!
//! ```text
//! kernel ──netlink──▶ links ──Links──▶ the speaker's loop ──answers, announcements──▶ responder ──frames──▶ socket
//!                                           ▲                                            │  ▲               (per
//!                                           └───────────────────Heard────────────────────┘  └────frames──── link)
//!                                                                        groups: multicast of what is answered
//! ```
//!
//! `table` decides what a received frame asks for, without I/O. `socket` holds the one `unsafe` of the house.

pub mod count;
pub mod exclusion;
mod filter;
pub mod groups;
pub mod links;
pub mod responder;
pub mod socket;
mod table;
