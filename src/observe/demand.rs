//! What was asked for, read back from an audit or gathered as it is recorded.
//!
//! Only canonical values leave here: a line that was written by somebody else is parsed like
//! anything from outside, and counted as odd if it does not parse.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, Read as _},
    net::IpAddr,
};

use serde::Deserialize;

use super::{
    Record,
    record::{SOCKET, stamp},
};
use crate::{
    net::{Authority, DnsName, Host, IpClass, Port},
    policy::{Leave, Reason},
};

/// What an audit says was asked for.
#[derive(Debug, Clone)]
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
    /// Requests to destinations for which there was no room.
    pub left_out: u64,
    /// How many destinations are kept, of each kind.
    room: usize,
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
        let mut demand = Self::with_room_for(usize::MAX);
        let mut line = Vec::new();
        loop {
            line.clear();
            if audit.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(demand);
            }
            demand.read_line(line.trim_ascii());
        }
    }

    /// Nothing yet, and never more than so many destinations.
    pub(super) fn with_room_for(room: usize) -> Self {
        Self {
            allowed: BTreeMap::new(),
            refused: BTreeMap::new(),
            private: BTreeSet::new(),
            span: None,
            odd_lines: 0,
            left_out: 0,
            room,
        }
    }

    /// Takes in what the line of the record would be. Of unix sockets nothing: no rule about hosts would
    /// allow them.
    pub(super) fn note(&mut self, record: &Record) {
        match record {
            Record::Decision { at, subject, verdict } => {
                let Some(authority) = subject.destination.authority() else { return };
                match verdict {
                    Ok(Leave::Rule(_) | Leave::Observed | Leave::Sockets) => {
                        self.allow(authority.clone());
                    }
                    Err(refused) => self.refuse(authority.clone(), Reason::named(refused.reason)),
                }
                self.stretch(stamp(*at));
            }
            Record::End { subject, peer, inside, .. } => {
                let Some(authority) = subject.destination.authority() else { return };
                let peer = peer.and_then(|peer| Some(peer.origin()?.ip()));
                self.reached(authority, peer);
                let inside = inside.as_deref().filter(|inside| inside.mismatch.is_none());
                if let Some(name) = inside.and_then(|inside| inside.server_name.clone()) {
                    self.allow(Authority { host: Host::Name(name), port: authority.port });
                }
            }
            Record::Dropped { .. } => {}
        }
    }

    /// Takes one line in.
    fn read_line(&mut self, line: &[u8]) {
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
                match line.decision.as_deref()? {
                    "allow" => self.allow(authority),
                    _ => self.refuse(authority, line.reason.as_deref().and_then(Reason::named)),
                }
                self.stretch(line.timestamp);
            }
            "exeat.end" => {
                let authority = line.authority()?;
                self.reached(&authority, line.peer);
                // In the tunnel the client named another host, which must be allowed too.
                if let (None, Some(name)) = (&line.mismatch, &line.server_name) {
                    let host = Host::Name(DnsName::parse(name.as_bytes()).ok()?);
                    self.allow(Authority { host, port: authority.port });
                }
            }
            "exeat.audit_dropped" => {}
            _ => return None,
        }
        Some(())
    }

    fn allow(&mut self, authority: Authority) {
        self.left_out += count(&mut self.allowed, authority, self.room);
    }

    /// Without a reason it was refused, but not by a policy.
    fn refuse(&mut self, authority: Authority, reason: Option<Reason>) {
        if let Some(reason) = reason {
            self.left_out += count(&mut self.refused, (authority, reason), self.room);
        }
    }

    /// Notes what a name led to.
    fn reached(&mut self, authority: &Authority, peer: Option<IpAddr>) {
        if let Host::Name(_) = authority.host
            && peer.is_some_and(|peer| !IpClass::of(peer, &[]).is_global())
            && self.private.len() < self.room
        {
            self.private.insert(authority.host.clone());
        }
    }

    fn stretch(&mut self, at: String) {
        self.span = match self.span.take() {
            None => Some((at.clone(), at)),
            Some((first, _)) => Some((first, at)),
        };
    }
}

/// Counts one more; what there is no room for is given back.
fn count<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, room: usize) -> u64 {
    let has_room = counts.len() < room;
    match counts.get_mut(&key) {
        Some(count) => *count += 1,
        None if has_room => {
            counts.insert(key, 1);
        }
        None => return 1,
    }
    0
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

    #[test]
    fn what_has_no_room_is_counted() {
        let mut demand = Demand::with_room_for(2);
        let authority = |host: &str| Authority::parse_or(host.as_bytes(), Port::HTTPS).unwrap();
        for host in ["a.test", "b.test", "c.test", "b.test", "d.test"] {
            demand.allow(authority(host));
        }
        assert_eq!(demand.allowed, [(authority("a.test"), 1), (authority("b.test"), 2)].into());
        assert_eq!(demand.left_out, 2);
    }
}
