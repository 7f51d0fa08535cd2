//! Messages between the two sides of the jail's wall, while it is built: a word, and a descriptor
//! with it or not.
//!
//! The socket keeps messages whole (`SOCK_SEQPACKET`). Outside there is a deadline; inside there is
//! none, but the end of the other side.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    sockopt::{Timeout, set_socket_timeout, socket_type},
};

use super::{Cause, Fault, publish::PLUGS};

/// What is said.
#[derive(Debug)]
pub(super) enum Word {
    /// From inside: the wall stands, and these sockets are within; what is missing.
    Ready(Vec<OwnedFd>, Vec<Fault>),
    /// From inside: it cannot be built.
    Failed(Fault),
    /// From outside: begin, with this standard input.
    Begin(OwnedFd),
}

const READY: u8 = b'R';
const FAILED: u8 = b'F';
const IMPOSSIBLE: u8 = b'I';
const BEGIN: u8 = b'B';

/// Of listeners, and of those for published ports. The kernel takes 253 (`SCM_MAX_FD`).
const MAX_DESCRIPTORS: usize = 3 + PLUGS;

/// The longest text that is worth handing over.
const MAX_TEXT: usize = 4096;

/// Two ends of a new socket.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Whether it can be an end of such a socket.
pub(super) fn is_end(socket: impl AsFd) -> bool {
    socket_type(socket).is_ok_and(|kind| kind == SocketType::SEQPACKET)
}

/// From inside: the wall stands.
pub(super) fn ready(
    socket: impl AsFd,
    within: &[BorrowedFd<'_>],
    missing: &[Fault],
) -> io::Result<()> {
    let lines: Vec<String> = missing.iter().map(Fault::to_string).collect();
    send(socket, READY, lines.join("\n").as_bytes(), within)
}

/// From inside: it cannot be built.
pub(super) fn failed(socket: impl AsFd, why: &Fault) -> io::Result<()> {
    let word = match why.cause() {
        Cause::System => IMPOSSIBLE,
        Cause::Obstacle => FAILED,
    };
    send(socket, word, why.to_string().as_bytes(), &[])
}

/// From outside: begin.
pub(super) fn begin(socket: impl AsFd, input: BorrowedFd<'_>) -> io::Result<()> {
    send(socket, BEGIN, &[], &[input])
}

fn send(
    socket: impl AsFd,
    word: u8,
    text: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let text = text.get(..MAX_TEXT).unwrap_or(text);
    let word = [word];
    let message = [IoSlice::new(&word), IoSlice::new(text)];
    sendmsg(socket, &message, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next word, if it comes within `patience`; for ever if there is none.
pub(super) fn receive(socket: impl AsFd, patience: Option<Duration>) -> io::Result<Word> {
    set_socket_timeout(&socket, Timeout::Recv, patience)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = vec![0; MAX_TEXT + 1];
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        match recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            done => break done?.bytes,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    match buffer.get(..received).and_then(<[u8]>::split_first) {
        Some((&READY, missing)) => {
            let lines = missing.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let missing = lines.map(|line| Fault::told(line, Cause::Obstacle)).collect();
            Ok(Word::Ready(descriptors, missing))
        }
        Some((&FAILED, text)) => Ok(Word::Failed(Fault::told(text, Cause::Obstacle))),
        Some((&IMPOSSIBLE, text)) => Ok(Word::Failed(Fault::told(text, Cause::System))),
        Some((&BEGIN, _)) => {
            descriptors.pop().map(Word::Begin).ok_or_else(|| io::ErrorKind::InvalidData.into())
        }
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
