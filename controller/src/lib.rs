//! Gives Services of type LoadBalancer their addresses.
//!
//! ```text
//!  watch ──▶ snapshot ──▶ plan ──▶ letters ──▶ outbox ──▶ apply ──▶ API server
//!    ▲                     ▲                     │                      │
//!    │                     └── not yet echoed ◀──┘                      │
//!    └──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The planner sees the whole world each time anything in it changes, and decides all of it (`herald_core::allocation`).
//! What differs from what the cluster shows becomes letters, one per object; the outbox knows which of them are under
//! way and what they claim, until the watch shows them. Only the leader plans; a standby keeps its caches warm.
#![forbid(unsafe_code)]

pub mod app;
pub mod apply;
pub mod metrics;
pub mod outbox;
pub mod plan;
pub mod settings;
pub mod tell;
pub mod term;
pub mod watch;
