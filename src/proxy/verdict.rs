//! What a refusal says: status, reason phrase, and the words for each of its readers.
//!
//! One total match from [`Refusal`] to [`Verdict`]. It is built from canonical values only: nothing
//! internal leaks, no resolved address, no path but a file's name.

use std::borrow::Cow;

use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::refusal::{BadRequest, NoSockets, OriginFailure, Refusal, SocketFailure};
use crate::{
    dns::DnsError,
    http1::{Malformed, request_head::HeadError},
    net::Authority,
    policy::{Denial, List, Policy, Reason, SocketPath},
    upstream::{DialError, ParentError, SocketError},
};

/// What an answer says.
pub(super) struct Verdict {
    pub(super) status: StatusCode,
    pub(super) phrase: String,
    /// RFC 9209 §2.3.
    pub(super) proxy_status: &'static str,
    /// Codex's words; none where Codex sends none.
    pub(super) proxy_error: Option<&'static str>,
    /// JSON.
    pub(super) body: String,
}

/// What the policy's refusals say in JSON: they are the frequent ones.
#[derive(Serialize)]
struct Blocked<'a> {
    host: Cow<'a, str>,
    message: String,
    port: u16,
    reason: &'static str,
    rule: Option<BlockedBy<'a>>,
    source: &'static str,
    status: &'static str,
}

#[derive(Serialize)]
struct BlockedBy<'a> {
    file: &'a str,
    line: usize,
    list: &'static str,
    pattern: &'a str,
}

impl Refusal {
    /// What its answer says.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::BadRequest(error) => bad_request(*error),
            Self::ClientNotListed(peer) => Verdict {
                status: StatusCode::FORBIDDEN,
                phrase: format!("exeat: client {peer} may not use this proxy"),
                proxy_status: "http_request_denied",
                proxy_error: Some("blocked-by-policy"),
                body: problem(
                    "client_not_listed",
                    "ask the operator to add your address to `[listen] clients` in exeat.toml",
                ),
            },
            Self::Denied { authority, denial, policy } => denied(authority, *denial, policy),
            Self::Dial(authority, error) => {
                let (status, proxy_status) = match error {
                    DialError::NoSocket => {
                        (StatusCode::SERVICE_UNAVAILABLE, "connection_limit_reached")
                    }
                    DialError::Refused => (StatusCode::BAD_GATEWAY, "connection_refused"),
                    DialError::Timeout => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
                    DialError::Unreachable => {
                        (StatusCode::BAD_GATEWAY, "destination_ip_unroutable")
                    }
                };
                failed(authority, status, proxy_status, "connect_failure", &error.to_string())
            }
            Self::Dns(authority, error) => {
                let (status, proxy_status) = match error {
                    DnsError::Timeout => (StatusCode::GATEWAY_TIMEOUT, "dns_timeout"),
                    DnsError::NoAddress
                    | DnsError::NoServer
                    | DnsError::NoSuchName
                    | DnsError::ServerFailure => (StatusCode::BAD_GATEWAY, "dns_error"),
                };
                failed(authority, status, proxy_status, "dns_failure", &error.to_string())
            }
            // RFC 9209 §2.3.12.
            Self::Limit(limit) => Verdict {
                status: StatusCode::SERVICE_UNAVAILABLE,
                phrase: format!("exeat: too many {}", limit.what()),
                proxy_status: "connection_limit_reached",
                proxy_error: None,
                body: limit.body(),
            },
            Self::Origin(authority, OriginFailure::Protocol) => failed(
                authority,
                StatusCode::BAD_GATEWAY,
                "http_protocol_error",
                "origin_failure",
                "closed the connection or did not answer in HTTP",
            ),
            Self::Origin(authority, OriginFailure::HeadTooLarge) => failed(
                authority,
                StatusCode::BAD_GATEWAY,
                "http_response_header_section_size",
                "origin_failure",
                "sent an answer head that is too large",
            ),
            Self::Origin(authority, OriginFailure::Timeout) => failed(
                authority,
                StatusCode::GATEWAY_TIMEOUT,
                "http_response_timeout",
                "origin_timeout",
                "did not answer in time",
            ),
            Self::Parent(authority, error) => by_parent(authority, *error),
            // An origin would echo what this hop added, credentials too (RFC 9110 §9.3.8, CVE-2003-1567).
            // Not 501: the method is known, and refused for every destination.
            Self::Trace => Verdict {
                status: StatusCode::METHOD_NOT_ALLOWED,
                phrase: "exeat: TRACE is not forwarded".into(),
                proxy_status: "http_request_denied",
                proxy_error: Some("blocked-by-method-policy"),
                body: problem("method_not_allowed", "TRACE is not forwarded to any destination"),
            },
            Self::Socket(path, failure) => socket_failed(path, *failure),
            Self::SocketDenied { path, denial, policy } => socket_denied(path, *denial, policy),
            Self::UnixSocket(why) => {
                let (phrase, cure) = match why {
                    NoSockets::GivenUp => (
                        "exeat: restart it to reach unix sockets",
                        "the policy allowed no unix socket when exeat started: ask the operator to \
                         restart it",
                    ),
                    NoSockets::NotLocal => (
                        "exeat: unix sockets are for clients of this machine",
                        "only clients on loopback or at a unix socket may ask for one",
                    ),
                    NoSockets::Unsupported => (
                        "exeat: x-unix-socket is not supported on this system",
                        "unix sockets are reached on Linux only",
                    ),
                };
                Verdict {
                    status: StatusCode::FORBIDDEN,
                    phrase: phrase.into(),
                    proxy_status: "http_request_denied",
                    proxy_error: Some("blocked-by-policy"),
                    body: problem("unix_socket_unsupported", cure),
                }
            }
        }
    }
}

