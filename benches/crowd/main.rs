//! A crowd at the door: slow clients beside normal ones, and far more connections than are served.
//!
//! Runs the real binary against an origin of its own on loopback, prints two tables, and exits with
//! 1 if anybody was left without an answer or an end.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a program for measuring; what goes wrong ends it"
)]

mod client;
mod flood;
mod normal;
mod origin;
mod proxy;
mod slow;

use std::{process::ExitCode, time::Duration};

use normal::Measured;
use proxy::Proxy;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How the crowd left, beside those who were served.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Left {
    /// With the whole answer that was to be expected: 408, or 503.
    answered: usize,
    /// Without one, but at an end.
    closed: usize,
    /// Not at all.
    hung: usize,
}

const SLOW_CLIENTS: usize = 2_000;
const CONNECTIONS: usize = 15_000;
const PLACES: usize = 1_000;

/// Of each measurement.
const MEASURE: Duration = Duration::from_secs(5);

/// Measurements without and with slow clients take turns: what else the machine does hits both.
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() -> ExitCode {
    raise_descriptors();
    let origin = origin::start().await;
    let slow = slow_beside_normal(origin).await;
    let flood = more_than_places(origin).await;
    match slow.hung + flood.hung {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

async fn slow_beside_normal(origin: u16) -> Left {
    let proxy = Proxy::start("").await;
    println!(
        "{SLOW_CLIENTS} clients that send a byte of a head every {:?}, beside normal ones\n",
        slow::DRIP
    );
    println!("| normal requests | a second | p50 | p99 | a new connection, p99 | failed |");
    println!("|---|---|---|---|---|---|");
    // What is measured first would be measured cold.
    normal::measure(&proxy, origin, MEASURE).await;
    let mut rounds = Vec::new();
    let mut crowd = slow::Crowd::default();
    for _ in 0..ROUNDS {
        crowd.disperse().await;
        let before = normal::measure(&proxy, origin, MEASURE).await;
        before.print("without");
        crowd = slow::Crowd::start(&proxy, SLOW_CLIENTS).await;
        let during = normal::measure(&proxy, origin, MEASURE).await;
        during.print("beside slow clients");
        rounds.push([during, before]);
    }
    print_ratio("beside / without, median", &rounds);
    // The last crowd stays until the proxy has had enough of it.
    let left = crowd.leave().await;
    let timeouts = proxy.counted("timeouts", "request_head").await;
    println!(
        "\nslow clients: {} answered 408 ({timeouts} counted), {} closed, {} hung\n",
        left.answered, left.closed, left.hung
    );
    left
}

async fn more_than_places(origin: u16) -> Left {
    let proxy = Proxy::start(&format!("[limits]\nconnections = {PLACES}\n")).await;
    println!("{CONNECTIONS} connections at once, `[limits] connections = {PLACES}`\n");
    normal::measure(&proxy, origin, MEASURE).await;
    let before = normal::measure(&proxy, origin, MEASURE).await;
    let (served, left, recovery) = flood::run(&proxy, origin, CONNECTIONS).await;
    let after = normal::measure(&proxy, origin, MEASURE).await;
    println!("| served | clean 503 | closed | hung | served again after | turned away, counted |");
    println!("|---|---|---|---|---|---|");
    println!(
        "| {served} | {} | {} | {} | {} ms | {} |\n",
        left.answered,
        left.closed,
        left.hung,
        recovery.as_millis(),
        proxy.counted("limits", "connections").await
    );
    println!("| normal requests | a second | p50 | p99 | a new connection, p99 | failed |");
    println!("|---|---|---|---|---|---|");
    before.print("before");
    after.print("after");
    print_ratio("after / before", &[[after, before]]);
    left
}

/// The first of each pair, as a multiple of the second.
fn print_ratio(what: &str, pairs: &[[Measured; 2]]) {
    let median = |number: fn(&Measured) -> f64| {
        let mut ratios: Vec<f64> =
            pairs.iter().map(|[one, other]| number(one) / number(other)).collect();
        normal::quantile(&mut ratios, 50)
    };
    println!(
        "| {what} | {:.2} | {:.2} | {:.2} | {:.2} | |",
        median(|measured| measured.rate),
        median(|measured| measured.p50),
        median(|measured| measured.p99),
        median(|measured| measured.fresh_p99)
    );
}

/// This process has one end of every connection, and the origin's too.
fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let needed = u64::try_from(CONNECTIONS + 2 * PLACES + 500).unwrap();
    assert!(
        maximum.is_none_or(|maximum| maximum >= needed),
        "{needed} descriptors are needed: raise `ulimit -Hn`"
    );
}
