//! One client, and what it may do.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{
    Target,
    answer::{connect, exchange},
};
use crate::origin::FLIGHT;

/// What is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// A connection, a tunnel, a ClientHello, 1 KiB of answer.
    Connect,
    /// A connection, and a CONNECT that is refused.
    Denied,
    /// A request on a kept connection, to one of so many origins.
    Request { origins: usize },
    /// An upload of so many bytes on a kept connection.
    Upload { bytes: usize },
}

#[derive(Debug)]
pub(crate) struct Client {
    target: Arc<Target>,
    deed: Deed,
    /// For each origin, what is sent first.
    requests: Vec<Vec<u8>>,
    kept: Option<TcpStream>,
    buffer: Vec<u8>,
    turn: usize,
}

/// Longer than anything takes that is done.
const DONE_WITHIN: Duration = Duration::from_secs(5);

/// Loopback addresses that clients have, so that their ports don't run out.
const ADDRESSES: usize = 32;

static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

impl Client {
    /// The first turn of a client is its number's.
    pub(crate) fn new(target: &Arc<Target>, deed: Deed, number: usize) -> Self {
        let host = &target.host;
        let requests = match deed {
            Deed::Connect => {
                target.opaque.iter().map(|port| connect_request(host, *port)).collect()
            }
            Deed::Denied => vec![connect_request("denied.test", 443)],
            Deed::Request { origins } => target
                .http
                .iter()
                .take(origins)
                .map(|port| {
                    format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n")
                        .into_bytes()
                })
                .collect(),
            Deed::Upload { bytes } => target.http.iter().take(1).map(|port| {
                let mut request = format!(
                    "PUT http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {bytes}\r\n\r\n"
                )
                .into_bytes();
                request.resize(request.len() + bytes, b'x');
                request
            })
            .collect(),
        };
        let (target, buffer) = (Arc::clone(target), Vec::with_capacity(4096));
        Self { target, deed, requests, kept: None, buffer, turn: number }
    }

    /// Does it once; says how many bytes of a body were sent.
    pub(crate) async fn act(&mut self) -> io::Result<u64> {
        self.turn += 1;
        timeout(DONE_WITHIN, self.act_in_time()).await?
    }

    /// Opens a tunnel and keeps it, after a hello and its answer have gone through.
    pub(crate) async fn open(&mut self) -> io::Result<TcpStream> {
        self.turn += 1;
        timeout(DONE_WITHIN, self.tunnel()).await?
    }

    async fn act_in_time(&mut self) -> io::Result<u64> {
        match self.deed {
            Deed::Connect => drop(self.tunnel().await?),
            Deed::Denied => self.denied().await?,
            Deed::Request { .. } => self.request().await?,
            Deed::Upload { bytes } => {
                self.request().await?;
                return Ok(u64::try_from(bytes).unwrap_or(u64::MAX));
            }
        }
        Ok(0)
    }

    async fn tunnel(&mut self) -> io::Result<TcpStream> {
        let request = &self.requests[self.turn % self.requests.len()];
        let mut stream = dial(self.target.proxy).await?;
        match connect(&mut stream, request, &mut self.buffer).await? {
            200 => {}
            status => return Err(io::Error::other(format!("CONNECT: {status}"))),
        }
        stream.write_all(&self.target.hello).await?;
        let mut flight = [0; FLIGHT];
        stream.read_exact(&mut flight).await?;
        Ok(stream)
    }

    async fn denied(&mut self) -> io::Result<()> {
        let mut stream = dial(self.target.proxy).await?;
        match connect(&mut stream, &self.requests[0], &mut self.buffer).await? {
            // Some ask for credentials instead.
            403 | 407 => Ok(()),
            status => Err(io::Error::other(format!("denied: {status}"))),
        }
    }

    async fn request(&mut self) -> io::Result<()> {
        let request = &self.requests[self.turn % self.requests.len()];
        loop {
            let (mut stream, fresh) = match self.kept.take() {
                Some(stream) => (stream, false),
                None => (dial(self.target.proxy).await?, true),
            };
            match exchange(&mut stream, request, &mut self.buffer).await {
                Ok(answer) => {
                    self.kept = answer.keeps.then_some(stream);
                    return match answer.status {
                        200 => Ok(()),
                        status => Err(io::Error::other(format!("request: {status}"))),
                    };
                }
                // A kept connection may have been closed in the meantime.
                Err(error) if !fresh && error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

pub(crate) fn connect_request(host: &str, port: u16) -> Vec<u8> {
    format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n").into_bytes()
}

/// A connection to a proxy, from one of several addresses.
async fn dial(proxy: SocketAddr) -> io::Result<TcpStream> {
    let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed) % ADDRESSES;
    let address = u8::try_from(2 + number).unwrap_or(2);
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, address], 0)))?;
    let stream = socket.connect(proxy).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
