//! CONNECT (RFC 9110 §9.3.6): `200` only when the origin is connected, then a tunnel.

use std::sync::Arc;

use http::Method;

use super::{
    admit::{admit, check_host, meant, refuse},
    client::Client,
    limit::Limit,
    opening::Opening,
    refusal::{BadRequest, Refusal},
    tunnel::{Leg, Tunnel},
};
use crate::{http1::request_head::RequestHead, net::Authority, observe::Protocol};

/// Opens a tunnel, or says why not. The client has not been told yet.
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
    head: &RequestHead<'_>,
) -> Result<(Tunnel, Leg), Refusal> {
    let authority =
        Authority::parse_connect(head.target).map_err(|error| BadRequest::Head(error.into()))?;
    check_host(&head.fields, &authority, authority.port)?;
    let authority = meant(client, Protocol::HttpsConnect, &Method::CONNECT, authority)?;
    open(client, Protocol::HttpsConnect, authority).await
}

/// What a request of HTTP is asked too, and then what a CONNECT is: for ways in that are not HTTP.
///
/// # Errors
///
/// The refusal, which has been recorded.
///
/// # Cancel safety
///
/// Dropping the future abandons lookup and dialling.
pub(super) async fn open_listed(
    client: &Arc<Client>,
    protocol: Protocol,
    authority: Authority,
) -> Result<(Tunnel, Leg), Refusal> {
    let context = client.context();
    let policy = context.policy();
    let refused = |reason| {
        let policy = Arc::clone(&policy);
        refuse(client, protocol, &Method::CONNECT, &authority, policy, reason);
    };
    if !client.is_listed(&policy) {
        refused("client_not_listed");
        return Err(Refusal::ClientNotListed(client.caller()));
    }
    let Some(_request) = context.places.requests.take() else {
        refused("limit_reached");
        return Err(Refusal::Limit(Limit::Requests));
    };
    let authority = meant(client, protocol, &Method::CONNECT, authority)?;
    open(client, protocol, authority).await
}

/// Everything before a tunnel: leave, a place, a connection to the origin.
///
/// # Errors
///
/// The refusal, which has been recorded.
///
/// # Cancel safety
///
/// Dropping the future abandons the lookup and dialling.
async fn open(
    client: &Arc<Client>,
    protocol: Protocol,
    authority: Authority,
) -> Result<(Tunnel, Leg), Refusal> {
    let context = client.context();
    let mut admission = admit(client, protocol, &Method::CONNECT, &authority)?;
    let Some(place) = context.places.tunnels.take() else {
        return Err(admission.over(Limit::Tunnels));
    };
    // Boxed: what is refused never gets here.
    let (origin, peer) = Box::pin(admission.reach(client)).await?;
    let opening = Opening::new(authority, Arc::clone(&context.tls), context.head_limits());
    let tunnel = Tunnel::new(admission, Arc::clone(client), peer, place).judged_by(opening);
    Ok((tunnel, Leg::new(origin)))
}
