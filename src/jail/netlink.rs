//! The network of the jail, configured through netlink (rtnetlink(7)): its loopback interface goes
//! up, and that is all there is.

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
};

use super::Fault;

// linux/netlink.h and linux/rtnetlink.h.
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST_ACK: u16 = 0x1 | 0x4;
const IFF_UP: u32 = 1;

/// The first interface of every network namespace is its loopback.
const LOOPBACK: i32 = 1;

/// Brings loopback up, in the namespace of this process.
pub(super) fn loopback_up() -> Result<(), Fault> {
    request(RTM_NEWLINK, &link_up(LOOPBACK))
        .map_err(|error| Fault::new("cannot bring the jail's loopback up", error, ""))
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

/// Sends one request, and reads that it was done.
fn request(kind: u16, body: &[u8]) -> io::Result<()> {
    let socket: OwnedFd =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    // Sequence and sender; the kernel fills in the latter.
    message.extend([0; 8]);
    message.extend(body);
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 4096];
    let (read, _) = recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
    match error_of(answer.get(..read).unwrap_or_default()) {
        Some(0) => Ok(()),
        Some(number) => Err(Errno::from_raw_os_error(-number).into()),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The number in a `struct nlmsgerr`: nought for done, or negative.
fn error_of(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let number = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == NLMSG_ERROR).then_some(number)
}
