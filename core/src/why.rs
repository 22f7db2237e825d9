//! Every "no" that a user can meet, typed: the same text in the log, the Event, the condition and the metric label.

pub mod address;
pub mod announcement;
