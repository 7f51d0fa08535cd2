//! Requests in absolute-form (RFC 9112 §3.2.2): one in, exactly one out, framing rewritten.
//!
//! The policy is asked for every request, also on a kept-alive connection, and every new policy
//! until the answer is over. Kept connections to origins are used again only if their address would
//! be vetted by the policy of the moment.

use std::sync::Arc;

use http::Method;
use tokio::sync::watch;

use super::{
    admit::{Admission, admit, check_host, meant},
    client::Client,
    connection::After,
    context::Context,
    exchange::{Answered, Exchange, Failure, Fault, Outcome, Progress},
    fields,
    inbound::Inbound,
    limit::Limit,
    places::Place,
    refusal::{ALLOWED_METHODS, BadRequest, OriginFailure, Refusal},
    relay::{Coding, Receiver, Sender},
    reply::Reply,
    rewrite::{self, Manners, Outgoing},
    standing::Standing,
    standstill::Standstill,
    tunnel::{Leg, Tunnel},
};
use crate::{
    http1::{
        Framed, Version,
        request_head::{Framing, RequestHead},
    },
    net::{Authority, Port, Scheme, Target},
    observe::{Ending, Protocol},
    policy::{Permit, Policy},
    upstream::Origin,
};

/// What forwarding needs of a client's connection, from one request to the next.
pub(super) struct Road<'a> {
    pub(super) client: &'a Arc<Client>,
    pub(super) inbound: &'a mut Inbound,
    /// Those that come.
    pub(super) policies: &'a mut watch::Receiver<Arc<Policy>>,
    /// An origin connection whose authentication belongs to this client (RFC 4559).
    pub(super) bound: &'a mut Option<Origin>,
    pub(super) waits: &'a mut Waits,
}

/// The deadlines of exchanges.
#[derive(Debug, Default)]
pub(super) struct Waits {
    pub(super) head: Standstill,
    pub(super) body: Standstill,
}

/// Whose a connection to an origin is afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Its authentication belongs to this client's connection (NTLM, Negotiate).
    Bound,
    /// Anyone may use it next.
    Shared,
}

/// How many times a request may still be forwarded (RFC 9110 §7.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hops {
    /// Not once: it was meant for this proxy.
    None,
    /// That often, after this time.
    Left(u32),
    /// As often as it takes.
    Uncounted,
}

/// RFC 9110 §15.2.1.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Forwards a request, or says why not.
///
/// # Errors
///
/// The refusal.
///
/// # Cancel safety
///
/// Dropping the future closes the origin's connection; the client's must be closed too.
pub(super) async fn forward(
    road: Road<'_>,
    head: &RequestHead<'_>,
    manners: Manners,
) -> Result<After, Refusal> {
    let client = road.client;
    let authority = target(head)?;
    let hops = hops(head)?;
    let waits_for_leave = waits_for_leave(head)?;
    let authority = meant(client, Protocol::Http, &head.method, authority)?;
    let mut admission = admit(client, Protocol::Http, &head.method, &authority)?;
    if hops == Hops::None {
        return Ok(After::Say(options(&mut admission)));
    }
    let place = match head.framing {
        Framing::Switching(_) => match client.context().places.tunnels.take() {
            Some(place) => Some(place),
            None => return Err(admission.over(Limit::Tunnels)),
        },
        Framing::Chunked | Framing::Length(_) => None,
    };
    let hops = match hops {
        Hops::Left(hops) => Some(hops),
        Hops::None | Hops::Uncounted => None,
    };
    let request = Request {
        outgoing: rewrite::request(head, &authority, hops),
        body: head.framing.body(),
        manners,
        waits_for_leave,
        keep: match fields::binds_connection(&head.fields, "authorization") {
            true => Keep::Bound,
            false => Keep::Shared,
        },
        place,
    };
    Forwarding { road, admission, request }.run(&authority).await
}

/// The destination of a request: its target, with which `Host` must agree.
pub(super) fn target(head: &RequestHead<'_>) -> Result<Authority, BadRequest> {
    let Target { scheme, authority } =
        Target::parse(head.target).map_err(|_| BadRequest::NotProxied)?;
    if scheme == Scheme::Https {
        return Err(BadRequest::HttpsAbsolute);
    }
    let has_host = check_host(&head.fields, &authority, Port::HTTP)?;
    match has_host || head.version == Version::Http10 {
        true => Ok(authority),
        false => Err(BadRequest::HostField),
    }
}

