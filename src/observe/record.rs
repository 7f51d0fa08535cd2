//! One audit record: a decision, or the end of what it let through.
//!
//! Field names follow OpenTelemetry's semantic conventions where one exists, and Codex's
//! `network.policy.*`. Never a path or query of a URL, never a credential.

use std::{
    borrow::Cow,
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use time::OffsetDateTime;

use super::TimeoutCounters;
use crate::{
    net::{Authority, DnsName, Host},
    policy::{Denial, Leave, Peer, Policy, Reason, RuleId, SocketPath},
};

/// The host of requests for unix sockets, in Codex's words.
pub(super) const SOCKET: &str = "unix-socket";

/// What a record is about: who asked for what, under which policy.
#[derive(Debug)]
pub struct Subject {
    /// Counts the requests of one process.
    pub id: u64,
    /// Who asked.
    pub client: Caller,
    /// How.
    pub protocol: Protocol,
    /// The request method.
    pub method: http::Method,
    /// For which destination.
    pub destination: Destination,
    /// The policy that was asked.
    pub policy: Arc<Policy>,
}

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// A host and a port.
    Host(Authority),
    /// A unix socket: where it is, or what it was called if it was not looked for.
    Socket(SocketPath),
}

/// Who is at the other end of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Somebody at an address.
    Ip(SocketAddr),
    /// Somebody of this machine, at a unix socket.
    Unix,
}

/// How a request came in, in Codex's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A connection to the destination itself, which was led here; no word of Codex's.
    Captured,
    /// A request in absolute-form.
    Http,
    /// CONNECT.
    HttpsConnect,
    /// CONNECT of SOCKS5.
    Socks5,
}

/// How a tunnel or an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The name was looked up again for another connection, and the policy refuses its address.
    AddressRefused,
    /// The client went away before the end.
    ClientGone,
    /// Both sides finished.
    Complete,
    /// No address of the origin could be reached.
    ConnectFailed,
    /// The name could not be resolved.
    DnsFailed,
    /// Nothing moved for too long.
    IdleTimeout,
    /// There were too many of its kind.
    LimitReached,
    /// The origin did not answer in time.
    ResponseTimeout,
    /// The origin reset the connection, or what it sent was not HTTP.
    OriginFailed,
    /// There was no way through the parent proxy.
    ParentFailed,
    /// A new policy refuses it.
    PolicyChanged,
    /// The proxy was told to stop and the time to finish had passed.
    Shutdown,
    /// What the client said first in a tunnel was not for the host it had asked for.
    SniMismatch,
}

/// What the first bytes in a tunnel said, as far as it goes beyond what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// The SNI, if it is another host than the tunnel's.
    pub server_name: Option<DnsName>,
    /// The host of an HTTP head, if it is another one.
    pub http_host: Option<Host>,
    /// A hello that may hide another name.
    pub ech: bool,
    /// Why the tunnel was closed for it.
    pub mismatch: Option<&'static str>,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The word for it.
    pub reason: &'static str,
    /// Who decided, in Codex's words: `baseline_policy` or `proxy_state`.
    pub source: &'static str,
    /// The rule that decided, if one did.
    pub rule: Option<RuleId>,
}

/// A line of the audit.
#[derive(Debug)]
pub enum Record {
    /// A decision was made.
    Decision {
        /// When.
        at: SystemTime,
        /// About what.
        subject: Arc<Subject>,
        /// What gave leave, or the refusal.
        verdict: Result<Leave, Refused>,
    },
    /// What was let through has ended.
    End {
        /// When.
        at: SystemTime,
        /// What it was.
        subject: Arc<Subject>,
        /// What had given it leave.
        leave: Leave,
        /// How it ended.
        ending: Ending,
        /// Where the connection led, if there was one.
        peer: Option<Peer>,
        /// What a parent proxy said instead of leading on.
        parent_status: Option<u16>,
        /// The status the client got, for an exchange.
        status: Option<u16>,
        /// Payload bytes from the client to the origin.
        sent: u64,
        /// Payload bytes from the origin to the client.
        received: u64,
        /// From the decision to the end.
        duration: Duration,
        /// What a tunnel began with, if that is worth a word.
        inside: Option<Box<Inside>>,
    },
    /// Records had to be dropped.
    Dropped {
        /// When the gap was noticed.
        at: SystemTime,
        /// How many so far.
        total: u64,
    },
}

impl Record {
    /// Appends the record as one JSON object and a line feed.
    pub(super) fn write(&self, line: &mut Vec<u8>) {
        let start = line.len();
        if serde_json::to_writer(&mut *line, &self.fields()).is_err() {
            line.truncate(start);
            return;
        }
        line.push(b'\n');
    }

