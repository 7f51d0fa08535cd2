//! A parent proxy between this one and the origins: a tunnel through it, for whatever leaves.
//!
//! The invariant: it is asked for nothing but what the policy has vetted ([`VettedAddress`]) or
//! entrusted to it ([`Entrusted`]) for a permit. What it answers is read strictly, and not a byte
//! beyond its head; none of it goes on to clients but the status.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Candidates, DialError, dial::dial_parent};
use crate::{
    dns::{DnsError, Resolver},
    http1::{
        answer_head::{self, AnswerError, AnswerHead, Asked, MAX_INTERIM},
        last_line,
    },
    net::{Authority, Host},
    policy::{Entrusted, Peer, Permit, Policy, VettedAddress},
    settings::{Ask, Credentials, Exception, ParentUrl},
};

/// The parent proxy of this one.
#[derive(Debug)]
pub struct Parent {
    url: ParentUrl,
    except: Vec<Exception>,
    ask: Ask,
}

/// What a parent is asked for.
#[derive(Debug)]
pub enum Errand {
    /// Addresses of one host that were vetted, each in turn.
    Addresses(Vec<VettedAddress>),
    /// A name.
    Name(Entrusted),
}

/// Why there is no tunnel through a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParentError {
    /// Its name has no address.
    #[error("cannot be reached: the name of the parent proxy {0}")]
    Dns(DnsError),
    /// It cannot be connected to.
    #[error("cannot be reached: the parent proxy {0}")]
    Dial(DialError),
    /// It is this proxy itself.
    #[error("cannot be reached: the parent proxy is this one")]
    Loop,
    /// It answered in something else than HTTP, or not at all.
    #[error("cannot be reached: the parent proxy closed the connection or did not answer in HTTP")]
    Protocol,
    /// It says no, with that status.
    #[error("cannot be reached: the parent proxy answered {0}")]
    Refused(u16),
    /// It did not answer in time.
    #[error("cannot be reached: the parent proxy did not answer in time")]
    Timeout,
}

/// No tunnel, and where the parent is, if it was there at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// Why.
    pub error: ParentError,
    /// Where to.
    pub peer: Option<Peer>,
}

/// How many addresses of one host it is asked for.
const MAX_ASKED: usize = 3;

impl Parent {
    /// A parent, and what does not go by it.
    #[must_use]
    pub fn new(url: ParentUrl, except: Vec<Exception>, ask: Ask) -> Self {
        Self { url, except, ask }
    }

    /// What it wants to be asked for that destination; none, if that is dialled without it. This
    /// machine always is: by the same words the parent would take itself for it.
    #[must_use]
    pub fn ask_for(&self, authority: &Authority) -> Option<Ask> {
        let is_here = match &authority.host {
            Host::Name(name) => name.is_localhost(),
            Host::Ip(address) => is_here(*address),
        };
        let is_excepted = || self.except.iter().any(|exception| exception.covers(authority));
        (!is_here && !is_excepted()).then_some(self.ask)
    }

    /// Opens a tunnel through it. `deadline` bounds all of it: its name, its connection, its answer,
    /// for every address that it is asked for. The permit is the proof that somebody may. `connected` is
    /// told of each connection to it before anything is said there; those before are closed.
    ///
    /// # Errors
    ///
    /// Why there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection to the parent, and so the tunnel.
    pub async fn open(
        &self,
        permit: &Permit,
        errand: &Errand,
        policy: &Policy,
        resolver: &Resolver,
        deadline: Duration,
        mut connected: impl FnMut(&TcpStream),
    ) -> Result<(TcpStream, Peer), Failed> {
        let mut last = None;
        let trying = async {
            let addresses = self.addresses(policy, resolver).await.map_err(Failed::without_peer)?;
            for target in errand.targets() {
                let (mut stream, at) = dial_parent(permit, errand, addresses.clone())
                    .await
                    .map_err(|error| Failed::without_peer(ParentError::Dial(error)))?;
                connected(&stream);
                let peer = Peer::Parent { at, origin: target.origin };
                match self.ask(&mut stream, &target.text).await {
                    Ok(()) => return Ok((stream, peer)),
                    Err(error) => {
                        let failed = Failed { error, peer: Some(peer) };
                        last = Some(failed);
                        // It may reach another address of the same host.
                        if !matches!(error, ParentError::Refused(500..=599)) {
                            return Err(failed);
                        }
                    }
                }
            }
            Err(last.unwrap_or_else(|| Failed::without_peer(ParentError::Protocol)))
        };
        match timeout(deadline, trying).await {
            Ok(done) => done,
            Err(_) => {
                let peer = last.and_then(|failed| failed.peer);
                Err(Failed { error: ParentError::Timeout, peer })
            }
        }
    }

