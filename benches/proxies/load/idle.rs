//! Tunnels in which nothing moves.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{net::TcpStream, task::JoinSet};

use super::{
    Outcome, Target,
    client::{Client, Deed},
};

/// How many are opened at a time.
const OPENERS: usize = 16;

/// Slow proxies get as far as they get.
const OPENED_WITHIN: Duration = Duration::from_secs(15);

/// Opens so many tunnels, through each of which a hello and its answer have gone.
pub(crate) async fn open(
    target: &Arc<Target>,
    tunnels: usize,
) -> io::Result<(Vec<TcpStream>, Outcome)> {
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..OPENERS {
        let mut client = Client::new(target, Deed::Connect, number);
        let next = Arc::clone(&next);
        tasks.spawn(async move {
            let (mut opened, mut outcome) = (Vec::new(), Outcome::default());
            while next.fetch_add(1, Ordering::Relaxed) < tunnels && begun.elapsed() < OPENED_WITHIN
            {
                let begun = Instant::now();
                match client.open().await {
                    Ok(stream) => {
                        opened.push(stream);
                        outcome.count(begun, Ok(0));
                    }
                    Err(error) => outcome.count(begun, Err(error)),
                }
            }
            (opened, outcome)
        });
    }
    let (mut all, mut outcome) = (Vec::new(), Outcome::default());
    while let Some(task) = tasks.join_next().await {
        let (opened, of_one) = task?;
        all.extend(opened);
        outcome.merge(of_one);
    }
    Ok((all, outcome))
}