/// How far OPTIONS may go. Other methods may ignore the field, and do.
fn hops(head: &RequestHead<'_>) -> Result<Hops, BadRequest> {
    if head.method != Method::OPTIONS {
        return Ok(Hops::Uncounted);
    }
    let mut values = head.fields.all("max-forwards");
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(Hops::Uncounted),
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Err(BadRequest::MaxForwards),
    };
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(BadRequest::MaxForwards);
    }
    // More hops than anyone has are as good as the most that can be said.
    let hops = str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
    Ok(hops.unwrap_or(u32::MAX).checked_sub(1).map_or(Hops::None, Hops::Left))
}

/// Whether the client waits for leave to send its body. It is given at this hop, so the expectation
/// goes no further; in HTTP/1.0 it means nothing (RFC 9110 §10.1.1).
pub(super) fn waits_for_leave(head: &RequestHead<'_>) -> Result<bool, BadRequest> {
    let mut waits = false;
    for value in head.fields.all("expect") {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(BadRequest::Expectation);
        }
        waits = head.version == Version::Http11;
    }
    Ok(waits)
}

/// The answer to OPTIONS that was meant for this proxy. Nothing is dialled for it.
fn options(admission: &mut Admission) -> Reply {
    let mut reply = Reply::ok(String::new());
    reply.fields.push(("allow", ALLOWED_METHODS.into()));
    admission.trail.answered(reply.status.as_u16());
    admission.trail.end(Ending::Complete);
    reply
}

/// A request that has been admitted.
struct Request {
    outgoing: Outgoing,
    /// What is left of its body.
    body: Framed,
    manners: Manners,
    waits_for_leave: bool,
    keep: Keep,
    /// For the tunnel that it may become.
    place: Option<Place>,
}

/// One request on its way to an origin.
struct Forwarding<'a> {
    road: Road<'a>,
    admission: Admission,
    request: Request,
}

