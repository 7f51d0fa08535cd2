//! Requests for a unix socket of this machine, as Codex's clients make them: `x-unix-socket` names its
//! path, and the host of the request goes along and means nothing.
//!
//! Only for clients of this machine. A socket is judged by where it is, links resolved, and the
//! connection goes to what was judged (`upstream::FoundSocket`). One connection a request: connecting
//! costs nothing there.

use std::sync::Arc;

use bytes::BytesMut;
use http::Method;
use tokio::{net::TcpStream, task::spawn_blocking, time::timeout};

use super::{
    client::Client,
    connection::After,
    context::{Context, UnixSockets},
    exchange::{Answered, Exchange, Outcome, Progress},
    forward::{CONTINUE, Road, target, waits_for_leave},
    limit::Limit,
    refusal::{BadRequest, NoSockets, OriginFailure, Refusal, SocketFailure},
    relay::{Coding, Receiver, Sender},
    rewrite::{self, Manners, Outgoing},
    standing::Standing,
};
use crate::{
    http1::{
        Framed,
        request_head::{Framing, RequestHead},
    },
    net::{Authority, Port},
    observe::{Caller, Destination, Ending, Protocol, Refused, Subject, Trail},
    policy::{Denial, Leave, Policy, SocketPath, SocketPermit},
    upstream::{FoundSocket, Inflow, SocketError, leads_to},
};

/// Names a socket.
pub(super) const FIELD: &str = "x-unix-socket";

/// A socket that was judged, and by which name it is known.
struct Judged {
    path: SocketPath,
    leave: Result<(FoundSocket, SocketPermit), Unreachable>,
}

/// Why there is no connection to it.
enum Unreachable {
    Denied(Denial),
    Failed(SocketFailure),
}

/// Forwards a request to the socket it names, or says why not.
///
/// # Errors
///
/// The refusal.
///
/// # Cancel safety
///
/// Dropping the future closes the connection to the socket; the client's must be closed too.
pub(super) async fn forward_to_socket(
    road: Road<'_>,
    head: &RequestHead<'_>,
    manners: Manners,
) -> Result<After, Refusal> {
    let client = road.client;
    let context = client.context();
    let policy = context.policy();
    let asked = path(head)?;
    let subject = |path: &SocketPath| Subject {
        id: context.next_request(),
        client: client.caller(),
        protocol: Protocol::Http,
        method: head.method.clone(),
        destination: Destination::Socket(path.clone()),
        policy: Arc::clone(&policy),
    };
    let refuse = |reason| {
        let refused = Refused { reason, source: "proxy_state", rule: None };
        Trail::refuse(client.audit(), subject(&asked), refused);
    };
    if let Some(why) = no_sockets(client, &policy) {
        refuse("unix_socket_unsupported");
        return Err(Refusal::UnixSocket(why));
    }
    let host = host(head)?;
    let waits_for_leave = waits_for_leave(head)?;
    let Some(_place) = context.places.requests.take() else {
        refuse("limit_reached");
        return Err(Refusal::Limit(Limit::Requests));
    };
    let Judged { path, leave } = tokio::select! {
        judged = judge(context, &policy, &asked) => judged,
        // Nothing has been decided yet.
        () = road.inbound.gone() => return Ok(After::Broken),
    };
    let mut trail = match &leave {
        Err(Unreachable::Denied(denial)) => {
            Trail::refuse(client.audit(), subject(&path), (*denial).into());
            return Err(Refusal::SocketDenied { path: asked, denial: *denial, policy });
        }
        Ok(_) | Err(Unreachable::Failed(_)) => begin(client, subject(&path)),
    };
    trail.allowed();
    let connected = match leave {
        Ok((found, permit)) => connect(context, found, permit).await,
        Err(Unreachable::Failed(failure)) => Err(Unconnected::Failed(failure)),
        Err(Unreachable::Denied(denial)) => {
            return Err(Refusal::SocketDenied { path: asked, denial, policy });
        }
    };
    let stream = match connected {
        Ok(stream) => stream,
        Err(Unconnected::Failed(failure)) => {
            trail.end(Ending::ConnectFailed);
            return Err(Refusal::Socket(asked, failure));
        }
        Err(Unconnected::Limit) => {
            trail.end(Ending::LimitReached);
            return Err(Refusal::Limit(Limit::Dials));
        }
    };
    let body = head.framing.body();
    if waits_for_leave && !body.is_empty() && road.inbound.is_idle() {
        road.inbound.say(CONTINUE.to_vec()).await;
    }
    let progress = Progress::default();
    let sending = Sending { road, stream, body, manners, trail: &trail, progress: &progress };
    let outcome = sending.run(outgoing(head, &host), &policy, &path).await;
    let (ending, done) = match outcome {
        Err(refusal) => (
            Ending::PolicyChanged,
            // Whatever else ended the answer might be taken for its end.
            if progress.is_answering() { Ok(After::Broken) } else { Err(refusal) },
        ),
        Ok(Outcome::Answered(Answered { client_is_open, .. })) => {
            (Ending::Complete, Ok(if client_is_open { After::Next } else { After::Last }))
        }
        // Nobody asked it to.
        Ok(Outcome::Switched) => (Ending::OriginFailed, Ok(After::Broken)),
        Ok(Outcome::Failed(failure)) => {
            let failure = OriginFailure::from(failure);
            (failure.ending(), Err(Refusal::Socket(asked, SocketFailure::Answer(failure))))
        }
        Ok(Outcome::Client(fault)) => {
            let Some((ending, error)) = fault.told() else { return Ok(After::Broken) };
            let done = if progress.is_answering() { Ok(After::Broken) } else { Err(error.into()) };
            (ending, done)
        }
        Ok(Outcome::Broken(ending)) => (ending, Ok(After::Broken)),
    };
    trail.end(ending);
    done
}

