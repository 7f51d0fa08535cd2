//! Connections that were meant for other hosts and arrive here: a jail's network leads them to one
//! socket. They are judged as a CONNECT to that host would be, and nothing else.
//!
//! There is no HTTP in which to say no: what is refused is reset.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::{
    client::Client,
    connect::open_listed,
    context::Context,
    crew::Load,
    endpoint::Endpoint,
    listener::{Bound, ListenError, accept, seat},
    transparent::reset,
    tunnel::Leg,
    turn_away::NoPlace,
};
use crate::{
    net::Authority,
    observe::{Caller, Protocol},
};

/// What an address stands for, if for anything.
pub type Destinations = Arc<dyn Fn(SocketAddr) -> Option<Authority> + Send + Sync>;

/// A socket at which such connections arrive. Only a jail can connect to it.
pub struct Captured {
    /// Listens already.
    pub socket: Bound,
    /// Whom they were meant for.
    pub destinations: Destinations,
}

impl Captured {
    /// Accepts until told to drain. Every connection is a task of the context's tracker. Must be
    /// called inside a runtime.
    ///
    /// # Errors
    ///
    /// The runtime cannot watch the socket.
    pub fn listen(
        self,
        context: Arc<Context>,
    ) -> Result<impl Future<Output = ()> + Send + use<>, ListenError> {
        let Self { socket, destinations } = self;
        let listener = Endpoint::Tcp(socket).into_listener()?;
        Ok(async move {
            let turn_away = |stream: TcpStream, why: NoPlace| {
                why.count(&context.counters);
                reset(&stream);
            };
            let take = |stream, caller: Caller| match take(stream, caller, &destinations, &context)
            {
                Ok(()) => {}
                Err((stream, why)) => turn_away(stream, why),
            };
            accept(&listener, &context, take, |stream| turn_away(stream, NoPlace::InProcess)).await;
        })
    }
}

/// Serves a connection, if there is a place for it; one that was meant for nobody is reset.
fn take(
    stream: TcpStream,
    caller: Caller,
    destinations: &Destinations,
    context: &Arc<Context>,
) -> Result<(), (TcpStream, NoPlace)> {
    // It takes the address it connects to for its own: that says nothing about the client.
    let port = caller.port().unwrap_or_default();
    let caller = Caller::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let wanted = SockRef::from(&stream).original_dst_v4().ok().and_then(|it| it.as_socket());
    let Some(authority) = wanted.and_then(|wanted| destinations(wanted)) else {
        reset(&stream);
        return Ok(());
    };
    let (seat, place) = match seat(caller, context) {
        Ok(places) => places,
        Err(why) => return Err((stream, why)),
    };
    let load = Load::default();
    let client = Arc::new(Client::new(Arc::clone(context), caller, place, seat, load, None));
    context.tasks.spawn(async move {
        match open_listed(&client, Protocol::Captured, authority).await {
            Ok((tunnel, origin)) => {
                tunnel.run(Leg::new(stream), origin).await;
            }
            Err(refusal) => {
                refusal.count(&client.context().counters);
                reset(&stream);
            }
        }
    });
    Ok(())
}
