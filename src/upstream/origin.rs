//! An HTTP/1.1 connection to an origin, lent to one request at a time.
//!
//! A [`Lease`] that is dropped before its answer has been read to the end closes the connection;
//! one that is given back goes to the pool. So a half-read answer can never be taken for the
//! answer to the next request.

use std::net::SocketAddr;

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::net::Authority;

/// What is sent to origins.
pub type RequestBody = http_body_util::combinators::UnsyncBoxBody<
    bytes::Bytes,
    Box<dyn std::error::Error + Send + Sync>,
>;

/// A connection that can take a request.
#[derive(Debug)]
pub struct Origin {
    sender: SendRequest<RequestBody>,
    peer: SocketAddr,
    authority: Authority,
}

/// A connection with an answer still to be read.
#[derive(Debug)]
pub struct Lease {
    origin: Origin,
}

impl Origin {
    /// Makes an HTTP connection of a dialled one; `tasks` waits for its driver.
    ///
    /// # Errors
    ///
    /// The connection broke at once.
    pub async fn new(
        stream: TcpStream,
        peer: SocketAddr,
        authority: Authority,
        tasks: &TaskTracker,
    ) -> hyper::Result<Self> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake::<_, RequestBody>(TokioIo::new(stream))
            .await?;
        tasks.spawn(async move {
            // The request that is under way gets the same error.
            connection.with_upgrades().await.ok();
        });
        Ok(Self { sender, peer, authority })
    }

    /// The address it is connected to.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The destination it was dialled for.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether it can still be used, as far as is known.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    ///
    /// The connection failed; the request comes back if none of it was sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn send(
        mut self,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), (hyper::Error, Option<Request<RequestBody>>)> {
        if let Err(error) = self.sender.ready().await {
            return Err((error, Some(request)));
        }
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok((response, Lease { origin: self })),
            Err(mut error) => {
                let unsent = error.take_message();
                Err((error.into_error(), unsent))
            }
        }
    }
}

impl Lease {
    /// The connection, once the answer has been read to its end.
    #[must_use]
    pub fn into_origin(self) -> Origin {
        self.origin
    }
}

/// Bounds an answer's head; larger ones break the connection.
const MAX_HEAD_BYTES: usize = 256 << 10;
