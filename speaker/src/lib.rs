//! A speaker: takes part in deciding which node owns each address, and answers for those it owns.
//!
//! `watch` → `plan` → `apply`, as in the controller; `net` is the wire, `report` and `metrics` are what people read.

pub mod app;
pub mod apply;
pub mod metrics;
pub mod net;
pub mod plan;
pub mod report;
pub mod settings;
pub mod watch;
