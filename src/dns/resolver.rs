//! The resolver: hickory with the system's configuration or the operator's servers.

use std::{
    collections::BTreeMap,
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    time::Duration,
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError as HickoryDnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::{Query, ResponseCode},
        rr::{Name, RData, RecordType},
    },
};
use tokio::time::timeout;

use crate::{net::DnsName, settings::Dns};

/// Resolves names. Share it: the cache is inside.
pub struct Resolver {
    hosts: BTreeMap<DnsName, Vec<IpAddr>>,
    hosts_file: Hosts,
    /// None when the system has no DNS configuration and no server was named.
    dns: Option<TokioResolver>,
    deadline: Duration,
}

/// The addresses that are there soon, and perhaps those of the other family, later.
pub struct Answer {
    /// What dialling may start with; at least one address.
    pub addresses: Vec<IpAddr>,
    /// The family that is still being asked.
    pub late: Option<LateAnswer>,
}

/// The addresses of the slower family; empty if there are none.
pub type LateAnswer = Pin<Box<dyn Future<Output = Vec<IpAddr>> + Send>>;

/// Why there are no addresses. Never a matter of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The name exists but has no address.
    #[error("has no address")]
    NoAddress,
    /// No DNS server is configured.
    #[error("cannot be looked up: no DNS server is configured")]
    NoServer,
    /// The servers failed or refused.
    #[error("cannot be looked up: the DNS servers failed")]
    ServerFailure,
    /// NXDOMAIN.
    #[error("does not exist in DNS")]
    NoSuchName,
    /// No answer in time.
    #[error("cannot be looked up: no DNS server answered in time")]
    Timeout,
}

/// A DNS configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up DNS: {0}")]
pub struct DnsStartError(String);

/// How long the second family may hold up dialling once the first has answered (RFC 8305 §3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

impl Resolver {
    /// Sets up DNS. `deadline` bounds a whole lookup, retries included.
    ///
    /// # Errors
    ///
    /// The servers named cannot be used. A system without DNS configuration is no error: static
    /// hosts still work.
    pub fn new(settings: &Dns, deadline: Duration) -> Result<Self, DnsStartError> {
        let (config, mut options) = match &settings.servers {
            Some(servers) => (named(servers), ResolverOpts::default()),
            None => match hickory_resolver::system_conf::read_system_conf() {
                Ok(system) => system,
                Err(error) => {
                    tracing::warn!(%error, "no DNS configuration found; only static hosts resolve");
                    (named(&[]), ResolverOpts::default())
                }
            },
        };
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = u64::from(settings.cache);
        options.attempts = 2;
        options.timeout = deadline / 2;
        let dns = match config.name_servers().is_empty() {
            true => None,
            false => {
                let provider = TokioRuntimeProvider::default();
                let builder =
                    TokioResolver::builder_with_config(config, provider).with_options(options);
                Some(builder.build().map_err(|error| DnsStartError(error.to_string()))?)
            }
        };
        let hosts_file = Hosts::from_system().unwrap_or_default();
        Ok(Self { hosts: settings.hosts.clone(), hosts_file, dns, deadline })
    }

    /// Looks a name up: both families side by side.
    ///
    /// # Errors
    ///
    /// Why there is not one address.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the lookup; nothing is held.
    pub async fn resolve(&self, name: &DnsName) -> Result<Answer, DnsError> {
        if name.is_localhost() {
            let addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(Answer { addresses, late: None });
        }
        if let Some(addresses) = self.hosts.get(name) {
            return match addresses.is_empty() {
                true => Err(DnsError::NoAddress),
                false => Ok(Answer { addresses: addresses.clone(), late: None }),
            };
        }
        let absolute = absolute(name)?;
        let addresses = self.in_hosts_file(&absolute);
        if !addresses.is_empty() {
            return Ok(Answer { addresses, late: None });
        }
        let dns = self.dns.as_ref().ok_or(DnsError::NoServer)?;
        race(
            lookup(dns.clone(), absolute.clone(), RecordType::AAAA, self.deadline),
            lookup(dns.clone(), absolute, RecordType::A, self.deadline),
        )
        .await
    }