/// What a parent says is its own business, but for the status: its 403 is a refusal, and to try
/// again will not help. Its 407 is about our credentials: a client that got it would send its own.
fn by_parent(authority: &Authority, error: ParentError) -> Verdict {
    let (status, proxy_status, reason) = match error {
        ParentError::Refused(403 | 451) => {
            (StatusCode::FORBIDDEN, "http_request_denied", "parent_refused")
        }
        ParentError::Refused(407) => {
            (StatusCode::BAD_GATEWAY, "proxy_configuration_error", "parent_credentials")
        }
        ParentError::Refused(504) | ParentError::Timeout => {
            (StatusCode::GATEWAY_TIMEOUT, "connection_timeout", "parent_failure")
        }
        ParentError::Refused(_) => {
            (StatusCode::BAD_GATEWAY, "destination_unavailable", "parent_failure")
        }
        ParentError::Dial(DialError::NoSocket) => {
            (StatusCode::SERVICE_UNAVAILABLE, "connection_limit_reached", "parent_failure")
        }
        ParentError::Dial(DialError::Timeout) => {
            (StatusCode::GATEWAY_TIMEOUT, "connection_timeout", "parent_failure")
        }
        ParentError::Dial(DialError::Refused) => {
            (StatusCode::BAD_GATEWAY, "connection_refused", "parent_failure")
        }
        ParentError::Dial(DialError::Unreachable) => {
            (StatusCode::BAD_GATEWAY, "destination_ip_unroutable", "parent_failure")
        }
        ParentError::Dns(_) => (StatusCode::BAD_GATEWAY, "dns_error", "parent_failure"),
        ParentError::Loop => (StatusCode::BAD_GATEWAY, "proxy_loop_detected", "parent_failure"),
        ParentError::Protocol => (StatusCode::BAD_GATEWAY, "http_protocol_error", "parent_failure"),
    };
    let failed = failed(authority, status, proxy_status, reason, &error.to_string());
    match status {
        StatusCode::FORBIDDEN => Verdict { proxy_error: Some("blocked-by-policy"), ..failed },
        _ => failed,
    }
}

