//! The load: clients that do one thing again and again, in a closed loop or at a pace.

pub(crate) mod answer;
pub(crate) mod bulk;
pub(crate) mod client;
pub(crate) mod closed;
pub(crate) mod idle;
pub(crate) mod paced;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_rustls::rustls::ClientConfig;

/// Whom clients use, and whom they ask for.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) proxy: SocketAddr,
    /// What origins are called.
    pub(crate) host: String,
    /// Ports for requests, and for tunnels.
    pub(crate) http: Vec<u16>,
    pub(crate) opaque: Vec<u16>,
    pub(crate) tls: u16,
    pub(crate) trust: Arc<ClientConfig>,
    /// A ClientHello for that host.
    pub(crate) hello: Vec<u8>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How long each deed took that was done, in microseconds.
    pub(crate) took: Vec<u32>,
    pub(crate) bytes: u64,
    /// What went wrong, and how often.
    pub(crate) failed: BTreeMap<String, u64>,
}

impl Outcome {
    /// One deed has ended.
    fn count(&mut self, begun: Instant, done: io::Result<u64>) {
        match done {
            Ok(bytes) => {
                let micros = begun.elapsed().as_micros();
                self.took.push(u32::try_from(micros).unwrap_or(u32::MAX));
                self.bytes += bytes;
            }
            Err(error) => *self.failed.entry(error.to_string()).or_default() += 1,
        }
    }

    fn merge(&mut self, other: Self) {
        self.took.extend(other.took);
        self.bytes += other.bytes;
        for (what, count) in other.failed {
            *self.failed.entry(what).or_default() += count;
        }
    }

    /// Of the deeds that were done, the time that this share of them took at most.
    pub(crate) fn quantile(&mut self, share: f64) -> Duration {
        self.took.sort_unstable();
        let last = self.took.len().saturating_sub(1);
        let place = (share * last as f64).round() as usize;
        Duration::from_micros(self.took.get(place).copied().unwrap_or_default().into())
    }
}
