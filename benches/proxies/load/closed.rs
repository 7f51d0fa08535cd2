//! A closed loop: so many clients, each of which goes on when it is done.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use super::{
    Outcome, Target,
    client::{Client, Deed},
};

/// Has so many clients do it for that long; each ends what it has begun.
pub(crate) async fn run(
    target: &Arc<Target>,
    deed: Deed,
    clients: usize,
    during: Duration,
) -> io::Result<Outcome> {
    let end = Instant::now() + during;
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        let mut client = Client::new(target, deed, number);
        tasks.spawn(async move {
            let mut outcome = Outcome::default();
            while Instant::now() < end {
                let begun = Instant::now();
                let done = client.act().await;
                let failed = done.is_err();
                outcome.count(begun, done);
                if failed {
                    // One who is refused connections does not try as fast as it can.
                    sleep(Duration::from_millis(2)).await;
                }
            }
            outcome
        });
    }
    let mut all = Outcome::default();
    while let Some(outcome) = tasks.join_next().await {
        all.merge(outcome?);
    }
    Ok(all)
}