    fn in_hosts_file(&self, name: &Name) -> Vec<IpAddr> {
        [RecordType::AAAA, RecordType::A]
            .into_iter()
            .filter_map(|family| {
                self.hosts_file.lookup_static_host(&Query::query(name.clone(), family))
            })
            .flat_map(|found| addresses(found.answers().iter().map(|record| &record.data)))
            .collect()
    }
}

fn named(servers: &[SocketAddr]) -> ResolverConfig {
    let servers = servers
        .iter()
        .map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
                .map(|mut connection| {
                    connection.port = server.port();
                    connection
                })
                .into();
            NameServerConfig::new(server.ip(), true, connections)
        })
        .collect();
    ResolverConfig::from_parts(None, Vec::new(), servers)
}

/// The name with its final dot, so that no search domain is ever appended.
fn absolute(name: &DnsName) -> Result<Name, DnsError> {
    let mut absolute = Name::from_ascii(name.as_str()).map_err(|_| DnsError::NoSuchName)?;
    absolute.set_fqdn(true);
    Ok(absolute)
}

async fn lookup(
    dns: TokioResolver,
    name: Name,
    family: RecordType,
    deadline: Duration,
) -> Result<Vec<IpAddr>, DnsError> {
    match timeout(deadline, dns.lookup(name, family)).await {
        Err(_) => Err(DnsError::Timeout),
        Ok(Err(error)) => Err(DnsError::from(&error)),
        Ok(Ok(found)) => {
            let addresses = addresses(found.answers().iter().map(|record| &record.data));
            if addresses.is_empty() { Err(DnsError::NoAddress) } else { Ok(addresses) }
        }
    }
}

fn addresses<'a>(data: impl Iterator<Item = &'a RData>) -> Vec<IpAddr> {
    data.filter_map(RData::ip_addr).collect()
}

/// Both families, or the first with addresses and the other later (RFC 8305 §3).
async fn race<F>(v6: F, v4: F) -> Result<Answer, DnsError>
where
    F: Future<Output = Result<Vec<IpAddr>, DnsError>> + Send + 'static,
{
    let (mut v6, mut v4) = (Box::pin(v6), Box::pin(v4));
    let (first, mut other) = tokio::select! {
        first = &mut v6 => (first, v4),
        first = &mut v4 => (first, v6),
    };
    match first {
        Err(error) => match other.await {
            Ok(addresses) => Ok(Answer { addresses, late: None }),
            Err(other) => Err(worse(error, other)),
        },
        Ok(mut addresses) => match timeout(RESOLUTION_DELAY, &mut other).await {
            Ok(second) => {
                addresses.extend(second.unwrap_or_default());
                Ok(Answer { addresses, late: None })
            }
            Err(_) => {
                let late = Box::pin(async move { other.await.unwrap_or_default() });
                Ok(Answer { addresses, late: Some(late) })
            }
        },
    }
}

/// What to say when both families failed: a failure of the servers says more than an empty answer.
fn worse(one: DnsError, other: DnsError) -> DnsError {
    let rank = |error| match error {
        DnsError::Timeout => 0,
        DnsError::ServerFailure => 1,
        DnsError::NoServer => 2,
        DnsError::NoSuchName => 3,
        DnsError::NoAddress => 4,
    };
    if rank(one) <= rank(other) { one } else { other }
}

impl From<&NetError> for DnsError {
    fn from(error: &NetError) -> Self {
        if error.is_nx_domain() {
            return Self::NoSuchName;
        }
        if matches!(error, NetError::Timeout) {
            return Self::Timeout;
        }
        if let NetError::Dns(HickoryDnsError::NoRecordsFound(none)) = error
            && none.response_code == ResponseCode::NoError
        {
            return Self::NoAddress;
        }
        Self::ServerFailure
    }
}