/// A request on its way to a socket.
struct Sending<'a> {
    road: Road<'a>,
    stream: TcpStream,
    /// What is left of its body.
    body: Framed,
    manners: Manners,
    trail: &'a Trail,
    progress: &'a Progress,
}

impl Sending<'_> {
    async fn run(
        mut self,
        outgoing: Outgoing,
        policy: &Arc<Policy>,
        path: &SocketPath,
    ) -> Result<Outcome, Refusal> {
        let Self { road, stream, body, manners, trail, progress } = &mut self;
        let client = road.client;
        let Context { timeouts, drain, .. } = &**client.context();
        let coding = Coding::of(body);
        let mut held = BytesMut::new();
        let (from, to) = stream.split();
        let inflow = Inflow::new(from, &mut held);
        let origin = (
            Sender::new(inflow, &mut road.waits.body, timeouts.idle),
            Receiver::new(to, outgoing.head.clone(), coding, None),
        );
        let exchange = Exchange {
            outgoing: &outgoing,
            body,
            trail,
            progress,
            manners: *manners,
            drain,
            deadline: timeouts.response_head,
            wait: &mut road.waits.head,
        };
        let mut standing = Standing::new(client, policy, road.policies);
        let from_client = road.inbound.split(Vec::new());
        let refusal = |policy| refusal(client, policy, path);
        standing.during_leave(refusal, exchange.run(from_client, origin)).await
    }
}

/// It does not switch to another protocol, in which nothing would be looked at.
fn outgoing(head: &RequestHead<'_>, host: &Authority) -> Outgoing {
    match head.framing {
        Framing::Chunked | Framing::Length(_) => rewrite::request(head, host, None),
        Framing::Switching(_) => {
            let head = RequestHead { framing: Framing::Length(0), ..head.clone() };
            rewrite::request(&head, host, None)
        }
    }
}

/// The path that is asked for.
fn path(head: &RequestHead<'_>) -> Result<SocketPath, BadRequest> {
    if head.method == Method::CONNECT {
        return Err(BadRequest::SocketTunnel);
    }
    let mut values = head.fields.all(FIELD);
    match (values.next(), values.next()) {
        (Some(value), None) => SocketPath::parse(value).map_err(|_| BadRequest::SocketField),
        _ => Err(BadRequest::SocketField),
    }
}

/// The host that goes along: of the target, or, as a server would be asked, of `Host`.
fn host(head: &RequestHead<'_>) -> Result<Authority, BadRequest> {
    if !matches!(head.target, [b'/', ..] | b"*") {
        return target(head);
    }
    let mut hosts = head.fields.all("host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            Authority::parse_or(host, Port::HTTP).map_err(|_| BadRequest::HostField)
        }
        _ => Err(BadRequest::HostField),
    }
}

