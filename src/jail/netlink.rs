//! Messages to the kernel about the network of the jail (netlink(7), rtnetlink(7)).

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv,
        send, socket_with,
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
const RTM_NEWLINK: u16 = 16;
const IFF_UP: u32 = 1;

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

/// The number in a `struct nlmsgerr`: nought for done, or negative.
fn error_of(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let number = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(number)
}
