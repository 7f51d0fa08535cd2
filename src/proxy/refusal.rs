//! Every way a request is refused, and the one place that turns it into an answer.
//!
//! The verdict stands in four places, because clients show different ones: the reason phrase,
//! `Proxy-Status` (RFC 9209), `x-proxy-error` (Codex's words), and a JSON body. It is built from
//! canonical values only: nothing internal leaks, no resolved address, no path but a file's name.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;
use hyper::ext::ReasonPhrase;
use serde_json::{Value, json};

use super::{body::ReplyBody, fields::PSEUDONYM, limit::Limit};
use crate::{
    dns::DnsError,
    http1::{Malformed, request_head::HeadError},
    net::Authority,
    observe::Counters,
    policy::{Denial, List, Policy, Reason},
    upstream::DialError,
};

/// Why a request is not served.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The client's mistake.
    BadRequest(BadRequest),
    /// The client is not one of those the operator listed.
    ClientNotListed(IpAddr),
    /// The policy refuses.
    Denied { authority: Authority, denial: Denial, policy: Arc<Policy> },
    /// No connection to the origin.
    Dial(Authority, DialError),
    /// No addresses.
    Dns(Authority, DnsError),
    /// There is too much of something.
    Limit(Limit),
    /// The origin failed after it was reached.
    Origin(Authority, OriginFailure),
    /// TRACE was asked for.
    Trace,
    /// A unix socket was asked for.
    UnixSocket,
}

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRequest {
    /// The body breaks its framing, or stops.
    #[error("the request body is malformed or incomplete")]
    Body,
    /// The rest of the body did not come in time (RFC 9110 §15.5.9).
    #[error("the request body was not sent in time")]
    BodyTimeout,
    /// An expectation other than `100-continue` (RFC 9110 §10.1.1).
    #[error("Expect is not 100-continue")]
    Expectation,
    /// The head is refused before it is understood.
    #[error("the request {0}")]
    Head(#[from] HeadError),
    /// `Host` names something else than the target.
    #[error("the Host field does not agree with the request target")]
    HostDisagrees,
    /// No `Host`, more than one, or one that is no authority.
    #[error("exactly one valid Host field is needed")]
    HostField,
    /// `https:` in absolute-form.
    #[error("https: URLs are not forwarded; open a tunnel with CONNECT host:443")]
    HttpsAbsolute,
    /// A `Max-Forwards` of OPTIONS that is no number (RFC 9110 §7.6.2).
    #[error("Max-Forwards is not one decimal number")]
    MaxForwards,
    /// A request for the proxy itself, as to a web server.
    #[error("this is a proxy: set it as HTTP_PROXY and HTTPS_PROXY, or use curl -x")]
    NotProxied,
}

/// How an origin failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OriginFailure {
    /// The head of its answer is too large.
    HeadTooLarge,
    /// It closed the connection, or what it sent is not HTTP.
    Protocol,
    /// No answer in time.
    Timeout,
}

/// Whether the connection to the client goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Unread bytes may follow: nothing after this is a request.
    Close,
    /// The request was read to its end.
    KeepAlive,
}

/// The parts of an answer.
struct Reply {
    status: StatusCode,
    phrase: String,
    /// RFC 9209 §2.3.
    proxy_status: &'static str,
    /// Codex's words; none where Codex sends none.
    proxy_error: Option<&'static str>,
    body: Value,
}

/// What is served besides TRACE, as `Allow` must say (RFC 9110 §15.5.6). Other methods pass too.
pub(super) const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT";

/// When to try again what a limit has refused.
const RETRY_SECONDS: &str = "1";

/// The longest reason phrase, in bytes.
const MAX_PHRASE: usize = 200;

