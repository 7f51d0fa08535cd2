//! An HTTP/1.1 connection to an origin, lent to one request at a time.
//!
//! A connection whose request or answer has not been moved to its end must be dropped, which closes
//! it; only one that is through with both goes to the pool. So a half-read answer can never be
//! taken for the answer to the next request, nor a half-sent request hold up the next one. Between
//! the library and the socket stands [`AnswerGate`], which lets only well-formed answers through.

use std::{error::Error as _, io, net::SocketAddr, sync::Arc, time::Duration};

use http::{Method, Request, Response, header::UPGRADE};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::AbortHandle, time::timeout};
use tokio_util::task::TaskTracker;

use super::answer_gate::{AnswerGate, Line};
use crate::{
    http1::{
        Malformed,
        answer_head::{AnswerError, Asked, LIMITS},
    },
    net::Authority,
};

/// What is sent to origins.
pub type RequestBody = http_body_util::combinators::UnsyncBoxBody<
    bytes::Bytes,
    Box<dyn std::error::Error + Send + Sync>,
>;

/// A connection that can take a request. Dropping it closes it.
#[derive(Debug)]
pub struct Origin {
    sender: SendRequest<RequestBody>,
    peer: SocketAddr,
    authority: Authority,
    line: Arc<Line>,
    driver: Driver,
}

/// The task that moves a connection's bytes; it ends with its owner, whatever is under way.
#[derive(Debug)]
struct Driver(Option<AbortHandle>);

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
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
        let line = Arc::<Line>::default();
        let gate = AnswerGate::new(stream, Arc::clone(&line));
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(LIMITS.bytes)
            .max_headers(LIMITS.fields)
            .handshake::<_, RequestBody>(TokioIo::new(gate))
            .await?;
        let driver = tasks.spawn(async move {
            // The request that is under way gets the same error.
            connection.with_upgrades().await.ok();
        });
        Ok(Self { sender, peer, authority, line, driver: Driver(Some(driver.abort_handle())) })
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
        !self.line.is_spoiled() && !self.sender.is_closed()
    }

    /// Sends a request and waits for the head of the answer. The connection comes back with it,
    /// and can take the next request once both bodies have been moved to their ends.
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
    ) -> Result<(Response<Incoming>, Self), (SendError, Option<Request<RequestBody>>)> {
        match timeout(READY, self.sender.ready()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err((SendError::from(&error), Some(request))),
            Err(_) => return Err((SendError::BrokeOff, Some(request))),
        }
        self.line.ask(match request.method() {
            &Method::HEAD => Asked::Head,
            _ if request.headers().contains_key(UPGRADE) => Asked::Upgrade,
            _ => Asked::Ordinary,
        });
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok((response, self)),
            Err(mut error) => {
                let unsent = error.take_message();
                Err((SendError::from(error.error()), unsent))
            }
        }
    }

    /// Lets go of a connection that the origin has switched to another protocol.
    pub fn switched(mut self) {
        // The driver hands the socket over and ends by itself.
        self.driver.0 = None;
    }
}

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// The connection ended before the first byte of an answer.
    BrokeOff,
    /// The head of the answer is too large.
    HeadTooLarge,
    /// The request's own body failed: the client's doing.
    RequestBody,
    /// What came back is not HTTP, or has two readings.
    Protocol,
}

impl From<&hyper::Error> for SendError {
    fn from(error: &hyper::Error) -> Self {
        if error.is_user() {
            return Self::RequestBody;
        }
        if error.is_parse_too_large() {
            return Self::HeadTooLarge;
        }
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            return Self::BrokeOff;
        }
        match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
            Some(error) => Self::from(error),
            None => Self::Protocol,
        }
    }
}

impl From<&io::Error> for SendError {
    fn from(error: &io::Error) -> Self {
        let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<AnswerError>());
        match refused {
            Some(AnswerError::Malformed(Malformed::TooLarge | Malformed::TooManyFields)) => {
                Self::HeadTooLarge
            }
            // It came before anything was sent, or the socket failed.
            Some(AnswerError::Unasked) | None => Self::BrokeOff,
            Some(
                AnswerError::Chunks(_)
                | AnswerError::CutOff
                | AnswerError::Malformed(_)
                | AnswerError::StatusLine
                | AnswerError::Switching
                | AnswerError::TooManyInterim,
            ) => Self::Protocol,
        }
    }
}

/// A kept connection is ready at once, unless its origin closed it in this moment.
const READY: Duration = Duration::from_secs(1);
