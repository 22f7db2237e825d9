//! The speaker's network side against a real kernel: two hosts in namespaces of their own, one cable between them.
#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod answers;
mod hearing;
mod host;
mod links;
mod prober;
mod sockets;
mod speaker;
