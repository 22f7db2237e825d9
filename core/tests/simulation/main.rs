//! Ownership in virtual time: several speakers' machines, one API server, one segment, and faults drawn from a seed.
//!
//! Every test plays a story and asks the record of what was answered, not the machines' own opinion.

mod cluster;
mod dice;
mod faults;
mod stories;
mod storms;
