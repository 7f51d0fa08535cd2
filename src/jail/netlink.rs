//! Messages to the kernel about networks and sockets (netlink(7), rtnetlink(7), `sock_diag(7)`).

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv,
        send, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use super::{Fault, namespaces::refused};

/// For routes and interfaces; the default protocol.
pub(super) const ROUTE: Option<Protocol> = None;
pub(super) const NETFILTER: Option<Protocol> = Some(netlink::NETFILTER);

// linux/netlink.h and linux/rtnetlink.h.
pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_ACK: u16 = 0x4;
pub(super) const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const IFF_UP: u32 = 1;

/// For each part of a long answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The kernel sends no larger parts (`NLMSG_GOODSIZE` in linux/netlink.h is at most two pages, of up to
/// 64 KiB).
const MAX_ANSWER: usize = 128 << 10;

/// The first interface of every network namespace is its loopback.
pub(super) const LOOPBACK: i32 = 1;

/// Brings loopback up, in the namespace of this process.
pub(super) fn loopback_up() -> Result<(), Fault> {
    let up = message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &link_up(LOOPBACK));
    exchange(ROUTE, &up).map_err(|error| refused("cannot bring the jail's loopback up", &error))
}

/// A `struct ifinfomsg` that sets one flag.
fn link_up(index: i32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    // Which flags are meant.
    body.extend(IFF_UP.to_ne_bytes());
    body
}

/// A message with its head; the kernel fills in who sends it.
pub(super) fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Sends messages of which the last that matters wants an answer, and reads that all was done: an
/// error of an earlier one comes before.
pub(super) fn exchange(protocol: Option<Protocol>, messages: &[u8]) -> io::Result<()> {
    let socket: OwnedFd =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    send(&socket, messages, SendFlags::empty())?;
    let mut answer = [0; 4096];
    let (read, _) = recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
    match error_of(answer.get(..read).unwrap_or_default()) {
        Some(0) => Ok(()),
        Some(number) => Err(Errno::from_raw_os_error(number.saturating_neg()).into()),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Sends a question about sockets of which the answer is many messages, and hears the body of each.
pub(super) fn dump(question: &[u8], mut hear: impl FnMut(&[u8])) -> io::Result<()> {
    let socket: OwnedFd = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    send(&socket, question, SendFlags::empty())?;
    let mut buffer = vec![0; MAX_ANSWER];
    loop {
        let (read, _) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        let mut rest = buffer.get(..read).unwrap_or_default();
        if rest.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while let Some(length) = rest.first_chunk().copied().map(u32::from_ne_bytes) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let whole = rest.get(..length).ok_or(io::ErrorKind::InvalidData)?;
            match whole.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes) {
                Some(NLMSG_DONE) => return Ok(()),
                Some(NLMSG_ERROR) => {
                    let number = error_of(whole).ok_or(io::ErrorKind::InvalidData)?;
                    return Err(Errno::from_raw_os_error(number.saturating_neg()).into());
                }
                Some(_) => hear(whole.get(16..).unwrap_or_default()),
                None => return Err(io::ErrorKind::InvalidData.into()),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// The number in a `struct nlmsgerr`: nought for done, or negative.
fn error_of(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let number = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(number)
}
