//! The question a proxy asks itself before it says that it is ready: is refused what must be?
//!
//! A real connection through the code that serves clients, and a CONNECT that the policy in force
//! refuses. A proxy that answers anything but that refusal must not run, and serves nobody before:
//! the test has a listening socket of its own, so no crowd at the other one can keep it from being
//! answered. Nothing is dialled or looked up for it, and it stands in no audit: those records are
//! about clients.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};

use super::{
    context::Context,
    crew::{Crew, Spoken},
    listener::admit,
};
use crate::{
    net::{Authority, Host},
    observe::{Audit, Caller},
    policy::{Denial, Policy},
};

/// The one connection that is ours.
pub(super) struct Probe {
    /// Goes nowhere.
    pub(super) audit: Audit,
    /// Dropped when nothing of the connection is left.
    pub(super) _ended: oneshot::Sender<()>,
}

/// The proof that a proxy refuses what it must.
#[derive(Debug)]
pub struct Tested(());

/// A proxy that does not do what it is for.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The listener answered something else.
    #[error(
        "self-test: the policy refuses {target} ({reason}), but the listener answered: {answer}"
    )]
    Answered {
        /// What was asked for.
        target: Authority,
        /// Why the policy refuses it.
        reason: &'static str,
        /// The first line of the answer.
        answer: String,
    },
    /// The listener did not answer in time.
    #[error("self-test: the listener at {0} did not answer in {deadline:?}", deadline = DEADLINE)]
    Silent(SocketAddr),
    /// The listener could not be reached.
    #[error("self-test: the listener at {0} could not be asked: {1}")]
    Unreachable(SocketAddr, #[source] io::Error),
}

/// What is asked for: the first that the policy refuses. The name is one that nobody has (RFC 6761
/// §6.4); the addresses are refused even by policies that allow every host, unless they are named:
/// that of cloud metadata, and one for documentation (RFC 5737).
const TARGETS: &[&[u8]] =
    &[b"exeat-self-test.invalid:443", b"169.254.169.254:80", b"192.0.2.1:443"];

/// For the whole exchange.
const DEADLINE: Duration = Duration::from_secs(10);

/// A refusal is shorter; anything longer is none.
const MAX_ANSWER: u64 = 16 << 10;

/// Checks that what must be refused is refused. `own` is a listening socket that nobody has been
/// told of, at `address`.
///
/// # Errors
///
/// The answer was another one, or there was none.
pub async fn self_test(
    own: TcpListener,
    address: SocketAddr,
    context: &Arc<Context>,
) -> Result<Tested, SelfTestError> {
    match refused_target(&context.policy()) {
        Some((target, denial)) => {
            let reason = denial.reason.as_str();
            test(own, address, context, &target, reason).await?;
            tracing::info!("self-test: {target} is refused ({reason})");
        }
        None => {
            tracing::warn!("no self-test: the policy allows everything that it would ask for");
        }
    }
    Ok(Tested(()))
}

async fn test(
    own: TcpListener,
    address: SocketAddr,
    context: &Arc<Context>,
    target: &Authority,
    reason: &'static str,
) -> Result<(), SelfTestError> {
    let asked = timeout(DEADLINE, async {
        let stream = connect(address).await?;
        let (ended, end) = oneshot::channel();
        let probe = Probe { audit: Audit::off(Arc::clone(&context.counters)), _ended: ended };
        let from = stream.local_addr()?;
        let answer = tokio::select! {
            answer = ask(stream, target) => answer?,
            Err(error) = serve_only(&own, from, probe, context) => return Err(error),
        };
        if is_refusal(&answer, reason) {
            // Its place among the connections is free again.
            end.await.ok();
        }
        Ok(answer)
    });
    match asked.await {
        Err(_) => Err(SelfTestError::Silent(address)),
        Ok(Err(error)) => Err(SelfTestError::Unreachable(address, error)),
        Ok(Ok(answer)) if is_refusal(&answer, reason) => Ok(()),
        Ok(Ok(answer)) => {
            let answer = answer.lines().next().unwrap_or("nothing").to_owned();
            Err(SelfTestError::Answered { target: target.clone(), reason, answer })
        }
    }
}

/// Serves the connection that comes from there as any other, and nobody else.
async fn serve_only(
    own: &TcpListener,
    from: SocketAddr,
    probe: Probe,
    context: &Arc<Context>,
) -> io::Result<Infallible> {
    loop {
        let (stream, address) = own.accept().await?;
        if address == from {
            admit(
                stream,
                Caller::Ip(address),
                Spoken::Http,
                Some(probe),
                context,
                &Crew::default(),
            )
            .map_err(|_| io::Error::other("there is no place for a connection"))?;
            return std::future::pending().await;
        }
    }
}

/// What the policy refuses, by name or by address, and why.
fn refused_target(policy: &Policy) -> Option<(Authority, Denial)> {
    TARGETS.iter().find_map(|target| {
        let target = Authority::parse_connect(target).ok()?;
        let denial = match (policy.decide(&target), &target.host) {
            (Err(denial), _) => denial,
            (Ok(permit), Host::Ip(address)) => policy.vet(&permit, *address).err()?,
            (Ok(_), Host::Name(_)) => return None,
        };
        Some((target, denial))
    })
}

#[expect(clippy::disallowed_methods, reason = "to our own listener, for which nobody needs leave")]
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address).await
}

async fn ask(mut stream: TcpStream, target: &Authority) -> io::Result<String> {
    let request =
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Ours, and for the reason that the policy has.
fn is_refusal(answer: &str, reason: &str) -> bool {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    head.starts_with("HTTP/1.1 403 exeat: ")
        && head.contains("\r\nproxy-status: exeat; error=")
        && body.get("reason").and_then(serde_json::Value::as_str) == Some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_refusal_itself_counts() {
        let answer =
            |head: &str, reason: &str| format!("{head}\r\n\r\n{{\"reason\":\"{reason}\"}}\n");
        let ours = "HTTP/1.1 403 exeat: x\r\nproxy-status: exeat; error=http_request_denied";
        assert!(is_refusal(&answer(ours, "not_allowed"), "not_allowed"));
        assert!(!is_refusal(&answer(ours, "client_not_listed"), "not_allowed"));
        assert!(!is_refusal(&answer("HTTP/1.1 403 Forbidden", "not_allowed"), "not_allowed"));
        assert!(!is_refusal("HTTP/1.1 200 OK\r\n\r\n", "not_allowed"));
        assert!(!is_refusal("", "not_allowed"));
    }
}
