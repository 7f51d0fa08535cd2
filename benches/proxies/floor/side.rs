//! One end of a tunnel, and what was read from it and not yet written to the other.

use std::{io, os::fd::OwnedFd};

use rustix::{
    event::epoll::{self, EventData, EventFlags},
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};

use super::Way;

#[derive(Debug)]
pub(super) struct Side {
    pub(super) socket: OwnedFd,
    pub(super) key: u64,
    /// Read from here, by copying.
    pub(super) pending: Vec<u8>,
    pipe: Option<Pipe>,
    watched: Option<EventFlags>,
    at_end: bool,
    shut: bool,
}

/// What was spliced from a side.
#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    filled: usize,
}

/// Why there is no more to be moved from a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// Nothing more has come.
    WhatCame,
    /// The other side takes no more.
    WhatFits,
    /// It has ended, and the other knows.
    Everything,
}

/// A read of that many bytes is the beginning of many.
const MANY: usize = 32 * 1024;

const PIPE: usize = 1 << 20;

/// Reads before others have their turn.
const TURN: usize = 8;

impl Side {
    pub(super) fn new(socket: OwnedFd, key: u64) -> Self {
        let pending = Vec::new();
        Self { socket, key, pending, pipe: None, watched: None, at_end: false, shut: false }
    }

    /// Waits for that, and only that.
    pub(super) fn watch(&mut self, epoll: &OwnedFd, flags: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(self.key);
        match self.watched.replace(flags) {
            None => epoll::add(epoll, &self.socket, data, flags)?,
            Some(old) if old != flags => epoll::modify(epoll, &self.socket, data, flags)?,
            Some(_) => {}
        }
        Ok(())
    }

    /// Moves what comes from here to the other side.
    pub(super) fn pump(&mut self, to: &mut Self, way: Way, buffer: &mut [u8]) -> io::Result<Moved> {
        for _ in 0..TURN {
            if !self.flush(to)? {
                return Ok(Moved::WhatFits);
            }
            if self.at_end {
                break;
            }
            let length = match &mut self.pipe {
                Some(pipe) => {
                    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                    let came = splice(&self.socket, None, &pipe.writer, None, PIPE, flags);
                    let Some(length) = now(came)? else { return Ok(Moved::WhatCame) };
                    pipe.filled += length;
                    length
                }
                None => {
                    let came = recv(&self.socket, &mut *buffer, RecvFlags::empty());
                    let Some((length, _)) = now(came)? else { return Ok(Moved::WhatCame) };
                    let sent = now(send(&to.socket, &buffer[..length], SendFlags::NOSIGNAL))?;
                    self.pending.extend(&buffer[sent.unwrap_or(0)..length]);
                    if way == Way::Splice && length >= MANY {
                        self.pipe = Some(Pipe::new()?);
                    } else if length > 0 && length < MANY / 2 && self.pending.is_empty() {
                        return Ok(Moved::WhatCame);
                    }
                    length
                }
            };
            self.at_end = length == 0;
        }
        if !self.flush(to)? {
            return Ok(Moved::WhatFits);
        }
        if !self.at_end {
            return Ok(Moved::WhatCame);
        }
        if !to.shut {
            to.shut = true;
            shutdown(&to.socket, Shutdown::Write)?;
        }
        Ok(Moved::Everything)
    }

    /// Writes what was read. False: not all of it.
    fn flush(&mut self, to: &Self) -> io::Result<bool> {
        while !self.pending.is_empty() {
            match now(send(&to.socket, &self.pending, SendFlags::NOSIGNAL))? {
                Some(length) => drop(self.pending.drain(..length)),
                None => return Ok(false),
            }
        }
        if self.pending.capacity() > 0 {
            self.pending = Vec::new();
        }
        let Some(pipe) = &mut self.pipe else { return Ok(true) };
        while pipe.filled > 0 {
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            match now(splice(&pipe.reader, None, &to.socket, None, pipe.filled, flags))? {
                Some(length) => pipe.filled -= length,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // A smaller one will do where so much is not permitted.
        fcntl_setpipe_size(&writer, PIPE).ok();
        Ok(Self { reader, writer, filled: 0 })
    }
}

/// None: not at the moment.
fn now<T>(result: Result<T, Errno>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