impl Refusal {
    /// The answer for the client.
    pub(super) fn into_response(self, after: After) -> Response<ReplyBody> {
        let reply = self.reply();
        let close = after == After::Close
            || matches!(
                self,
                Self::BadRequest(_) | Self::ClientNotListed(_) | Self::Trace | Self::UnixSocket
            );
        let mut body = reply.body.to_string();
        body.push('\n');
        let mut response = Response::new(ReplyBody::Text(Full::new(Bytes::from(body))));
        *response.status_mut() = reply.status;
        let phrase = shorten(&reply.phrase, MAX_PHRASE);
        let details = phrase.replace('\\', "\\\\").replace('"', "\\\"");
        let proxy_status =
            format!("{PSEUDONYM}; error={}; details=\"{details}\"", reply.proxy_status);
        if let Ok(phrase) = ReasonPhrase::try_from(phrase) {
            response.extensions_mut().insert(phrase);
        }
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(value) = HeaderValue::try_from(proxy_status) {
            fields.insert(HeaderName::from_static("proxy-status"), value);
        }
        if let Some(word) = reply.proxy_error {
            fields.insert(HeaderName::from_static("x-proxy-error"), HeaderValue::from_static(word));
        }
        if reply.status == StatusCode::METHOD_NOT_ALLOWED {
            fields.insert(ALLOW, HeaderValue::from_static(ALLOWED_METHODS));
        }
        if reply.status == StatusCode::SERVICE_UNAVAILABLE {
            fields.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
        }
        if close {
            fields.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The answer where no request has been read, as bytes. It closes the connection.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Reply { status, phrase, proxy_status, body, .. } = self.reply();
        let body = format!("{body}\n");
        let status = status.as_u16();
        let length = body.len();
        format!(
            "HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\n\
             proxy-status: {PSEUDONYM}; error={proxy_status}; details=\"{phrase}\"\r\n\
             retry-after: {RETRY_SECONDS}\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }

    /// Counts it, if a limit or a deadline was reached.
    pub(super) fn count(&self, counters: &Counters) {
        let Counters { limits, timeouts, .. } = counters;
        match self {
            Self::BadRequest(BadRequest::Head(error)) => match error {
                HeadError::LineTooLong => limits.request_line_bytes.increment(),
                HeadError::Slow => timeouts.request_head.increment(),
                HeadError::Malformed(Malformed::TooLarge) => limits.head_bytes.increment(),
                HeadError::Malformed(Malformed::TooManyFields) => limits.head_fields.increment(),
                HeadError::Authority(_)
                | HeadError::Body(_)
                | HeadError::ConnectBody
                | HeadError::Malformed(_)
                | HeadError::NotHttp
                | HeadError::RequestLine
                | HeadError::Target(_)
                | HeadError::Version => {}
            },
            Self::Dial(_, DialError::NoSocket) => limits.descriptors.increment(),
            Self::Dial(_, DialError::Timeout) => timeouts.connect.increment(),
            Self::Dns(_, DnsError::Timeout) => timeouts.dns.increment(),
            Self::Limit(limit) => limit.counter(counters).increment(),
            Self::BadRequest(_)
            | Self::ClientNotListed(_)
            | Self::Denied { .. }
            | Self::Dial(..)
            | Self::Dns(..)
            | Self::Origin(..)
            | Self::Trace
            | Self::UnixSocket => {}
        }
    }

    fn reply(&self) -> Reply {
        match self {
            Self::BadRequest(error) => bad_request(*error),
            Self::ClientNotListed(address) => Reply {
                status: StatusCode::FORBIDDEN,
                phrase: format!("exeat: client {address} may not use this proxy"),
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
            Self::Limit(limit) => Reply {
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
            // An origin would echo what this hop added, credentials too (RFC 9110 §9.3.8, CVE-2003-1567).
            // Not 501: the method is known, and refused for every destination.
            Self::Trace => Reply {
                status: StatusCode::METHOD_NOT_ALLOWED,
                phrase: "exeat: TRACE is not forwarded".into(),
                proxy_status: "http_request_denied",
                proxy_error: Some("blocked-by-method-policy"),
                body: problem("method_not_allowed", "TRACE is not forwarded to any destination"),
            },
            Self::UnixSocket => Reply {
                status: StatusCode::FORBIDDEN,
                phrase: "exeat: x-unix-socket is not supported".into(),
                proxy_status: "http_request_denied",
                proxy_error: Some("blocked-by-policy"),
                body: problem("unix_socket_unsupported", "unix sockets are not forwarded"),
            },
        }
    }
}

impl From<BadRequest> for Refusal {
    fn from(error: BadRequest) -> Self {
        Self::BadRequest(error)
    }
}

fn bad_request(error: BadRequest) -> Reply {
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
        | BadRequest::NotProxied => StatusCode::BAD_REQUEST,
    };
    let message = error.to_string();
    Reply {
        status,
        phrase: format!("exeat: {message}"),
        proxy_status: "http_request_error",
        proxy_error: None,
        body: json!({ "status": "bad_request", "reason": "bad_request", "message": message }),
    }
}

fn problem(reason: &str, message: &str) -> Value {
    json!({ "status": "blocked", "reason": reason, "message": message })
}

fn failed(
    authority: &Authority,
    status: StatusCode,
    proxy_status: &'static str,
    reason: &str,
    what: &str,
) -> Reply {
    Reply {
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
        }),
    }
}

fn denied(authority: &Authority, denial: Denial, policy: &Policy) -> Reply {
    let rule = denial.rule.and_then(|rule| policy.rule(rule));
    let rule = rule.as_ref();
    let ruleset = policy.ruleset();
    let file = ruleset.source.name();
    let place = ruleset.allow_place(file);
    let host = shorten(&authority.host.to_string(), 80);
    let shown = rule.map(|rule| {
        let pattern = shorten(&rule.pattern.to_string(), 60);
        format!("{pattern}, {}:{}", rule.source.name(), rule.line)
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
    Reply {
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
        body: json!({
            "status": "blocked",
            "host": authority.host.to_bare_string(),
            "port": authority.port.number(),
            "reason": denial.reason.as_str(),
            "rule": rule.map(|rule| json!({
                "pattern": rule.pattern.to_string(),
                "list": rule.list.as_str(),
                "file": rule.source.name(),
                "line": rule.line,
            })),
            "source": denial.reason.decided_by(),
            "message": format!("{cure}. Retrying will not help."),
        }),
    }
}

/// At most `max` bytes of visible ASCII, cut in the middle: both ends of a host say something.
fn shorten(text: &str, max: usize) -> String {
    let text: String =
        text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    if text.len() <= max {
        return text;
    }
    let half = (max - 3) / 2;
    let tail = text.len() - half;
    format!("{}...{}", text.get(..half).unwrap_or_default(), text.get(tail..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Egress, Outcome, Review, Source};

    fn response(rules: &str, target: &str) -> Response<ReplyBody> {
        let source = Arc::new(Source::file("/etc/secret-place/requirements.toml"));
        let text = format!("[experimental_network]\nenabled = true\n{rules}\n");
        let review = Review::of(text.as_bytes(), &source, 7);
        let Outcome::Ruleset(ruleset) = review.outcome else { panic!("{:?}", review.problems) };
        let policy = Arc::new(Policy::new(*ruleset, Egress::default(), 1));
        let authority = Authority::parse_connect(target.as_bytes()).unwrap();
        let denial = policy.decide(&authority).unwrap_err();
        Refusal::Denied { authority, denial, policy }.into_response(After::Close)
    }

    fn phrase(response: &Response<ReplyBody>) -> String {
        let phrase = response.extensions().get::<ReasonPhrase>().unwrap();
        String::from_utf8(phrase.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn the_verdict_stands_where_clients_look() {
        let denied = response("denied_domains = [\"*.example\"]", "evil.example:443");
        assert_eq!(denied.status(), 403);
        assert_eq!(phrase(&denied), "exeat: evil.example denied by *.example, requirements.toml:3");
        assert_eq!(denied.headers()["x-proxy-error"], "blocked-by-denylist");
        assert_eq!(
            denied.headers()["proxy-status"],
            "exeat; error=http_request_denied; \
             details=\"exeat: evil.example denied by *.example, requirements.toml:3\""
        );

        let unlisted = response("allowed_domains = [\"a.test\"]", "evil.example:443");
        assert_eq!(
            phrase(&unlisted),
            "exeat: evil.example not in allowed_domains, requirements.toml:3"
        );
        assert_eq!(unlisted.headers()["x-proxy-error"], "blocked-by-allowlist");

        let port = response("allowed_domains = [\"a.test:8443\"]", "a.test:443");
        assert_eq!(
            phrase(&port),
            "exeat: a.test not allowed on port 443 by a.test:8443, requirements.toml:3"
        );
        assert_eq!(port.headers()["x-proxy-error"], "blocked-by-policy");
    }

    #[test]
    fn phrases_stay_short() {
        let label = "a".repeat(60);
        let long = format!("{label}.{label}.{label}.{label}.test:443");
        let rule = format!("denied_domains = [\"*.{label}.{label}.{label}.test\"]");
        let text = phrase(&response(&rule, &long));
        assert!(text.len() <= MAX_PHRASE, "{}", text.len());
        assert!(text.contains("requirements.toml:3"), "{text}");
    }
}