    fn fields(&self) -> Line<'_> {
        match self {
            Self::Decision { at, subject, verdict } => {
                let (decision, reason, source, rule) = match verdict {
                    Ok(Leave::Rule(rule)) => ("allow", "allow", "baseline_policy", Some(*rule)),
                    Ok(Leave::Sockets) => ("allow", "allow", "baseline_policy", None),
                    // Let through against the policy, in Codex's words for that.
                    Ok(Leave::Observed) => {
                        ("allow", Reason::NotAllowed.as_str(), "observe_mode", None)
                    }
                    Err(refused) => ("deny", refused.reason, refused.source, refused.rule),
                };
                Line {
                    decision: Some(decision),
                    reason: Some(reason),
                    source: Some(source),
                    overrides: (*verdict == Ok(Leave::Observed)).then_some(true),
                    ..Line::about("exeat.decision", *at, subject, rule)
                }
            }
            Self::End {
                at,
                subject,
                leave,
                ending,
                peer,
                parent_status,
                status,
                sent,
                received,
                duration,
                inside,
            } => Line {
                ending: Some(ending.as_str()),
                mismatch: inside.as_ref().and_then(|inside| inside.mismatch),
                server_name: inside.as_ref().and_then(|i| i.server_name.as_ref()?.as_str().into()),
                http_host: inside
                    .as_ref()
                    .and_then(|i| Some(i.http_host.as_ref()?.to_bare_string())),
                ech: inside.as_ref().is_some_and(|inside| inside.ech).then_some(true),
                peer_address: peer.and_then(|peer| Some(peer.origin()?.ip().to_string())),
                peer_port: peer.and_then(|peer| Some(peer.origin()?.port())),
                parent_address: peer.and_then(|peer| Some(peer.parent()?.ip().to_string())),
                parent_port: peer.and_then(|peer| Some(peer.parent()?.port())),
                parent_status: *parent_status,
                status: *status,
                sent: Some(*sent),
                received: Some(*received),
                duration: Some(duration.as_secs_f64()),
                ..Line::about("exeat.end", *at, subject, leave.rule())
            },
            Self::Dropped { at, total } => Line {
                timestamp: stamp(*at),
                event: "exeat.audit_dropped",
                dropped: Some(*total),
                ..Line::default()
            },
        }
    }
}

impl Destination {
    /// The host and the port; a socket has none.
    pub(super) fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Host(authority) => Some(authority),
            Self::Socket(_) => None,
        }
    }

    /// What Codex calls it.
    fn host(&self) -> Cow<'_, str> {
        match self {
            Self::Host(authority) => authority.host.bare(),
            Self::Socket(_) => SOCKET.into(),
        }
    }

    fn port(&self) -> u16 {
        match self {
            Self::Host(authority) => authority.port.number(),
            Self::Socket(_) => 0,
        }
    }

    fn socket(&self) -> Option<&str> {
        match self {
            Self::Host(_) => None,
            Self::Socket(path) => Some(path.as_str()),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(authority) => authority.fmt(f),
            Self::Socket(path) => path.fmt(f),
        }
    }
}

impl Caller {
    /// Its port, if it has one.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Ip(address) => Some(address.port()),
            Self::Unix => None,
        }
    }
}

/// Without the port.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.ip().to_canonical().fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Captured => "captured_tcp",
            Self::Http => "http",
            Self::HttpsConnect => "https_connect",
            Self::Socks5 => "socks5_tcp",
        }
    }
}

impl Ending {
    /// Counts an end that a deadline made.
    pub(super) fn count(self, timeouts: &TimeoutCounters) {
        match self {
            Self::IdleTimeout => timeouts.idle.increment(),
            Self::ResponseTimeout => timeouts.response_head.increment(),
            // Of the first two it depends why; they are counted where that is known.
            Self::ConnectFailed
            | Self::DnsFailed
            | Self::AddressRefused
            | Self::ClientGone
            | Self::Complete
            | Self::LimitReached
            | Self::OriginFailed
            | Self::ParentFailed
            | Self::PolicyChanged
            | Self::Shutdown
            | Self::SniMismatch => {}
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::AddressRefused => "address_refused",
            Self::ClientGone => "client_gone",
            Self::Complete => "complete",
            Self::ConnectFailed => "connect_failed",
            Self::DnsFailed => "dns_failed",
            Self::IdleTimeout => "idle_timeout",
            Self::LimitReached => "limit_reached",
            Self::OriginFailed => "origin_failed",
            Self::ParentFailed => "parent_failed",
            Self::PolicyChanged => "policy_changed",
            Self::ResponseTimeout => "response_timeout",
            Self::Shutdown => "shutdown",
            Self::SniMismatch => "sni_mismatch",
        }
    }
}

