//! Dialling with happy eyeballs (RFC 8305): addresses of both families in turn, a new attempt every
//! 250 ms, the first to answer wins.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use super::{Candidates, Errand, vet::Late};
use crate::policy::{Permit, VettedAddress};

/// Why no address could be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The process, or the system, has no socket left.
    #[error("cannot be dialled: no socket is left")]
    NoSocket,
    /// Every address refused or reset the connection.
    #[error("refused the connection")]
    Refused,
    /// Nothing answered in time.
    #[error("did not answer in time")]
    Timeout,
    /// No route to any address.
    #[error("cannot be reached")]
    Unreachable,
}

/// RFC 8305 §5.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Probes on connections on which nothing moves, so that dead peers are noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Connects to one of a parent proxy's addresses. Those are the operator's word, and not vetted;
/// what it will be asked for is the errand, and that somebody may is the permit. It has no deadline.
///
/// # Errors
///
/// Why none of them could be reached.
///
/// # Cancel safety
///
/// Dropping the future closes every attempt.
pub(super) async fn dial_parent(
    _permit: &Permit,
    _errand: &Errand,
    addresses: Vec<SocketAddr>,
) -> Result<(TcpStream, SocketAddr), DialError> {
    race(addresses, None).await
}

/// Connects to one of the vetted addresses. The permit is the proof that one was asked for.
///
/// # Errors
///
/// Why none of them could be reached.
///
/// # Cancel safety
///
/// Dropping the future closes every attempt.
pub async fn dial(
    _permit: &Permit,
    candidates: Candidates,
    deadline: Duration,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let Candidates { addresses, late } = candidates;
    let addresses = addresses.into_iter().map(VettedAddress::socket_addr).collect();
    match timeout(deadline, race(addresses, late)).await {
        Ok(connected) => connected,
        Err(_) => Err(DialError::Timeout),
    }
}

async fn race(
    addresses: Vec<SocketAddr>,
    mut late: Option<Late>,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let mut waiting = interleave(addresses);
    let mut attempts = FuturesUnordered::new();
    let mut worst = DialError::Unreachable;
    let mut next_attempt = Instant::now();
    loop {
        if attempts.is_empty() && waiting.is_empty() && late.is_none() {
            return Err(worst);
        }
        // Start at once when nothing is under way, else one attempt delay after the last.
        if let Some(address) = take_due(&mut waiting, attempts.is_empty(), next_attempt) {
            attempts.push(attempt(address));
            next_attempt = Instant::now() + ATTEMPT_DELAY;
            continue;
        }
        tokio::select! {
            Some(result) = attempts.next(), if !attempts.is_empty() => match result {
                Ok(connected) => return Ok(connected),
                Err(error) => worst = worst.or(&error),
            },
            () = sleep_until(next_attempt), if !waiting.is_empty() => {}
            addresses = next_late(&mut late), if late.is_some() => waiting.extend(addresses),
        }
    }
}

fn take_due(
    waiting: &mut VecDeque<SocketAddr>,
    idle: bool,
    next_attempt: Instant,
) -> Option<SocketAddr> {
    if idle || Instant::now() >= next_attempt { waiting.pop_front() } else { None }
}

async fn next_late(late: &mut Option<Late>) -> VecDeque<SocketAddr> {
    let Some(waiting) = late else { return VecDeque::new() };
    let addresses = waiting.answer.as_mut().await;
    let vetted = waiting.vet(&addresses);
    *late = None;
    vetted.into_iter().map(VettedAddress::socket_addr).collect()
}

#[expect(clippy::disallowed_methods, reason = "the one place that dials; addresses are vetted")]
async fn attempt(address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let stream = TcpStream::connect(address).await?;
    tune(&SockRef::from(&stream));
    Ok((stream, address))
}

/// Latency before packet count, and dead peers noticed. A socket that refuses is used as it is.
/// For both sides of the proxy.
pub fn tune(socket: &Socket) {
    socket.set_tcp_nodelay(true).ok();
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE)).ok();
}

/// IPv6 first, then the families in turn, each in the order of the answer (RFC 8305 §4).
fn interleave(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut sorted = VecDeque::new();
    loop {
        match (v6.next(), v4.next()) {
            (None, None) => return sorted,
            (six, four) => sorted.extend(six.into_iter().chain(four)),
        }
    }
}

/// Whether the process or the system has no descriptor left.
#[cfg(unix)]
pub fn is_at_the_limit(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let at = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    at(Errno::MFILE) || at(Errno::NFILE)
}

/// Elsewhere it is not told from other failures.
#[cfg(not(unix))]
pub fn is_at_the_limit(_: &io::Error) -> bool {
    false
}

impl DialError {
    /// What to say about several failed attempts: that something answered says most.
    fn or(self, error: &io::Error) -> Self {
        use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, ConnectionReset, TimedOut};
        match (self, error.kind()) {
            // What the origins would have said is not known.
            (Self::NoSocket, _) | (_, AddrNotAvailable) => Self::NoSocket,
            _ if is_at_the_limit(error) => Self::NoSocket,
            (_, ConnectionRefused | ConnectionReset) | (Self::Refused, _) => Self::Refused,
            (_, TimedOut) | (Self::Timeout, _) => Self::Timeout,
            (Self::Unreachable, _) => Self::Unreachable,
        }
    }
}
