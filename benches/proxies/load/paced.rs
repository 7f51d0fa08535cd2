//! An open loop: so many deeds a second, whether or not the ones before are done.
//!
//! Every millisecond those that are due are handed to clients that have nothing to do. How long one
//! takes counts from then on, with the wait for a client: a proxy that stalls makes all of them late.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    Outcome, Target,
    client::{Client, Deed},
};

/// Deeds that may wait for a client. Beyond that they fail.
const WAITING: usize = 4_096;

/// Has clients do it so often a second, for that long.
pub(crate) async fn run(
    target: &Arc<Target>,
    deed: Deed,
    clients: usize,
    rate: f64,
    during: Duration,
) -> io::Result<Outcome> {
    let (sender, receiver) = mpsc::channel::<Instant>(WAITING);
    let receiver = Arc::new(Mutex::new(receiver));
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        let mut client = Client::new(target, deed, number);
        let receiver = Arc::clone(&receiver);
        tasks.spawn(async move {
            let mut outcome = Outcome::default();
            loop {
                let next = receiver.lock().await.recv().await;
                let Some(due) = next else { return outcome };
                outcome.count(due, client.act().await);
            }
        });
    }
    let mut all = Outcome::default();
    let begun = Instant::now();
    let mut ticks = interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut sent = 0.0;
    while begun.elapsed() < during {
        ticks.tick().await;
        let due = Instant::now();
        while sent < begun.elapsed().as_secs_f64() * rate {
            sent += 1.0;
            if sender.try_send(due).is_err() {
                *all.failed.entry("no client was free".into()).or_default() += 1;
            }
        }
    }
    drop(sender);
    while let Some(outcome) = tasks.join_next().await {
        all.merge(outcome?);
    }
    Ok(all)
}
