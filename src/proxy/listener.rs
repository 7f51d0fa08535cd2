//! The accept loop: a bounded number of connections, each with an owner that waits for it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::{
    backoff::Backoff,
    client::Client,
    context::Context,
    crew::{Crew, Spoken},
    endpoint::Listener,
    places::{self, Seat},
    self_test::Probe,
    spare::{Spare, Waiting},
    turn_away::{Farewell, NoPlace},
};
use crate::{
    observe::Caller,
    settings::Place,
    upstream::{is_at_the_limit, tune},
};

/// A listening socket that nobody accepts on yet. Needs no runtime.
#[derive(Debug)]
pub struct Bound {
    socket: std::net::TcpListener,
    address: SocketAddr,
}

/// A socket that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {place}: {error}")]
pub struct ListenError {
    pub(super) place: Place,
    #[source]
    pub(super) error: io::Error,
}

/// Connections that may wait to be accepted.
pub(super) const BACKLOG: i32 = 1024;

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
            tune(&socket);
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            let socket = std::net::TcpListener::from(socket);
            let address = socket.local_addr()?;
            Ok(Self { socket, address })
        };
        bind().map_err(|error| ListenError { place: address.into(), error })
    }

    /// Takes a socket that listens already, as one that was made in another network namespace.
    ///
    /// # Errors
    ///
    /// It has no address, or blocks.
    pub fn adopt(socket: std::net::TcpListener) -> Result<Self, ListenError> {
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let failed = |error| ListenError { place: unknown.into(), error };
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        #[cfg(unix)]
        tune(&SockRef::from(&socket));
        Ok(Self { socket, address })
    }

    /// Binds where only this machine can connect, at a port that nobody knows.
    ///
    /// # Errors
    ///
    /// This machine has no loopback address of either family.
    pub fn on_loopback() -> Result<Self, ListenError> {
        let at = |address: IpAddr| Self::new(SocketAddr::new(address, 0));
        at(Ipv4Addr::LOCALHOST.into()).or_else(|_| at(Ipv6Addr::LOCALHOST.into()))
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
            .map_err(|error| ListenError { place: self.address.into(), error })
    }
}

/// Accepts until told to drain, for all threads of the crew. Every connection is a task of the
/// context's tracker.
///
/// # Cancel safety
///
/// Dropping the future stops accepting; connections go on.
pub(super) async fn listen(
    listener: Listener,
    spoken: Spoken,
    context: Arc<Context>,
    crew: Arc<Crew>,
) {
    let farewell = Farewell::new(spoken);
    let serve = |stream, caller| match admit(stream, caller, spoken, None, &context, &crew) {
        Ok(()) => {}
        Err((stream, why)) => farewell.say(stream, why, &context),
    };
    accept(&listener, &context, serve, |stream| farewell.say(stream, NoPlace::InProcess, &context))
        .await;
}

/// Accepts until told to drain. `last`: what to do with a connection that has the last descriptor
/// there is.
pub(super) async fn accept(
    listener: &Listener,
    context: &Context,
    serve: impl Fn(TcpStream, Caller),
    last: impl Fn(TcpStream),
) {
    let mut spare = Spare::new(listener);
    let mut backoff = Backoff::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = context.drain.cancelled() => return,
        };
        match accepted {
            Ok((stream, caller)) => {
                backoff.reset();
                serve(stream, caller);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                let waiting = match is_at_the_limit(&error) {
                    true => spare.accept(listener).await,
                    false => Waiting::Perhaps,
                };
                if let Waiting::Nobody = waiting {
                    continue;
                }
                context.counters.accept_failures.increment();
                backoff.note(&error);
                if let Waiting::Accepted(stream) = waiting {
                    last(stream);
                    spare.renew(listener);
                    continue;
                }
                tokio::select! {
                    () = backoff.pause() => {}
                    () = context.drain.cancelled() => return,
                }
                spare.renew(listener);
            }
        }
    }
}

/// Serves a connection, if there is a place for it. `probe`: it is the proxy's own.
pub(super) fn admit(
    stream: TcpStream,
    caller: Caller,
    spoken: Spoken,
    probe: Option<Probe>,
    context: &Arc<Context>,
    crew: &Crew,
) -> Result<(), (TcpStream, NoPlace)> {
    let caller = match (caller, spoken) {
        // It takes the address that it would reach its destination from; only this machine has it.
        (Caller::Ip(address), Spoken::Nothing)
            if context.own_addresses.contains(&address.ip().to_canonical()) =>
        {
            Caller::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())))
        }
        (caller, Spoken::Http | Spoken::Nothing | Spoken::Socks5) => caller,
    };
    let (seat, place) = match seat(caller, context) {
        Ok(places) => places,
        Err(why) => return Err((stream, why)),
    };
    // Others inherit it from the listening socket; a unix socket has none of it.
    #[cfg(not(target_os = "linux"))]
    if let Caller::Ip(_) = caller {
        tune(&SockRef::from(&stream));
    }
    crew.serve(context, spoken, stream, |load| {
        Arc::new(Client::new(Arc::clone(context), caller, place, seat, load, probe))
    });
    Ok(())
}

/// A place for a connection, of its address and among all.
pub(super) fn seat(caller: Caller, context: &Context) -> Result<(Seat, places::Place), NoPlace> {
    let seat = context.places.clients.take(caller).ok_or(NoPlace::ForClient)?;
    let place = context.places.connections.take().ok_or(NoPlace::ForAnyone)?;
    Ok((seat, place))
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
