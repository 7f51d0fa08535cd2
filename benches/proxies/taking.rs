//! How a measure is taken: the load, and what is read before and after it.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{
    load::{Outcome, Target, bulk::Bulk, client::Deed, closed, idle, paced},
    measure::{Measure, Quantity},
    process::Tree,
};

/// What one measuring gave.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) numbers: Vec<(Quantity, f64)>,
    pub(crate) outcome: Outcome,
}

/// How a measure is taken.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Closed { deed: Deed, clients: usize },
    Paced { deed: Deed, clients: usize },
    Bulk { bulk: Bulk, tunnels: usize },
    Memory,
    Idle { tunnels: usize },
}

/// For what is still under way when a load ends, and for memory to come to rest.
const SETTLE: Duration = Duration::from_millis(20);
const REST: Duration = Duration::from_millis(500);

/// How long wake-ups are counted: longer than a timer takes that goes off once a second.
const WATCH: Duration = Duration::from_secs(3);

/// Connections that are opened before memory of idle tunnels is measured: what is made once is made.
const FIRST: usize = 50;

impl Measure {
    /// Whether it wants a process that has not served yet.
    pub(crate) fn is_of_a_fresh_process(self) -> bool {
        matches!(self.kind(), Kind::Memory | Kind::Idle { .. })
    }

    /// Takes it, with a load of so long.
    pub(crate) async fn take(
        self,
        target: &Arc<Target>,
        tree: &dyn Fn() -> Tree,
        during: Duration,
    ) -> io::Result<Figures> {
        let warm = during / 5;
        match self.kind() {
            Kind::Closed { deed, clients } => {
                closed::run(target, deed, clients, warm).await?;
                sleep(SETTLE).await;
                let cost = Cost::begin(tree);
                let outcome = closed::run(target, deed, clients, during).await?;
                let took = cost.begun.elapsed();
                sleep(SETTLE).await;
                Ok(cost.figures(outcome, took))
            }
            Kind::Paced { deed, clients } => {
                let begun = Instant::now();
                let peak = closed::run(target, deed, clients, during / 2).await?;
                let rate = peak.took.len() as f64 / begun.elapsed().as_secs_f64() / 2.0;
                paced::run(target, deed, clients, rate, warm).await?;
                let mut outcome = paced::run(target, deed, clients, rate, during).await?;
                let mut numbers = latencies(&mut outcome);
                numbers.push((Quantity::Rate, rate));
                Ok(Figures { numbers, outcome })
            }
            Kind::Bulk { bulk, tunnels } => {
                let moving = bulk.start(target, tunnels);
                sleep(warm).await;
                let cost = Cost::begin(tree);
                let before = moving.bytes();
                sleep(during).await;
                let moved = moving.bytes() - before;
                let took = cost.begun.elapsed();
                let spent = cost.spent();
                let mut outcome = Outcome { bytes: moved, ..moving.stop() };
                if moved == 0 {
                    *outcome.failed.entry("nothing moved".into()).or_default() += 1;
                }
                Ok(Figures { numbers: per_gigabyte(moved, spent, took), outcome })
            }
            Kind::Memory => {
                sleep(REST).await;
                let base = tree().resident() as f64 / f64::from(1 << 20);
                Ok(Figures { numbers: vec![(Quantity::Base, base)], ..Figures::default() })
            }
            Kind::Idle { tunnels } => idle_tunnels(target, tree, tunnels).await,
        }
    }

