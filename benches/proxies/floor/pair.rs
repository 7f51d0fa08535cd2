//! A tunnel: a client, its origin, and what goes from one to the other.

use std::{io, os::fd::OwnedFd};

use rustix::event::epoll::EventFlags;

use super::{
    Way,
    side::{Moved, Side},
};

/// How far a tunnel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Head,
    Dialling,
    Tunnel,
}

#[derive(Debug)]
pub(super) struct Pair {
    pub(super) stage: Stage,
    pub(super) client: Side,
    pub(super) origin: Option<Side>,
}

impl Pair {
    /// A client that was accepted, in that place of the table.
    pub(super) fn new(place: usize, client: OwnedFd) -> Self {
        let key = u64::try_from(place + 1).unwrap_or(u64::MAX) * 2;
        Self { stage: Stage::Head, client: Side::new(client, key), origin: None }
    }

    /// The place that a key of one of its sides speaks of.
    pub(super) fn place(key: u64) -> usize {
        usize::try_from(key / 2).unwrap_or(usize::MAX) - 1
    }

    pub(super) fn dial(&mut self, origin: OwnedFd) -> &mut Side {
        self.stage = Stage::Dialling;
        self.origin.insert(Side::new(origin, self.client.key + 1))
    }

    /// Moves what may be moved. False: the tunnel is at its end.
    pub(super) fn step(
        &mut self,
        epoll: &OwnedFd,
        way: Way,
        buffer: &mut [u8],
    ) -> io::Result<bool> {
        let Some(origin) = self.origin.as_mut() else { return Ok(false) };
        let client = &mut self.client;
        let up = client.pump(origin, way, buffer)?;
        let down = origin.pump(client, way, buffer)?;
        if up == Moved::Everything && down == Moved::Everything {
            return Ok(false);
        }
        client.watch(epoll, interest(up, down))?;
        origin.watch(epoll, interest(down, up))?;
        Ok(true)
    }
}

/// What a side waits for: `from` is what moves from it, `to` what moves to it.
fn interest(from: Moved, to: Moved) -> EventFlags {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, from == Moved::WhatCame);
    flags.set(EventFlags::OUT, to == Moved::WhatFits);
    flags
}
