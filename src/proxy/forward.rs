//! Requests in absolute-form (RFC 9112 §3.2.2): one in, exactly one out, framing rewritten.
//!
//! The policy is asked for every request, also on a kept-alive connection. Kept connections to
//! origins are used again only if their address would be vetted by the policy of the moment.

use std::sync::{Arc, atomic::AtomicU64};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{AUTHORIZATION, CONNECTION, HOST, UPGRADE, WWW_AUTHENTICATE},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{
    body::{Body as _, Incoming},
    ext::ReasonPhrase,
    upgrade::OnUpgrade,
};
use tokio::time::timeout;

use super::{
    admit::{Admission, Found, admit, check_host},
    body::{Answer, Keep, ReplyBody, Upload},
    client::Client,
    fields,
    refusal::{BadRequest, OriginFailure, Refusal},
    tunnel::{Leg, Tunnel},
};
use crate::{
    net::{Authority, Port},
    observe::{Ending, Protocol},
    upstream::{Lease, Origin, RequestBody},
};

/// Forwards a request, or says why not.
///
/// # Errors
///
/// The refusal.
///
/// # Cancel safety
///
/// Dropping the future, as when the client goes away, closes the origin's connection.
pub(super) async fn forward(
    client: &Arc<Client>,
    mut request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Refusal> {
    let authority = target(&request)?;
    let mut admission = admit(client, Protocol::Http, request.method(), &authority)?;
    let websocket =
        fields::asks_for_websocket(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let keep = match fields::binds_connection(request.headers(), &AUTHORIZATION) {
        true => Keep::Bound,
        false => Keep::Shared,
    };
    let uploaded = Arc::new(AtomicU64::new(0));
    let outgoing = rewrite(request, &authority, websocket.is_some(), client, &uploaded);
    let exchange = Exchange { client, admission: &mut admission, keep };
    let (mut response, lease, keep) = exchange.run(outgoing).await?;
    admission.trail.answered(response.status().as_u16());
    match (response.status(), websocket) {
        (StatusCode::SWITCHING_PROTOCOLS, Some(from_client)) => {
            let from_origin = hyper::upgrade::on(&mut response);
            Ok(switch(client, admission, response, lease, from_client, from_origin))
        }
        // The library passes on no other informational answer, and nobody asked for this one.
        (StatusCode::SWITCHING_PROTOCOLS, None) => {
            admission.trail.end(Ending::OriginFailed);
            Err(Refusal::Origin(authority, OriginFailure::Protocol))
        }
        (_, websocket) => {
            let refused_upgrade = websocket.is_some();
            let answer = answer(client, admission, response, lease, keep, uploaded);
            Ok(if refused_upgrade { closing(answer) } else { answer })
        }
    }
}

/// The destination of a request: its target, with which `Host` must agree.
fn target(request: &Request<Incoming>) -> Result<Authority, BadRequest> {
    let uri = request.uri();
    if uri.scheme_str().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
        return Err(BadRequest::HttpsAbsolute);
    }
    let target = uri.authority().ok_or(BadRequest::NotProxied)?;
    let authority = Authority::parse_or(target.as_str().as_bytes(), Port::HTTP)
        .map_err(|error| BadRequest::Head(error.into()))?;
    match check_host(request.headers(), &authority)? {
        Found::Nothing if request.version() == Version::HTTP_11 => Err(BadRequest::HostField),
        Found::Portless if authority.port != Port::HTTP => Err(BadRequest::HostDisagrees),
        Found::Nothing | Found::Portless | Found::WithPort => Ok(authority),
    }
}

/// The request as the origin gets it: origin-form, our framing, nothing meant for this hop.
fn rewrite(
    request: Request<Incoming>,
    authority: &Authority,
    websocket: bool,
    client: &Client,
    uploaded: &Arc<AtomicU64>,
) -> Request<RequestBody> {
    let (mut parts, body) = request.into_parts();
    fields::strip(&mut parts.headers);
    fields::add_via(&mut parts.headers, parts.version);
    if let Ok(host) = HeaderValue::try_from(authority.to_host_field(Port::HTTP)) {
        parts.headers.insert(HOST, host);
    }
    if websocket {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    let body = match body.is_end_stream() {
        true => empty(),
        false => {
            let idle = client.context().timeouts.idle;
            Upload::new(body, Arc::clone(uploaded), idle).boxed_unsync()
        }
    };
    let mut outgoing = Request::new(body);
    *outgoing.uri_mut() = origin_form(&parts.uri);
    *outgoing.method_mut() = parts.method;
    *outgoing.headers_mut() = parts.headers;
    outgoing
}

/// Path and query; an empty path is `/`.
fn origin_form(uri: &Uri) -> Uri {
    let root = || PathAndQuery::from_static("/");
    let Some(path) = uri.path_and_query() else { return Uri::from(root()) };
    Uri::from(match path.as_str().strip_prefix('?') {
        Some(query) => format!("/?{query}").try_into().unwrap_or_else(|_| root()),
        None => path.clone(),
    })
}

fn empty() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// One request on its way to an origin.
struct Exchange<'a> {
    client: &'a Arc<Client>,
    admission: &'a mut Admission,
    keep: Keep,
}

impl Exchange<'_> {
    /// Sends the request, on a kept connection if there is one.
    ///
    /// A kept connection may have been closed by the origin in the same moment. A request of which
    /// nothing was sent goes out again on another; one that may have been seen goes out once more
    /// only if it is idempotent and has no body (RFC 9110 §9.2.2).
    async fn run(
        mut self,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease, Keep), Refusal> {
        loop {
            let kept = self.kept();
            let reused = kept.is_some();
            let spare = if reused { replayable(&request) } else { None };
            let origin = match kept {
                Some(origin) => origin,
                None => self.connect().await?,
            };
            self.admission.trail.reached(origin.peer());
            let deadline = self.client.context().timeouts.response_head;
            request = match timeout(deadline, origin.send(request)).await {
                Ok(Ok((response, lease))) => {
                    let bound = self.keep == Keep::Bound
                        || fields::binds_connection(response.headers(), &WWW_AUTHENTICATE);
                    let keep = if bound { Keep::Bound } else { Keep::Shared };
                    return Ok((response, lease, keep));
                }
                Ok(Err((_, Some(unsent)))) if reused => unsent,
                Ok(Err((error, None))) if reused && spare.is_some() && broke_off(&error) => {
                    spare.unwrap_or_else(|| Request::new(empty()))
                }
                Ok(Err(_)) => return Err(self.fail(OriginFailure::Protocol)),
                Err(_) => return Err(self.fail(OriginFailure::Timeout)),
            };
        }
    }

    fn kept(&mut self) -> Option<Origin> {
        let Admission { policy, permit, trail } = &mut *self.admission;
        let bound = self.client.take_bound(policy, permit);
        if bound.is_some() {
            self.keep = Keep::Bound;
        }
        let kept = bound.or_else(|| self.client.context().pool.take(policy, permit));
        if kept.is_some() {
            trail.allowed();
        }
        kept
    }

    async fn connect(&mut self) -> Result<Origin, Refusal> {
        let (stream, peer) = self.admission.reach(self.client).await?;
        let authority = self.admission.permit.authority().clone();
        let tasks = &self.client.context().tasks;
        match Origin::new(stream, peer, authority, tasks).await {
            Ok(origin) => Ok(origin),
            Err(_) => Err(self.fail(OriginFailure::Protocol)),
        }
    }

    fn fail(&mut self, failure: OriginFailure) -> Refusal {
        self.admission.trail.end(match failure {
            OriginFailure::Protocol => Ending::OriginFailed,
            OriginFailure::Timeout => Ending::IdleTimeout,
        });
        Refusal::Origin(self.admission.permit.authority().clone(), failure)
    }
}

