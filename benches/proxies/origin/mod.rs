//! The origins: a child process that answers, sends and swallows as fast as it is asked to.
//!
//! It ends when its standard input does.

mod names;
mod plain;
mod tls;

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
    path::Path,
};

pub(crate) use self::plain::{FLIGHT, SINK, SOURCE};
use super::world::Ports;

/// Ports for requests: as many origins, where many are asked for.
const HTTP: usize = 64;

/// Ports for tunnels, so many that those of clients don't run out.
const OPAQUE: usize = 8;

/// Serves until standard input ends, and first says on standard output where.
pub(crate) fn serve(dir: &Path) -> io::Result<()> {
    super::machine::raise_descriptors()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let dns = names::start().await?;
        let mut ports = Ports { http: Vec::new(), opaque: Vec::new(), tls: 0, dns };
        for number in 0..HTTP + OPAQUE {
            let (port, listeners) = listen()?;
            let kind = if number < HTTP { &mut ports.http } else { &mut ports.opaque };
            kind.push(port);
            for listener in listeners {
                tokio::spawn(plain::serve(tokio::net::TcpListener::from_std(listener)?));
            }
        }
        let (port, listeners) = listen()?;
        ports.tls = port;
        let acceptor = tls::acceptor(dir)?;
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::spawn(tls::serve(listener, acceptor.clone()));
        }
        let mut output = io::stdout();
        writeln!(output, "{}", serde_json::to_string(&ports)?)?;
        output.flush()?;
        parent_is_gone().await;
        Ok(())
    })
}

/// Returns when standard input ends.
pub(crate) async fn parent_is_gone() {
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        io::copy(&mut io::stdin(), &mut io::sink()).ok();
        drop(sender);
    });
    receiver.await.ok();
}

/// The same port on both loopback addresses, where there are two: `localhost` may be either.
fn listen() -> io::Result<(u16, Vec<TcpListener>)> {
    let first = std_listener((Ipv4Addr::LOCALHOST, 0).into())?;
    let port = first.local_addr()?.port();
    let second = std_listener((Ipv6Addr::LOCALHOST, port).into()).ok();
    Ok((port, [Some(first), second].into_iter().flatten().collect()))
}

fn std_listener(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}