impl Forwarding<'_> {
    /// Sends the request, on a kept connection if there is one.
    ///
    /// A kept connection may have been closed by the origin in the same moment. A request that may
    /// have been seen goes out once more, on a fresh connection, and only if it is safe and has no
    /// body (RFC 9110 §9.2.2).
    async fn run(mut self, authority: &Authority) -> Result<After, Refusal> {
        let mut replayed = false;
        loop {
            let kept = if replayed { None } else { self.kept() };
            let is_kept = kept.is_some();
            let may_be_replayed = is_kept && self.request.outgoing.is_replayable;
            let mut origin = match kept {
                Some(origin) => origin,
                None => match self.connect(authority).await? {
                    Some(origin) => origin,
                    // The client is gone, and the trail says so.
                    None => return Ok(After::Broken),
                },
            };
            self.admission.trail.reached(origin.peer());
            let waited = self.give_leave().await;
            // What has come before anything was asked is no answer to it.
            if (waited || !is_kept) && !origin.is_open() {
                match is_kept {
                    true => continue,
                    false => return Err(self.admission.fail(OriginFailure::Protocol)),
                }
            }
            let progress = Progress::default();
            let outcome = match self.exchange(authority, &mut origin, &progress).await {
                Ok(outcome) => outcome,
                Err(refusal) => {
                    self.admission.trail.end(Ending::PolicyChanged);
                    // Whatever else ended the answer might be taken for its end.
                    return match progress.is_answering() {
                        true => Ok(After::Broken),
                        false => Err(refusal),
                    };
                }
            };
            return match outcome {
                Outcome::Answered(answered) => Ok(self.answered(answered, origin)),
                Outcome::Switched => Ok(self.switched(origin)),
                Outcome::Failed(Failure::BrokeOff) if may_be_replayed => {
                    replayed = true;
                    continue;
                }
                Outcome::Failed(failure) => Err(self.admission.fail(failure.into())),
                Outcome::Client(fault) => self.at_fault(fault, &progress),
                Outcome::Broken(ending) => {
                    self.admission.trail.end(ending);
                    Ok(After::Broken)
                }
            };
        }
    }

    async fn exchange(
        &mut self,
        authority: &Authority,
        origin: &mut Origin,
        progress: &Progress,
    ) -> Result<Outcome, Refusal> {
        let Self { road, admission, request } = self;
        let Context { timeouts, drain, .. } = &**road.client.context();
        let peer = Some(origin.peer());
        let (inflow, to_origin) = origin.split();
        let coding = Coding::of(&request.body);
        let head = request.outgoing.head.clone();
        let origin = (
            Sender::new(inflow, &mut road.waits.body, timeouts.idle),
            Receiver::new(to_origin, head, coding, None),
        );
        let mut standing = Standing::new(road.client, &admission.policy, road.policies);
        let exchange = Exchange {
            outgoing: &request.outgoing,
            body: &mut request.body,
            trail: &admission.trail,
            progress,
            manners: request.manners,
            drain,
            deadline: timeouts.response_head,
            wait: &mut road.waits.head,
        };
        let client = road.inbound.split(Vec::new());
        standing.during(authority, peer, exchange.run(client, origin)).await
    }

    /// Tells a client that waits for it to send its body; whether there was one.
    async fn give_leave(&mut self) -> bool {
        let Self { road, request, .. } = self;
        let waits = std::mem::take(&mut request.waits_for_leave)
            && !request.body.is_empty()
            && road.inbound.is_idle();
        if waits {
            // Whether it has been taken shows when the body comes.
            road.inbound.say(CONTINUE.to_vec()).await;
        }
        waits
    }

    /// The client has its answer.
    fn answered(&mut self, answered: Answered, origin: Origin) -> After {
        let Answered { origin_is_open, client_is_open, binds, .. } = answered;
        if origin_is_open {
            match self.request.keep {
                Keep::Shared if !binds => self.road.client.context().pool.keep(origin),
                Keep::Shared | Keep::Bound => *self.road.bound = Some(origin),
            }
        }
        self.admission.trail.end(Ending::Complete);
        match client_is_open {
            true => After::Next,
            false => After::Last,
        }
    }

    /// Both connections become a tunnel. Not judged by its opening: the request named its host, and
    /// what follows is WebSocket.
    fn switched(self, origin: Origin) -> After {
        let Self { road, admission, request } = self;
        // Nothing switches that has not asked for it, and what asks has a place.
        let Some(place) = request.place else { return After::Broken };
        let tunnel = Tunnel::new(admission, Arc::clone(road.client), origin.peer(), place);
        After::Tunnel(Box::new(tunnel), Leg::with_early(origin.into_parts()))
    }

    /// The client failed: it is told, unless it has a part of the answer or is gone.
    fn at_fault(&mut self, fault: Fault, progress: &Progress) -> Result<After, Refusal> {
        let Some((ending, error)) = fault.told() else { return Ok(After::Broken) };
        self.admission.trail.end(ending);
        match progress.is_answering() {
            true => Ok(After::Broken),
            false => Err(error.into()),
        }
    }

    fn kept(&mut self) -> Option<Origin> {
        let Admission { policy, permit, trail, .. } = &mut self.admission;
        let bound = take_bound(self.road.bound, policy, permit);
        if bound.is_some() {
            self.request.keep = Keep::Bound;
        }
        let kept = bound.or_else(|| self.road.client.context().pool.take(policy, permit));
        if kept.is_some() {
            trail.allowed();
        }
        kept
    }

    /// Dials, unless a new policy refuses it. None, if the client goes away meanwhile.
    async fn connect(&mut self, authority: &Authority) -> Result<Option<Origin>, Refusal> {
        let Self { road, admission, .. } = self;
        let mut standing = Standing::new(road.client, &admission.policy, road.policies);
        let inbound = &mut *road.inbound;
        let reached = async {
            tokio::select! {
                biased;
                // Boxed: kept connections make it rare.
                reached = Box::pin(admission.reach(road.client)) => Some(reached),
                () = inbound.gone() => None,
            }
        };
        match standing.during(authority, None, reached).await {
            Ok(None) => Ok(None),
            Ok(Some(reached)) => {
                let (stream, peer) = reached?;
                Ok(Some(Origin::new(stream, peer, authority.clone())))
            }
            Err(refusal) => {
                admission.trail.end(Ending::PolicyChanged);
                Err(refusal)
            }
        }
    }
}

/// The origin connection kept for this client, if it fits and the policy still vets it.
fn take_bound(bound: &mut Option<Origin>, policy: &Policy, permit: &Permit) -> Option<Origin> {
    let origin = bound.take_if(|origin| origin.authority() == permit.authority())?;
    let vetted = policy.judge(permit, origin.peer()).is_ok();
    (vetted && origin.is_open()).then_some(origin)
}
