//! How a client begins a tunnel: whom it speaks to, judged from the first bytes on.
//!
//! A function of bytes, settings and policy; moving the bytes is the work of `first_bytes`. Judged
//! are the first ClientHello, a second one that `HelloRetryRequest` may have asked for, or the head
//! of a first HTTP request. What comes later in a tunnel is not looked at: a TLS session that is
//! encrypted, the second request on a connection, a protocol that turns to TLS by a command
//! (STARTTLS).

use std::sync::{Arc, OnceLock};

use super::{
    head::{HeadError, HeadLimits},
    plain_head::{Named, Plain, PlainHead},
};
use crate::{
    net::{Authority, DnsName, Host, Port},
    observe::Inside,
    policy::Policy,
    settings::{Ech, Sni, Tls},
    tls::{
        Alert, Beginning, ClientHello, Following, HelloError, HelloReader, Next, WholeHello,
        beginning_of,
    },
};

/// The beginning of one tunnel, and what is asked of it.
#[derive(Debug)]
pub(super) struct Opening {
    tunnel: Authority,
    rules: Arc<Tls>,
    limits: HeadLimits,
    stage: Stage,
    /// The name that was let through because the policy allows it.
    named: Arc<OnceLock<Authority>>,
    seen: Inside,
}

/// What may happen to the bytes that were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// None may go on before there are more.
    Hold,
    /// They may all go on, and so may whatever follows.
    Pass,
    /// That many may go on; the rest must be looked at again.
    Release(usize),
}

