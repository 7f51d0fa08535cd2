//! `GET /healthz` at the proxy's own port, for container health checks.
//!
//! The only origin-form request that is answered. It says that the proxy works and counts what an
//! operator must notice; it says nothing about the policy's content or about traffic.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::json;

use super::{body::ReplyBody, context::Context, refusal::BadRequest};

/// Answers the health check, and tells everything else that this is a proxy.
pub(super) fn answer(
    context: &Context,
    request: &Request<Incoming>,
) -> Result<Response<ReplyBody>, BadRequest> {
    if request.method() != Method::GET || request.uri().path() != "/healthz" {
        return Err(BadRequest::NotProxied);
    }
    let counters = &context.counters;
    let body = json!({
        "status": "ok",
        "policy": {
            "generation": context.policy().generation(),
            "reloads": counters.reloads.get(),
            "reload_failures": counters.reload_failures.get(),
        },
        "audit": { "dropped": counters.audit_dropped.get() },
        "connections": { "refused": counters.connections_refused.get() },
        "tunnels": { "sni_mismatches": counters.sni_mismatches.get() },
        "confinement": { "calls_refused": counters.calls_refused.get() },
    });
    let mut response = Response::new(ReplyBody::Text(Full::new(Bytes::from(format!("{body}\n")))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
