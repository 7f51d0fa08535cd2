//! The integration tests: one binary, real sockets, real clients.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail; JSON rows are indexed by key"
)]

#[path = "../fuzz/src/acceptor.rs"]
mod acceptor;
mod answers;
mod attacks;
mod audit;
#[cfg(feature = "bench")]
mod bench;
mod cli;
mod clients;
#[cfg(target_os = "linux")]
mod confine;
mod connect;
mod diff;
mod dns_rebinding;
mod forward;
mod generate;
mod hellos;
mod host_forms;
mod import;
mod instructions;
mod ip_ranges;
mod limits;
mod names;
mod observe;
#[cfg(unix)]
mod parent;
mod patterns;
#[cfg(target_os = "linux")]
mod permissions;
mod plain_http;
mod policy_files;
#[cfg(target_os = "linux")]
mod recipes;
mod reload;
mod self_test;
mod smokescreen;
mod smuggling;
mod sni;
mod socks;
mod support;
mod system_file;
#[cfg(target_os = "linux")]
mod transparent;
mod tunnels;
mod under_way;
#[cfg(unix)]
mod unix_listener;
#[cfg(target_os = "linux")]
mod unix_sockets;
