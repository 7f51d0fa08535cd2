//! `GET /healthz` at the proxy's own port, for container health checks.
//!
//! The only origin-form request that is answered. It says that the proxy works and counts what an
//! operator must notice; it says nothing about the policy's content or about traffic.

use http::Method;
use serde_json::json;

use super::{context::Context, refusal::BadRequest, reply::Reply};
use crate::{http1::request_head::RequestHead, observe::Counters};

/// Answers the health check, and tells everything else that this is a proxy.
pub(super) fn answer(context: &Context, head: &RequestHead<'_>) -> Result<Reply, BadRequest> {
    let path = head.target.split(|byte| *byte == b'?').next();
    if head.method != Method::GET || path != Some(b"/healthz") {
        return Err(BadRequest::NotProxied);
    }
    let counters = &context.counters;
    let policy = context.policy();
    let Counters { limits, timeouts, .. } = &**counters;
    let body = json!({
        "status": "ok",
        "mode": policy.mode().as_str(),
        "policy": {
            "generation": policy.generation(),
            "observed": counters.observed.get(),
            "reloads": counters.reloads.get(),
            "reload_failures": counters.reload_failures.get(),
        },
        "audit": { "dropped": counters.audit_dropped.get() },
        "connections": { "accept_failures": counters.accept_failures.get() },
        "tunnels": { "sni_mismatches": counters.sni_mismatches.get() },
        "confinement": { "calls_refused": counters.calls_refused.get() },
        "limits": {
            "connections": limits.connections.get(),
            "connections_per_client": limits.connections_per_client.get(),
            "descriptors": limits.descriptors.get(),
            "dials": limits.dials.get(),
            "head_bytes": limits.head_bytes.get(),
            "head_fields": limits.head_fields.get(),
            "lookups": limits.lookups.get(),
            "request_line_bytes": limits.request_line_bytes.get(),
            "requests": limits.requests.get(),
            "tunnels": limits.tunnels.get(),
        },
        "timeouts": {
            "connect": timeouts.connect.get(),
            "dns": timeouts.dns.get(),
            "first_bytes": timeouts.first_bytes.get(),
            "idle": timeouts.idle.get(),
            "idle_client": timeouts.idle_client.get(),
            "request_head": timeouts.request_head.get(),
            "response_head": timeouts.response_head.get(),
        },
    });
    Ok(Reply::ok(format!("{body}\n")))
}
