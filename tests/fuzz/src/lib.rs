//! What the fuzz targets check, as plain functions of the input: a panic is a finding.
//!
//! The fuzzer calls them, and so does `tests/replay.rs` with every file in `seeds/`, on a stable
//! compiler. An input that was found to break something becomes a seed.

mod acceptor;
mod authority;
mod client_hello;
mod connection;
mod decide;
mod document;
mod http;
mod http_head;
mod pattern;
mod socks5;

pub use authority::authority;
pub use client_hello::client_hello;
pub use connection::connection;
pub use decide::decide;
pub use document::document;
pub use http_head::http_head;
pub use pattern::pattern;
pub use socks5::socks5;