    /// Where it is, none of which is this proxy.
    async fn addresses(
        &self,
        policy: &Policy,
        resolver: &Resolver,
    ) -> Result<Vec<SocketAddr>, ParentError> {
        let Authority { host, port } = &self.url.authority;
        let found = match host {
            Host::Ip(address) => vec![*address],
            Host::Name(name) => resolver.resolve(name).await.map_err(ParentError::Dns)?.addresses,
        };
        let addresses: Vec<SocketAddr> =
            found.into_iter().map(|address| SocketAddr::new(address, port.number())).collect();
        match addresses.iter().any(|address| policy.is_own_listener(*address)) {
            true => Err(ParentError::Loop),
            false => Ok(addresses),
        }
    }

    /// CONNECT (RFC 9110 §9.3.6).
    async fn ask(&self, stream: &mut TcpStream, target: &str) -> Result<(), ParentError> {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(credentials) = &self.url.credentials {
            request.push_str("Proxy-Authorization: ");
            request.push_str(Credentials::reveal(credentials));
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|_| ParentError::Protocol)?;
        for _ in 0..=MAX_INTERIM {
            match answer(stream).await.map_err(|_| ParentError::Protocol)? {
                100..=199 => {}
                200..=299 => return Ok(()),
                status => return Err(ParentError::Refused(status)),
            }
        }
        Err(ParentError::Protocol)
    }
}

/// One thing that a parent is asked for.
struct Target {
    text: String,
    origin: Option<SocketAddr>,
}

impl Errand {
    /// IPv4 first: a parent takes its time to find out that it has no route, and most have one there.
    fn targets(&self) -> Vec<Target> {
        match self {
            Self::Name(entrusted) => {
                vec![Target { text: entrusted.authority().to_string(), origin: None }]
            }
            Self::Addresses(vetted) => {
                let mut addresses: Vec<SocketAddr> =
                    vetted.iter().map(|vetted| vetted.socket_addr()).collect();
                addresses.sort_by_key(SocketAddr::is_ipv6);
                let target =
                    |origin: SocketAddr| Target { text: origin.to_string(), origin: Some(origin) };
                addresses.into_iter().take(MAX_ASKED).map(target).collect()
            }
        }
    }
}

impl Candidates {
    /// Whether they are this machine, for which no other proxy can be asked.
    #[must_use]
    pub fn are_here(&self) -> bool {
        self.vetted().iter().any(|vetted| is_here(vetted.socket_addr().ip()))
    }
}

impl Failed {
    fn without_peer(error: ParentError) -> Self {
        Self { error, peer: None }
    }
}

/// Whether an address means this machine, or the link it is on: another one it means to others.
fn is_here(address: IpAddr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        }
}

/// The status of the next head, which is read to its end and no further: what follows is the
/// origin's.
async fn answer(stream: &mut TcpStream) -> Result<u16, AnswerError> {
    let broken = |_: io::Error| AnswerError::CutOff;
    let mut head = Vec::new();
    let mut ahead = vec![0; 4096];
    let mut looked_at = 0;
    loop {
        let seen = stream.peek(&mut ahead).await.map_err(broken)?;
        if seen == 0 {
            return Err(AnswerError::CutOff);
        }
        let before = head.len();
        head.extend(ahead.iter().take(seen));
        let end = answer_head::end_of_head(&head, looked_at)?;
        head.truncate(end.unwrap_or(head.len()));
        let part = ahead.get_mut(..head.len() - before).unwrap_or_default();
        stream.read_exact(part).await.map_err(broken)?;
        if end.is_some() {
            break;
        }
        looked_at = last_line(&head);
    }
    // Whatever it says of a body: after 2xx there is none, and no other is read.
    AnswerHead::read(&head, Asked::Ordinary).map(|answer| answer.status)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test's own client dials without a permit")]
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (stream, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn not_a_byte_too_far_is_read() {
        let tail = b"HTTP/1.1 500 the origin's\r\n\r\n";
        let bytes = [&b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n"[..], tail].concat();
        for split in 0..bytes.len() {
            let (mut stream, mut server) = pair().await;
            let (first, second) = bytes.split_at(split);
            let sending = async move {
                server.write_all(first).await.unwrap();
                tokio::task::yield_now().await;
                server.write_all(second).await.unwrap();
            };
            let (status, ()) = tokio::join!(answer(&mut stream), sending);
            assert_eq!(status, Ok(200), "{split}");
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, tail, "{split}");
        }
    }

    #[test]
    fn what_means_this_machine_is_not_asked_for() {
        let url = ParentUrl::parse("http://parent.test:3128").unwrap();
        let parent = Parent::new(url, Exception::of_no_proxy("b.test:80"), Ask::Name);
        for (target, ask) in [
            ("a.test:443", Some(Ask::Name)),
            ("b.test:443", Some(Ask::Name)),
            ("x.b.test:80", None),
            ("10.0.0.1:443", Some(Ask::Name)),
            ("localhost:443", None),
            ("a.localhost:443", None),
            ("127.1.2.3:443", None),
            ("0.0.0.0:443", None),
            ("169.254.169.254:80", None),
            ("[::1]:443", None),
            ("[fe80::1]:443", None),
        ] {
            let authority = Authority::parse_connect(target.as_bytes()).unwrap();
            assert_eq!(parent.ask_for(&authority), ask, "{target}");
        }
    }
}
