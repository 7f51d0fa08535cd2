//! Notices that the policy changed, and takes the change once it has settled.
//!
//! A half-written file can be valid TOML without its denies, so a change counts only after two
//! identical reads. Files are looked at from time to time rather than watched: Kubernetes swaps a
//! symbolic link two directories up, which file watches miss.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};

use super::{PolicySource, ReadError, Snapshot, snapshot::Stamp};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a change must have settled.
const SETTLE: Duration = Duration::from_millis(200);

/// Sends what the documents say whenever that changes, and at once when `force` is notified.
///
/// `current` is what is in force at the start. Returns when nobody listens any more. Cancel safe:
/// dropping it loses at most a change that was not yet taken.
pub async fn watch(
    source: Arc<PolicySource>,
    mut current: Snapshot,
    force: Arc<Notify>,
    changes: mpsc::Sender<Result<Snapshot, ReadError>>,
) {
    // A change between the first read and the first look is noticed, because no stamp is known.
    let mut seen: Option<Stamp> = None;
    let mut reported_unreadable = false;
    loop {
        let forced = tokio::select! {
            () = force.notified() => true,
            () = sleep(LOOK_EVERY) => false,
        };
        let stamp = look(&source).await;
        if !forced && stamp.is_some() && stamp == seen {
            continue;
        }
        let read = match forced {
            true => read(&source).await,
            false => match settled(&source).await {
                Some(read) => read,
                None => continue,
            },
        };
        let unreadable = read.is_err();
        // The next look reads once more after a forced read, with which a write may have raced, and
        // after one that failed: what it failed for may pass without a change to the file.
        seen = if forced || unreadable { None } else { stamp };
        let news = match &read {
            // Whoever was told of a failure hears of its end too.
            Ok(snapshot) => forced || reported_unreadable || current != *snapshot,
            Err(_) => forced || !reported_unreadable,
        };
        reported_unreadable = unreadable;
        if let Ok(snapshot) = &read {
            current = snapshot.clone();
        }
        if news && changes.send(read).await.is_err() {
            return;
        }
    }
}

/// Two identical reads, or nothing yet.
async fn settled(source: &Arc<PolicySource>) -> Option<Result<Snapshot, ReadError>> {
    let first = read(source).await;
    sleep(SETTLE).await;
    let second = read(source).await;
    match (first, second) {
        (Ok(first), Ok(second)) => (first == second).then_some(Ok(second)),
        (Err(_), Err(error)) => Some(Err(error)),
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => None,
    }
}

async fn look(source: &Arc<PolicySource>) -> Option<Stamp> {
    let source = Arc::clone(source);
    tokio::task::spawn_blocking(move || source.stamp()).await.ok()
}

async fn read(source: &Arc<PolicySource>) -> Result<Snapshot, ReadError> {
    let source = Arc::clone(source);
    match tokio::task::spawn_blocking(move || source.read()).await {
        Ok(read) => read,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down: there is nothing left to wait for.
            Err(_) => std::future::pending().await,
        },
    }
}
