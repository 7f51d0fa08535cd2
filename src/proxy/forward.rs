//! Requests in absolute-form (RFC 9112 §3.2.2): one in, exactly one out, framing rewritten.
//!
//! The policy is asked for every request, also on a kept-alive connection, and every new policy
//! while the request waits for its answer. Kept connections to
//! origins are used again only if their address would be vetted by the policy of the moment.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{
        ALLOW, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, MAX_FORWARDS,
        TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
    },
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
    admit::{Admission, admit, check_host},
    body::{Answer, Keep, Progress, ReplyBody, Upload},
    client::{Client, HeadKind},
    fields,
    limit::Limit,
    refusal::{ALLOWED_METHODS, BadRequest, OriginFailure, Refusal},
    standing::Standing,
    tunnel::{Leg, Tunnel},
};
use crate::{
    net::{Authority, Port},
    observe::{Ending, Protocol},
    upstream::{Origin, RequestBody, SendError},
};

/// Forwards a request, or says why not. `head` says whether it asks for WebSocket.
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
    head: HeadKind,
) -> Result<Response<ReplyBody>, Refusal> {
    let authority = target(&request)?;
    let is_last_hop = is_last_hop(&mut request)?;
    meet_expectation(&mut request)?;
    let mut admission = admit(client, Protocol::Http, request.method(), &authority)?;
    if is_last_hop {
        return Ok(options(&mut admission));
    }
    let upgrade = match head {
        HeadKind::Switching => match client.context().places.tunnels.take() {
            Some(place) => Some((hyper::upgrade::on(&mut request), place)),
            None => return Err(admission.over(Limit::Tunnels)),
        },
        HeadKind::Ordinary => None,
    };
    let keep = match fields::binds_connection(request.headers(), &AUTHORIZATION) {
        true => Keep::Bound,
        false => Keep::Shared,
    };
    let uploaded = Arc::<Progress>::default();
    let outgoing = rewrite(request, &authority, head, client, &uploaded);
    let standing = Standing::new(client, &admission);
    let exchange =
        Exchange { client, standing, admission: &mut admission, uploaded: &uploaded, keep };
    let (mut response, origin, keep) = exchange.run(outgoing).await?;
    admission.trail.answered(response.status().as_u16());
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    match (switching, upgrade) {
        (true, Some((from_client, place))) if fields::agrees_to_websocket(response.headers()) => {
            let from_origin = hyper::upgrade::on(&mut response);
            // Not judged by its opening: the request named its host, and what follows is WebSocket.
            let tunnel = Tunnel::new(admission, Arc::clone(client), origin.peer(), place);
            Ok(switch(client, tunnel, response, origin, from_client, from_origin))
        }
        // The library passes on no other informational answer, and nobody asked for this one.
        (true, _) => Err(admission.fail(OriginFailure::Protocol)),
        (false, _) => Ok(answer(client, admission, response, origin, keep, uploaded)),
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
    let has_host = check_host(request.headers(), &authority, Port::HTTP)?;
    match has_host || request.version() == Version::HTTP_10 {
        true => Ok(authority),
        false => Err(BadRequest::HostField),
    }
}

/// Whether OPTIONS is to go no further than here. If it is, its `Max-Forwards` is counted down
/// (RFC 9110 §7.6.2); other methods may ignore the field, and do.
fn is_last_hop(request: &mut Request<Incoming>) -> Result<bool, BadRequest> {
    if request.method() != Method::OPTIONS {
        return Ok(false);
    }
    let mut values = request.headers().get_all(MAX_FORWARDS).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(false),
        (Some(value), None) => value.as_bytes(),
        (Some(_), Some(_)) => return Err(BadRequest::MaxForwards),
    };
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(BadRequest::MaxForwards);
    }
    // More hops than anyone has are as good as the most that can be said.
    let hops = str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
    let hops: u32 = hops.unwrap_or(u32::MAX);
    match hops.checked_sub(1) {
        Some(left) => {
            request.headers_mut().insert(MAX_FORWARDS, HeaderValue::from(left));
            Ok(false)
        }
        None => Ok(true),
    }
}

/// `Expect: 100-continue` is met at this hop: the library says `100 Continue` once the body is asked
/// for. So it goes no further.
fn meet_expectation(request: &mut Request<Incoming>) -> Result<(), BadRequest> {
    let met = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if !request.headers().get_all(EXPECT).iter().all(met) {
        return Err(BadRequest::Expectation);
    }
    request.headers_mut().remove(EXPECT);
    Ok(())
}

