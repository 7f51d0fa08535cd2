//! Connections that were meant for other hosts and arrive here: a jail's network leads them to one
//! socket. They are judged as a CONNECT to that host would be, and nothing else.
//!
//! There is no HTTP in which to say no: what is refused is reset.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::Method;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use super::{
    admit::admit,
    client::Client,
    context::Context,
    crew::Load,
    limit::Limit,
    listener::accept,
    opening::Opening,
    refusal::Refusal,
    tunnel::{Leg, Tunnel},
};
use crate::{net::Authority, observe::Protocol};

/// What an address stands for, if for anything.
pub type Destinations = Arc<dyn Fn(SocketAddr) -> Option<Authority> + Send + Sync>;

/// A socket at which such connections arrive. Only a jail can connect to it.
pub struct Captured {
    /// Listens already.
    pub socket: std::net::TcpListener,
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
    ) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
        self.socket.set_nonblocking(true)?;
        let listener = TcpListener::from_std(self.socket)?;
        let destinations = self.destinations;
        Ok(async move {
            let take = |stream, address| take(stream, address, &destinations, &context);
            accept(&listener, &context, take, |stream| reset(&stream)).await;
        })
    }
}

/// Serves a connection, if there is a place for it and it was meant for somebody.
fn take(
    stream: TcpStream,
    address: SocketAddr,
    destinations: &Destinations,
    context: &Arc<Context>,
) {
    // It takes the address it connects to for its own: that says nothing about the client.
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    let wanted = SockRef::from(&stream).original_dst_v4().ok().and_then(|it| it.as_socket());
    let place = context.places.connections.take().zip(context.places.clients.take(address.ip()));
    let authority = wanted.and_then(|wanted| destinations(wanted));
    let (Some((place, seat)), Some(authority)) = (place, authority) else {
        return reset(&stream);
    };
    let client =
        Arc::new(Client::new(Arc::clone(context), address, place, seat, Load::default(), None));
    context.tasks.spawn(async move {
        if let Err((refusal, stream)) = serve(&client, stream, authority).await {
            refusal.count(&client.context().counters);
            reset(&stream);
        }
    });
}

/// Opens a tunnel and stays until its end, or says why not.
async fn serve(
    client: &Arc<Client>,
    stream: TcpStream,
    authority: Authority,
) -> Result<(), (Refusal, TcpStream)> {
    let context = client.context();
    let reached = async {
        let Some(_request) = context.places.requests.take() else {
            return Err(Refusal::Limit(Limit::Requests));
        };
        let mut admission = admit(client, Protocol::Captured, &Method::CONNECT, &authority)?;
        let Some(place) = context.places.tunnels.take() else {
            return Err(admission.over(Limit::Tunnels));
        };
        let (origin, peer) = admission.reach(client).await?;
        Ok((Tunnel::new(admission, Arc::clone(client), peer, place), origin))
    };
    let (tunnel, origin) = match reached.await {
        Ok(reached) => reached,
        Err(refusal) => return Err((refusal, stream)),
    };
    let opening = Opening::new(authority, Arc::clone(&context.tls), context.head_limits());
    let legs = std::future::ready(Some((Leg::new(stream), Leg::new(origin))));
    tunnel.judged_by(opening).run(legs).await;
    Ok(())
}

/// Has the end of a connection look such that nobody takes it for an empty answer.
fn reset(stream: &TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok();
}
