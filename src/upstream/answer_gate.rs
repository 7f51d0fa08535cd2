//! The gate between an origin's socket and the HTTP library: only what has been checked passes.
//!
//! The counterpart of the gate in `proxy`, for answers. It reads each head whole, checks it
//! ([`answer_head`]), swallows interim answers, and follows the body to its end. What comes
//! before a request has been sent, or after the end of its answer, is no answer to anything: it
//! makes the connection unusable, so that it can never be taken for the answer to the next request.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::inflow::{pass, poll_fill};
use crate::http1::{
    Chunks, Scanned,
    answer_head::{self, AnswerError, Asked, Body, Head, MAX_INTERIM},
    last_line,
};

/// An origin's socket behind the check.
#[derive(Debug)]
pub struct AnswerGate {
    stream: TcpStream,
    line: Arc<Line>,
    stage: Stage,
    /// What was read and not yet passed on.
    held: BytesMut,
    /// How much of `held` may be passed on.
    cleared: usize,
    /// How much of the head in `held` has been looked at.
    looked_at: usize,
    interim: usize,
    /// Answers so far.
    answers: u64,
    ended: bool,
}

/// What the owner of a connection and its gate tell each other.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The request that is about to be sent.
    next: Mutex<Option<Asked>>,
    /// No further answer on this connection can be trusted.
    spoiled: AtomicBool,
}

#[derive(Debug)]
enum Stage {
    /// No request is under way, so nothing may come.
    Idle,
    /// Gathering the head of the answer to a request.
    Head(Asked),
    /// Passing a body of that many bytes more.
    Length(u64),
    /// Passing a chunked body.
    Chunked(Chunks),
    /// Passing everything: a body up to the end of the connection, or another protocol.
    Open,
    /// Nothing more passes, whatever comes.
    Closed,
}

impl Line {
    /// Says what is asked next. To be called before the request is handed to the library, and
    /// only when the one before is through.
    pub(super) fn ask(&self, asked: Asked) {
        *self.next() = Some(asked);
    }

    /// Whether the connection must not be used again.
    pub(super) fn is_spoiled(&self) -> bool {
        self.spoiled.load(Ordering::Acquire)
    }

    fn spoil(&self) {
        self.spoiled.store(true, Ordering::Release);
    }

    fn next(&self) -> std::sync::MutexGuard<'_, Option<Asked>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AnswerGate {
    pub(super) fn new(stream: TcpStream, line: Arc<Line>) -> Self {
        Self {
            stream,
            line,
            stage: Stage::Idle,
            held: BytesMut::new(),
            cleared: 0,
            looked_at: 0,
            interim: 0,
            answers: 0,
            ended: false,
        }
    }

    /// The socket, and what was read from it but not passed on.
    #[must_use]
    pub fn into_parts(self) -> (TcpStream, Bytes) {
        (self.stream, self.held.freeze())
    }

    /// Clears as much of what is held as belongs to the answer under way.
    fn clear(&mut self) -> Result<(), AnswerError> {
        match &mut self.stage {
            Stage::Idle => return Err(AnswerError::Unasked),
            Stage::Head(asked) => {
                let asked = *asked;
                return self.clear_head(asked);
            }
            Stage::Length(left) => {
                let held = u64::try_from(self.held.len()).unwrap_or(u64::MAX);
                let here = held.min(*left);
                *left -= here;
                self.cleared = usize::try_from(here).unwrap_or(self.held.len());
                if *left == 0 {
                    self.end_answer();
                }
            }
            Stage::Chunked(chunks) => match chunks.scan(&self.held)? {
                Scanned::More(length) => self.cleared = length,
                Scanned::End(length) => {
                    self.cleared = length;
                    self.end_answer();
                }
            },
            Stage::Open => self.cleared = self.held.len(),
            Stage::Closed => self.held.clear(),
        }
        Ok(())
    }

    fn clear_head(&mut self, asked: Asked) -> Result<(), AnswerError> {
        let Some(end) = answer_head::end_of_head(&self.held, self.looked_at)? else {
            self.looked_at = last_line(&self.held);
            return Ok(());
        };
        self.looked_at = 0;
        let head = answer_head::check(self.held.get(..end).unwrap_or_default(), asked)?;
        self.stage = match head {
            Head::Interim => {
                self.held.advance(end);
                self.interim += 1;
                return match self.interim > MAX_INTERIM {
                    true => Err(AnswerError::TooManyInterim),
                    false => Ok(()),
                };
            }
            Head::Switching | Head::Final(Body::UntilClose) => {
                self.line.spoil();
                Stage::Open
            }
            Head::Final(Body::Stray) => {
                self.line.spoil();
                self.held.truncate(end);
                Stage::Closed
            }
            Head::Final(Body::Chunked) => {
                // What is malformed in what has come already is never begun to be passed on.
                Chunks::default().scan(self.held.get(end..).unwrap_or_default())?;
                Stage::Chunked(Chunks::default())
            }
            Head::Final(Body::Length(length)) => Stage::Length(length),
        };
        self.cleared = end;
        if matches!(self.stage, Stage::Length(0)) {
            self.end_answer();
        }
        Ok(())
    }

    /// The answer is complete with what is cleared; more than that spoils the connection.
    fn end_answer(&mut self) {
        self.stage = Stage::Idle;
        self.interim = 0;
        self.answers += 1;
        if self.held.len() > self.cleared {
            self.line.spoil();
        }
    }

