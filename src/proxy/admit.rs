//! The one way from a request to an origin: decide, resolve, vet, record, dial.
//!
//! CONNECT, forwarded requests and captured connections all come through here, so none of them can
//! skip a step.

use std::{net::SocketAddr, sync::Arc};

use http::Method;
use tokio::net::TcpStream;

use super::{
    client::Client,
    context::Context,
    limit::Limit,
    own_connections::Own,
    refusal::{BadRequest, OriginFailure, Refusal},
};
use crate::{
    dns::DnsError,
    http1::Fields,
    net::{Authority, Host, Port},
    observe::{Destination, Ending, Protocol, Refused, Subject, Trail},
    policy::{Denial, Peer, Permit, Policy},
    settings::Ask,
    upstream::{self, Candidates, DialError, Errand, Failed, Parent, ParentError, VetError},
};

/// A request that the policy lets through, so far.
#[derive(Debug)]
pub(super) struct Admission {
    /// The snapshot that was asked; the request sees no other.
    pub(super) policy: Arc<Policy>,
    pub(super) permit: Permit,
    pub(super) trail: Trail,
    /// The connection that was dialled, if that could come back here. Boxed: few proxies need it.
    own: Option<Box<Own>>,
}

/// Whom a client means: who asked a jail's DNS first, and then the proxy for an address, means a name.
///
/// # Errors
///
/// The address would stand for a name, and does not. It has been recorded.
pub(super) fn meant(
    client: &Client,
    protocol: Protocol,
    method: &Method,
    authority: Authority,
) -> Result<Authority, Refusal> {
    let context = client.context();
    let (Some(destinations), Host::Ip(address)) = (&context.destinations, &authority.host) else {
        return Ok(authority);
    };
    let wanted = SocketAddr::new(*address, authority.port.number());
    destinations(wanted).ok_or_else(|| {
        refuse(client, protocol, method, &authority, context.policy(), "no_such_name");
        Refusal::Dns(authority, DnsError::NoSuchName)
    })
}

/// Asks the policy by name.
///
/// # Errors
///
/// The refusal, which has been recorded.
pub(super) fn admit(
    client: &Client,
    protocol: Protocol,
    method: &Method,
    authority: &Authority,
) -> Result<Admission, Refusal> {
    let context = client.context();
    let policy = context.policy();
    let subject = subject(client, protocol, method, authority, Arc::clone(&policy));
    match policy.decide(authority) {
        Ok(permit) => {
            let abort = context.abort.clone();
            let trail = Trail::begin(client.audit().clone(), subject, permit.leave(), abort);
            Ok(Admission { policy, permit, trail, own: None })
        }
        Err(denial) => {
            Trail::refuse(client.audit(), subject, denial.into());
            Err(Refusal::Denied { authority: authority.clone(), denial, policy })
        }
    }
}

/// Records a refusal that is not the policy's.
pub(super) fn refuse(
    client: &Client,
    protocol: Protocol,
    method: &Method,
    authority: &Authority,
    policy: Arc<Policy>,
    reason: &'static str,
) {
    let subject = subject(client, protocol, method, authority, policy);
    Trail::refuse(client.audit(), subject, Refused { reason, source: "proxy_state", rule: None });
}

/// What the audit says a request is about.
fn subject(
    client: &Client,
    protocol: Protocol,
    method: &Method,
    authority: &Authority,
    policy: Arc<Policy>,
) -> Subject {
    Subject {
        id: client.context().next_request(),
        client: client.caller(),
        protocol,
        method: method.clone(),
        destination: Destination::Host(authority.clone()),
        policy,
    }
}

impl Admission {
    /// Connects to a vetted address of the origin, or to it through the parent proxy.
    ///
    /// # Errors
    ///
    /// An address is refused, there is none, or none answers. It has been recorded.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the lookup and every attempt.
    pub(super) async fn reach(&mut self, client: &Client) -> Result<(TcpStream, Peer), Refusal> {
        let context = client.context();
        let authority = self.permit.authority();
        let by =
            context.parent.as_ref().and_then(|parent| Some((parent, parent.ask_for(authority)?)));
        let Some((parent, ask)) = by else {
            let candidates = self.vetted(context).await?;
            return self.dial(candidates, context).await;
        };
        let errand = match ask {
            Ask::Name => match self.policy.entrust(&self.permit) {
                Ok(entrusted) => Errand::Name(entrusted),
                Err(denial) => return Err(self.deny(denial)),
            },
            Ask::Address => {
                let candidates = self.vetted(context).await?;
                if candidates.are_here() {
                    return self.dial(candidates, context).await;
                }
                Errand::Addresses(candidates.vetted().to_vec())
            }
        };
        // Boxed: what few need must not make every request larger.
        Box::pin(self.reach_by(parent, errand, context)).await
    }

