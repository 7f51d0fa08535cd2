//! Flags beat environment beats file beats default.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use ipnet::{IpNet, Ipv6Net};

use super::{Environment, Exception, Flags, Parent, Place, PlaceError, SettingsFile};
use crate::{
    net::DnsName,
    policy::{Egress, Mode, Pattern},
};

/// Everything `serve` needs to know, besides the policy.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which policy was asked for.
    pub chosen: Chosen,
    /// Whose policy files are taken.
    pub permissions: Permissions,
    /// What the process may still do once it runs.
    pub confine: Confine,
    /// What happens to hosts that no rule speaks about. Only a flag says, where everybody sees it.
    pub mode: Mode,
    /// Where to listen, and for whom.
    pub listen: Listen,
    /// Names and ranges that may be private (`[egress] private`).
    pub private: Vec<Private>,
    /// How names are resolved.
    pub dns: Dns,
    /// The proxy through which everything leaves, if there may be one.
    pub parent: Parent,
    /// Where audit records go.
    pub audit: AuditTarget,
    /// How many audit records may wait to be written.
    pub audit_queue: usize,
    /// Bounds.
    pub limits: Limits,
    /// Which of them were asked for.
    pub asked: Asked,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// What is asked of the beginning of a tunnel.
    pub tls: Tls,
    /// Whether bytes may go through tunnels without being copied.
    pub splice: bool,
}

/// Which policy to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// The default places.
    Default,
    /// A file that was named.
    File(PathBuf),
    /// A preset that was named.
    Preset(String),
}

/// Whose policy and settings files are taken. Only a flag says otherwise, where everybody sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permissions {
    /// Only those that no other unprivileged user can change.
    Checked,
    /// Anybody's.
    Insecure,
}

impl Permissions {
    /// What `--insecure-policy-permissions` means.
    #[must_use]
    pub fn of_flag(insecure: bool) -> Self {
        if insecure { Self::Insecure } else { Self::Checked }
    }
}

/// What the process may still do once it runs. Only a flag says otherwise, where everybody sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confine {
    /// What a proxy does, and no more.
    Confined,
    /// All that its user may do.
    Unconfined,
}

/// Where to listen.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The place that was asked for; the policy's `http_port` or 3128 on loopback otherwise.
    pub http: Option<Place>,
    /// The same for SOCKS5.
    pub socks: Socks,
    /// Where connections arrive that were meant for others, and are led here.
    pub transparent: Vec<SocketAddr>,
    /// Who may use the proxy; loopback, and the local subnets when not on loopback, otherwise.
    pub clients: Option<Vec<IpNet>>,
    /// Whether listening beyond loopback was asked for.
    pub allow_non_loopback: bool,
}

impl Listen {
    /// The port when nobody names one, as Codex's.
    pub const DEFAULT_PORT: u16 = 3128;
}

/// Where to listen for SOCKS5.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Socks {
    /// At a place that was asked for.
    At(Place),
    /// Nowhere.
    Off,
    /// On loopback, at the policy's `socks_port`; nowhere, if it has none.
    #[default]
    OfPolicy,
}

impl FromStr for Socks {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        match text {
            "off" => Ok(Self::Off),
            place => place.parse().map(Self::At),
        }
    }
}

/// An exception for private destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Private {
    /// A pattern of names that may resolve to private addresses.
    Name(Pattern),
    /// A range that may be dialled.
    Range(IpNet),
}

/// How names are resolved.
#[derive(Debug, Clone)]
pub struct Dns {
    /// Servers to ask instead of the system's.
    pub servers: Option<Vec<SocketAddr>>,
    /// Static answers, which beat everything else.
    pub hosts: BTreeMap<DnsName, Vec<IpAddr>>,
    /// NAT64 prefixes of this network.
    pub nat64: Vec<Ipv6Net>,
    /// How many answers are cached.
    pub cache: u32,
}

/// Where audit records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// To a file, appended.
    File(PathBuf),
    /// Nowhere.
    Off,
    /// To standard error.
    Stderr,
    /// To standard output.
    Stdout,
}

/// Bounds on what is held at a time.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Client connections and tunnels.
    pub connections: usize,
    /// Those of one client that is not on loopback: an IPv4 address, or an IPv6 /64.
    pub connections_per_client: usize,
    /// Tunnels, from the decision that allows them to their end.
    pub tunnels: usize,
    /// Requests from their head to the end of their answer, or until their tunnel is up.
    pub requests: usize,
    /// DNS lookups that wait for a server.
    pub lookups: usize,
    /// Connections to origins that are being established.
    pub dials: usize,
    /// Bytes of a request line.
    pub request_line_bytes: usize,
    /// Bytes of a request head.
    pub head_bytes: usize,
    /// Fields of a request head.
    pub head_fields: usize,
    /// Idle connections kept to one origin.
    pub idle_per_origin: usize,
    /// Idle connections kept in all.
    pub idle_origins: usize,
}

