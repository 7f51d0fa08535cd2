//! Bytes through tunnels, as fast as they go: a thread each, and a count that may be read meanwhile.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::net::{RecvFlags, recv};
use tokio_rustls::rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use super::{Outcome, Target, answer::status, client::connect_request};
use crate::origin::{SINK, SOURCE};

/// Which way, and in what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bulk {
    /// From the origin, in a protocol that nobody knows.
    Down,
    /// To the origin, likewise.
    Up,
    /// From the origin, in TLS.
    Tls,
}

/// Tunnels in which bytes move. Dropped: they are closed, and their threads end.
#[derive(Debug)]
pub(crate) struct Moving {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicU64,
    stop: AtomicBool,
}

/// Longer than a stream stands still that moves.
const STALLED: Duration = Duration::from_secs(5);

/// Bytes asked for at a time.
const PIECE: usize = 1 << 20;

impl Bulk {
    /// Opens so many tunnels and moves bytes through them until they are stopped.
    pub(crate) fn start(self, target: &Arc<Target>, tunnels: usize) -> Moving {
        let shared = Arc::new(Shared::default());
        let run = || {
            let (target, shared) = (Arc::clone(target), Arc::clone(&shared));
            thread::spawn(move || self.run(&target, &shared))
        };
        let threads = (0..tunnels).map(|_| run()).collect();
        Moving { shared, threads }
    }

    fn run(self, target: &Target, shared: &Shared) -> io::Result<()> {
        let port = match self {
            Self::Down | Self::Up => target.opaque.first().copied().unwrap_or_default(),
            Self::Tls => target.tls,
        };
        let mut stream = tunnel(target, port)?;
        match self {
            Self::Down => {
                stream.write_all(SOURCE)?;
                let mut piece = vec![0; PIECE];
                shared.move_all(|| {
                    // The kernel throws them away: that costs this side next to nothing.
                    Ok(recv(&stream, piece.as_mut_slice(), RecvFlags::TRUNC)?.1)
                })
            }
            Self::Up => {
                stream.write_all(SINK)?;
                let piece = vec![b'x'; PIECE / 4];
                shared.move_all(|| stream.write(&piece))
            }
            Self::Tls => {
                let name = ServerName::try_from(target.host.clone()).map_err(io::Error::other)?;
                let tls = ClientConnection::new(Arc::clone(&target.trust), name);
                let mut stream = StreamOwned::new(tls.map_err(io::Error::other)?, stream);
                stream.write_all(b"!")?;
                let mut piece = vec![0; PIECE];
                shared.move_all(|| stream.read(&mut piece))
            }
        }
    }
}

impl Shared {
    fn move_all(&self, mut once: impl FnMut() -> io::Result<usize>) -> io::Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let length = once()?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.bytes.fetch_add(u64::try_from(length).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Moving {
    /// Bytes that have moved so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Ends the tunnels, and says what went wrong in them.
    pub(crate) fn stop(mut self) -> Outcome {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut outcome = Outcome { bytes: self.bytes(), ..Outcome::default() };
        for thread in self.threads.drain(..) {
            let done = thread.join().unwrap_or_else(|_| Err(io::Error::other("panic")));
            if let Err(error) = done {
                *outcome.failed.entry(error.to_string()).or_default() += 1;
            }
        }
        outcome
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// A tunnel to that port of the origins.
fn tunnel(target: &Target, port: u16) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(target.proxy)?;
    stream.set_read_timeout(Some(STALLED))?;
    stream.set_write_timeout(Some(STALLED))?;
    stream.write_all(&connect_request(&target.host, port))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    match status(&head) {
        200 => Ok(stream),
        status => Err(io::Error::other(format!("CONNECT: {status}"))),
    }
}
