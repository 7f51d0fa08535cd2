//! The threads that serve, each with a runtime and event queue of its own.
//!
//! A connection stays with the thread that it was given to, and so does the origin connection that
//! is dialled for it: what arrives at a socket wakes no other thread. The first of them accepts for
//! all.

use std::{
    io,
    num::NonZero,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    context::Context,
    crew::{Crew, Spoken},
    endpoint::Endpoint,
    listener::{ListenError, listen},
    self_test::Tested,
};

/// The threads of a proxy. They go on until it is dropped, or they are [told to end](Self::end).
#[derive(Debug)]
pub struct Workers {
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

/// The sockets at which clients connect.
#[derive(Debug)]
pub struct Listeners {
    /// For HTTP.
    pub http: Endpoint,
    /// For SOCKS5, if that is spoken.
    pub socks: Option<Endpoint>,
    /// For what is led here and was meant for others.
    pub transparent: Vec<Endpoint>,
}

/// A proxy that has no threads to serve with.
#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    /// The listening socket cannot be watched.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system gives no thread, or no event queue.
    #[error("cannot start a thread to serve with: {0}")]
    Thread(#[source] io::Error),
}

impl Workers {
    /// Starts to accept, with so many threads. A proxy that has not been tested cannot.
    ///
    /// # Errors
    ///
    /// One of the threads cannot start; those that could end again.
    pub fn start(
        _: Tested,
        listeners: Listeners,
        count: NonZero<usize>,
        context: &Arc<Context>,
    ) -> Result<Self, WorkersError> {
        let mut workers = Self { stop: CancellationToken::new(), threads: Vec::new() };
        let mut crew = Crew::default();
        for number in 1..count.get() {
            let share = crew.join();
            let context = Arc::clone(context);
            workers.spawn(number, runtime()?, move || share.serve(context))?;
        }
        let first = runtime()?;
        let Listeners { http, socks, transparent } = listeners;
        let spoken = [(http, Spoken::Http)]
            .into_iter()
            .chain(socks.map(|socks| (socks, Spoken::Socks5)))
            .chain(transparent.into_iter().map(|endpoint| (endpoint, Spoken::Nothing)));
        let listeners = {
            let _inside = first.enter();
            let ready = |(endpoint, spoken): (Endpoint, _)| Ok((endpoint.into_listener()?, spoken));
            spoken.map(ready).collect::<Result<Vec<_>, ListenError>>()?
        };
        let (context, crew) = (Arc::clone(context), Arc::new(crew));
        workers.spawn(0, first, move || async move {
            for (listener, spoken) in listeners {
                let listening = listen(listener, spoken, Arc::clone(&context), Arc::clone(&crew));
                context.tasks.spawn(listening);
            }
        })?;
        Ok(workers)
    }

    /// Starts a thread that does some work, and goes on with what came of it until it must stop.
    fn spawn<F: Future<Output = ()>>(
        &mut self,
        number: usize,
        runtime: Runtime,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<(), WorkersError> {
        let stop = self.stop.clone();
        let run = move || {
            runtime.block_on(stop.run_until_cancelled(async {
                work().await;
                std::future::pending::<()>().await;
            }));
        };
        let thread = thread::Builder::new().name(format!("exeat-worker-{number}")).spawn(run);
        self.threads.push(thread.map_err(WorkersError::Thread)?);
        Ok(())
    }

    /// Ends the threads, and with them all that they still do. Waits so long for it.
    pub async fn end(mut self, patience: Duration) {
        self.stop.cancel();
        let threads = std::mem::take(&mut self.threads);
        let joined = spawn_blocking(|| {
            // A thread that panicked has ended too.
            threads.into_iter().for_each(|thread| thread.join().unwrap_or_default());
        });
        timeout(patience, joined).await.ok();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn runtime() -> Result<Runtime, WorkersError> {
    Builder::new_current_thread().enable_all().build().map_err(WorkersError::Thread)
}
