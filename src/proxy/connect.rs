//! CONNECT (RFC 9110 §9.3.6): `200` only when the origin is connected, then a tunnel.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use super::{
    admit::{admit, check_host},
    body::ReplyBody,
    client::Client,
    limit::Limit,
    opening::Opening,
    refusal::{BadRequest, Refusal},
    tunnel::{Leg, Tunnel},
};
use crate::{net::Authority, observe::Protocol};

/// Opens a tunnel, or says why not.
///
/// # Errors
///
/// The refusal. The connection must be closed after it: what follows was meant for the tunnel.
///
/// # Cancel safety
///
/// Dropping the future, as when the client goes away, abandons lookup and dialling.
pub(super) async fn connect(
    client: &Arc<Client>,
    mut request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Refusal> {
    let target = request.uri().authority().map_or("", |authority| authority.as_str());
    let authority = Authority::parse_connect(target.as_bytes())
        .map_err(|error| BadRequest::Head(error.into()))?;
    check_host(request.headers(), &authority, authority.port)?;
    let (tunnel, origin) = open(client, Protocol::HttpsConnect, authority).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    let legs = async move { Some((Leg::of_client(upgrade.await)?, origin)) };
    client.context().tasks.spawn(tunnel.run(legs));
    Ok(Response::new(ReplyBody::Text(Full::new(Bytes::new()))))
}

/// Everything before a tunnel: leave, a place, a connection to the origin.
///
/// # Errors
///
/// The refusal, which has been recorded.
///
/// # Cancel safety
///
/// Dropping the future abandons lookup and dialling.
pub(super) async fn open(
    client: &Arc<Client>,
    protocol: Protocol,
    authority: Authority,
) -> Result<(Tunnel, Leg), Refusal> {
    let context = client.context();
    let mut admission = admit(client, protocol, &Method::CONNECT, &authority)?;
    let Some(place) = context.places.tunnels.take() else {
        return Err(admission.over(Limit::Tunnels));
    };
    let (origin, peer) = admission.reach(client).await?;
    let opening = Opening::new(authority, Arc::clone(&context.tls), context.head_limits());
    let tunnel = Tunnel::new(admission, Arc::clone(client), peer, place).judged_by(opening);
    Ok((tunnel, Leg::new(origin)))
}
