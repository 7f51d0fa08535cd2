//! SOCKS5: a client says where to, and what follows is a tunnel, as after a CONNECT.
//!
//! What it says is read by `socks5`; nothing of the tunnel is read before the origin is connected but
//! what came along with the request. A refusal is one number: the audit has the reason.

use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    client::Client,
    connect::open_listed,
    context::Context,
    refusal::Refusal,
    tunnel::{Leg, linger},
};
use crate::{
    dns::DnsError,
    net::Authority,
    observe::Protocol,
    socks5::{Foreign, Handshake, Reply, Step, WrongSocks},
    tls::Alert,
    upstream::{DialError, ParentError},
};

/// What a client has asked for.
struct Asked {
    authority: Authority,
    /// What it sent without waiting for the answer.
    early: Bytes,
}

/// Why it has asked for nothing.
enum Nothing {
    /// It went away, or the proxy stops.
    Gone,
    /// It said nothing in time.
    Idle,
    /// It began and did not come to its end in time.
    Slow,
    /// What it said.
    Wrong(WrongSocks),
}

/// What a client that speaks HTTP reads.
const HTTP_REFUSAL: &[u8] = b"HTTP/1.1 400 exeat: this is a SOCKS5 proxy, to be named as \
    socks5h://\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// "Request rejected or failed", of SOCKS4.
const SOCKS4_REFUSAL: &[u8] = &[0, 0x5b, 0, 0, 0, 0, 0, 0];

/// Room for the longest message and one read more, in bytes.
const BUFFER_BYTES: usize = 2 * Handshake::LONGEST;

/// Serves a connection until its tunnel is up, which goes on in a task of its own.
///
/// # Cancel safety
///
/// Dropping the future closes the connection, and abandons lookup and dialling.
pub(super) async fn serve(client: Arc<Client>, stream: TcpStream) {
    let context = Arc::clone(client.context());
    context.abort.run_until_cancelled(talk(client, stream)).await;
}

async fn talk(client: Arc<Client>, mut stream: TcpStream) {
    let context = Arc::clone(client.context());
    let timeouts = &context.counters.timeouts;
    let Asked { authority, early } = match hear(&mut stream, &context).await {
        Ok(asked) => asked,
        Err(Nothing::Gone) => return,
        Err(Nothing::Idle) => return timeouts.idle_client.increment(),
        Err(Nothing::Slow) => return timeouts.request_head.increment(),
        Err(Nothing::Wrong(error)) => {
            tracing::debug!(client = %client.caller(), "the request {error}");
            return end(&mut stream, &answer(error), &context).await;
        }
    };
    let opened = tokio::select! {
        opened = open_listed(&client, Protocol::Socks5, authority) => opened,
        () = gone(&stream, &early) => return,
    };
    match opened {
        Ok((tunnel, origin)) => {
            // If it takes no answer, the trail says that it is gone.
            if say(&mut stream, &Reply::Succeeded.bytes(), &context).await.is_some() {
                context.tasks.spawn(tunnel.run(Leg::with_early((stream, early)), origin));
            }
        }
        Err(refusal) => {
            refusal.count(&context.counters);
            end(&mut stream, &refusal.socks_reply().bytes(), &context).await;
        }
    }
}

/// Waits until the client has asked for something, and answers what comes before.
async fn hear(stream: &mut TcpStream, context: &Context) -> Result<Asked, Nothing> {
    let begun = timeout(context.timeouts.idle_client, has_said_more(stream));
    tokio::select! {
        biased;
        () = context.drain.cancelled() => return Err(Nothing::Gone),
        begun = begun => match begun {
            Err(_) => return Err(Nothing::Idle),
            Ok(false) => return Err(Nothing::Gone),
            Ok(true) => {}
        },
    }
    let heard = timeout(context.timeouts.request_head, shake(stream)).await;
    heard.unwrap_or(Err(Nothing::Slow))
}

