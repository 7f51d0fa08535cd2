//! `exeat.toml`: every key of the settings file, with the place of everything wrong in it.
//!
//! A mirror of the file: what is missing stays missing, defaults come in `resolve`. An unknown key
//! is an error, because a setting that is silently ignored is worse than none.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use ipnet::{IpNet, Ipv6Net};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Ask, Exception, ParentUrl, parse_duration,
    place::Place,
    resolve::{Ech, Private, Sni, Socks},
};
use crate::{
    net::DnsName,
    policy::{Pattern, Problem},
};

/// What `exeat.toml` says.
#[derive(Debug, Clone, Default)]
pub struct SettingsFile {
    pub(super) http: Option<Place>,
    pub(super) socks: Option<Socks>,
    pub(super) transparent: Option<Vec<SocketAddr>>,
    pub(super) clients: Option<Vec<IpNet>>,
    pub(super) private: Vec<Private>,
    pub(super) servers: Option<Vec<SocketAddr>>,
    pub(super) hosts: BTreeMap<DnsName, Vec<IpAddr>>,
    pub(super) nat64: Vec<Ipv6Net>,
    pub(super) dns_cache: Option<u32>,
    pub(super) audit_to: Option<String>,
    pub(super) audit_queue: Option<u32>,
    pub(super) connections: Option<u32>,
    pub(super) connections_per_client: Option<u32>,
    pub(super) tunnels: Option<u32>,
    pub(super) requests: Option<u32>,
    pub(super) lookups: Option<u32>,
    pub(super) dials: Option<u32>,
    pub(super) request_line_bytes: Option<u32>,
    pub(super) head_bytes: Option<u32>,
    pub(super) head_fields: Option<u32>,
    pub(super) idle_per_origin: Option<u32>,
    pub(super) idle_origins: Option<u32>,
    pub(super) idle_client: Option<Duration>,
    pub(super) request_head: Option<Duration>,
    pub(super) response_head: Option<Duration>,
    pub(super) connect: Option<Duration>,
    pub(super) dns: Option<Duration>,
    pub(super) idle: Option<Duration>,
    pub(super) idle_origin: Option<Duration>,
    pub(super) drain: Option<Duration>,
    pub(super) first_bytes: Option<Duration>,
    pub(super) sni: Option<Sni>,
    pub(super) ech: Option<Ech>,
    pub(super) require_tls: Option<bool>,
    pub(super) cleartext: Option<Vec<Pattern>>,
    pub(super) splice: Option<bool>,
    pub(super) parent_url: Option<ParentUrl>,
    pub(super) parent_except: Option<Vec<Exception>>,
    pub(super) parent_ask: Option<Ask>,
}

/// The whole language of the file, for the nearest key of an unknown one.
const KEYS: &[(&str, &[&str])] = &[
    ("audit", &["to", "queue"]),
    ("dns", &["servers", "hosts", "nat64", "cache"]),
    ("egress", &["private"]),
    (
        "limits",
        &[
            "connections",
            "connections_per_client",
            "tunnels",
            "requests",
            "lookups",
            "dials",
            "request_line_bytes",
            "head_bytes",
            "head_fields",
            "idle_per_origin",
            "idle_origins",
        ],
    ),
    ("listen", &["http", "socks", "transparent", "clients"]),
    ("parent", &["url", "except", "ask"]),
    (
        "timeouts",
        &[
            "idle_client",
            "request_head",
            "response_head",
            "connect",
            "dns",
            "first_bytes",
            "idle",
            "idle_origin",
            "drain",
        ],
    ),
    ("tls", &["sni", "require", "cleartext", "ech"]),
    ("tunnels", &["splice"]),
];

type Value<'i> = Spanned<DeValue<'i>>;

/// Whether a duration may be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zero {
    Accepted,
    Refused,
}

impl SettingsFile {
    /// Reads the text of a settings file.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let problem = |error: &toml::de::Error| {
                let message = format!("invalid TOML: {}", error.message());
                Problem::error(error.span().unwrap_or(0..0), message)
            };
            return Err(errors.iter().map(problem).collect());
        }
        let mut reader = Reader::default();
        for (section, value) in root.get_ref() {
            reader.section(section, value);
        }
        reader.problems.sort_by_key(|problem| problem.span.start);
        if reader.problems.is_empty() { Ok(reader.file) } else { Err(reader.problems) }
    }
}