/// The bounds that cost descriptors, as far as somebody wrote them. The others are defaults, which
/// may be lowered to what the system has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// `connections`.
    pub connections: Option<usize>,
    /// `idle_origins`.
    pub idle_origins: Option<usize>,
}

/// Deadlines; none of them limits the age of a stream that moves.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// A client's connection on which there is no request.
    pub idle_client: Duration,
    /// From the first byte of a request head to its end.
    pub request_head: Duration,
    /// From the request sent to the head of the origin's answer.
    pub response_head: Duration,
    /// To establish a connection to an origin, all addresses together.
    pub connect: Duration,
    /// For a DNS answer.
    pub dns: Duration,
    /// From the first byte of a client in a tunnel until it shows what it speaks, and to whom.
    pub first_bytes: Duration,
    /// A tunnel or a body in which nothing moves.
    pub idle: Duration,
    /// A kept origin connection that nobody uses.
    pub idle_origin: Duration,
    /// For work in progress when the proxy is told to stop.
    pub drain: Duration,
}

/// What is asked of the first bytes in a tunnel.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Which host a client may name there.
    pub sni: Sni,
    /// Whether port 443 is for TLS alone.
    pub require: bool,
    /// Hosts where it is not.
    pub cleartext: Vec<Pattern>,
    /// What happens when a name may be hidden.
    pub ech: Ech,
}

/// Which host a client may name inside a tunnel, as SNI or in an HTTP head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sni {
    /// SNI: one that the policy allows.
    Allowed,
    /// The one it asked for.
    Enforce,
    /// Any.
    Off,
}

/// What happens to a ClientHello that may hide another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ech {
    /// It passes, and the audit says so.
    Record,
    /// The tunnel is closed.
    Refuse,
}

/// Hosts that are known to speak SSH on port 443: GitHub Docs, "Using SSH over the HTTPS port";
/// GitLab, "GitLab.com now supports an alternate git+ssh port" (2016); Atlassian's documentation of
/// SSH for Bitbucket Cloud on port 443.
const SSH_OVER_443: &[&str] = &["ssh.github.com", "altssh.gitlab.com", "altssh.bitbucket.org"];

