//! The outside of the jail: starts the process that builds it, and takes the socket that listens
//! within. Who accepts on that socket serves the program, and nobody else can connect to it.

use std::{
    ffi::OsString,
    io,
    net::{TcpListener, TcpStream, UdpSocket},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process::{Command, Stdio},
    time::Duration,
};

use tokio::process::Child;

use super::{
    Fault, Outlets, Plugs, Variable, Within,
    handover::{self, Word},
    inherited,
};

/// A jail that stands, and in it a process that waits to become the program. Dropped, it ends.
#[derive(Debug)]
pub struct Cell {
    child: Child,
    control: OwnedFd,
}

/// How long it may take to build: directories are searched, on whatever they are.
const PATIENCE: Duration = Duration::from_secs(30);

impl Cell {
    /// Builds one for a program. Must be called inside a runtime. `enter` are the arguments by which
    /// this program enters it, with the same outlets.
    ///
    /// # Errors
    ///
    /// What cannot be done, and the cure.
    pub fn build(
        enter: &[&str],
        outlets: Outlets,
        command: &[OsString],
        variables: Vec<Variable>,
    ) -> Result<(Self, Within), Fault> {
        // The process inside has another until it is told to begin.
        inherited::check_input()?;
        let cannot = |error| Fault::new("cannot start the jail", error, "");
        let (control, within) = handover::pair().map_err(cannot)?;
        // Not by a path: it may have been replaced since.
        let mut inside = Command::new("/proc/self/exe");
        inside.arg0("exeat").args(enter).args(command).envs(variables);
        inside.stdin(Stdio::from(within));
        let child = tokio::process::Command::from(inside).spawn().map_err(cannot)?;
        match handover::receive(&control, Some(PATIENCE)).map_err(cannot)? {
            Word::Ready(sockets, missing) => {
                let mut sockets = sockets.into_iter();
                let http = sockets
                    .next()
                    .ok_or(io::ErrorKind::InvalidData)
                    .map_err(|e| cannot(e.into()))?;
                let plugs = sockets.by_ref().take(outlets.plugs()).map(TcpStream::from);
                let plugs = Plugs::new(plugs).map_err(cannot)?;
                let captured = match (sockets.next(), sockets.next()) {
                    (Some(tcp), Some(dns)) => Some((TcpListener::from(tcp), UdpSocket::from(dns))),
                    (_, _) => None,
                };
                let within = Within { http: TcpListener::from(http), captured, plugs, missing };
                Ok((Self { child, control }, within))
            }
            Word::Failed(why) => Err(why),
            Word::Begin(_) => Err(cannot(io::ErrorKind::InvalidData.into())),
        }
    }

    /// Lets the program begin, with the standard input of this process.
    ///
    /// # Errors
    ///
    /// It has ended already.
    pub fn open(self) -> Result<Child, Fault> {
        let Self { child, control } = self;
        handover::begin(&control, rustix::stdio::stdin())
            .map_err(|error| Fault::new("the jail is gone", error, ""))?;
        Ok(child)
    }
}
