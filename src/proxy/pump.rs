//! One direction of a tunnel: bytes from one socket to the other, to the end of the stream.
//!
//! Little is copied through the thread's buffer: read and written in one go, nothing kept. Much is
//! spliced through a kernel pipe, which is held only while bytes move or wait for a slow reader.
//! Whichever way, what cannot be written stops the reading.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf},
    net::tcp::{ReadHalf, WriteHalf},
    task::yield_now,
};

use super::{
    meter::{Direction, Meter},
    pipes::{Pipes, TakenPipe},
    shared_buffer::with_shared_buffer,
};

/// Moves one direction.
pub(super) struct Pump<'a> {
    pub(super) from: ReadHalf<'a>,
    pub(super) to: WriteHalf<'a>,
    pub(super) direction: Direction,
    pub(super) meter: &'a Meter,
    pub(super) pipes: &'a Pipes,
}

/// Which end of a direction broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Reading,
    Writing,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// There was little at a time.
    Copy,
    /// There was much, and likely is more.
    Splice,
    /// The stream is at its end.
    Stop,
}

/// What was read in one go, and of that what could not be written in the same.
struct Copied {
    read: usize,
    rest: Vec<u8>,
}

/// From this many bytes at a time on, two calls for a pipe cost less than copying.
const MUCH_BYTES: usize = 32 << 10;

/// Bytes that one direction may move before others get their turn.
const TURN_BYTES: usize = 8 << 20;

impl Pump<'_> {
    /// To the end of the stream, which is the caller's to pass on. `early` is written first.
    ///
    /// # Errors
    ///
    /// One of the two sides is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses what was read and not yet written, and leaves both sockets to
    /// their owner.
    pub(super) async fn run(&mut self, early: bytes::Bytes) -> Result<(), Broken> {
        self.write(&early).await?;
        drop(early);
        let mut next = Next::Copy;
        loop {
            next = match next {
                Next::Copy => self.copy().await?,
                // Boxed: it is seldom, and tunnels that stand still must be small.
                Next::Splice => Box::pin(self.splice()).await?,
                Next::Stop => return Ok(()),
            };
        }
    }

    /// Tells the other side that nothing more will come (half-close).
    ///
    /// # Errors
    ///
    /// It is gone.
    pub(super) async fn end(&mut self) -> Result<(), Broken> {
        self.to.shutdown().await.map_err(|_| Broken::Writing)
    }

    /// Waits for bytes, and passes on what came.
    async fn copy(&mut self) -> Result<Next, Broken> {
        let Copied { read, rest } = poll_fn(|cx| self.poll_copy(cx)).await?;
        self.meter.count(self.direction, read.saturating_sub(rest.len()));
        self.write(&rest).await?;
        Ok(match read {
            0 => Next::Stop,
            MUCH_BYTES.. if self.pipes.are_usable() => Next::Splice,
            _ => Next::Copy,
        })
    }

    /// In one go, because the buffer is everybody's.
    fn poll_copy(&mut self, cx: &mut Context<'_>) -> Poll<Result<Copied, Broken>> {
        let Self { from, to, .. } = self;
        with_shared_buffer(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(|_| Broken::Reading)?;
            let read = buffer.filled();
            let written = match read.is_empty() {
                true => Poll::Ready(Ok(0)),
                false => Pin::new(to).poll_write(cx, read),
            };
            let written = match written {
                Poll::Ready(written) => written.map_err(|_| Broken::Writing)?,
                Poll::Pending => 0,
            };
            let rest = read.get(written..).unwrap_or_default().to_vec();
            Poll::Ready(Ok(Copied { read: read.len(), rest }))
        })
    }

    /// Writes it all.
    ///
    /// # Errors
    ///
    /// The side that is written to is gone.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if !bytes.is_empty() {
            self.to.write_all(bytes).await.map_err(|_| Broken::Writing)?;
            self.meter.count(self.direction, bytes.len());
        }
        Ok(())
    }

    /// Passes on without copying what comes, until it is little.
    async fn splice(&mut self) -> Result<Next, Broken> {
        loop {
            self.from.readable().await.map_err(|_| Broken::Reading)?;
            let Some(mut pipe) = self.pipes.take() else { return Ok(Next::Copy) };
            let mut moved = 0;
            while moved < TURN_BYTES {
                match pipe.fill(self.from.as_ref()) {
                    Ok(0) => return Ok(Next::Stop),
                    Ok(bytes) => moved += bytes,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                        return Ok(Next::Copy);
                    }
                    Err(_) => return Err(Broken::Reading),
                }
                self.empty(&mut pipe).await?;
            }
            drop(pipe);
            match moved {
                ..MUCH_BYTES => return Ok(Next::Copy),
                TURN_BYTES.. => yield_now().await,
                _ => {}
            }
        }
    }

    /// Writes all that the pipe holds.
    async fn empty(&mut self, pipe: &mut TakenPipe<'_>) -> Result<(), Broken> {
        while pipe.held() > 0 {
            match pipe.empty(self.to.as_ref()) {
                Ok(bytes) => self.meter.count(self.direction, bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.to.writable().await.map_err(|_| Broken::Writing)?;
                }
                Err(_) => return Err(Broken::Writing),
            }
        }
        Ok(())
    }
}
