//! One client connection: its requests one after the other, each to the service that fits it.

use std::{pin::Pin, sync::Arc, time::SystemTime};

use http::Method;
use tokio::net::TcpStream;

use super::{
    admit::refuse,
    client::Client,
    connect::connect,
    fields,
    forward::{Road, Waits, forward},
    health,
    inbound::{Arrival, Inbound},
    limit::Limit,
    refusal::{BadRequest, Refusal},
    reply::{Recipient, Reply},
    rewrite::Manners,
    tunnel::{Leg, Tunnel},
    unix_socket::{self, forward_to_socket},
};
use crate::{
    http1::{
        Chunks,
        request_head::{Framing, HeadError, RequestHead, Switch},
    },
    net::{Authority, Target},
    observe::Protocol,
    policy::Policy,
};

/// What is to be done with the connection after a request.
pub(super) enum After {
    /// The client has its answer, and may ask again.
    Next,
    /// The client has its answer, and there is no other.
    Last,
    /// It can only be closed.
    Broken,
    /// The client gets an answer of the proxy's own.
    Say(Reply),
    /// It has become a tunnel, and the client knows.
    Tunnel(Box<Tunnel>, Leg),
}

/// Serves a connection to its end.
pub(super) async fn serve(client: Arc<Client>, stream: TcpStream) {
    // Boxed, both: HTTP is over when a tunnel begins, and what needs no tunnel has no room for one.
    let tunnel = Box::pin(until_tunnel(&client, stream)).await;
    drop(client);
    if let Some(tunnel) = tunnel {
        tunnel.await;
    }
}

/// Serves requests until the connection ends or becomes a tunnel, which is still to be run.
async fn until_tunnel(
    client: &Arc<Client>,
    stream: TcpStream,
) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
    let context = client.context();
    let inbound = Inbound::new(stream, context.head_limits(), &context.timeouts);
    let (tunnel, from_client, origin) = tokio::select! {
        tunnel = converse(client, inbound) => tunnel?,
        () = context.abort.cancelled() => return None,
    };
    Some(Box::pin(tunnel.run(from_client, origin)))
}

async fn converse(client: &Arc<Client>, mut inbound: Inbound) -> Option<(Tunnel, Leg, Leg)> {
    let context = client.context();
    let mut drained = std::pin::pin!(context.drain.cancelled());
    let mut policies = context.policy.clone();
    let mut bound = None;
    let mut waits = Waits::default();
    loop {
        let arrival = tokio::select! {
            biased;
            arrival = inbound.next() => arrival,
            () = &mut drained, if !context.drain.is_cancelled() || inbound.is_idle() => {
                if inbound.is_idle() {
                    return None;
                }
                continue;
            }
        };
        let bytes = match arrival {
            Arrival::Head(bytes) => bytes,
            Arrival::Refused(error) => return refuse_head(client, inbound, error).await,
            Arrival::Idle => {
                context.counters.timeouts.idle_client.increment();
                return None;
            }
            Arrival::Gone => return None,
        };
        let head = match read(&bytes, &inbound, client) {
            Ok(head) => head,
            Err(error) => return refuse_head(client, inbound, error).await,
        };
        let road = Road {
            client,
            inbound: &mut inbound,
            policies: &mut policies,
            bound: &mut bound,
            waits: &mut waits,
        };
        let persists = match head.framing {
            Framing::Chunked | Framing::Length(_) => fields::persists(&head.fields, head.version),
            // What comes after it is not read as HTTP.
            Framing::Switching(_) => false,
        };
        let manners = Manners { version: head.version, persists };
        let (reply, persists) = match answer(road, &head, manners).await {
            Ok(After::Next) => continue,
            Ok(After::Last) => {
                inbound.close().await;
                return None;
            }
            Ok(After::Broken) => return None,
            Ok(After::Tunnel(tunnel, origin)) => {
                return Some((*tunnel, Leg::with_early(inbound.into_parts()), origin));
            }
            // What is not read to its end would be taken for the next request.
            Ok(After::Say(reply)) => (reply, persists && head.framing == Framing::Length(0)),
            Err(refusal) => {
                refusal.count(&context.counters);
                let ends = refusal.ends_connection() || head.framing != Framing::Length(0);
                (refusal.reply(), persists && !ends)
            }
        };
        let persists = persists && !context.drain.is_cancelled();
        let manners = Manners { persists, ..manners };
        let to = Recipient { manners, wants_no_body: head.method == Method::HEAD };
        if !inbound.say(reply.bytes(to, Some(SystemTime::now()))).await {
            return None;
        }
        if !persists {
            inbound.close().await;
            return None;
        }
    }
}

