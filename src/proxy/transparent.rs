//! Connections that the network of this machine leads here (nftables' or iptables' `REDIRECT`), meant
//! for other hosts: the client knows no proxy.
//!
//! Whom they were meant for says the kernel (`SO_ORIGINAL_DST`). If the policy allows that address, it
//! is as a CONNECT to it. If it does not, the client may say the name of a host first, in a
//! `ClientHello` or an HTTP head, and then it is as a CONNECT to that name: looked up here, so that no
//! client can have an address pass for another host's. Who connects to this port itself was meant for
//! nobody, and is reset; so is a connection of the proxy's own, should one be led here.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    client::Client,
    connect::open_listed,
    context::Context,
    own_connections::canonical,
    refusal::Refusal,
    sniffer::{Sniffed, Sniffer, Speech},
    socks::gone,
    tunnel::{Leg, linger},
    turn_away::answer,
};
use crate::{
    net::{Authority, Host, Port},
    observe::Protocol,
    policy::{Leave, Reason},
    tls::Alert,
};

/// For the last word.
const PATIENCE: Duration = Duration::from_secs(1);

/// Serves a connection until its tunnel is up, which goes on in a task of its own.
///
/// # Cancel safety
///
/// Dropping the future closes the connection, and abandons lookup and dialling.
pub(super) async fn serve(client: Arc<Client>, stream: TcpStream) {
    let context = Arc::clone(client.context());
    context.abort.run_until_cancelled(lead(client, stream)).await;
}

async fn lead(client: Arc<Client>, mut stream: TcpStream) {
    let context = Arc::clone(client.context());
    let Some((meant, port)) = meant(&stream).and_then(|to| Some((to, Port::new(to.port())?)))
    else {
        tracing::debug!(client = %client.caller(), "it was meant for nobody");
        return reset(&stream);
    };
    if is_own(&stream, meant, &context) {
        return reset(&stream);
    }
    let wanted = Authority { host: Host::from(meant.ip()), port };
    let mut said = BytesMut::new();
    let (authority, speech) = match needs_name(&context, &wanted) {
        false => (wanted, Speech::Other),
        true => match sniff(&mut stream, &mut said, &context).await {
            (speech, Some(host)) => (Authority { host, port: wanted.port }, speech),
            (speech, None) => (wanted, speech),
        },
    };
    // Its dialler knew before it said anything.
    if !said.is_empty() && is_own(&stream, meant, &context) {
        return reset(&stream);
    }
    let early = Bytes::from(said);
    let opened = tokio::select! {
        opened = open_listed(&client, Protocol::Captured, authority) => opened,
        () = gone(&stream, &early) => return,
    };
    match opened {
        // Its dialler did not know yet, before.
        Ok(_) if is_own(&stream, meant, &context) => reset(&stream),
        Ok((tunnel, origin)) => {
            context.tasks.spawn(tunnel.run(Leg::with_early((stream, early)), origin));
        }
        Err(refusal) => {
            refusal.count(&context.counters);
            refuse(&mut stream, speech, &refusal).await;
        }
    }
}

/// Whether the proxy has dialled it itself: then the redirect does not leave its user out.
fn is_own(stream: &TcpStream, meant: SocketAddr, context: &Context) -> bool {
    let Some(own) = &context.own_connections else { return false };
    let is_own = stream.peer_addr().is_ok_and(|peer| own.holds(peer, meant));
    if is_own {
        tracing::warn!(
            "a connection of exeat's own was redirected to it: leave out the user it runs as"
        );
    }
    is_own
}

/// Where a connection was meant to go, if not to this very socket.
fn meant(stream: &TcpStream) -> Option<SocketAddr> {
    let here = stream.local_addr().ok()?;
    let socket = SockRef::from(stream);
    let meant = match canonical(here) {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    let meant = canonical(meant.ok()?.as_socket()?);
    (meant != canonical(here)).then_some(meant)
}

/// Whether leave depends on what the client says. A server that is allowed by its address may speak
/// first, and one that is denied needs no name.
fn needs_name(context: &Context, wanted: &Authority) -> bool {
    match context.policy().decide(wanted) {
        // What only observes should hear of names.
        Ok(permit) => permit.leave() == Leave::Observed,
        Err(denial) => match denial.reason {
            Reason::Denied | Reason::ProxyDisabled => false,
            Reason::NotAllowed | Reason::NotAllowedLocal | Reason::PortNotAllowed => true,
        },
    }
}

/// Reads until the client has said a name, or will not.
async fn sniff(
    stream: &mut TcpStream,
    said: &mut BytesMut,
    context: &Context,
) -> (Speech, Option<Host>) {
    let mut sniffer = Sniffer::new(context.head_limits());
    let reading = async {
        loop {
            if !matches!(stream.read_buf(said).await, Ok(1..)) {
                return (Speech::Other, None);
            }
            if let Sniffed::Said(speech, host) = sniffer.look(said) {
                return (speech, host);
            }
        }
    };
    let heard = timeout(context.timeouts.first_bytes, reading).await;
    heard.unwrap_or_else(|_| {
        context.counters.timeouts.first_bytes.increment();
        (Speech::Other, None)
    })
}

/// Says no in the client's own protocol; what speaks another is reset.
async fn refuse(stream: &mut TcpStream, speech: Speech, refusal: &Refusal) {
    let last_word = match speech {
        Speech::Http => answer(refusal),
        Speech::Tls => Alert::AccessDenied.record().to_vec(),
        Speech::Other => return reset(stream),
    };
    if let Ok(Ok(())) = timeout(PATIENCE, stream.write_all(&last_word)).await {
        linger(stream).await;
    }
}

/// Has the end of a connection look such that nobody takes it for an empty answer.
pub(super) fn reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
}