fn bad_request(error: BadRequest) -> Verdict {
    let status = match error {
        BadRequest::Head(HeadError::Malformed(Malformed::TooLarge | Malformed::TooManyFields)) => {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        }
        BadRequest::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        BadRequest::Expectation => StatusCode::EXPECTATION_FAILED,
        BadRequest::Head(HeadError::LineTooLong) => StatusCode::URI_TOO_LONG,
        BadRequest::Head(HeadError::Slow) => StatusCode::REQUEST_TIMEOUT,
        BadRequest::Head(HeadError::Version) => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        BadRequest::Body
        | BadRequest::Head(_)
        | BadRequest::HostDisagrees
        | BadRequest::HostField
        | BadRequest::HttpsAbsolute
        | BadRequest::MaxForwards
        | BadRequest::NotProxied
        | BadRequest::SocketField
        | BadRequest::SocketTunnel => StatusCode::BAD_REQUEST,
    };
    let message = error.to_string();
    Verdict {
        status,
        phrase: format!("exeat: {message}"),
        proxy_status: "http_request_error",
        proxy_error: None,
        body: json!({ "status": "bad_request", "reason": "bad_request", "message": message })
            .to_string(),
    }
}

fn problem(reason: &str, message: &str) -> String {
    json!({ "status": "blocked", "reason": reason, "message": message }).to_string()
}

fn failed(
    authority: &Authority,
    status: StatusCode,
    proxy_status: &'static str,
    reason: &str,
    what: &str,
) -> Verdict {
    Verdict {
        status,
        phrase: format!("exeat: {} {what}", shorten(&authority.host.to_string(), 120)),
        proxy_status,
        proxy_error: None,
        body: json!({
            "status": "failed",
            "host": authority.host.to_bare_string(),
            "port": authority.port.number(),
            "reason": reason,
            "message": format!("{} {what}; the policy allows it", authority.host),
        })
        .to_string(),
    }
}

fn denied(authority: &Authority, denial: Denial, policy: &Policy) -> Verdict {
    let rule = denial.rule.and_then(|rule| policy.rule(rule));
    let rule = rule.as_ref();
    let ruleset = policy.ruleset();
    let file = ruleset.source.name();
    let place = ruleset.allow_place(file);
    let host = authority.host.to_string();
    let host = shorten(&host, 80);
    let pattern = rule.map(|rule| rule.pattern.to_string());
    let shown = rule.zip(pattern.as_deref()).map(|(rule, pattern)| {
        format!("{}, {}:{}", shorten(pattern, 60), rule.source.name(), rule.line)
    });
    let by = shown.unwrap_or_else(|| place.clone());
    let (phrase, cure) = match denial.reason {
        Reason::Denied => (
            format!("exeat: {host} denied by {by}"),
            format!(
                "{host} is on the denylist of your organisation ({by}); ask the administrator if \
                 it should not be"
            ),
        ),
        Reason::NotAllowed => (
            format!("exeat: {host} not in {}, {place}", List::Allow.key()),
            format!(
                "{host} is not in `{}` of {file}; ask the administrator to add it",
                List::Allow.key()
            ),
        ),
        Reason::NotAllowedLocal => (
            format!("exeat: {host} is local or private, {file}"),
            format!(
                "{host} is a local or private destination, which only a rule that names it opens; \
                 ask the administrator to add one to `{}` of {file}, or the operator to list the \
                 address in `[egress] private`",
                List::Allow.key()
            ),
        ),
        Reason::PortNotAllowed => (
            format!("exeat: {host} not allowed on port {} by {by}", authority.port),
            format!(
                "{host} is allowed on other ports only ({by}); use one of those, or ask the \
                 administrator to add port {}",
                authority.port
            ),
        ),
        Reason::ProxyDisabled => (
            format!("exeat: network disabled, {file}"),
            format!(
                "the network is switched off by `enabled = false` in {file}; ask the administrator"
            ),
        ),
    };
    Verdict {
        status: StatusCode::FORBIDDEN,
        phrase,
        proxy_status: match denial.reason {
            Reason::NotAllowedLocal => "destination_ip_prohibited",
            Reason::Denied
            | Reason::NotAllowed
            | Reason::PortNotAllowed
            | Reason::ProxyDisabled => "http_request_denied",
        },
        proxy_error: Some(match denial.reason {
            Reason::NotAllowed | Reason::NotAllowedLocal => "blocked-by-allowlist",
            Reason::Denied => "blocked-by-denylist",
            Reason::PortNotAllowed | Reason::ProxyDisabled => "blocked-by-policy",
        }),
        body: serde_json::to_string(&Blocked {
            host: authority.host.bare(),
            message: format!("{cure}. Retrying will not help."),
            port: authority.port.number(),
            reason: denial.reason.as_str(),
            rule: rule.zip(pattern.as_deref()).map(|(rule, pattern)| BlockedBy {
                file: rule.source.name(),
                line: rule.line,
                list: rule.list.as_str(),
                pattern,
            }),
            source: denial.reason.decided_by(),
            status: "blocked",
        })
        .unwrap_or_default(),
    }
}

