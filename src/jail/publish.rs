//! Ports of a jail that are the machine's too: who connects to one of them on the machine's loopback is
//! connected to the same port on the jail's.
//!
//! A socket stays in the network that it was made in, whoever has it. So the process inside makes
//! some and hands them out before it becomes the program, and each is used for one connection after the
//! other. Nothing stays inside to help, and nothing goes to another port.

use std::{
    collections::VecDeque,
    fmt, io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket},
    task::JoinSet,
    time::sleep,
};

use super::{CELL, Fault};
use crate::net::Port;

/// Ports at which this process listens for a jail.
#[derive(Debug)]
pub struct Published(Vec<(Port, TcpListener)>);

/// Sockets of a jail's network that are not connected. As many connections there can be at a time.
#[derive(Debug, Default)]
pub struct Plugs(Mutex<VecDeque<TcpStream>>);

/// How many a jail hands out, if it hands out any.
#[cfg(target_os = "linux")]
pub(super) const PLUGS: usize = 64;

/// After a failure.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether a jail hands out any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlets {
    /// Servers in it can be reached from outside.
    Some,
    /// Nothing in it can.
    None,
}

/// Why a port cannot be published: it is the jail's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnPort;

impl Published {
    /// Listens. Must be called inside a runtime.
    ///
    /// # Errors
    ///
    /// One of them is in use, or not for this user.
    pub fn listen(ports: &[Port]) -> Result<Self, Fault> {
        let listen = |port: &Port| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
            let listening = std::net::TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            });
            let cannot = |error| Fault::new(&format!("cannot publish port {port}"), error, "");
            Ok((*port, listening.map_err(cannot)?))
        };
        ports.iter().map(listen).collect::<Result<_, _>>().map(Self)
    }

    /// Connects whoever comes; never ends.
    ///
    /// There is no deadline for connections: they have as many places as there are plugs, and end with the
    /// program.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends them all.
    pub async fn serve(self, plugs: Plugs) {
        let plugs = Arc::new(plugs);
        let mut ports = JoinSet::new();
        for (port, listener) in self.0 {
            ports.spawn(accept(listener, port, Arc::clone(&plugs)));
        }
        while ports.join_next().await.is_some() {}
        std::future::pending().await
    }
}

#[cfg(target_os = "linux")]
impl Outlets {
    /// How many there are.
    pub(super) fn plugs(self) -> usize {
        match self {
            Self::Some => PLUGS,
            Self::None => 0,
        }
    }
}

/// Whether a port may be published: at some the jail itself has what is meant for the program alone.
///
/// # Errors
///
/// It is one of them.
pub fn publishable(port: Port) -> Result<Port, OwnPort> {
    #[cfg(target_os = "linux")]
    let own = [CELL.port(), super::redirect::PORT];
    #[cfg(not(target_os = "linux"))]
    let own = [CELL.port()];
    if own.contains(&port.number()) { Err(OwnPort) } else { Ok(port) }
}

async fn accept(listener: TcpListener, port: Port, plugs: Arc<Plugs>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match (accepted, plugs.take()) {
                (Ok((outside, _)), Some(plug)) => {
                    connections.spawn(connect(outside, port, plug, Arc::clone(&plugs)));
                }
                // None left: no waiting in a queue.
                (Ok((outside, _)), None) => reset(&outside),
                (Err(_), plug) => {
                    plugs.put(plug);
                    sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Passes bytes on, both ways, until both ends have ended or one has failed.
#[expect(clippy::disallowed_methods, reason = "the jail's network has nothing but the jail")]
async fn connect(
    mut outside: tokio::net::TcpStream,
    port: Port,
    plug: TcpStream,
    plugs: Arc<Plugs>,
) {
    let passed = async {
        let inside = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        // The other one stays when this is closed.
        let socket = TcpSocket::from_std_stream(plug.try_clone()?);
        let mut inside = socket.connect(inside).await?;
        if inside.local_addr()? == inside.peer_addr()? {
            // Nobody listens, and the kernel chose that very port for this end.
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        inside.set_nodelay(true)?;
        outside.set_nodelay(true)?;
        copy_bidirectional(&mut outside, &mut inside).await
    };
    if passed.await.is_err() {
        reset(&outside);
        disconnect(&plug);
    }
    // What was sent last may be under way: it is disconnected when it is needed again.
    plugs.put(Some(plug));
}

impl Plugs {
    /// Those that were handed out. They must be sockets for TCP that are not connected.
    #[cfg(target_os = "linux")]
    pub(super) fn new(sockets: impl IntoIterator<Item = TcpStream>) -> io::Result<Self> {
        let sockets: VecDeque<TcpStream> = sockets.into_iter().collect();
        sockets.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
        Ok(Self(Mutex::new(sockets)))
    }

    /// The one that has not been used for longest.
    fn take(&self) -> Option<TcpStream> {
        let plug = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
        disconnect(&plug);
        Some(plug)
    }

    fn put(&self, plug: Option<TcpStream>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(plug);
    }
}

/// Has a socket forget its connection, which ends if it has not (connect(2), `AF_UNSPEC`). If it
/// could not, connecting it again would fail.
fn disconnect(plug: &TcpStream) {
    #[cfg(target_os = "linux")]
    rustix::net::connect_unspec(plug).ok();
    #[cfg(not(target_os = "linux"))]
    plug.shutdown(std::net::Shutdown::Both).ok();
}

/// Has the end of a connection look such that nobody takes it for an empty answer.
fn reset(stream: &tokio::net::TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
}

impl fmt::Display for OwnPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the jail has its proxy there; choose another port for the server")
    }
}

impl std::error::Error for OwnPort {}
