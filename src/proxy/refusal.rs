//! Every way a request is refused, and the one place that turns it into an answer.
//!
//! The verdict stands in four places, because clients show different ones: the reason phrase,
//! `Proxy-Status` (RFC 9209), `x-proxy-error` (Codex's words), and a JSON body. What it says is
//! the business of `verdict`.

use std::{borrow::Cow, sync::Arc};

use http::StatusCode;

use super::{
    fields::PSEUDONYM,
    limit::Limit,
    reply::Reply,
    verdict::{Verdict, shorten},
};
use crate::{
    dns::DnsError,
    http1::{Malformed, request_head::HeadError},
    net::Authority,
    observe::{Caller, Counters, Ending},
    policy::{Denial, Policy, SocketPath},
    upstream::{DialError, ParentError, SocketError},
};

/// Why a request is not served.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The client's mistake.
    BadRequest(BadRequest),
    /// The client is not one of those the operator listed.
    ClientNotListed(Caller),
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
    /// No way to the origin through the parent proxy.
    Parent(Authority, ParentError),
    /// TRACE was asked for.
    Trace,
    /// A unix socket was reached and failed, or could not be.
    Socket(SocketPath, SocketFailure),
    /// The policy refuses a unix socket; by the name that was asked for.
    SocketDenied { path: SocketPath, denial: Denial, policy: Arc<Policy> },
    /// A unix socket was asked for, which this client gets none of.
    UnixSocket(NoSockets),
}

/// How a unix socket failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SocketFailure {
    /// There is no connection to it.
    Connect(SocketError),
    /// Its answer is none.
    Answer(OriginFailure),
}

/// Why no unix socket can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSockets {
    /// The process gave up opening any, because the policy at its start allowed none.
    GivenUp,
    /// The client is on another machine.
    NotLocal,
    /// Not on this system.
    Unsupported,
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
    /// Not one absolute path where a unix socket is asked for.
    #[error("x-unix-socket is not one absolute path")]
    SocketField,
    /// CONNECT with `x-unix-socket`.
    #[error("x-unix-socket goes with requests, not with CONNECT")]
    SocketTunnel,
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

impl OriginFailure {
    /// How it is recorded.
    pub(super) fn ending(self) -> Ending {
        match self {
            Self::HeadTooLarge | Self::Protocol => Ending::OriginFailed,
            Self::Timeout => Ending::ResponseTimeout,
        }
    }
}

/// What is served besides TRACE, as `Allow` must say (RFC 9110 §15.5.6). Other methods pass too.
pub(super) const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT";

/// When to try again what a limit has refused.
const RETRY_SECONDS: &str = "1";

/// The longest reason phrase, in bytes.
const MAX_PHRASE: usize = 200;

impl Refusal {
    /// Whether nothing after it on the connection is a request.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::BadRequest(_)
            | Self::ClientNotListed(_)
            | Self::SocketDenied { .. }
            | Self::Trace
            | Self::UnixSocket(_) => true,
            Self::Denied { .. }
            | Self::Dial(..)
            | Self::Dns(..)
            | Self::Limit(_)
            | Self::Origin(..)
            | Self::Parent(..)
            | Self::Socket(..) => false,
        }
    }

    /// The answer for the client.
    pub(super) fn reply(&self) -> Reply {
        let Verdict { status, phrase, proxy_status, proxy_error, mut body } = self.verdict();
        let phrase = shorten(&phrase, MAX_PHRASE).into_owned();
        let quoted = match phrase.contains(['"', '\\']) {
            true => Cow::Owned(phrase.replace('\\', "\\\\").replace('"', "\\\"")),
            false => Cow::Borrowed(phrase.as_str()),
        };
        let status_field = format!("{PSEUDONYM}; error={proxy_status}; details=\"{quoted}\"");
        let mut fields = vec![
            ("content-type", Cow::Borrowed("application/json")),
            ("proxy-status", status_field.into()),
        ];
        fields.extend(proxy_error.map(|word| ("x-proxy-error", word.into())));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            fields.push(("allow", ALLOWED_METHODS.into()));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            fields.push(("retry-after", RETRY_SECONDS.into()));
        }
        body.push('\n');
        Reply { status, phrase: Some(phrase), fields, body }
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
            Self::Parent(_, error) => match error {
                ParentError::Dial(DialError::NoSocket) => limits.descriptors.increment(),
                ParentError::Dns(DnsError::Timeout) => timeouts.dns.increment(),
                ParentError::Timeout => timeouts.connect.increment(),
                ParentError::Dial(_)
                | ParentError::Dns(_)
                | ParentError::Loop
                | ParentError::Protocol
                | ParentError::Refused(_) => {}
            },
            Self::Limit(limit) => limit.counter(counters).increment(),
            Self::BadRequest(_)
            | Self::ClientNotListed(_)
            | Self::Denied { .. }
            | Self::Dial(..)
            | Self::Dns(..)
            | Self::Origin(..)
            | Self::Socket(..)
            | Self::SocketDenied { .. }
            | Self::Trace
            | Self::UnixSocket(_) => {}
        }
    }
}