fn socket_failed(path: &SocketPath, failure: SocketFailure) -> Verdict {
    let (status, proxy_status, what) = match failure {
        SocketFailure::Connect(error) => {
            let (status, proxy_status) = match error {
                SocketError::Timeout => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
                SocketError::NotThere | SocketError::OtherSocket => {
                    (StatusCode::BAD_GATEWAY, "destination_unavailable")
                }
                SocketError::Refused => (StatusCode::BAD_GATEWAY, "connection_refused"),
            };
            (status, proxy_status, error.to_string())
        }
        SocketFailure::Answer(failure) => {
            let (status, proxy_status, what) = match failure {
                OriginFailure::HeadTooLarge => (
                    StatusCode::BAD_GATEWAY,
                    "http_response_header_section_size",
                    "sent an answer head that is too large",
                ),
                OriginFailure::Protocol => (
                    StatusCode::BAD_GATEWAY,
                    "http_protocol_error",
                    "closed the connection or did not answer in HTTP",
                ),
                OriginFailure::Timeout => {
                    (StatusCode::GATEWAY_TIMEOUT, "http_response_timeout", "did not answer in time")
                }
            };
            (status, proxy_status, what.to_owned())
        }
    };
    let path = shorten(path.as_str(), 120);
    Verdict {
        status,
        phrase: format!("exeat: unix socket {path} {what}"),
        proxy_status,
        proxy_error: None,
        body: json!({
            "status": "failed",
            "host": UNIX_SOCKET,
            "reason": "unix_socket_failure",
            "message": format!("unix socket {path} {what}; the policy allows it"),
        })
        .to_string(),
    }
}

/// What Codex calls the host of such requests.
const UNIX_SOCKET: &str = "unix-socket";

fn socket_denied(path: &SocketPath, denial: Denial, policy: &Policy) -> Verdict {
    let ruleset = policy.ruleset();
    let file = ruleset.source.name();
    let switch = ruleset.switches.iter().find(|switch| switch.key == "unix_sockets");
    let place = switch.map_or_else(|| file.to_owned(), |it| format!("{file}:{}", it.line));
    let path = shorten(path.as_str(), 100);
    let (phrase, proxy_error) = match denial.reason {
        Reason::Denied => (
            format!("exeat: unix socket {path} denied by unix_sockets, {place}"),
            "blocked-by-denylist",
        ),
        Reason::NotAllowed | Reason::NotAllowedLocal => (
            format!("exeat: unix socket {path} not in unix_sockets, {place}"),
            "blocked-by-allowlist",
        ),
        Reason::PortNotAllowed | Reason::ProxyDisabled => {
            (format!("exeat: network disabled, {file}"), "blocked-by-policy")
        }
    };
    Verdict {
        status: StatusCode::FORBIDDEN,
        body: json!({
            "status": "blocked",
            "host": UNIX_SOCKET,
            "reason": denial.reason.as_str(),
            "source": denial.reason.decided_by(),
            "message": format!(
                "{}; ask the administrator if it should be reached. Retrying will not help.",
                phrase.trim_start_matches("exeat: ")
            ),
        })
        .to_string(),
        phrase,
        proxy_status: "http_request_denied",
        proxy_error: Some(proxy_error),
    }
}

/// At most `max` bytes of visible ASCII, cut in the middle: both ends of a host say something.
pub(super) fn shorten(text: &str, max: usize) -> Cow<'_, str> {
    let is_visible = |c: char| c.is_ascii_graphic() || c == ' ';
    let text: Cow<'_, str> = match text.chars().all(is_visible) {
        true => text.into(),
        false => text.chars().map(|c| if is_visible(c) { c } else { '?' }).collect(),
    };
    if text.len() <= max {
        return text;
    }
    let half = (max - 3) / 2;
    let tail = text.len() - half;
    let (head, tail) = (text.get(..half), text.get(tail..));
    format!("{}...{}", head.unwrap_or_default(), tail.unwrap_or_default()).into()
}
