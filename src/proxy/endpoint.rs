//! Where clients connect, of either kind: a TCP port, or a unix socket.
//!
//! From here on both are the same. A connected stream socket is read, written, watched, spliced, shut
//! down and closed alike whatever its family, so that a client at a unix socket is carried as a
//! `TcpStream` too. Only its addresses and TCP's options would fail, and nobody asks for those: who
//! it is says [`Caller`].

use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::net::{TcpListener, TcpStream};

use super::listener::{BACKLOG, Bound, ListenError};
#[cfg(unix)]
use super::socket_file::SocketFile;
use crate::{observe::Caller, settings::Place};

/// A listening socket that nobody accepts on yet. Needs no runtime.
#[derive(Debug)]
pub enum Endpoint {
    /// At an address.
    Tcp(Bound),
    /// At a path.
    #[cfg(unix)]
    Unix(BoundPath),
}

/// A unix socket that listens, and its path.
#[cfg(unix)]
#[derive(Debug)]
pub struct BoundPath {
    socket: std::os::unix::net::UnixListener,
    file: SocketFile,
    place: Place,
}

/// A socket to accept on. Of a path, closing it removes it.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    /// The file goes first: another could be at its place as soon as nobody listens.
    Unix(#[expect(dead_code, reason = "removed when dropped")] SocketFile, UnixListener),
}

impl Endpoint {
    /// Binds; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// The address is taken, or not ours; at the path is no dead socket; this system has none.
    pub fn new(place: &Place) -> Result<Self, ListenError> {
        match place {
            Place::Tcp(address) => Bound::new(*address).map(Self::Tcp),
            #[cfg(unix)]
            Place::Unix(path) => {
                let (socket, file) = SocketFile::bind(path, BACKLOG)
                    .map_err(|error| ListenError { place: place.clone(), error })?;
                Ok(Self::Unix(BoundPath { socket, file, place: place.clone() }))
            }
            #[cfg(not(unix))]
            Place::Unix(_) => {
                let error = io::ErrorKind::Unsupported.into();
                Err(ListenError { place: place.clone(), error })
            }
        }
    }

    /// Where it listens, the port filled in.
    #[must_use]
    pub fn place(&self) -> Place {
        match self {
            Self::Tcp(bound) => bound.address().into(),
            #[cfg(unix)]
            Self::Unix(bound) => bound.place.clone(),
        }
    }

    /// Whether only this machine can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(bound) => bound.is_loopback(),
            #[cfg(unix)]
            Self::Unix(_) => true,
        }
    }

    /// Makes it ready to accept. Must be called inside a runtime.
    pub(super) fn into_listener(self) -> Result<Listener, ListenError> {
        match self {
            Self::Tcp(bound) => bound.into_listener().map(Listener::Tcp),
            #[cfg(unix)]
            Self::Unix(BoundPath { socket, file, place }) => {
                let socket =
                    UnixListener::from_std(socket).map_err(|error| ListenError { place, error })?;
                Ok(Listener::Unix(file, socket))
            }
        }
    }
}

impl Listener {
    /// The next connection, and who is at its other end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, Caller)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((stream, Caller::Ip(address)))
            }
            #[cfg(unix)]
            Self::Unix(_, listener) => {
                let stream = listener.accept().await?.0.into_std()?;
                let stream = std::net::TcpStream::from(OwnedFd::from(stream));
                Ok((TcpStream::from_std(stream)?, Caller::Unix))
            }
        }
    }
}

#[cfg(unix)]
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(_, listener) => listener.as_fd(),
        }
    }
}
