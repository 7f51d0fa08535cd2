//! From an allowed name to addresses.
//!
//! Static hosts beat the hosts file, which beats DNS. Names are looked up absolute, without search
//! domains, and answers are kept for as long as their TTL says. Whether an address may be dialled
//! is not decided here.

mod resolver;

pub use resolver::{Answer, DnsError, DnsStartError, LateAnswer, Resolver};
