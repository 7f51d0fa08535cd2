//! Normal clients: some that keep their connections and ask as fast as they are answered, and one
//! that opens a connection for each request, at a measured pace.

use std::{net::SocketAddr, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    client::{connect, exchange, request},
    proxy::Proxy,
};

/// What normal clients saw.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Requests a second on kept connections.
    pub(crate) rate: f64,
    /// Of those, in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// From connecting to the end of the answer, in microseconds.
    pub(crate) fresh_p99: f64,
    failed: usize,
}

#[derive(Debug, Default)]
struct Taken {
    microseconds: Vec<f64>,
    failed: usize,
}

const KEEPING: usize = 16;

/// Between two connections of the one that does not keep them.
const PACE: Duration = Duration::from_millis(5);

/// Lets them ask for that long.
pub(crate) async fn measure(proxy: &Proxy, origin: u16, time: Duration) -> Measured {
    let end = Instant::now() + time;
    let keeping: Vec<_> =
        (0..KEEPING).map(|_| tokio::spawn(keep(proxy.address, origin, end))).collect();
    let fresh = tokio::spawn(come_and_go(proxy.address, origin, end));
    let mut kept = Taken::default();
    for client in keeping {
        let taken = client.await.unwrap();
        kept.microseconds.extend(taken.microseconds);
        kept.failed += taken.failed;
    }
    let mut fresh = fresh.await.unwrap();
    let count = u32::try_from(kept.microseconds.len()).unwrap();
    Measured {
        rate: f64::from(count) / time.as_secs_f64(),
        p50: quantile(&mut kept.microseconds, 50),
        p99: quantile(&mut kept.microseconds, 99),
        fresh_p99: quantile(&mut fresh.microseconds, 99),
        failed: kept.failed + fresh.failed,
    }
}

async fn keep(proxy: SocketAddr, origin: u16, end: Instant) -> Taken {
    let mut taken = Taken::default();
    let request = request(origin);
    let mut stream = connect(proxy, 0).await.unwrap();
    while Instant::now() < end {
        let begun = Instant::now();
        match exchange(&mut stream, &request).await {
            Ok(answer) if answer.status == 200 && answer.keeps => taken.note(begun),
            Ok(_) | Err(_) => {
                taken.failed += 1;
                stream = connect(proxy, 0).await.unwrap();
            }
        }
    }
    taken
}

async fn come_and_go(proxy: SocketAddr, origin: u16, end: Instant) -> Taken {
    let mut taken = Taken::default();
    let request = request(origin);
    while Instant::now() < end {
        let begun = Instant::now();
        let mut stream = connect(proxy, 0).await.unwrap();
        match exchange(&mut stream, &request).await {
            Ok(answer) if answer.status == 200 => taken.note(begun),
            Ok(_) | Err(_) => taken.failed += 1,
        }
        sleep(PACE).await;
    }
    taken
}

impl Taken {
    fn note(&mut self, begun: Instant) {
        self.microseconds.push(begun.elapsed().as_secs_f64() * 1e6);
    }
}

impl Measured {
    pub(crate) fn print(&self, when: &str) {
        println!(
            "| {when} | {:.0} | {:.0} µs | {:.0} µs | {:.0} µs | {} |",
            self.rate, self.p50, self.p99, self.fresh_p99, self.failed
        );
    }
}

/// The value below which that many in a hundred lie.
pub(crate) fn quantile(sample: &mut [f64], percent: usize) -> f64 {
    sample.sort_by(f64::total_cmp);
    let at = (sample.len() * percent / 100).min(sample.len().saturating_sub(1));
    sample.get(at).copied().unwrap_or(f64::NAN)
}