/// The answer to OPTIONS that was meant for this proxy. Nothing is dialled for it.
fn options(admission: &mut Admission) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Text(Full::new(Bytes::new())));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(ALLOWED_METHODS));
    admission.trail.answered(response.status().as_u16());
    admission.trail.end(Ending::Complete);
    response
}

/// The request as the origin gets it: origin-form, our framing, nothing meant for this hop.
fn rewrite(
    request: Request<Incoming>,
    authority: &Authority,
    head: HeadKind,
    client: &Client,
    uploaded: &Arc<Progress>,
) -> Request<RequestBody> {
    let (mut parts, body) = request.into_parts();
    fields::strip(&mut parts.headers);
    // The library writes the length anew, in one spelling, unless there is no body.
    let length = parts.headers.remove(CONTENT_LENGTH);
    fields::add_via(&mut parts.headers, parts.version);
    if let Ok(host) = HeaderValue::try_from(authority.to_host_field(Port::HTTP)) {
        parts.headers.insert(HOST, host);
    }
    if head == HeadKind::Switching {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    let body = match body.is_end_stream() {
        true => {
            if length.is_some() {
                parts.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            empty()
        }
        false => {
            if body.size_hint().exact().is_none() {
                // Said explicitly, or the library sends no body with GET and its like.
                parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            let idle = client.context().timeouts.idle;
            Upload::new(body, Arc::clone(uploaded), idle).map_err(Into::into).boxed_unsync()
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
    standing: Standing<'a>,
    admission: &'a mut Admission,
    uploaded: &'a Progress,
    keep: Keep,
}

/// What was uploaded is recorded, also when the client goes away before the answer.
impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.count_upload();
    }
}

impl Exchange<'_> {
    /// Sends the request, on a kept connection if there is one.
    ///
    /// A kept connection may have been closed by the origin in the same moment. A request of which
    /// nothing was sent goes out again on another. One that may have been seen goes out once more,
    /// on a fresh connection, and only if it is safe and has no body (RFC 9110 §9.2.2).
    async fn run(
        mut self,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Origin, Keep), Refusal> {
        let mut replayed = false;
        loop {
            let kept = if replayed { None } else { self.kept() };
            let reused = kept.is_some();
            let spare = if reused { replayable(&request) } else { None };
            let origin = match kept {
                Some(origin) => origin,
                None => self.connect().await?,
            };
            self.admission.trail.reached(origin.peer());
            let deadline = self.client.context().timeouts.response_head;
            let peer = Some(origin.peer());
            let sent = within(deadline, origin.send(request), self.uploaded);
            let authority = self.admission.permit.authority();
            let sent = match self.standing.during(authority, peer, sent).await {
                Ok(sent) => sent,
                Err(refusal) => return Err(self.refused(refusal)),
            };
            request = match sent {
                Some(Ok((response, origin))) => {
                    let bound = self.keep == Keep::Bound
                        || fields::binds_connection(response.headers(), &WWW_AUTHENTICATE);
                    let keep = if bound { Keep::Bound } else { Keep::Shared };
                    return Ok((response, origin, keep));
                }
                Some(Err((_, Some(unsent)))) if reused => unsent,
                Some(Err((error, _))) => match (self.about_this(error), spare) {
                    (SendError::BrokeOff, Some(spare)) => {
                        replayed = true;
                        spare
                    }
                    (SendError::RequestBody, _) => {
                        return Err(match self.uploaded.is_stalled() {
                            true => self.stalled(),
                            false => self.malformed(),
                        });
                    }
                    (SendError::HeadTooLarge, _) => {
                        return Err(self.fail(OriginFailure::HeadTooLarge));
                    }
                    (SendError::BrokeOff | SendError::Protocol, _) => {
                        return Err(self.fail(OriginFailure::Protocol));
                    }
                },
                None if self.uploaded.is_awaited() => return Err(self.stalled()),
                None => return Err(self.fail(OriginFailure::Timeout)),
            };
        }
    }

    /// A body that has come to its end, or was never there, has not broken: then it is that of the
    /// request before, on the same connection.
    fn about_this(&self, error: SendError) -> SendError {
        match error {
            SendError::RequestBody if self.uploaded.is_finished() => SendError::BrokeOff,
            SendError::BrokeOff
            | SendError::HeadTooLarge
            | SendError::Protocol
            | SendError::RequestBody => error,
        }
    }

    /// A new policy refuses it.
    fn refused(&mut self, refusal: Refusal) -> Refusal {
        self.count_upload();
        self.admission.trail.end(Ending::PolicyChanged);
        refusal
    }

    fn count_upload(&mut self) {
        self.admission.trail.moved(self.uploaded.take_moved(), 0);
    }

    /// The client's body did not come in time.
    fn stalled(&mut self) -> Refusal {
        self.count_upload();
        self.admission.trail.end(Ending::IdleTimeout);
        BadRequest::BodyTimeout.into()
    }

    /// The client's body breaks its framing, or off.
    fn malformed(&mut self) -> Refusal {
        self.count_upload();
        self.admission.trail.end(Ending::ClientGone);
        BadRequest::Body.into()
    }

    fn fail(&mut self, failure: OriginFailure) -> Refusal {
        self.count_upload();
        self.admission.fail(failure)
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
        let authority = self.admission.permit.authority().clone();
        let reached = self.admission.reach(self.client);
        let (stream, peer) = match self.standing.during(&authority, None, reached).await {
            Ok(reached) => reached?,
            Err(refusal) => return Err(self.refused(refusal)),
        };
        let tasks = &self.client.context().tasks;
        match Origin::new(stream, peer, authority, tasks).await {
            Ok(origin) => Ok(origin),
            Err(_) => Err(self.admission.fail(OriginFailure::Protocol)),
        }
    }
}

/// Waits for an answer, a deadline long after the last piece of the upload has moved.
async fn within<T>(
    deadline: Duration,
    sending: impl Future<Output = T>,
    uploaded: &Progress,
) -> Option<T> {
    let mut sending = std::pin::pin!(sending);
    let mut moved = uploaded.moved();
    loop {
        match timeout(deadline, &mut sending).await {
            Ok(sent) => return Some(sent),
            Err(_) if uploaded.moved() != moved => moved = uploaded.moved(),
            Err(_) => return None,
        }
    }
}

/// A second copy of a request that may be sent twice.
fn replayable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !request.method().is_safe() || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// The answer as the client gets it.
fn answer(
    client: &Arc<Client>,
    admission: Admission,
    response: Response<Incoming>,
    origin: Origin,
    keep: Keep,
    uploaded: Arc<Progress>,
) -> Response<ReplyBody> {
    let (parts, body) = pass_back(response);
    let idle = client.context().timeouts.idle;
    let client = Arc::clone(client);
    let body = Answer::new(body, idle, admission.trail, uploaded, origin, client, keep);
    Response::from_parts(parts, ReplyBody::Forwarded(Box::new(body)))
}

/// The origin switches protocols: the answer goes back, and both connections become a tunnel.
fn switch(
    client: &Client,
    tunnel: Tunnel,
    response: Response<Incoming>,
    origin: Origin,
    from_client: OnUpgrade,
    from_origin: OnUpgrade,
) -> Response<ReplyBody> {
    let (mut parts, _) = pass_back(response);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    origin.switched();
    let legs = async move {
        let origin = Leg::of_origin(from_origin.await)?;
        Some((Leg::of_client(from_client.await)?, origin))
    };
    client.context().tasks.spawn(tunnel.run(legs));
    Response::from_parts(parts, ReplyBody::Text(Full::new(Bytes::new())))
}

fn pass_back(response: Response<Incoming>) -> (http::response::Parts, Incoming) {
    let (mut parts, body) = response.into_parts();
    fields::strip(&mut parts.headers);
    fields::strip_verdict(&mut parts.headers);
    if parts.status == StatusCode::NO_CONTENT {
        // It has no body, whatever it says (RFC 9110 §8.6).
        parts.headers.remove(CONTENT_LENGTH);
    }
    fields::add_via(&mut parts.headers, parts.version);
    parts.version = Version::HTTP_11;
    let phrase = parts.extensions.remove::<ReasonPhrase>();
    parts.extensions.clear();
    // Without one the library says what the status means.
    if let Some(phrase) = phrase.filter(|phrase| !fields::is_verdict(phrase.as_bytes())) {
        parts.extensions.insert(phrase);
    }
    (parts, body)
}
