//! `exeat connect HOST PORT`: a tunnel between a host and this program's input and output, for
//! programs that want a command to connect with, as ssh's `ProxyCommand`.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    thread,
};

use clap::Args;

use super::{Exit, complain, proxy::ProxyArgs};
use crate::{
    jail::{Tunnel, TunnelError},
    net::{Authority, Host, Port},
};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 the host has said all, 1 there is no connection to it, or it broke; \
    64 usage, or no proxy is known; 69 the proxy does not answer"
)]
pub(super) struct Connect {
    #[command(flatten)]
    proxy: ProxyArgs,
    /// A name or an IP address
    host: String,
    /// A number
    port: String,
}

const CHUNK: usize = 64 << 10;

impl Connect {
    pub(super) fn run(self) -> Exit {
        let target = match parse(&self.host, &self.port) {
            Ok(target) => target,
            Err(error) => return complain(&error, Exit::Usage),
        };
        let proxy = match self.proxy.of_client() {
            Ok(Some(proxy)) => proxy,
            Ok(None) => return no_proxy(),
            Err(exit) => return exit,
        };
        match Tunnel::open(&proxy, &target) {
            Ok(tunnel) => match relay(tunnel) {
                Ok(()) => Exit::Success,
                Err(error) => complain(&format!("{target}: {error}"), Exit::No),
            },
            Err(TunnelError::Refused(answer)) => {
                let what = answer.message.as_ref().unwrap_or(&answer.phrase);
                complain(
                    &format!("no connection to {target}: {what} ({})", answer.status),
                    Exit::No,
                )
            }
            Err(error @ TunnelError::Proxy { .. }) => complain(&error, Exit::Unavailable),
        }
    }
}

/// Nothing names a proxy.
pub(super) fn no_proxy() -> Exit {
    complain(
        &"no proxy is known: run this under `exeat run`, set HTTPS_PROXY, or name it with --proxy",
        Exit::Usage,
    )
}

fn parse(host: &str, port: &str) -> Result<Authority, String> {
    let wrong = |what: &str, error: &dyn std::fmt::Display| format!("{what} {error}");
    // ssh hands over IPv6 addresses without brackets.
    let host = match host.parse() {
        Ok(address) => Host::from(std::net::IpAddr::V6(address)),
        Err(_) => Host::parse(host.as_bytes()).map_err(|error| wrong("host", &error))?,
    };
    let port = Port::parse(port.as_bytes()).map_err(|error| wrong("port", &error))?;
    Ok(Authority { host, port })
}

/// Moves bytes until the host has said all, and hands the end of the input on (half-close). What
/// ends the host's side ends the program: nobody would read an answer any more.
fn relay(tunnel: Tunnel) -> io::Result<()> {
    let Tunnel { mut stream, early } = tunnel;
    let mut to_host = stream.try_clone()?;
    // It may wait for input forever; the end of the program ends it.
    thread::spawn(move || {
        copy(&mut io::stdin().lock(), &mut to_host).ok();
        to_host.shutdown(Shutdown::Write).ok();
    });
    let mut output = io::stdout().lock();
    output.write_all(&early)?;
    output.flush()?;
    copy(&mut stream, &mut output)
}

/// Every read is written at once: who waits for an answer has asked for it.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(buffer.get(..read).unwrap_or_default())?;
        to.flush()?;
    }
}
