//! What an operator sees: logs, `/metrics`, `/healthz`, `/readyz`. It decides nothing and never stands in the way.
#![forbid(unsafe_code)]

pub mod health;
pub mod log;
pub mod metrics;
pub mod serve;
