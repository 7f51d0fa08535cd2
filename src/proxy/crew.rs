//! Which thread serves a connection: the one that has fewest.
//!
//! One thread accepts for all. To let each look at the listening socket would wake all of them for
//! every client; a socket each (`SO_REUSEPORT`) would let the kernel deal clients out to busy
//! threads as well as idle ones, and let a second proxy start at the same port unnoticed, with
//! another policy. A connection that is given away costs its registration and a wake-up, once.

use std::{
    net::TcpStream as StdStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{client::Client, connection, context::Context, socks, transparent};

/// The threads, as the one that accepts sees them.
#[derive(Debug, Default)]
pub(super) struct Crew {
    /// Connections and tunnels of the thread that accepts.
    here: Arc<AtomicUsize>,
    others: Vec<Member>,
}

/// Another thread.
#[derive(Debug)]
struct Member {
    /// Its connections and tunnels.
    load: Arc<AtomicUsize>,
    /// No more wait here than there are places.
    queue: UnboundedSender<Handed>,
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    Http,
    Socks5,
    /// What the client takes its own destination for.
    Nothing,
}

/// A connection on its way to another thread.
#[derive(Debug)]
struct Handed {
    spoken: Spoken,
    client: Arc<Client>,
    stream: StdStream,
    /// Work is not over before it has arrived.
    _under_way: TaskTrackerToken,
}

/// What one of the other threads is given.
#[derive(Debug)]
pub(super) struct Share(UnboundedReceiver<Handed>);

/// One connection of a thread's load. The default is one of a thread that is not in the crew.
#[derive(Debug)]
pub(super) struct Load(Arc<AtomicUsize>);

impl Crew {
    /// Takes one more thread.
    pub(super) fn join(&mut self) -> Share {
        let (queue, share) = unbounded_channel();
        self.others.push(Member { load: Arc::default(), queue });
        Share(share)
    }

    /// Has a connection served, by whoever has fewest. `client` gets what it must keep.
    pub(super) fn serve(
        &self,
        context: &Context,
        spoken: Spoken,
        stream: TcpStream,
        client: impl FnOnce(Load) -> Arc<Client>,
    ) {
        let of = |load: &Arc<AtomicUsize>| load.load(Ordering::Relaxed);
        let idlest = self.others.iter().min_by_key(|member| of(&member.load));
        match idlest.filter(|member| of(&member.load) < of(&self.here)) {
            None => {
                spoken.serve(context, client(Load::on(&self.here)), stream);
            }
            Some(Member { load, queue }) => {
                let client = client(Load::on(load));
                let _under_way = context.tasks.token();
                let handed = |stream| Handed { spoken, client, stream, _under_way };
                // A socket that the runtime cannot let go of is closed, and so is one for a thread
                // that has ended.
                stream.into_std().map(|stream| queue.send(handed(stream)).ok()).ok();
            }
        }
    }
}

impl Share {
    /// Serves what comes, until the one that accepts has ended.
    pub(super) async fn serve(mut self, context: Arc<Context>) {
        while let Some(Handed { spoken, client, stream, .. }) = self.0.recv().await {
            if let Ok(stream) = TcpStream::from_std(stream) {
                spoken.serve(&context, client, stream);
            }
        }
    }
}

impl Spoken {
    /// Serves a connection, on this thread.
    fn serve(self, context: &Context, client: Arc<Client>, stream: TcpStream) {
        match self {
            Self::Http => context.tasks.spawn(connection::serve(client, stream)),
            Self::Socks5 => context.tasks.spawn(socks::serve(client, stream)),
            Self::Nothing => context.tasks.spawn(transparent::serve(client, stream)),
        };
    }
}

impl Load {
    fn on(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(load))
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::on(&Arc::default())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