/// Why a tunnel is closed for how it began.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mismatch {
    /// Another name may be hidden, and that is refused.
    #[error("the ClientHello uses Encrypted Client Hello")]
    Ech,
    /// It begins as TLS, and has no reading.
    #[error("the ClientHello {0}")]
    Hello(#[from] HelloError),
    /// It begins as HTTP, and has no reading.
    #[error("the HTTP head {0}")]
    HttpHead(#[from] HeadError),
    /// An HTTP head names another host, or none.
    #[error("the HTTP head is for another host")]
    HttpHost,
    /// A hello that names no host, for one that has a name.
    #[error("the ClientHello has no server name")]
    NoName,
    /// Something else than TLS on port 443.
    #[error("the first bytes are no ClientHello")]
    NotTls,
    /// The name in a hello is not the one asked for, nor allowed otherwise.
    #[error("the server name is that of another host")]
    OtherName,
    /// The client began and did not go on.
    #[error("the first bytes took too long")]
    Slow,
}

#[derive(Debug)]
enum Stage {
    /// Too few bytes to tell one protocol from another.
    Start,
    /// In the first hello.
    Hello(HelloReader),
    /// After it, with the name it had.
    Following(Following, Option<DnsName>),
    /// In the second hello; the name of the first.
    Again(HelloReader, Option<DnsName>),
    /// In what may be an HTTP head.
    Plain(PlainHead),
}

impl Opening {
    pub(super) fn new(tunnel: Authority, rules: Arc<Tls>, limits: HeadLimits) -> Self {
        let seen = Inside::default();
        Self { tunnel, rules, limits, stage: Stage::Start, named: Arc::default(), seen }
    }

    /// Another host that the client speaks to in this tunnel because the policy allows it, once
    /// that is known. Must be asked for again when the policy changes.
    pub(super) fn named(&self) -> Arc<OnceLock<Authority>> {
        Arc::clone(&self.named)
    }

    /// What there was to see.
    pub(super) fn seen(&self) -> &Inside {
        &self.seen
    }

    /// Looks at bytes that begin where the last release ended. `ended`: no more will come, and
    /// then the answer is never to hold.
    ///
    /// # Errors
    ///
    /// The tunnel must be closed, and none of these bytes go on.
    pub(super) fn look(
        &mut self,
        bytes: &[u8],
        ended: bool,
        policy: &Policy,
    ) -> Result<Step, Mismatch> {
        let step = self.step(bytes, ended, policy);
        self.seen.mismatch = step.as_ref().err().map(Mismatch::word);
        step
    }

    /// Notes that the client did not go on.
    pub(super) fn give_up(&mut self) -> Mismatch {
        self.seen.mismatch = Some(Mismatch::Slow.word());
        Mismatch::Slow
    }

    fn step(&mut self, bytes: &[u8], ended: bool, policy: &Policy) -> Result<Step, Mismatch> {
        if let Stage::Start = self.stage {
            if bytes.is_empty() {
                return Ok(if ended { Step::Pass } else { Step::Hold });
            }
            let tls_only = self.is_for_tls_alone();
            if self.rules.sni == Sni::Off && self.rules.ech == Ech::Record && !tls_only {
                return Ok(Step::Pass);
            }
            match beginning_of(bytes) {
                Beginning::Tls => self.stage = Stage::Hello(HelloReader::default()),
                Beginning::Undecided if !ended => return Ok(Step::Hold),
                _ if tls_only => return Err(Mismatch::NotTls),
                Beginning::Sslv2Hello => {
                    return self.judge_name(None, policy).map(|()| Step::Pass);
                }
                Beginning::Other | Beginning::Undecided if self.rules.sni == Sni::Off => {
                    return Ok(Step::Pass);
                }
                Beginning::Other | Beginning::Undecided => {
                    self.stage = Stage::Plain(PlainHead::default());
                }
            }
        }
        match &mut self.stage {
            Stage::Start => Ok(Step::Hold),
            Stage::Hello(reader) => match reader.read(bytes)? {
                Some(WholeHello { hello, end }) => {
                    self.judge_hello(&hello)?;
                    self.judge_name(hello.server_name.clone(), policy)?;
                    if self.rules.sni == Sni::Off {
                        return Ok(Step::Pass);
                    }
                    let following = Following::new(hello.early_data);
                    self.stage = Stage::Following(following, hello.server_name);
                    Ok(Step::Release(end))
                }
                None if ended => Err(HelloError::Length.into()),
                None => Ok(Step::Hold),
            },
            Stage::Following(following, name) => match following.look(bytes) {
                Next::Nothing => Ok(Step::Pass),
                Next::More if ended => Ok(Step::Pass),
                Next::More => Ok(Step::Hold),
                Next::Skip(length) => Ok(Step::Release(length)),
                Next::Hello => {
                    self.stage = Stage::Again(HelloReader::default(), name.take());
                    self.step(bytes, ended, policy)
                }
            },
            Stage::Again(reader, name) => match reader.read(bytes)? {
                Some(WholeHello { hello, .. }) if hello.server_name == *name => {
                    self.judge_hello(&hello)?;
                    Ok(Step::Pass)
                }
                Some(WholeHello { hello, .. }) => {
                    self.seen.server_name = hello.server_name;
                    Err(Mismatch::OtherName)
                }
                None if ended => Err(HelloError::Length.into()),
                None => Ok(Step::Hold),
            },
            Stage::Plain(head) => match head.look(bytes, ended, self.limits)? {
                Plain::Head(named) => self.judge_head(named).map(|()| Step::Pass),
                Plain::Hold => Ok(Step::Hold),
                Plain::Other => Ok(Step::Pass),
                Plain::Release(length) => Ok(Step::Release(length)),
            },
        }
    }

    fn is_for_tls_alone(&self) -> bool {
        let Authority { host, port } = &self.tunnel;
        *port == Port::HTTPS
            && self.rules.require
            && !self.rules.cleartext.iter().any(|pattern| pattern.matches(host))
    }

    fn judge_hello(&mut self, hello: &ClientHello) -> Result<(), Mismatch> {
        self.seen.ech |= hello.ech;
        match self.rules.ech {
            Ech::Refuse if hello.ech => Err(Mismatch::Ech),
            Ech::Refuse | Ech::Record => Ok(()),
        }
    }

    fn judge_name(&mut self, name: Option<DnsName>, policy: &Policy) -> Result<(), Mismatch> {
        let Authority { host, port } = &self.tunnel;
        let name = match (name, host) {
            (Some(name), Host::Name(host)) if name == *host => return Ok(()),
            (Some(name), Host::Name(_) | Host::Ip(_)) => name,
            (None, Host::Ip(_)) => return Ok(()),
            (None, Host::Name(_)) => {
                return match self.rules.sni {
                    Sni::Enforce => Err(Mismatch::NoName),
                    Sni::Allowed | Sni::Off => Ok(()),
                };
            }
        };
        self.seen.server_name = Some(name.clone());
        match (self.rules.sni, host) {
            (Sni::Off, _) => Ok(()),
            (Sni::Enforce, Host::Name(_)) => Err(Mismatch::OtherName),
            (Sni::Enforce, Host::Ip(_)) | (Sni::Allowed, _) => {
                let named = Authority { host: Host::Name(name), port: *port };
                // Known before it is judged: a policy that comes in between judges it too.
                let named = self.named.get_or_init(|| named);
                policy.decide(named).map(|_| ()).map_err(|_| Mismatch::OtherName)
            }
        }
    }

    fn judge_head(&mut self, named: Named) -> Result<(), Mismatch> {
        let Named { target, field } = named;
        let is_other = |host: &Host| *host != self.tunnel.host;
        let missing = field.is_none();
        self.seen.http_host = [target, field].into_iter().flatten().find(is_other);
        match missing || self.seen.http_host.is_some() {
            true => Err(Mismatch::HttpHost),
            false => Ok(()),
        }
    }
}

/// What an HTTP client is told. Nothing in it comes from the client.
const HTTP_REFUSAL: &[u8] =
    b"HTTP/1.1 403 exeat: the request is not for the host of this tunnel\r\n\
    Connection: close\r\nContent-Length: 0\r\nx-proxy-error: blocked-by-policy\r\n\
    Proxy-Status: exeat; error=http_request_denied; details=\"sni_mismatch\"\r\n\r\n";

impl Mismatch {
    /// The word for it in the audit.
    fn word(&self) -> &'static str {
        match self {
            Self::Ech => "ech",
            Self::Hello(_) => "hello_malformed",
            Self::HttpHead(_) => "http_head_malformed",
            Self::HttpHost => "http_host",
            Self::NoName => "no_server_name",
            Self::NotTls => "not_tls",
            Self::OtherName => "server_name",
            Self::Slow => "slow",
        }
    }

    /// What a client is told that has heard nothing yet, in the protocol it speaks. Its name is
    /// what is wrong, so the alert is the one for names where there is one: libraries show it.
    pub(super) fn answer(&self) -> Vec<u8> {
        let alert = match self {
            Self::OtherName => Alert::UnrecognizedName,
            Self::Hello(HelloError::Name(_) | HelloError::ServerName | HelloError::TrailingDot) => {
                Alert::UnrecognizedName
            }
            Self::NoName => Alert::MissingExtension,
            Self::Ech => Alert::AccessDenied,
            Self::Hello(_) => Alert::DecodeError,
            Self::HttpHead(_) | Self::HttpHost => return HTTP_REFUSAL.to_vec(),
            Self::NotTls | Self::Slow => return Vec::new(),
        };
        alert.record().to_vec()
    }
}
