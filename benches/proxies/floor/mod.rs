//! The least that a CONNECT relay must do: one thread, one epoll, no policy beyond one host, no DNS,
//! no deadlines, no log.
//!
//! What it costs is what the kernel takes for two connections and the bytes between them. It is no
//! proxy: a head must come in one piece, and tunnels are without a bound.

mod pair;
mod side;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
};

use clap::ValueEnum;
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, connect,
        listen, recv, send, socket_with, sockopt,
    },
};

use self::pair::{Pair, Stage};

/// How bytes are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// Through pipes in the kernel, once there are many.
    Splice,
    /// Through one buffer that all tunnels share.
    Copy,
}

#[derive(Debug)]
struct Floor {
    epoll: OwnedFd,
    listener: OwnedFd,
    /// What a CONNECT to the one host begins with.
    wanted: Vec<u8>,
    way: Way,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    /// Pairs that ended, whose places may still be named by events of this batch.
    ended: Vec<usize>,
    buffer: Vec<u8>,
}

const LISTENER: u64 = 0;
const INPUT: u64 = 1;

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
const REFUSED: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Serves until standard input ends.
pub(crate) fn serve(port: u16, host: &str, way: Way) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let listener = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&listener, true)?;
    bind(&listener, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    listen(&listener, 4096)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    // Nothing is ever written to it: what comes is its end.
    epoll::add(&epoll, io::stdin(), EventData::new_u64(INPUT), EventFlags::IN)?;
    let wanted = format!("CONNECT {host}:").into_bytes();
    let buffer = vec![0; 256 * 1024];
    let (pairs, free, ended) = (Vec::new(), Vec::new(), Vec::new());
    Floor { epoll, listener, wanted, way, pairs, free, ended, buffer }.run()
}

impl Floor {
    fn run(&mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(256);
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                // It was stopped, and goes on.
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    INPUT => return Ok(()),
                    key => self.happen(key),
                }
            }
            self.free.append(&mut self.ended);
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..64 {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let Ok(socket) = accept_with(&self.listener, flags) else { return Ok(()) };
            sockopt::set_tcp_nodelay(&socket, true).ok();
            let place = self.free.pop().unwrap_or_else(|| {
                self.pairs.push(None);
                self.pairs.len() - 1
            });
            let mut pair = Pair::new(place, socket);
            pair.client.watch(&self.epoll, EventFlags::IN)?;
            self.pairs[place] = Some(pair);
        }
        Ok(())
    }

    /// Something happened to a side of a pair; the pair ends when it fails.
    fn happen(&mut self, key: u64) {
        let place = Pair::place(key);
        let Some(mut pair) = self.pairs.get_mut(place).and_then(Option::take) else { return };
        let goes_on = match pair.stage {
            Stage::Head => self.head(&mut pair),
            Stage::Dialling => self.dialled(&mut pair, key),
            Stage::Tunnel => pair.step(&self.epoll, self.way, &mut self.buffer),
        };
        match goes_on {
            Ok(true) => self.pairs[place] = Some(pair),
            Ok(false) | Err(_) => self.ended.push(place),
        }
    }

    fn head(&mut self, pair: &mut Pair) -> io::Result<bool> {
        let (length, _) =
            recv(&pair.client.socket, self.buffer.as_mut_slice(), RecvFlags::empty())?;
        let head = &self.buffer[..length];
        let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(false);
        };
        let Some(target) = head.strip_prefix(self.wanted.as_slice()) else {
            send(&pair.client.socket, REFUSED, SendFlags::NOSIGNAL)?;
            return Ok(false);
        };
        let digits = target.iter().take_while(|byte| byte.is_ascii_digit());
        let port = digits
            .fold(0_u16, |port, digit| port.wrapping_mul(10).wrapping_add(u16::from(digit - b'0')));
        pair.client.pending.extend(&head[end + 4..]);
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        match connect(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        pair.dial(socket).watch(&self.epoll, EventFlags::OUT)?;
        pair.client.watch(&self.epoll, EventFlags::empty())?;
        Ok(true)
    }

    fn dialled(&mut self, pair: &mut Pair, key: u64) -> io::Result<bool> {
        let Some(origin) = pair.origin.as_mut() else { return Ok(false) };
        // Of the client there is nothing to hear but that it is gone.
        if key != origin.key {
            return Ok(false);
        }
        sockopt::socket_error(&origin.socket)??;
        send(&pair.client.socket, ESTABLISHED, SendFlags::NOSIGNAL)?;
        pair.stage = Stage::Tunnel;
        if pair.client.pending.is_empty() {
            origin.watch(&self.epoll, EventFlags::IN)?;
            pair.client.watch(&self.epoll, EventFlags::IN)?;
            return Ok(true);
        }
        pair.step(&self.epoll, self.way, &mut self.buffer)
    }
}
