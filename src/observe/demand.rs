//! What was asked for, read back from an audit.
//!
//! Only canonical values leave here: a line that was written by somebody else is parsed like
//! anything from outside, and counted as odd if it does not parse.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, Read as _},
    net::IpAddr,
};

use serde::Deserialize;

use super::record::SOCKET;
use crate::{
    net::{Authority, DnsName, Host, IpClass, Port},
    policy::Reason,
};

/// What an audit says was asked for.
#[derive(Debug, Default)]
pub struct Demand {
    /// Destinations that were let through, by a rule or because the proxy observed, and how often.
    pub allowed: BTreeMap<Authority, u64>,
    /// Destinations that were refused, why, and how often.
    pub refused: BTreeMap<(Authority, Reason), u64>,
    /// Names that led to addresses which are not globally reachable.
    pub private: BTreeSet<Host>,
    /// When the first and the last decision were made, as the records say.
    pub span: Option<(String, String)>,
    /// Lines that are no records.
    pub odd_lines: u64,
}

/// A longer line is no record, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// The fields of a record that count here.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    timestamp: String,
    #[serde(rename = "event.name")]
    event: String,
    #[serde(rename = "server.address")]
    host: Option<String>,
    #[serde(rename = "server.port")]
    port: Option<u16>,
    #[serde(rename = "network.policy.decision")]
    decision: Option<String>,
    #[serde(rename = "network.policy.reason")]
    reason: Option<String>,
    #[serde(rename = "exeat.mismatch")]
    mismatch: Option<String>,
    #[serde(rename = "tls.client.server_name")]
    server_name: Option<String>,
    #[serde(rename = "network.peer.address")]
    peer: Option<IpAddr>,
}

impl Demand {
    /// Reads an audit to its end.
    ///
    /// # Errors
    ///
    /// Whatever reading gives.
    pub fn read(mut audit: impl BufRead) -> io::Result<Self> {
        let mut demand = Self::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            if audit.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(demand);
            }
            demand.note(line.trim_ascii());
        }
    }

    /// Takes one line in.
    fn note(&mut self, line: &[u8]) {
        if !line.is_empty()
            && serde_json::from_slice(line).ok().and_then(|l| self.take(l)).is_none()
        {
            self.odd_lines += 1;
        }
    }

    /// None, if the record makes no sense.
    fn take(&mut self, line: Line) -> Option<()> {
        match line.event.as_str() {
            // No rule about hosts would allow it.
            _ if line.host.as_deref() == Some(SOCKET) && line.port == Some(0) => {}
            "exeat.decision" => {
                let authority = line.authority()?;
                let reason = line.reason.as_deref().and_then(Reason::named);
                match (line.decision.as_deref()?, reason) {
                    ("allow", _) => *self.allowed.entry(authority).or_default() += 1,
                    (_, Some(reason)) => *self.refused.entry((authority, reason)).or_default() += 1,
                    // Refused, but not by a policy.
                    (_, None) => {}
                }
                self.span = match self.span.take() {
                    None => Some((line.timestamp.clone(), line.timestamp)),
                    Some((first, _)) => Some((first, line.timestamp)),
                };
            }
            "exeat.end" => {
                let authority = line.authority()?;
                if let Host::Name(_) = authority.host
                    && line.peer.is_some_and(|peer| !IpClass::of(peer, &[]).is_global())
                {
                    self.private.insert(authority.host.clone());
                }
                // In the tunnel the client named another host, which must be allowed too.
                if let (None, Some(name)) = (&line.mismatch, &line.server_name) {
                    let host = Host::Name(DnsName::parse(name.as_bytes()).ok()?);
                    let named = Authority { host, port: authority.port };
                    *self.allowed.entry(named).or_default() += 1;
                }
            }
            "exeat.audit_dropped" => {}
            _ => return None,
        }
        Some(())
    }
}

impl Line {
    fn authority(&self) -> Option<Authority> {
        let text = self.host.as_deref()?;
        let host = match text.parse::<IpAddr>() {
            Ok(address) => Host::from(address),
            Err(_) => Host::parse(text.as_bytes()).ok()?,
        };
        Some(Authority { host, port: self.port.and_then(Port::new)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_and_odd_lines_too() {
        let audit = br#"
{"timestamp":"t1","event.name":"exeat.decision","server.address":"a.test","server.port":443,"network.policy.decision":"allow","network.policy.reason":"allow"}
{"timestamp":"t2","event.name":"exeat.decision","server.address":"A.test","server.port":443,"network.policy.decision":"allow","network.policy.reason":"not_allowed"}
{"timestamp":"t3","event.name":"exeat.decision","server.address":"2001:db8::1","server.port":80,"network.policy.decision":"deny","network.policy.reason":"not_allowed_local"}
{"timestamp":"t4","event.name":"exeat.decision","server.address":"x.test","server.port":80,"network.policy.decision":"deny","network.policy.reason":"client_not_listed"}
{"event.name":"exeat.end","server.address":"a.test","server.port":443,"network.peer.address":"10.0.0.1"}
{"event.name":"exeat.end","server.address":"9.9.9.9","server.port":443,"network.peer.address":"9.9.9.9","tls.client.server_name":"b.test"}
{"event.name":"exeat.end","server.address":"a.test","server.port":443,"tls.client.server_name":"d.test"}
{"event.name":"exeat.end","server.address":"9.9.9.9","server.port":443,"tls.client.server_name":"c.test","exeat.mismatch":"server_name"}
{"event.name":"exeat.audit_dropped","exeat.audit.dropped_total":3}
{"event.name":"exeat.decision","server.address":"\", \"*","server.port":443,"network.policy.decision":"allow"}
{"event.name":"exeat.decision","server.address":"a.test","server.port":0,"network.policy.decision":"allow"}
{"event.name":"something.else"}
not JSON"#;
        let demand = Demand::read(&audit[..]).unwrap();
        let allowed: Vec<_> =
            demand.allowed.iter().map(|(to, count)| format!("{to} {count}")).collect();
        assert_eq!(allowed, ["a.test:443 2", "b.test:443 1", "d.test:443 1"]);
        let refused: Vec<_> =
            demand.refused.keys().map(|(to, reason)| format!("{to} {}", reason.as_str())).collect();
        assert_eq!(refused, ["[2001:db8::1]:80 not_allowed_local"]);
        assert_eq!(demand.private.iter().map(Host::to_bare_string).collect::<Vec<_>>(), ["a.test"]);
        assert_eq!(demand.span, Some(("t1".to_owned(), "t4".to_owned())));
        assert_eq!(demand.odd_lines, 4);
    }
}