    fn refuse<T>(&mut self, error: AnswerError) -> Poll<io::Result<T>> {
        self.line.spoil();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    /// The first byte of a request is about to be written: from here on an answer may come, and
    /// what has come already is none.
    fn begin_request(&mut self) -> Result<(), AnswerError> {
        let Some(asked) = self.line.next().take() else { return Ok(()) };
        let unread = || {
            let mut byte = [std::mem::MaybeUninit::uninit()];
            SockRef::from(&self.stream).peek(&mut byte).is_ok_and(|length| length > 0)
        };
        if !self.held.is_empty() || self.line.is_spoiled() || (self.answers > 0 && unread()) {
            return Err(AnswerError::Unasked);
        }
        self.stage = Stage::Head(asked);
        Ok(())
    }

    /// Whether `out` can be filled straight from the socket without reading past the answer.
    fn may_bypass(&self, out: &ReadBuf<'_>) -> bool {
        let room = u64::try_from(out.remaining()).unwrap_or(u64::MAX);
        self.held.is_empty()
            && match &self.stage {
                Stage::Length(left) => *left >= room,
                Stage::Open => true,
                Stage::Idle | Stage::Head(_) | Stage::Chunked(_) | Stage::Closed => false,
            }
    }

    fn poll_bypass(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
        let read = out.filled().len() - before;
        self.ended |= read == 0;
        if let Stage::Length(left) = &mut self.stage {
            *left -= u64::try_from(read).unwrap_or(*left).min(*left);
            if *left == 0 {
                self.end_answer();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for AnswerGate {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        loop {
            if gate.cleared == 0 && !gate.held.is_empty() {
                // Several interim answers may be held, or one and the beginning of the next head.
                let held = gate.held.len();
                if let Err(error) = gate.clear() {
                    return gate.refuse(error);
                }
                if gate.cleared == 0 && !gate.held.is_empty() && gate.held.len() < held {
                    continue;
                }
            }
            if gate.cleared > 0 {
                pass(&mut gate.held, &mut gate.cleared, out);
                return Poll::Ready(Ok(()));
            }
            match gate.stage {
                Stage::Closed => return Poll::Ready(Ok(())),
                Stage::Head(_) if gate.ended && !gate.held.is_empty() => {
                    return gate.refuse(AnswerError::CutOff);
                }
                Stage::Idle
                | Stage::Head(_)
                | Stage::Length(_)
                | Stage::Chunked(_)
                | Stage::Open => {}
            }
            if gate.ended {
                return Poll::Ready(Ok(()));
            }
            if gate.may_bypass(out) {
                return gate.poll_bypass(cx, out);
            }
            if !ready!(poll_fill(&mut gate.stream, &mut gate.held, cx))? {
                gate.ended = true;
            }
        }
    }
}

impl AsyncWrite for AnswerGate {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        if let Err(error) = gate.begin_request() {
            return gate.refuse(error);
        }
        Pin::new(&mut gate.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        if let Err(error) = gate.begin_request() {
            return gate.refuse(error);
        }
        Pin::new(&mut gate.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Without the library, whose order of reads and writes must not matter.
#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::upstream::properties::pair;

    const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    /// A gate that has passed an answer to an ordinary request, and its origin's end.
    async fn answered(answer: &[u8], passed: usize) -> (AnswerGate, TcpStream) {
        let (stream, _, mut server) = pair().await;
        let mut gate = AnswerGate::new(stream, Arc::default());
        gate.line.ask(Asked::Ordinary);
        gate.write_all(b"request").await.unwrap();
        server.write_all(answer).await.unwrap();
        let mut got = vec![0; passed];
        gate.read_exact(&mut got).await.unwrap();
        assert_eq!(got, &answer[..passed]);
        (gate, server)
    }

    async fn is_usable(gate: &mut AnswerGate) -> bool {
        gate.line.ask(Asked::Ordinary);
        gate.write_all(b"request").await.is_ok()
    }

    #[tokio::test]
    async fn an_answer_leaves_the_connection_usable() {
        let (mut gate, mut server) = answered(EMPTY, EMPTY.len()).await;
        assert!(!gate.line.is_spoiled() && is_usable(&mut gate).await);
        server.write_all(EMPTY).await.unwrap();
        gate.read_exact(&mut vec![0; EMPTY.len()]).await.unwrap();
        assert!(!gate.line.is_spoiled());
    }

    #[tokio::test]
    async fn what_comes_with_an_answer_spoils_it() {
        let (mut gate, _server) = answered(&[EMPTY, b"forged"].concat(), EMPTY.len()).await;
        assert!(gate.line.is_spoiled());
        assert!(!is_usable(&mut gate).await);
    }

    #[tokio::test]
    async fn what_has_come_by_the_next_request_spoils_it() {
        let (mut gate, mut server) = answered(EMPTY, EMPTY.len()).await;
        server.write_all(EMPTY).await.unwrap();
        gate.stream.readable().await.unwrap();
        assert!(!is_usable(&mut gate).await);
        assert!(gate.line.is_spoiled());
    }

    #[tokio::test]
    async fn what_comes_while_nothing_is_asked_is_refused() {
        let (mut gate, mut server) = answered(EMPTY, EMPTY.len()).await;
        server.write_all(EMPTY).await.unwrap();
        let error = gate.read(&mut [0; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(gate.line.is_spoiled());
    }

    #[tokio::test]
    async fn a_204_that_announces_a_body_is_the_end() {
        let stray = b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n";
        let (mut gate, _server) = answered(stray, stray.len()).await;
        assert!(gate.line.is_spoiled());
        assert_eq!(gate.read(&mut [0; 100]).await.unwrap(), 0);
        assert!(!is_usable(&mut gate).await);
    }
}