    fn kind(self) -> Kind {
        let bulk = |bulk, tunnels| Kind::Bulk { bulk, tunnels };
        match self {
            Self::Connect => Kind::Closed { deed: Deed::Connect, clients: 32 },
            Self::Denied => Kind::Closed { deed: Deed::Denied, clients: 32 },
            Self::Requests1 => Kind::Closed { deed: Deed::Request { origins: 1 }, clients: 1 },
            Self::Requests64 => Kind::Closed { deed: Deed::Request { origins: 1 }, clients: 64 },
            Self::Origins => Kind::Closed { deed: Deed::Request { origins: 64 }, clients: 64 },
            Self::Uploads => Kind::Closed { deed: Deed::Upload { bytes: 1 << 20 }, clients: 8 },
            Self::Bulk1 => bulk(Bulk::Down, 1),
            Self::Bulk8 => bulk(Bulk::Down, 8),
            Self::BulkUp => bulk(Bulk::Up, 1),
            Self::BulkTls => bulk(Bulk::Tls, 1),
            Self::PacedRequests => Kind::Paced { deed: Deed::Request { origins: 1 }, clients: 64 },
            Self::PacedConnect => Kind::Paced { deed: Deed::Connect, clients: 32 },
            Self::Memory => Kind::Memory,
            Self::Idle1000 => Kind::Idle { tunnels: 1_000 },
            Self::Idle9000 => Kind::Idle { tunnels: 9_000 },
        }
    }
}

/// Processor time, from a moment on.
#[derive(Debug)]
struct Cost {
    tree: Tree,
    before: Duration,
    begun: Instant,
}

impl Cost {
    fn begin(tree: &dyn Fn() -> Tree) -> Self {
        let tree = tree();
        let before = tree.processor_time();
        Self { tree, before, begun: Instant::now() }
    }

    fn spent(&self) -> Duration {
        self.tree.processor_time().saturating_sub(self.before)
    }

    fn figures(&self, mut outcome: Outcome, took: Duration) -> Figures {
        let spent = self.spent();
        let done = outcome.took.len() as f64;
        let numbers = match outcome.bytes {
            _ if done == 0.0 => Vec::new(),
            0 => {
                let mut numbers = latencies(&mut outcome);
                numbers.push((Quantity::MicrosPerOperation, spent.as_secs_f64() * 1e6 / done));
                numbers.push((Quantity::Rate, done / took.as_secs_f64()));
                numbers
            }
            bytes => per_gigabyte(bytes, spent, took),
        };
        Figures { numbers, outcome }
    }
}

fn latencies(outcome: &mut Outcome) -> Vec<(Quantity, f64)> {
    if outcome.took.is_empty() {
        return Vec::new();
    }
    let mut millis = |share| outcome.quantile(share).as_secs_f64() * 1e3;
    vec![(Quantity::Median, millis(0.5)), (Quantity::P99, millis(0.99))]
}

fn per_gigabyte(bytes: u64, spent: Duration, took: Duration) -> Vec<(Quantity, f64)> {
    if bytes == 0 {
        return Vec::new();
    }
    let gigabytes = bytes as f64 / 1e9;
    vec![
        (Quantity::MillisPerGigabyte, spent.as_secs_f64() * 1e3 / gigabytes),
        (Quantity::Throughput, gigabytes / took.as_secs_f64()),
    ]
}

async fn idle_tunnels(
    target: &Arc<Target>,
    tree: &dyn Fn() -> Tree,
    tunnels: usize,
) -> io::Result<Figures> {
    drop(idle::open(target, FIRST).await?);
    sleep(REST).await;
    let before = tree().proportional();
    let (opened, outcome) = idle::open(target, tunnels).await?;
    sleep(REST).await;
    let tree = tree();
    let added = tree.proportional().saturating_sub(before);
    let switches = tree.switches();
    let begun = Instant::now();
    sleep(WATCH).await;
    let wake_ups = tree.switches().saturating_sub(switches) as f64 / begun.elapsed().as_secs_f64();
    // A peer that has closed some of them meanwhile would look thrifty.
    let mut byte = [0];
    let is_open = |stream: &&tokio::net::TcpStream| matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    let held = opened.iter().filter(is_open).count() as f64;
    let mut numbers = vec![(Quantity::Held, held)];
    if held > 0.0 {
        numbers.push((Quantity::PerTunnel, added as f64 / 1024.0 / held));
        numbers.push((Quantity::WakeUps, wake_ups));
    }
    Ok(Figures { numbers, outcome })
}