/// The fields of a line, in the order they are written.
#[derive(Debug, Default, Serialize)]
struct Line<'a> {
    timestamp: String,
    #[serde(rename = "event.name")]
    event: &'static str,
    #[serde(rename = "exeat.request.id", skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(rename = "client.address", skip_serializing_if = "Option::is_none")]
    client_address: Option<String>,
    #[serde(rename = "client.port", skip_serializing_if = "Option::is_none")]
    client_port: Option<u16>,
    #[serde(rename = "network.transport.protocol", skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    #[serde(rename = "http.request.method", skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(rename = "server.address", skip_serializing_if = "Option::is_none")]
    server_address: Option<Cow<'a, str>>,
    #[serde(rename = "server.port", skip_serializing_if = "Option::is_none")]
    server_port: Option<u16>,
    #[serde(rename = "exeat.socket.path", skip_serializing_if = "Option::is_none")]
    socket: Option<&'a str>,
    #[serde(rename = "network.policy.decision", skip_serializing_if = "Option::is_none")]
    decision: Option<&'static str>,
    #[serde(rename = "network.policy.reason", skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(rename = "network.policy.source", skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
    #[serde(rename = "network.policy.override", skip_serializing_if = "Option::is_none")]
    overrides: Option<bool>,
    #[serde(rename = "exeat.policy.generation", skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(rename = "exeat.rule.pattern", skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
    #[serde(rename = "exeat.rule.list", skip_serializing_if = "Option::is_none")]
    list: Option<&'static str>,
    #[serde(rename = "exeat.rule.file", skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(rename = "exeat.rule.line", skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(rename = "exeat.ending", skip_serializing_if = "Option::is_none")]
    ending: Option<&'static str>,
    #[serde(rename = "exeat.mismatch", skip_serializing_if = "Option::is_none")]
    mismatch: Option<&'static str>,
    #[serde(rename = "tls.client.server_name", skip_serializing_if = "Option::is_none")]
    server_name: Option<&'a str>,
    #[serde(rename = "exeat.http.host", skip_serializing_if = "Option::is_none")]
    http_host: Option<String>,
    #[serde(rename = "exeat.tls.ech", skip_serializing_if = "Option::is_none")]
    ech: Option<bool>,
    #[serde(rename = "network.peer.address", skip_serializing_if = "Option::is_none")]
    peer_address: Option<String>,
    #[serde(rename = "network.peer.port", skip_serializing_if = "Option::is_none")]
    peer_port: Option<u16>,
    #[serde(rename = "exeat.parent.address", skip_serializing_if = "Option::is_none")]
    parent_address: Option<String>,
    #[serde(rename = "exeat.parent.port", skip_serializing_if = "Option::is_none")]
    parent_port: Option<u16>,
    #[serde(rename = "exeat.parent.status_code", skip_serializing_if = "Option::is_none")]
    parent_status: Option<u16>,
    #[serde(rename = "http.response.status_code", skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(rename = "exeat.bytes.sent", skip_serializing_if = "Option::is_none")]
    sent: Option<u64>,
    #[serde(rename = "exeat.bytes.received", skip_serializing_if = "Option::is_none")]
    received: Option<u64>,
    #[serde(rename = "exeat.duration_seconds", skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
    #[serde(rename = "exeat.audit.dropped_total", skip_serializing_if = "Option::is_none")]
    dropped: Option<u64>,
}

impl<'a> Line<'a> {
    fn about(
        event: &'static str,
        at: SystemTime,
        subject: &'a Subject,
        rule: Option<RuleId>,
    ) -> Self {
        let rule = rule.and_then(|rule| subject.policy.rule(rule));
        let rule = rule.as_ref();
        Self {
            timestamp: stamp(at),
            event,
            id: Some(subject.id),
            client_address: Some(subject.client.to_string()),
            client_port: subject.client.port(),
            protocol: Some(subject.protocol.as_str()),
            method: Some(subject.method.as_str()),
            server_address: Some(subject.destination.host()),
            server_port: Some(subject.destination.port()),
            socket: subject.destination.socket(),
            generation: Some(subject.policy.generation()),
            pattern: rule.map(|rule| rule.pattern.to_string()),
            list: rule.map(|rule| rule.list.as_str()),
            file: rule.map(|rule| rule.source.path()),
            line: rule.map(|rule| rule.line),
            ..Self::default()
        }
    }
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        let Denial { reason, rule } = denial;
        Self { reason: reason.as_str(), source: reason.decided_by(), rule }
    }
}

/// RFC 3339 in UTC, always with milliseconds, so that stamps sort as text.
pub(super) fn stamp(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let ((year, month, day), (hour, minute, second, millisecond)) =
        (at.to_calendar_date(), at.to_hms_milli());
    let mut stamp = String::with_capacity(24);
    for (before, number, digits) in [
        ("", u32::try_from(year).unwrap_or_default(), 4),
        ("-", u8::from(month).into(), 2),
        ("-", day.into(), 2),
        ("T", hour.into(), 2),
        (":", minute.into(), 2),
        (":", second.into(), 2),
        (".", millisecond.into(), 3),
    ] {
        stamp.push_str(before);
        push_digits(&mut stamp, number, digits);
    }
    stamp.push('Z');
    stamp
}

/// The last digits of a number: what `format!` would take ten times as long for, twice a request.
fn push_digits(text: &mut String, number: u32, digits: u32) {
    let digit = |place| char::from_digit(number / 10_u32.pow(place) % 10, 10).unwrap_or('0');
    text.extend((0..digits).rev().map(digit));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_as_long_as_each_other() {
        let at = |millis| stamp(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!(at(7), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(1_798_761_599_999), "2026-12-31T23:59:59.999Z");
    }
}