/// Why this client gets no socket, whichever it asks for.
fn no_sockets(client: &Client, policy: &Policy) -> Option<NoSockets> {
    let is_local = match client.caller() {
        Caller::Ip(address) => address.ip().to_canonical().is_loopback(),
        Caller::Unix => true,
    };
    let is_closed = client.context().unix_sockets == UnixSockets::Closed;
    if cfg!(not(target_os = "linux")) {
        Some(NoSockets::Unsupported)
    } else if !is_local {
        Some(NoSockets::NotLocal)
    } else {
        // Where none is allowed, the policy says so.
        (is_closed && policy.ruleset().allows_sockets()).then_some(NoSockets::GivenUp)
    }
}

/// Finds a socket and judges it. Whether there is one is nobody's business who may not ask for it.
async fn judge(context: &Context, policy: &Arc<Policy>, asked: &SocketPath) -> Judged {
    let by_name = |policy: &Policy| policy.decide_socket(asked, |_, _, _| false);
    if !policy.ruleset().allows_sockets()
        && let Err(denial) = by_name(policy)
    {
        return Judged { path: asked.clone(), leave: Err(Unreachable::Denied(denial)) };
    }
    let found = {
        let (policy, asked) = (Arc::clone(policy), asked.clone());
        look(context, move || {
            let found = FoundSocket::find(&asked)?;
            let decided = policy.decide_socket(found.path(), leads_to);
            Ok((found, decided))
        })
        .await
    };
    match found.unwrap_or(Err(SocketError::Timeout)) {
        Ok((found, decided)) => Judged {
            path: found.path().clone(),
            leave: decided.map(|permit| (found, permit)).map_err(Unreachable::Denied),
        },
        Err(error) => Judged {
            path: asked.clone(),
            leave: Err(match by_name(policy) {
                Ok(_) => Unreachable::Failed(SocketFailure::Connect(error)),
                Err(denial) => Unreachable::Denied(denial),
            }),
        },
    }
}

/// Why a new policy refuses a request to a socket, which stays where it is.
async fn refusal(client: &Client, policy: Arc<Policy>, path: &SocketPath) -> Option<Refusal> {
    if !client.is_listed(&policy) {
        return Some(Refusal::ClientNotListed(client.caller()));
    }
    let decided = {
        let (policy, path) = (Arc::clone(&policy), path.clone());
        look(client.context(), move || policy.decide_socket(&path, leads_to)).await
    };
    let path = path.clone();
    match decided {
        Some(Ok(_)) => None,
        Some(Err(denial)) => Some(Refusal::SocketDenied { path, denial, policy }),
        // What cannot be found out in time is no leave.
        None => Some(Refusal::Socket(path, SocketFailure::Connect(SocketError::Timeout))),
    }
}

/// Looks at files where nothing else has to wait: what is mounted there may never answer. None, if
/// that takes too long, or too many look already.
async fn look<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let place = context.places.looks.take()?;
    let looking = spawn_blocking(move || {
        // As long as it takes, whoever still waits for it.
        let _place = place;
        work()
    });
    timeout(context.timeouts.connect, looking).await.ok()?.ok()
}

/// Why there is no connection, though there may be one.
enum Unconnected {
    Failed(SocketFailure),
    Limit,
}

async fn connect(
    context: &Context,
    found: FoundSocket,
    permit: SocketPermit,
) -> Result<TcpStream, Unconnected> {
    let Some(place) = context.places.dials.take() else { return Err(Unconnected::Limit) };
    let deadline = context.timeouts.connect;
    let connecting = spawn_blocking(move || {
        let _place = place;
        found.connect(&permit, deadline)
    });
    let broken = || Unconnected::Failed(SocketFailure::Answer(OriginFailure::Protocol));
    let failed = |error| Unconnected::Failed(SocketFailure::Connect(error));
    let stream = connecting.await.map_err(|_| broken())?.map_err(failed)?;
    TcpStream::from_std(stream).map_err(|_| broken())
}

fn begin(client: &Client, subject: Subject) -> Trail {
    let abort = client.context().abort.clone();
    Trail::begin(client.audit().clone(), subject, Leave::Sockets, abort)
}
