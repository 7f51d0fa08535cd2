//! One client connection: its requests one after the other, each to the service that fits it.

use std::{convert::Infallible, sync::Arc};

use http::{Method, Request, Response};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::{
    body::ReplyBody,
    client::Client,
    connect::connect,
    forward::forward,
    gate::Gate,
    head::HeadLimits,
    health,
    refusal::{After, Refusal},
};

/// Serves a connection to its end. Tunnels go on in tasks of their own.
pub(super) async fn serve(client: Arc<Client>, stream: TcpStream) {
    let context = Arc::clone(client.context());
    let limits =
        HeadLimits { bytes: context.limits.head_bytes, fields: context.limits.head_fields };
    let gate = Gate::new(stream, limits, Arc::clone(client.report()));
    let service = service_fn(|request| {
        let client = Arc::clone(&client);
        async move { Ok::<_, Infallible>(answer(&client, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(context.timeouts.request_head)
        .max_buf_size(limits.bytes.max(MIN_BUFFER_BYTES))
        .max_headers(limits.fields)
        .serve_connection(TokioIo::new(gate), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = context.drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection => served,
                () = context.abort.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(client = %client.address(), %error, "connection ended early");
    }
}

/// The library's own minimum for its buffer, with room for one read more.
const MIN_BUFFER_BYTES: usize = 32 << 10;

async fn answer(client: &Arc<Client>, request: Request<Incoming>) -> Response<ReplyBody> {
    if let Some(error) = client.next_head() {
        return Refusal::BadRequest(error.into()).into_response(After::Close);
    }
    // What is not read to its end would be taken for the next request.
    let after = match request.body().is_end_stream() && request.method() != Method::CONNECT {
        true => After::KeepAlive,
        false => After::Close,
    };
    route(client, request).await.unwrap_or_else(|refusal| refusal.into_response(after))
}

async fn route(
    client: &Arc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Refusal> {
    if !client.is_listed(&client.context().policy()) {
        return Err(Refusal::ClientNotListed(client.address().ip().to_canonical()));
    }
    if request.headers().contains_key("x-unix-socket") {
        return Err(Refusal::UnixSocket);
    }
    if request.method() == Method::CONNECT {
        return connect(client, request).await;
    }
    if request.uri().authority().is_none() {
        return Ok(health::answer(client.context(), &request)?);
    }
    forward(client, request).await
}
