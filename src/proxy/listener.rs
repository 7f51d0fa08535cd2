//! The accept loop: a bounded number of connections, each with an owner that waits for it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};

use super::{client::Client, connection::serve, context::Context};
use crate::upstream::tune;

/// A listening socket that nobody accepts on yet. Needs no runtime.
#[derive(Debug)]
pub struct Bound {
    socket: std::net::TcpListener,
    address: SocketAddr,
}

/// A socket that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    error: io::Error,
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// After a failed accept, such as at the descriptor limit: neither spin nor die.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The answer at the connection limit. Nothing of the request is read.
const BUSY: &[u8] = b"HTTP/1.1 503 exeat: too many connections\r\n\
    Connection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\
    Proxy-Status: exeat; error=proxy_internal_error; details=\"connection limit\"\r\n\r\n";

impl Bound {
    /// Binds; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// The address is taken, or not ours.
    pub fn new(address: SocketAddr) -> Result<Self, ListenError> {
        let bind = || -> io::Result<Self> {
            let socket =
                Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            #[cfg(unix)]
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            let socket = std::net::TcpListener::from(socket);
            let address = socket.local_addr()?;
            Ok(Self { socket, address })
        };
        bind().map_err(|error| ListenError { address, error })
    }

    /// Where it listens, the port filled in.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether only this machine can connect.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        IpAddr::is_loopback(&self.address.ip().to_canonical())
    }

    /// Makes it ready to accept. Must be called inside a runtime.
    ///
    /// # Errors
    ///
    /// The runtime cannot watch the socket.
    pub fn into_listener(self) -> Result<TcpListener, ListenError> {
        TcpListener::from_std(self.socket)
            .map_err(|error| ListenError { address: self.address, error })
    }
}

/// Accepts until told to drain. Every connection is a task of the context's tracker.
///
/// # Cancel safety
///
/// Dropping the future stops accepting; connections go on.
pub(super) async fn listen(listener: TcpListener, context: Arc<Context>) {
    let slots = Arc::new(Semaphore::new(context.limits.connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = context.drain.cancelled() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_about_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            context.counters.connections_refused.increment();
            turn_away(&stream);
            continue;
        };
        tune(&stream);
        let client = Arc::new(Client::new(Arc::clone(&context), address, slot));
        context.tasks.spawn(serve(client, stream));
    }
}

/// A fresh socket's send buffer is empty, so the answer fits without waiting.
fn turn_away(stream: &TcpStream) {
    SockRef::from(stream).send(BUSY).ok();
}

/// The peer was gone before it was accepted: nothing is wrong with the listener.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