impl Settings {
    /// Puts the three together.
    #[must_use]
    pub fn resolve(flags: Flags, environment: Environment, file: SettingsFile) -> Self {
        let chosen = match (flags.requirements, flags.preset) {
            (Some(path), _) => Chosen::File(path),
            (None, Some(preset)) => Chosen::Preset(preset),
            (None, None) => match (environment.requirements, environment.preset) {
                (Some(path), _) => Chosen::File(path),
                (None, Some(preset)) => Chosen::Preset(preset),
                (None, None) => Chosen::Default,
            },
        };
        let audit = flags.audit.or(environment.audit).or(file.audit_to);
        Self {
            chosen,
            permissions: Permissions::of_flag(flags.insecure_policy_permissions),
            confine: match flags.no_confine {
                true => Confine::Unconfined,
                false => Confine::Confined,
            },
            mode: flags.mode,
            listen: Listen {
                http: flags.listen.or(environment.listen).or(file.http),
                socks: flags.socks.or(environment.socks).or(file.socks).unwrap_or_default(),
                transparent: match flags.transparent.as_slice() {
                    [] => environment.transparent.or(file.transparent).unwrap_or_default(),
                    _ => flags.transparent,
                },
                clients: file.clients,
                allow_non_loopback: flags.allow_non_loopback
                    || environment.allow_non_loopback.unwrap_or(false),
            },
            private: file.private,
            dns: Dns {
                servers: file.servers,
                hosts: file.hosts,
                nat64: file.nat64,
                cache: file.dns_cache.unwrap_or(10_000),
            },
            parent: Parent {
                chosen: flags.parent.or(environment.parent).or(file.parent_url),
                usual: environment.usual,
                except: file.parent_except.unwrap_or_else(|| {
                    Exception::of_no_proxy(environment.no_proxy.as_deref().unwrap_or_default())
                }),
                ask: file.parent_ask.unwrap_or_default(),
            },
            audit: audit.map_or(AuditTarget::Stdout, |word| AuditTarget::from_word(&word)),
            audit_queue: size(file.audit_queue, 16_384),
            limits: Limits {
                connections: size(file.connections, 10_000),
                connections_per_client: size(file.connections_per_client, 1_000),
                tunnels: size(file.tunnels, 8_000),
                requests: size(file.requests, 8_000),
                lookups: size(file.lookups, 1_024),
                dials: size(file.dials, 2_048),
                request_line_bytes: size(file.request_line_bytes, 32_768),
                head_bytes: size(file.head_bytes, 65_536),
                head_fields: size(file.head_fields, 100),
                idle_per_origin: size(file.idle_per_origin, 128),
                idle_origins: size(file.idle_origins, 1_024),
            },
            asked: Asked {
                connections: written(file.connections),
                idle_origins: written(file.idle_origins),
            },
            timeouts: Timeouts {
                idle_client: file.idle_client.unwrap_or(Duration::from_secs(60)),
                request_head: file.request_head.unwrap_or(Duration::from_secs(30)),
                response_head: file.response_head.unwrap_or(Duration::from_secs(600)),
                connect: file.connect.unwrap_or(Duration::from_secs(10)),
                dns: file.dns.unwrap_or(Duration::from_secs(5)),
                first_bytes: file.first_bytes.unwrap_or(Duration::from_secs(10)),
                idle: file.idle.unwrap_or(Duration::from_secs(3600)),
                idle_origin: file.idle_origin.unwrap_or(Duration::from_secs(60)),
                drain: flags
                    .drain
                    .or(environment.drain)
                    .or(file.drain)
                    .unwrap_or(Duration::from_secs(30)),
            },
            tls: Tls {
                sni: file.sni.unwrap_or(Sni::Enforce),
                require: file.require_tls.unwrap_or(true),
                cleartext: file.cleartext.unwrap_or_else(ssh_over_443),
                ech: file.ech.unwrap_or(Ech::Record),
            },
            splice: file.splice.unwrap_or(true),
        }
    }
}

impl Settings {
    /// The operator's part of a decision, as far as settings say it.
    #[must_use]
    pub fn egress(&self) -> Egress {
        let nat64 = self.dns.nat64.clone();
        let mut egress = Egress { mode: self.mode, nat64, ..Egress::default() };
        for exception in &self.private {
            match exception {
                Private::Name(pattern) => egress.private_names.push(pattern.clone()),
                Private::Range(range) => egress.private_ranges.push(*range),
            }
        }
        egress
    }
}

impl AuditTarget {
    fn from_word(word: &str) -> Self {
        match word {
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            "off" => Self::Off,
            path => Self::File(path.into()),
        }
    }
}

fn ssh_over_443() -> Vec<Pattern> {
    SSH_OVER_443.iter().filter_map(|host| Pattern::parse(host).ok()).collect()
}

fn size(number: Option<u32>, default: usize) -> usize {
    written(number).unwrap_or(default)
}

fn written(number: Option<u32>) -> Option<usize> {
    number.and_then(|number| usize::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_hosts_are_patterns() {
        assert_eq!(ssh_over_443().len(), SSH_OVER_443.len());
    }

    #[test]
    fn flags_beat_environment_beats_file() {
        let file = || {
            SettingsFile::parse(
                "[listen]\nhttp = \"127.0.0.1:1\"\n[timeouts]\ndrain = \"1s\"\n\
                 [audit]\nto = \"stderr\"\n",
            )
            .unwrap()
        };
        let environment = || Environment {
            listen: "127.0.0.1:2".parse().ok(),
            preset: Some("agent".into()),
            ..Environment::default()
        };
        let settings = Settings::resolve(Flags::default(), environment(), file());
        assert_eq!(settings.listen.http, "127.0.0.1:2".parse().ok());
        assert_eq!(settings.timeouts.drain, Duration::from_secs(1));
        assert_eq!(settings.audit, AuditTarget::Stderr);
        assert_eq!(settings.chosen, Chosen::Preset("agent".into()));

        let flags = Flags {
            listen: "127.0.0.1:3".parse().ok(),
            requirements: Some("r.toml".into()),
            audit: Some("/tmp/audit".into()),
            ..Flags::default()
        };
        let settings = Settings::resolve(flags, environment(), file());
        assert_eq!(settings.listen.http, "127.0.0.1:3".parse().ok());
        assert_eq!(settings.chosen, Chosen::File("r.toml".into()));
        assert_eq!(settings.audit, AuditTarget::File("/tmp/audit".into()));
    }
}
