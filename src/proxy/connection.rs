//! One client connection: its requests one after the other, each to the service that fits it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONNECTION};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::{
    admit::refuse,
    body::ReplyBody,
    client::{Client, HeadKind},
    connect::connect,
    forward::forward,
    gate::Gate,
    health,
    limit::Limit,
    refusal::{After, Refusal},
    under_way::{Reply, UnderWay},
};
use crate::{
    net::{Authority, Port},
    observe::Protocol,
    policy::Policy,
    settings::Timeouts,
};

/// Serves a connection to its end. Tunnels go on in tasks of their own.
pub(super) async fn serve(client: Arc<Client>, stream: TcpStream) {
    let context = Arc::clone(client.context());
    let limits = context.head_limits();
    let gate = Gate::new(stream, limits, &context.timeouts, Arc::clone(client.report()));
    let service = service_fn(|request| {
        let client = Arc::clone(&client);
        async move { Ok::<_, Infallible>(answer(&client, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(longest_wait(&context.timeouts))
        .max_buf_size(limits.bytes.max(MIN_BUFFER_BYTES))
        .max_headers(limits.fields)
        .serve_connection(TokioIo::new(gate), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = async {
        tokio::select! {
            served = connection.as_mut() => served,
            () = context.drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    served = connection => served,
                    () = context.abort.cancelled() => Ok(()),
                }
            }
        }
    };
    let served = tokio::select! {
        // Asked first: not a byte more moves in an answer that is refused.
        biased;
        () = client.answering().refused(&client) => Ok(()),
        served = served => served,
    };
    if client.report().is_idle() {
        context.counters.timeouts.idle_client.increment();
    }
    if let Err(error) = served {
        tracing::debug!(client = %client.address(), %error, "connection ended early");
    }
}

/// The library's own minimum for its buffer, with room for one read more.
const MIN_BUFFER_BYTES: usize = 32 << 10;

/// The deadlines are the gate's, which is asked in time because the library has one too: a later.
fn longest_wait(timeouts: &Timeouts) -> Duration {
    timeouts.idle_client + timeouts.request_head + Duration::from_secs(1)
}

async fn answer(client: &Arc<Client>, request: Request<Incoming>) -> Response<Reply> {
    let mut under_way = UnderWay::new(Arc::clone(client.report()));
    let response = respond(client, request, &mut under_way).await;
    response.map(|body| under_way.until_answered(body))
}

async fn respond(
    client: &Arc<Client>,
    request: Request<Incoming>,
    under_way: &mut UnderWay,
) -> Response<ReplyBody> {
    let counters = &client.context().counters;
    let head = match client.next_head() {
        Ok(head) => head,
        Err(error) => {
            let refusal = Refusal::BadRequest(error.into());
            refusal.count(counters);
            return refusal.into_response(After::Close);
        }
    };
    // What is not read to its end would be taken for the next request.
    let after = match (head, request.body().is_end_stream()) {
        (HeadKind::Ordinary, true) => After::KeepAlive,
        (HeadKind::Ordinary, false) | (HeadKind::Switching, _) => After::Close,
    };
    let connect = request.method() == Method::CONNECT;
    match route(client, request, head, under_way).await {
        Ok(response) if head == HeadKind::Switching && !connect => closed_unless_switched(response),
        Ok(response) => response,
        Err(refusal) => {
            refusal.count(counters);
            refusal.into_response(after)
        }
    }
}

/// What the client sent after asking for WebSocket was held, and is not a request.
fn closed_unless_switched(mut response: Response<ReplyBody>) -> Response<ReplyBody> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn route(
    client: &Arc<Client>,
    request: Request<Incoming>,
    head: HeadKind,
    under_way: &mut UnderWay,
) -> Result<Response<ReplyBody>, Refusal> {
    let policy = client.context().policy();
    if !client.is_listed(&policy) {
        record_refusal(client, &request, policy, "client_not_listed");
        return Err(Refusal::ClientNotListed(client.address().ip().to_canonical()));
    }
    if request.method() == Method::TRACE {
        record_refusal(client, &request, policy, "method_not_allowed");
        return Err(Refusal::Trace);
    }
    if request.headers().contains_key("x-unix-socket") {
        record_refusal(client, &request, policy, "unix_socket_unsupported");
        return Err(Refusal::UnixSocket);
    }
    let is_connect = request.method() == Method::CONNECT;
    // How the proxy is can be asked at every limit but that of connections.
    if !is_connect && request.uri().authority().is_none() {
        return Ok(health::answer(client.context(), &request)?);
    }
    let Some(place) = client.context().places.requests.take() else {
        record_refusal(client, &request, policy, "limit_reached");
        return Err(Refusal::Limit(Limit::Requests));
    };
    under_way.hold(place);
    if is_connect {
        return connect(client, request).await;
    }
    forward(client, request, head).await
}

/// Records a refusal that is not the policy's, if the request named a destination.
fn record_refusal(
    client: &Client,
    request: &Request<Incoming>,
    policy: Arc<Policy>,
    reason: &'static str,
) {
    let target = request.uri().authority().map_or("", |authority| authority.as_str());
    let https = request.uri().scheme() == Some(&http::uri::Scheme::HTTPS);
    let default = if https { Port::HTTPS } else { Port::HTTP };
    let Ok(authority) = Authority::parse_or(target.as_bytes(), default) else { return };
    let protocol = match *request.method() == Method::CONNECT {
        true => Protocol::HttpsConnect,
        false => Protocol::Http,
    };
    refuse(client, protocol, request.method(), &authority, policy, reason);
}