/// A second copy of a request that may be sent twice.
fn replayable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !request.method().is_idempotent() || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Whether the connection ended before the first byte of an answer.
fn broke_off(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_canceled() || error.is_closed()
}

/// The answer as the client gets it.
fn answer(
    client: &Arc<Client>,
    admission: Admission,
    response: Response<Incoming>,
    lease: Lease,
    keep: Keep,
    uploaded: Arc<AtomicU64>,
) -> Response<ReplyBody> {
    let (parts, body) = pass_back(response);
    let idle = client.context().timeouts.idle;
    let client = Arc::clone(client);
    let body = Answer::new(body, idle, admission.trail, uploaded, lease, client, keep);
    Response::from_parts(parts, ReplyBody::Forwarded(Box::new(body)))
}

/// After a refused upgrade nobody knows whether the client's next bytes are a request.
fn closing(mut response: Response<ReplyBody>) -> Response<ReplyBody> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The origin switches protocols: the answer goes back, and both connections become a tunnel.
fn switch(
    client: &Arc<Client>,
    admission: Admission,
    response: Response<Incoming>,
    lease: Lease,
    from_client: OnUpgrade,
    from_origin: OnUpgrade,
) -> Response<ReplyBody> {
    let (mut parts, _) = pass_back(response);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let peer = lease.into_origin().peer();
    let tunnel = Tunnel::new(admission, Arc::clone(client), peer);
    client.context().tasks.spawn(async move {
        let origin = Leg::of_origin(from_origin.await);
        if let (Some(client), Some(origin)) = (Leg::of_client(from_client.await), origin) {
            tunnel.run(client, origin).await;
        }
    });
    Response::from_parts(parts, ReplyBody::Text(Full::new(Bytes::new())))
}

fn pass_back(response: Response<Incoming>) -> (http::response::Parts, Incoming) {
    let (mut parts, body) = response.into_parts();
    fields::strip(&mut parts.headers);
    fields::add_via(&mut parts.headers, parts.version);
    parts.version = Version::HTTP_11;
    let phrase = parts.extensions.remove::<ReasonPhrase>();
    parts.extensions.clear();
    if let Some(phrase) = phrase {
        parts.extensions.insert(phrase);
    }
    (parts, body)
}