/// Reads and answers, message after message.
async fn shake(stream: &mut TcpStream) -> Result<Asked, Nothing> {
    let mut handshake = Handshake::default();
    let mut bytes = BytesMut::with_capacity(BUFFER_BYTES);
    loop {
        match handshake.look(&bytes).map_err(Nothing::Wrong)? {
            Step::More => match stream.read_buf(&mut bytes).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Nothing::Gone),
            },
            Step::Answer { read, answer } => {
                bytes.advance(read);
                stream.write_all(&answer).await.map_err(|_| Nothing::Gone)?;
            }
            Step::Asked { read, authority } => {
                bytes.advance(read);
                return Ok(Asked { authority, early: Bytes::copy_from_slice(&bytes) });
            }
        }
    }
}

/// Ready when the client has gone away without having sent more. One that goes on before it has an
/// answer is not watched.
pub(super) async fn gone(stream: &TcpStream, early: &[u8]) {
    if early.is_empty() && !has_said_more(stream).await {
        return;
    }
    std::future::pending().await
}

/// Waits for the next byte, and leaves it there; false at the end of what the client says.
async fn has_said_more(stream: &TcpStream) -> bool {
    matches!(stream.peek(&mut [0]).await, Ok(1..))
}

/// None, if the client does not take it in time.
async fn say(stream: &mut TcpStream, bytes: &[u8], context: &Context) -> Option<()> {
    timeout(context.timeouts.request_head, stream.write_all(bytes)).await.ok()?.ok()
}

/// Says the last word, and lets it arrive.
async fn end(stream: &mut TcpStream, bytes: &[u8], context: &Context) {
    if say(stream, bytes, context).await.is_some() {
        linger(stream).await;
    }
}

/// What a client is told that has asked for nothing that is spoken here, in its own protocol.
fn answer(error: WrongSocks) -> Vec<u8> {
    let reply = match error {
        WrongSocks::AddressType => Reply::AddressTypeNotSupported,
        WrongSocks::Command => Reply::CommandNotSupported,
        WrongSocks::Credentials => return Handshake::NO_CREDENTIALS.to_vec(),
        WrongSocks::Foreign(Foreign::Http) => return HTTP_REFUSAL.to_vec(),
        WrongSocks::Foreign(Foreign::Socks4) => return SOCKS4_REFUSAL.to_vec(),
        WrongSocks::Foreign(Foreign::Tls) => return Alert::UnexpectedMessage.record().to_vec(),
        WrongSocks::Foreign(Foreign::Unknown) => return Vec::new(),
        WrongSocks::Methods => return Handshake::NO_METHOD.to_vec(),
        WrongSocks::Host(_) | WrongSocks::Port | WrongSocks::Reserved | WrongSocks::Version => {
            Reply::Failure
        }
    };
    reply.bytes().to_vec()
}

impl Refusal {
    /// What it is in SOCKS5.
    fn socks_reply(&self) -> Reply {
        match self {
            Self::ClientNotListed(_) | Self::Denied { .. } => Reply::NotAllowed,
            Self::Dial(_, DialError::Refused) => Reply::Refused,
            Self::Dial(_, DialError::Timeout) | Self::Dns(_, DnsError::Timeout) => Reply::Expired,
            Self::Dial(_, DialError::Unreachable)
            | Self::Dns(
                _,
                DnsError::NoAddress
                | DnsError::NoServer
                | DnsError::NoSuchName
                | DnsError::ServerFailure,
            ) => Reply::HostUnreachable,
            Self::Dial(_, DialError::NoSocket) | Self::Limit(_) => Reply::Failure,
            Self::Parent(_, error) => match error {
                ParentError::Refused(403 | 451) => Reply::NotAllowed,
                ParentError::Dial(DialError::NoSocket) => Reply::Failure,
                ParentError::Dial(DialError::Timeout)
                | ParentError::Refused(504)
                | ParentError::Timeout => Reply::Expired,
                // That the parent refused a connection says nothing about the host.
                ParentError::Dial(DialError::Refused | DialError::Unreachable)
                | ParentError::Dns(_)
                | ParentError::Loop
                | ParentError::Protocol
                | ParentError::Refused(_) => Reply::HostUnreachable,
            },
            // Of requests in HTTP alone.
            Self::BadRequest(_)
            | Self::Origin(..)
            | Self::Socket(..)
            | Self::SocketDenied { .. }
            | Self::Trace
            | Self::UnixSocket(_) => Reply::Failure,
        }
    }
}