    /// Connects to one of the addresses.
    async fn dial(
        &mut self,
        candidates: Candidates,
        context: &Context,
    ) -> Result<(TcpStream, Peer), Refusal> {
        self.trail.allowed();
        let Some(_place) = context.places.dials.take() else { return Err(self.over(Limit::Dials)) };
        match upstream::dial(&self.permit, candidates, context.timeouts.connect).await {
            Ok((stream, address)) => {
                let peer = Peer::Origin(address);
                self.trail.reached(peer);
                self.own = own(&stream, context);
                Ok((stream, peer))
            }
            Err(error) => {
                self.trail.end(match error {
                    DialError::NoSocket => Ending::LimitReached,
                    DialError::Refused | DialError::Timeout | DialError::Unreachable => {
                        Ending::ConnectFailed
                    }
                });
                Err(Refusal::Dial(self.permit.authority().clone(), error))
            }
        }
    }

    /// Has the parent proxy connect.
    async fn reach_by(
        &mut self,
        parent: &Parent,
        errand: Errand,
        context: &Context,
    ) -> Result<(TcpStream, Peer), Refusal> {
        self.trail.allowed();
        let Some(_place) = context.places.dials.take() else { return Err(self.over(Limit::Dials)) };
        let Self { policy, permit, own: noted, .. } = self;
        let Context { resolver, timeouts, .. } = context;
        let connected = |stream: &TcpStream| {
            // The last one is closed, and this one may have its port.
            *noted = None;
            *noted = own(stream, context);
        };
        let opening = parent.open(permit, &errand, policy, resolver, timeouts.connect, connected);
        match opening.await {
            Ok((stream, peer)) => {
                self.trail.reached(peer);
                Ok((stream, peer))
            }
            Err(Failed { error, peer }) => {
                if let ParentError::Refused(status) = error {
                    self.trail.refused_by_parent(peer, status);
                }
                self.trail.end(match error {
                    ParentError::Dial(DialError::NoSocket) => Ending::LimitReached,
                    ParentError::Dial(_)
                    | ParentError::Dns(_)
                    | ParentError::Loop
                    | ParentError::Protocol
                    | ParentError::Refused(_)
                    | ParentError::Timeout => Ending::ParentFailed,
                });
                Err(Refusal::Parent(self.permit.authority().clone(), error))
            }
        }
    }

    /// The addresses of the host, every one vetted.
    async fn vetted(&mut self, context: &Context) -> Result<Candidates, Refusal> {
        match self.look_up(context).await? {
            Ok(candidates) => Ok(candidates),
            Err(VetError::Denied(denial)) => Err(self.deny(denial)),
            Err(VetError::Dns(error)) => {
                self.trail.end(Ending::DnsFailed);
                Err(Refusal::Dns(self.permit.authority().clone(), error))
            }
        }
    }

    /// # Errors
    ///
    /// Too many lookups are under way.
    async fn look_up(
        &mut self,
        context: &Context,
    ) -> Result<Result<Candidates, VetError>, Refusal> {
        {
            let found = upstream::candidates(&self.policy, &self.permit, &context.resolver);
            let mut found = std::pin::pin!(found);
            // What needs no server is there at once, and needs no place.
            let place = tokio::select! {
                biased;
                found = &mut found => return Ok(found),
                place = async { context.places.lookups.take() } => place,
            };
            if let Some(_place) = place {
                return Ok(found.await);
            }
        }
        Err(self.over(Limit::Lookups))
    }

    /// Records that there is too much of something, and says so.
    pub(super) fn over(&mut self, limit: Limit) -> Refusal {
        self.trail.end(Ending::LimitReached);
        Refusal::Limit(limit)
    }

    /// Records that the origin failed, and says so.
    pub(super) fn fail(&mut self, failure: OriginFailure) -> Refusal {
        self.trail.end(failure.ending());
        Refusal::Origin(self.permit.authority().clone(), failure)
    }

    fn deny(&mut self, denial: Denial) -> Refusal {
        self.trail.refused(denial);
        let authority = self.permit.authority().clone();
        Refusal::Denied { authority, denial, policy: Arc::clone(&self.policy) }
    }
}

/// Takes in a connection that was dialled, if it could come back here.
fn own(stream: &TcpStream, context: &Context) -> Option<Box<Own>> {
    context.own_connections.as_ref()?.note(stream).map(Box::new)
}

/// Whether a request has a `Host`. Without a port it means `default`.
///
/// # Errors
///
/// There are several, or it is no authority, or it is not the target.
pub(super) fn check_host(
    fields: &Fields<'_>,
    target: &Authority,
    default: Port,
) -> Result<bool, BadRequest> {
    let mut hosts = fields.all("host");
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => return Ok(false),
        (Some(host), None) => host,
        (Some(_), Some(_)) => return Err(BadRequest::HostField),
    };
    let host = Authority::parse_or(host, default).map_err(|_| BadRequest::HostField)?;
    if host == *target { Ok(true) } else { Err(BadRequest::HostDisagrees) }
}
