//! The inside of the jail: the process that builds it around itself, and then becomes the program.
//!
//! It is this program, started anew: with one thread, as namespaces want it, and with one end of a
//! socket as standard input until the real one is handed over.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::{
    CELL, Cause, Fault, Outlets,
    handover::{self, Word},
    hide, inherited, namespaces, netlink, redirect, resolver, sockets,
};
use crate::confine::{close_ways_around, give_up_privileges, keep_signals_within, only_connect_to};

/// What is made inside, for outside.
struct Made {
    http: TcpListener,
    captured: Option<(TcpListener, UdpSocket)>,
    plugs: Vec<OwnedFd>,
    missing: Vec<Fault>,
}

/// Builds the jail, hands out the sockets that listen in it, and waits for leave to go on. Then the
/// standard input is the real one.
///
/// # Errors
///
/// There is no jail. Whoever started this process has been told, if it was `exeat run`.
pub fn enter(outlets: Outlets) -> Result<(), Fault> {
    let control = io::stdin();
    if !handover::is_end(&control) {
        return Err(Fault::new("cannot enter a jail", "there is none", "this is for `exeat run`"));
    }
    let made = match build(outlets) {
        Ok(made) => made,
        Err(fault) => {
            handover::failed(&control, &fault).ok();
            return Err(fault);
        }
    };
    let cut_off = |error: io::Error| Fault::new("the jail was given up", error, "");
    let Made { http, captured, plugs, missing } = made;
    let mut sockets = vec![http.as_fd()];
    sockets.extend(plugs.iter().map(OwnedFd::as_fd));
    if let Some((tcp, dns)) = &captured {
        sockets.extend([tcp.as_fd(), dns.as_fd()]);
    }
    handover::ready(&control, &sockets, &missing).map_err(cut_off)?;
    drop((http, captured, plugs));
    // As long as whoever started it likes: if that ends, so does this.
    match handover::receive(&control, None).map_err(cut_off)? {
        Word::Begin(input) => {
            Ok(rustix::stdio::dup2_stdin(input).map_err(io::Error::from).map_err(cut_off)?)
        }
        Word::Failed(_) | Word::Ready(..) => Err(cut_off(io::ErrorKind::InvalidData.into())),
    }
}

/// Leaves this process TCP to one port, where there is no jail.
///
/// # Errors
///
/// What the kernel refuses, or what is open and leads elsewhere.
pub fn restrict_to(port: u16) -> Result<(), Fault> {
    inherited::check()?;
    only_connect_to(port).map_err(|error| Fault::new("cannot restrict the program", error, ""))
}

/// Everything but the program.
fn build(outlets: Outlets) -> Result<Made, Fault> {
    inherited::check()?;
    let workplace = std::env::current_dir()
        .map_err(|error| Fault::new("cannot tell the working directory", error, ""))?;
    let mut places = sockets::find();
    namespaces::separate()?;
    netlink::loopback_up()?;
    let cannot = |error| Fault::new("cannot listen in the jail", error, "");
    let http = TcpListener::bind(CELL).map_err(cannot)?;
    let plugs = (0..outlets.plugs()).map(|_| plug()).collect::<Result<_, _>>()?;
    let covered = hide::hide(&places)?;
    let mut missing = std::mem::take(&mut places.missing);
    let captured = capture(&covered).map_err(|fault| missing.push(fault)).ok();
    // Anew: the directory that this process is in may lie under what now covers it.
    std::env::set_current_dir(&workplace).map_err(|error| {
        let place = workplace.display();
        Fault::new(
            &format!("cannot work in {place}"),
            error,
            "it is hidden in the jail; change to another directory",
        )
    })?;
    // No obstacle that anybody could make: a kernel or a processor without the means.
    let lacks = |what, error| Fault::new(what, error, "").because(Cause::System);
    give_up_privileges().map_err(|error| lacks("cannot give up capabilities", error))?;
    keep_signals_within().map_err(|error| Fault::new("cannot keep signals within", error, ""))?;
    close_ways_around().map_err(|error| lacks("cannot forbid system calls", error))?;
    Ok(Made { http, captured, plugs, missing })
}

/// A socket that is connected from outside, when it is needed.
fn plug() -> Result<OwnedFd, Fault> {
    socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| Fault::new("cannot make sockets for published ports", error, ""))
}

/// Has connections to other hosts, and questions about names, arrive at sockets.
fn capture(covered: &BTreeSet<PathBuf>) -> Result<(TcpListener, UdpSocket), Fault> {
    let cannot = |error| {
        Fault::new("programs that know no proxy get no connection, cannot capture them", error, "")
    };
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, redirect::PORT)).map_err(cannot)?;
    let dns = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).map_err(cannot)?;
    resolver::replace(covered)?;
    redirect::redirect()?;
    Ok((tcp, dns))
}