impl From<BadRequest> for Refusal {
    fn from(error: BadRequest) -> Self {
        Self::BadRequest(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Egress, Outcome, Review, Source};

    fn reply(rules: &str, target: &str) -> Reply {
        let source = Arc::new(Source::file("/etc/secret-place/requirements.toml"));
        let text = format!("[experimental_network]\nenabled = true\n{rules}\n");
        let review = Review::of(text.as_bytes(), &source, 7);
        let Outcome::Ruleset(ruleset) = review.outcome else { panic!("{:?}", review.problems) };
        let policy = Arc::new(Policy::new(*ruleset, Egress::default(), 1));
        let authority = Authority::parse_connect(target.as_bytes()).unwrap();
        let denial = policy.decide(&authority).unwrap_err();
        Refusal::Denied { authority, denial, policy }.reply()
    }

    fn phrase(reply: &Reply) -> &str {
        reply.phrase.as_deref().unwrap()
    }

    fn field<'r>(reply: &'r Reply, name: &str) -> &'r str {
        reply.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value).unwrap()
    }

    #[test]
    fn the_verdict_stands_where_clients_look() {
        let denied = reply("denied_domains = [\"*.example\"]", "evil.example:443");
        assert_eq!(denied.status, 403);
        assert_eq!(phrase(&denied), "exeat: evil.example denied by *.example, requirements.toml:3");
        assert_eq!(field(&denied, "x-proxy-error"), "blocked-by-denylist");
        assert_eq!(
            field(&denied, "proxy-status"),
            "exeat; error=http_request_denied; \
             details=\"exeat: evil.example denied by *.example, requirements.toml:3\""
        );

        let unlisted = reply("allowed_domains = [\"a.test\"]", "evil.example:443");
        assert_eq!(
            phrase(&unlisted),
            "exeat: evil.example not in allowed_domains, requirements.toml:3"
        );
        assert_eq!(field(&unlisted, "x-proxy-error"), "blocked-by-allowlist");

        let port = reply("allowed_domains = [\"a.test:8443\"]", "a.test:443");
        assert_eq!(
            phrase(&port),
            "exeat: a.test not allowed on port 443 by a.test:8443, requirements.toml:3"
        );
        assert_eq!(field(&port, "x-proxy-error"), "blocked-by-policy");
    }

    #[test]
    fn phrases_stay_short() {
        let label = "a".repeat(60);
        let long = format!("{label}.{label}.{label}.{label}.test:443");
        let rule = format!("denied_domains = [\"*.{label}.{label}.{label}.test\"]");
        let reply = reply(&rule, &long);
        let text = phrase(&reply);
        assert!(text.len() <= MAX_PHRASE, "{}", text.len());
        assert!(text.contains("requirements.toml:3"), "{text}");
    }
}
