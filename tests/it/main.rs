//! The integration tests: one binary, real sockets, real clients.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail; JSON rows are indexed by key"
)]

mod connect;
mod host_forms;
mod patterns;
mod policy_files;
mod support;
