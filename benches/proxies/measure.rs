//! What is measured of a proxy, and what the numbers say. How it is done is in `taking`.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A measure. Each load is warmed up for a fifth of its time before anything counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Measure {
    /// CONNECT, a ClientHello, 1 KiB of answer, close; 32 at a time
    Connect,
    /// A CONNECT that is refused, on a new connection; 32 at a time
    Denied,
    /// Requests on one kept connection
    #[value(name = "requests-1")]
    #[serde(rename = "requests-1")]
    Requests1,
    /// Requests on 64 kept connections
    #[value(name = "requests-64")]
    #[serde(rename = "requests-64")]
    Requests64,
    /// Requests on 64 kept connections, each to the next of 64 origins
    Origins,
    /// PUT requests of 1 MiB on 8 kept connections
    Uploads,
    /// Bytes from the origin through one tunnel
    #[value(name = "bulk-1")]
    #[serde(rename = "bulk-1")]
    Bulk1,
    /// Bytes from the origin through 8 tunnels
    #[value(name = "bulk-8")]
    #[serde(rename = "bulk-8")]
    Bulk8,
    /// Bytes to the origin through one tunnel
    BulkUp,
    /// Bytes from the origin through one tunnel, in TLS
    BulkTls,
    /// Latency of requests on 64 kept connections, at half of the peak rate
    PacedRequests,
    /// Latency of CONNECT as above, at half of the peak rate
    PacedConnect,
    /// Memory before the first connection
    Memory,
    /// 1,000 tunnels in which nothing moves
    #[value(name = "idle-1000")]
    #[serde(rename = "idle-1000")]
    Idle1000,
    /// 9,000 tunnels in which nothing moves
    #[value(name = "idle-9000")]
    #[serde(rename = "idle-9000")]
    Idle9000,
}

/// What a proxy must be able to do for a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ability {
    Connect,
    Http,
    Refuse,
}

/// What a number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Quantity {
    /// Processor time of an operation, µs.
    MicrosPerOperation,
    /// Processor time of a gigabyte (10⁹), ms.
    MillisPerGigabyte,
    /// Operations a second.
    Rate,
    /// Gigabytes a second.
    Throughput,
    /// Half of the operations took at most that, ms.
    Median,
    /// All but a hundredth, ms.
    P99,
    /// Resident memory at rest, MiB.
    Base,
    /// Memory that a tunnel adds, KiB.
    PerTunnel,
    /// Context switches a second while nothing moves.
    WakeUps,
    /// Tunnels that were there.
    Held,
}

impl Measure {
    pub(crate) const ALL: &[Self] = &[
        Self::Connect,
        Self::Denied,
        Self::Requests1,
        Self::Requests64,
        Self::Origins,
        Self::Uploads,
        Self::Bulk1,
        Self::Bulk8,
        Self::BulkUp,
        Self::BulkTls,
        Self::PacedRequests,
        Self::PacedConnect,
        Self::Memory,
        Self::Idle1000,
        Self::Idle9000,
    ];

    /// As on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(crate) fn needs(self) -> Option<Ability> {
        match self {
            Self::Denied => Some(Ability::Refuse),
            Self::Requests1
            | Self::Requests64
            | Self::Origins
            | Self::Uploads
            | Self::PacedRequests => Some(Ability::Http),
            Self::Connect
            | Self::Bulk1
            | Self::Bulk8
            | Self::BulkUp
            | Self::BulkTls
            | Self::PacedConnect
            | Self::Idle1000
            | Self::Idle9000 => Some(Ability::Connect),
            Self::Memory => None,
        }
    }
}

impl Quantity {
    /// With its unit.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::MicrosPerOperation => "µs",
            Self::MillisPerGigabyte => "ms/GB",
            Self::Rate => "/s",
            Self::Throughput => "GB/s",
            Self::Median => "p50, ms",
            Self::P99 => "p99, ms",
            Self::Base => "MiB",
            Self::PerTunnel => "KiB each",
            Self::WakeUps => "wake-ups/s",
            Self::Held => "held",
        }
    }
}