#[derive(Default)]
struct Reader {
    file: SettingsFile,
    problems: Vec<Problem>,
}

impl Reader {
    fn section(&mut self, section: &Spanned<std::borrow::Cow<'_, str>>, value: &Value<'_>) {
        let name = section.get_ref().as_ref();
        let Some((_, keys)) = KEYS.iter().find(|(known, _)| *known == name) else {
            let sections: Vec<&str> = KEYS.iter().map(|(known, _)| *known).collect();
            self.problems.push(unknown("section", name, section.span(), &sections));
            return;
        };
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(value, &format!("`{name}` must be a table, written `[{name}]`"));
            return;
        };
        for (key, value) in table.iter() {
            if keys.contains(&key.get_ref().as_ref()) {
                self.key(name, key.get_ref(), value);
            } else {
                self.problems.push(unknown("key", key.get_ref(), key.span(), keys));
            }
        }
    }

    fn key(&mut self, section: &str, key: &str, value: &Value<'_>) {
        match (section, key) {
            ("listen", "http") => {
                self.file.http = self.parsed(
                    value,
                    "ADDRESS:PORT, such as 127.0.0.1:3128, or unix:/path",
                    parse_ok,
                )
            }
            ("listen", "socks") => {
                self.file.socks = self.parsed(
                    value,
                    "ADDRESS:PORT, such as 127.0.0.1:8081, unix:/path or \"off\"",
                    parse_ok,
                )
            }
            ("listen", "transparent") => {
                self.file.transparent =
                    Some(self.list(value, "ADDRESS:PORT, such as 127.0.0.1:15001", parse_ok));
            }
            ("listen", "clients") => {
                self.file.clients =
                    Some(self.list(value, "an address range, such as 10.0.0.0/8", parse_range));
            }
            ("egress", "private") => {
                self.file.private =
                    self.list(value, "a host pattern or an address range", parse_private);
            }
            ("dns", "servers") => {
                self.file.servers = Some(self.list(value, "IP or IP:PORT", parse_server));
            }
            ("dns", "nat64") => {
                self.file.nat64 = self.list(
                    value,
                    "an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits",
                    parse_nat64,
                );
            }
            ("dns", "cache") => self.file.dns_cache = self.number(value, 1..=10_000_000),
            ("dns", "hosts") => self.hosts(value),
            ("audit", "to") => self.file.audit_to = self.text(value).map(str::to_owned),
            ("audit", "queue") => self.file.audit_queue = self.number(value, 1..=10_000_000),
            ("limits", "connections") => self.file.connections = self.number(value, 1..=1_000_000),
            ("limits", "connections_per_client") => {
                self.file.connections_per_client = self.number(value, 1..=1_000_000)
            }
            ("limits", "tunnels") => self.file.tunnels = self.number(value, 1..=1_000_000),
            ("limits", "requests") => self.file.requests = self.number(value, 1..=1_000_000),
            ("limits", "lookups") => self.file.lookups = self.number(value, 1..=1_000_000),
            ("limits", "dials") => self.file.dials = self.number(value, 1..=1_000_000),
            ("limits", "request_line_bytes") => {
                self.file.request_line_bytes = self.number(value, 512..=16_777_216)
            }
            ("limits", "head_bytes") => {
                self.file.head_bytes = self.number(value, 1_024..=16_777_216)
            }
            ("limits", "head_fields") => self.file.head_fields = self.number(value, 1..=1_000),
            ("limits", "idle_per_origin") => {
                self.file.idle_per_origin = self.number(value, 1..=100_000)
            }
            ("limits", "idle_origins") => self.file.idle_origins = self.number(value, 1..=100_000),
            ("timeouts", "idle_client") => {
                self.file.idle_client = self.duration(value, Zero::Refused)
            }
            ("timeouts", "request_head") => {
                self.file.request_head = self.duration(value, Zero::Refused)
            }
            ("timeouts", "response_head") => {
                self.file.response_head = self.duration(value, Zero::Refused)
            }
            ("timeouts", "connect") => self.file.connect = self.duration(value, Zero::Refused),
            ("timeouts", "dns") => self.file.dns = self.duration(value, Zero::Refused),
            ("timeouts", "idle") => self.file.idle = self.duration(value, Zero::Refused),
            ("timeouts", "idle_origin") => {
                self.file.idle_origin = self.duration(value, Zero::Accepted)
            }
            ("timeouts", "first_bytes") => {
                self.file.first_bytes = self.duration(value, Zero::Refused)
            }
            ("timeouts", "drain") => self.file.drain = self.duration(value, Zero::Accepted),
            ("tls", "sni") => {
                self.file.sni = self.parsed(value, "\"enforce\", \"allowed\" or \"off\"", parse_sni)
            }
            ("tls", "ech") => {
                self.file.ech = self.parsed(value, "\"record\" or \"refuse\"", parse_ech)
            }
            ("tls", "require") => self.file.require_tls = self.truth(value),
            ("tls", "cleartext") => {
                self.file.cleartext = Some(self.list(value, "a host pattern", parse_pattern));
            }
            ("parent", "url") => self.parent(value),
            ("parent", "except") => {
                self.file.parent_except =
                    Some(self.list(value, "a host pattern or an address range", Exception::parse));
            }
            ("parent", "ask") => {
                self.file.parent_ask = self.parsed(value, "\"address\" or \"name\"", parse_ask)
            }
            ("tunnels", "splice") => self.file.splice = self.truth(value),
            _ => self.wrong(value, &format!("`{key}` is not a setting of `[{section}]`")),
        }
    }

    /// What is wrong with it is said without showing it: it may hold a password.
    fn parent(&mut self, value: &Value<'_>) {
        match self.text(value).map(ParentUrl::parse) {
            Some(Ok(url)) => self.file.parent_url = Some(url),
            Some(Err(error)) => self.wrong(value, &error.to_string()),
            None => {}
        }
    }

    fn hosts(&mut self, value: &Value<'_>) {
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(value, "`hosts` must be a table of \"name\" = [\"address\"]");
            return;
        };
        for (key, value) in table.iter() {
            if let DeValue::Table(_) = value.get_ref() {
                let message = format!("`{}` is a table", key.get_ref());
                let problem = Problem::error(key.span(), message);
                self.problems.push(problem.with_help("put the whole name in quotes"));
                continue;
            }
            let addresses = self.list(value, "an IP address", parse_ok);
            match DnsName::parse(key.get_ref().as_bytes()) {
                Ok(name) => {
                    self.file.hosts.insert(name, addresses);
                }
                Err(error) => {
                    let message = format!("`{}` {error}", key.get_ref());
                    self.problems.push(
                        Problem::error(key.span(), message)
                            .with_help("put the whole name in quotes: \"www.example.com\""),
                    );
                }
            }
        }
    }

    fn text<'v>(&mut self, value: &'v Value<'_>) -> Option<&'v str> {
        let DeValue::String(text) = value.get_ref() else {
            self.wrong(value, "expected a string");
            return None;
        };
        Some(text)
    }

    fn truth(&mut self, value: &Value<'_>) -> Option<bool> {
        let DeValue::Boolean(truth) = value.get_ref() else {
            self.wrong(value, "expected true or false");
            return None;
        };
        Some(*truth)
    }

    fn parsed<T>(
        &mut self,
        value: &Value<'_>,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(value)?;
        let parsed = parse(text);
        if parsed.is_none() {
            self.wrong(value, &format!("`{text}` is not {expected}"));
        }
        parsed
    }

    fn list<T>(
        &mut self,
        value: &Value<'_>,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong(value, &format!("expected a list, each item {expected}"));
            return Vec::new();
        };
        array.iter().filter_map(|item| self.parsed(item, expected, &parse)).collect()
    }

    fn number(&mut self, value: &Value<'_>, range: RangeInclusive<u32>) -> Option<u32> {
        let number = match value.get_ref() {
            DeValue::Integer(integer) => {
                u32::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
            DeValue::String(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (from, to) = range.into_inner();
            self.wrong(value, &format!("expected a whole number from {from} to {to}"));
        }
        number
    }

    fn duration(&mut self, value: &Value<'_>, zero: Zero) -> Option<Duration> {
        let DeValue::String(text) = value.get_ref() else {
            self.wrong(value, "expected a duration in quotes, such as \"5s\"");
            return None;
        };
        match parse_duration(text) {
            Ok(Duration::ZERO) if zero == Zero::Refused => {
                self.wrong(value, "must be more than zero");
                None
            }
            Ok(duration) => Some(duration),
            Err(error) => {
                self.wrong(value, &error.to_string());
                None
            }
        }
    }

    fn wrong(&mut self, value: &Value<'_>, message: &str) {
        self.problems.push(Problem::error(value.span(), message));
    }
}

fn unknown(what: &str, name: &str, span: std::ops::Range<usize>, known: &[&str]) -> Problem {
    let nearest = known.iter().map(|known| (strsim::levenshtein(name, known), *known)).min();
    let help = match nearest {
        Some((distance, nearest)) if distance <= NEAR => {
            format!("the nearest {what} is `{nearest}`")
        }
        Some((_, nearest)) => {
            format!("the nearest {what} is `{nearest}`, of: {}", known.join(", "))
        }
        None => format!("no {what} is known here"),
    };
    Problem::error(span, format!("unknown {what} `{name}`")).with_help(help)
}

/// How many edits make a typo, rather than another word.
const NEAR: usize = 3;

fn parse_ok<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn parse_range(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn parse_server(text: &str) -> Option<SocketAddr> {
    const DNS_PORT: u16 = 53;
    text.parse()
        .ok()
        .or_else(|| text.parse().ok().map(|address| SocketAddr::new(address, DNS_PORT)))
}

/// RFC 6052 §2.2 knows these prefix lengths only.
fn parse_nat64(text: &str) -> Option<Ipv6Net> {
    let prefix: Ipv6Net = text.parse().ok()?;
    matches!(prefix.prefix_len(), 32 | 40 | 48 | 56 | 64 | 96).then_some(prefix)
}

fn parse_private(text: &str) -> Option<Private> {
    match parse_range(text) {
        Some(range) => Some(Private::Range(range)),
        None => parse_pattern(text).map(Private::Name),
    }
}

fn parse_pattern(text: &str) -> Option<Pattern> {
    Pattern::parse(text).ok()
}

fn parse_sni(text: &str) -> Option<Sni> {
    match text {
        "enforce" => Some(Sni::Enforce),
        "allowed" => Some(Sni::Allowed),
        "off" => Some(Sni::Off),
        _ => None,
    }
}

fn parse_ask(text: &str) -> Option<Ask> {
    match text {
        "address" => Some(Ask::Address),
        "name" => Some(Ask::Name),
        _ => None,
    }
}

fn parse_ech(text: &str) -> Option<Ech> {
    match text {
        "record" => Some(Ech::Record),
        "refuse" => Some(Ech::Refuse),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = include_str!("../../config/exeat.toml");
        // Commented keys are keys; commented sentences are not.
        let is_key = |line: &&str| line.split(' ').nth(1) == Some("=");
        let uncommented =
            |line: &'static str| line.strip_prefix("# ").filter(is_key).unwrap_or(line);
        let every_key: String =
            text.lines().map(|line| format!("{}\n", uncommented(line))).collect();
        let parsed = SettingsFile::parse(&every_key);
        assert!(parsed.is_ok(), "{:?}\n{every_key}", parsed.err());
        for (section, keys) in KEYS {
            assert!(text.contains(&format!("[{section}]")), "{section} is not documented");
            for key in keys.iter().filter(|key| **key != "hosts") {
                assert!(text.contains(&format!("{key} = ")), "{section}.{key} is not documented");
            }
        }
        assert!(text.contains("[dns.hosts]"), "dns.hosts is not documented");
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let problems =
            SettingsFile::parse("[listen]\nhtpp = \"127.0.0.1:1\"\n[dsn]\n").unwrap_err();
        let said: Vec<_> = problems.iter().map(|p| (p.message.as_str(), p.help.clone())).collect();
        assert_eq!(
            said,
            [
                ("unknown key `htpp`", Some("the nearest key is `http`".to_owned())),
                ("unknown section `dsn`", Some("the nearest section is `dns`".to_owned())),
            ]
        );
    }

    #[test]
    fn wrong_values_are_all_reported() {
        let text = "[listen]\nhttp = 1\nclients = [\"x\"]\n[limits]\nconnections = 0\n\
                    [timeouts]\nconnect = \"5\"\nidle = \"0s\"\n[dns.hosts]\n\"a b\" = \
                    [\"10.0.0.1\"]\ngit.corp = [\"10.0.0.1\"]\n";
        assert_eq!(SettingsFile::parse(text).unwrap_err().len(), 7);
    }
}