/// The answer to CONNECT.
const CONNECTED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// Reads a head. A body that is malformed in what has come already refuses it, before anything is
/// sent on for it; what comes later is looked at as it comes.
fn read<'b>(
    bytes: &'b [u8],
    inbound: &Inbound,
    client: &Client,
) -> Result<RequestHead<'b>, HeadError> {
    let head = RequestHead::read(bytes, client.context().head_limits())?;
    if head.framing == Framing::Chunked {
        Chunks::default().scan(inbound.held())?;
    }
    Ok(head)
}

/// Answers what is no request, and closes.
async fn refuse_head<T>(client: &Client, mut inbound: Inbound, error: HeadError) -> Option<T> {
    let refusal = Refusal::BadRequest(BadRequest::Head(error));
    refusal.count(&client.context().counters);
    let reply = refusal.reply().bytes(Recipient::UNKNOWN, Some(SystemTime::now()));
    if inbound.say(reply).await {
        inbound.close().await;
    }
    None
}

async fn answer(
    road: Road<'_>,
    head: &RequestHead<'_>,
    manners: Manners,
) -> Result<After, Refusal> {
    let client = road.client;
    let policy = client.context().policy();
    if !client.is_listed(&policy) {
        record_refusal(client, head, policy, "client_not_listed");
        return Err(Refusal::ClientNotListed(client.caller()));
    }
    if head.method == Method::TRACE {
        record_refusal(client, head, policy, "method_not_allowed");
        return Err(Refusal::Trace);
    }
    if head.fields.has(unix_socket::FIELD) {
        // Boxed: few ask for one.
        return Box::pin(forward_to_socket(road, head, manners)).await;
    }
    // How the proxy is can be asked at every limit but that of connections.
    if matches!(head.target, [b'/', ..] | b"*") {
        return Ok(After::Say(health::answer(client.context(), head)?));
    }
    let Some(_place) = client.context().places.requests.take() else {
        record_refusal(client, head, client.context().policy(), "limit_reached");
        return Err(Refusal::Limit(Limit::Requests));
    };
    if head.framing != Framing::Switching(Switch::Tunnel) {
        // Boxed: it is larger than all else, and many connections never need it.
        return Box::pin(forward(road, head, manners)).await;
    }
    let (tunnel, origin) = tokio::select! {
        biased;
        opened = connect(client, head) => opened?,
        () = road.inbound.gone() => return Ok(After::Broken),
    };
    Ok(match road.inbound.say(CONNECTED.to_vec()).await {
        true => After::Tunnel(Box::new(tunnel), origin),
        false => After::Broken,
    })
}

/// Records a refusal that is not the policy's, if the request named a destination.
fn record_refusal(
    client: &Client,
    head: &RequestHead<'_>,
    policy: Arc<Policy>,
    reason: &'static str,
) {
    let (protocol, authority) = match head.method == Method::CONNECT {
        true => (Protocol::HttpsConnect, Authority::parse_connect(head.target).ok()),
        false => (Protocol::Http, Target::parse(head.target).ok().map(|target| target.authority)),
    };
    let Some(authority) = authority else { return };
    refuse(client, protocol, &head.method, &authority, policy, reason);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F>(_: fn(Arc<Client>, TcpStream) -> F) -> usize {
        size_of::<F>()
    }

    /// Thousands may wait for their next request, or be tunnels.
    #[test]
    fn connections_are_small() {
        let size = size_of_future(serve);
        assert!(size <= 128, "{size} bytes each");
    }
}
