//! What the tests are made of: a served proxy, origins, a DNS server, raw clients. All real.

mod base64;
mod connection;
mod dns;
#[cfg(target_os = "linux")]
pub(crate) mod networks;
mod origin;
#[cfg(target_os = "linux")]
mod own_network;
mod proxy;
mod raw;
mod recorder;
mod skip;

pub(crate) use base64::base64;
pub(crate) use connection::{Connection, Reply};
pub(crate) use dns::{DnsServer, Family, Garbage, Round, Zone};
pub(crate) use origin::{FullListener, Origin, RawOrigin, TlsOrigin};
#[cfg(target_os = "linux")]
pub(crate) use own_network::{add_addresses, in_own_network};
pub(crate) use proxy::{Proxy, ProxyBuilder, signal};
pub(crate) use raw::{
    Answer, connect as raw_connect, connect_to, connect_tunnel, exchange, get, read_answer,
    read_head, read_head_of,
};
pub(crate) use recorder::{Recorded, Recorder};
pub(crate) use skip::{skip, skip_optional};

use std::time::Duration;

/// How long a test waits for what must come. Generous: it only bounds a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a condition holds, polling; panics with `what` if it never does.
pub(crate) async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never came true: {what}");
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
