//! Telling a client that there is no place for its connection, without reading what it wants.
//!
//! The invariant: turning away costs no more than it may. The answer goes into an empty send
//! buffer, so nothing is waited for; those who may linger are few, and not for long.

use std::{mem::MaybeUninit, net::Shutdown, sync::Arc, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncWriteExt as _, copy, sink},
    net::TcpStream,
    time::timeout,
};

use super::{
    context::Context, crew::Spoken, limit::Limit, refusal::Refusal, reply::Recipient,
    transparent::reset,
};
use crate::{observe::Counters, socks5::Reply};

/// What is said to clients that find no place.
#[derive(Debug)]
pub(super) struct Farewell {
    connections: Vec<u8>,
    client_connections: Vec<u8>,
    descriptors: Vec<u8>,
    spoken: Spoken,
}

/// Why a connection is not served.
#[derive(Debug, Clone, Copy)]
pub(super) enum NoPlace {
    /// The address has as many as it may.
    ForClient,
    /// All places are taken.
    ForAnyone,
    /// The descriptor it has is the last one.
    InProcess,
}

/// How long a client may take to read the answer and to leave. Closing a socket before its bytes
/// were read resets the connection, which may destroy the answer (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(1);

/// To a client of SOCKS5 that nobody has heard: that it need not authenticate. It reads the failure
/// as the answer to its request.
const UNHEARD: [u8; 2] = [5, 0];

/// Of what has come already, so much is read away where nobody may linger.
const READ_BYTES: usize = 4 << 10;

impl Farewell {
    pub(super) fn new(spoken: Spoken) -> Self {
        let answer = |limit| match spoken {
            Spoken::Http => answer(&Refusal::Limit(limit)),
            Spoken::Socks5 => [&UNHEARD[..], &Reply::Failure.bytes()].concat(),
            // In which protocol, nobody knows.
            Spoken::Nothing => Vec::new(),
        };
        Self {
            connections: answer(Limit::Connections),
            client_connections: answer(Limit::ClientConnections),
            descriptors: answer(Limit::Descriptors),
            spoken,
        }
    }

    /// Answers 503, or that SOCKS failed, and closes; resets what may speak anything.
    pub(super) fn say(&self, stream: TcpStream, why: NoPlace, context: &Arc<Context>) {
        why.count(&context.counters);
        if self.spoken == Spoken::Nothing {
            return reset(&stream);
        }
        let answer = match why {
            NoPlace::ForClient => &self.client_connections,
            NoPlace::ForAnyone => &self.connections,
            NoPlace::InProcess => &self.descriptors,
        };
        SockRef::from(&stream).send(answer).ok();
        let lingers = match why {
            NoPlace::ForClient | NoPlace::ForAnyone => context.places.farewells.take(),
            // Its descriptor is needed.
            NoPlace::InProcess => None,
        };
        match lingers {
            Some(place) => {
                context.tasks.spawn(async move {
                    linger(stream).await;
                    drop(place);
                });
            }
            None => close(&stream),
        }
    }
}

impl NoPlace {
    /// Counts a connection that is turned away.
    pub(super) fn count(self, counters: &Counters) {
        let limit = match self {
            Self::ForClient => Limit::ClientConnections,
            Self::ForAnyone => Limit::Connections,
            Self::InProcess => Limit::Descriptors,
        };
        limit.counter(counters).increment();
    }
}

/// The whole answer: no request has been read, and when it is given is not known.
pub(super) fn answer(refusal: &Refusal) -> Vec<u8> {
    refusal.reply().bytes(Recipient::UNKNOWN, None)
}

async fn linger(mut stream: TcpStream) {
    let until_it_leaves = async {
        stream.shutdown().await?;
        copy(&mut stream, &mut sink()).await
    };
    timeout(LINGER, until_it_leaves).await.ok();
}

/// At once, but for what has come already.
fn close(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    socket.shutdown(Shutdown::Write).ok();
    socket.recv(&mut [MaybeUninit::uninit(); READ_BYTES]).ok();
}
