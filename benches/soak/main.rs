//! Soak and chaos: the real proxy under mixed load, with clients, origins, names and policies that
//! misbehave, for ten minutes. It must lose nothing, leak nothing and decide nothing wrongly.
//!
//! `cargo bench --bench soak -- --seconds 600`; Linux, because it looks into `/proc`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    dead_code,
    unused_imports,
    reason = "a program for developers, which uses its part of what the tests share"
)]

mod clients;
mod ledger;
mod moment;
mod origins;
mod random;
#[path = "../../tests/it/support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    fs,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use self::{
    clients::{DEEDS, Deed, Fate, World},
    ledger::{Holdings, Ledger},
    moment::{Moment, POLICIES},
    origins::Ports,
    random::Random,
    support::{Proxy, ProxyBuilder, Zone, eventually},
};

/// What clients of one kind met with.
#[derive(Debug, Default)]
struct Tally {
    times: Vec<Duration>,
    fates: BTreeMap<&'static str, usize>,
    faults: Vec<String>,
}

type Tallies = Arc<Mutex<BTreeMap<Deed, Tally>>>;

/// What was done to the proxy, to be compared with what it counted.
#[derive(Debug, Default)]
struct Chaos {
    changes: u64,
    broken: u64,
    ledger: Ledger,
}

const SETTINGS: &str = "
[timeouts]
request_head = \"2s\"
response_head = \"2s\"
connect = \"2s\"
dns = \"1s\"
first_bytes = \"1s\"
idle = \"5s\"
idle_origin = \"1s\"
";

const CLIENTS: u64 = 48;

/// Between two changes of the policy.
const CHANGE_EVERY: Duration = Duration::from_secs(2);

/// Tunnels that a new policy refuses are gone by then, on a busy machine too.
const CUT_WITHIN: Duration = Duration::from_millis(500);

/// Longer than anything that a client does. What takes longer hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Memory that a loaded process may keep beyond what it kept after the warm-up.
const SLACK_KB: u64 = 16 << 10;

#[tokio::main]
async fn main() -> ExitCode {
    let seconds = argument("--seconds").unwrap_or(600);
    let proxy = start().await;
    let fresh = Holdings::of(proxy.pid());
    let ports = Arc::new(Ports::start().await);
    let world = |seconds| World {
        proxy: proxy.address,
        moment: Moment::default(),
        ports: Arc::clone(&ports),
        end: Instant::now() + Duration::from_secs(seconds),
    };
    let mut chaos = Chaos::default();
    let mut faults =
        load(world((seconds / 10).clamp(5, 30)), &proxy, &mut chaos, &Tallies::default()).await;
    faults.extend(settle(&proxy, fresh).await);
    let before = Holdings::of(proxy.pid());
    let tallies = Tallies::default();
    let begun = Instant::now();
    faults.extend(load(world(seconds), &proxy, &mut chaos, &tallies).await);
    let took = begun.elapsed();
    faults.extend(settle(&proxy, fresh).await);
    let after = Holdings::of(proxy.pid());

    show(&tallies.lock().unwrap(), took);
    println!("\n| | descriptors | threads | resident, KB |\n|---|---|---|---|");
    for (when, held) in [("fresh", fresh), ("warmed up", before), ("after", after)] {
        println!("| {when} | {} | {} | {} |", held.descriptors, held.threads, held.resident_kb);
    }
    if after.resident_kb > before.resident_kb + SLACK_KB {
        faults.push(format!(
            "memory: {} KB before, {} KB after",
            before.resident_kb, after.resident_kb
        ));
    }
    faults.extend(add_up(proxy, chaos).await);
    let tallies = tallies.lock().unwrap();
    let of_clients = tallies.values().flat_map(|tally| tally.faults.iter().take(3));
    for fault in faults.iter().chain(of_clients) {
        println!("WRONG {fault}");
    }
    let count = faults.len() + tallies.values().map(|tally| tally.faults.len()).sum::<usize>();
    println!("\n{count} wrong");
    if count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn argument(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).map(|value| value.parse().expect("a number"))
}

async fn start() -> Proxy {
    let here = ["127.0.0.1"];
    let late = Duration::from_secs(3);
    let mut zone = Zone::default()
        .rounds("slow.test", &[&here], 1)
        .slow("slow.test", Duration::from_millis(200))
        .name("late.test", &here)
        .slow("late.test", late)
        .failing("fail.test");
    for place in moment::PLACES.iter().filter(|place| place.name != "slow.test") {
        zone = zone.rounds(place.name, &[&here], 1);
    }
    let dns = zone.serve().await;
    ProxyBuilder::new(POLICIES[0])
        .private("**.test")
        .dns(dns.address)
        .settings(SETTINGS)
        .start()
        .await
}

/// Loads the proxy until the world's end, and changes its policy all the while.
async fn load(world: World, proxy: &Proxy, chaos: &mut Chaos, tallies: &Tallies) -> Vec<String> {
    let world = Arc::new(world);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(Arc::clone(&world), Random::new(number), Arc::clone(tallies)));
    }
    let mut faults = Vec::new();
    while Instant::now() < world.end {
        sleep(CHANGE_EVERY).await;
        chaos.change(proxy, &world.moment).await;
    }
    // Every load begins with the first policy.
    if !world.moment.now().is_multiple_of(4) {
        chaos.change(proxy, &world.moment).await;
    }
    while let Some(ended) = clients.join_next().await {
        faults.extend(ended.err().map(|panic| panic.to_string()));
    }
    faults
}

async fn client(world: Arc<World>, mut random: Random, tallies: Tallies) {
    while Instant::now() < world.end {
        let deed = *random.of(DEEDS);
        let begun = Instant::now();
        let done = timeout(HANGS_AFTER, deed.run(&world, &mut random)).await;
        let took = begun.elapsed();
        {
            let mut tallies = tallies.lock().unwrap();
            let tally = tallies.entry(deed).or_default();
            tally.times.push(took);
            match done.unwrap_or_else(|_| Err("hangs".into())) {
                Ok(fate) => *tally.fates.entry(fate.as_str()).or_default() += 1,
                Err(fault) => tally.faults.push(format!("{deed:?}: {fault}")),
            }
        }
        sleep(Duration::from_millis(random.below(40))).await;
    }
}

impl Fate {
    fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Straddled => "straddled",
        }
    }
}

impl Chaos {
    /// Puts the other policy in force, and takes the audit file away in the same moment. Every
    /// fifth time a policy comes first that cannot be used, which changes nothing.
    async fn change(&mut self, proxy: &Proxy, moment: &Moment) {
        if self.changes % 5 == 4 {
            self.broken += 1;
            proxy.replace_file("[experimental_network]\nallow_domains = [\"*\"]\n");
            proxy.signal("HUP");
            count_reaches(proxy, "reload_failures", self.broken).await;
        }
        moment.step();
        self.changes += 1;
        let next = usize::from(moment.now() % 4 == 1);
        let reloads = counted(proxy, "reloads").await;
        proxy.replace_policy(POLICIES[next]);
        let (audit, old) = (proxy.path("audit.jsonl"), proxy.path("audit.old"));
        fs::rename(&audit, &old).unwrap();
        proxy.signal("HUP");
        count_reaches(proxy, "reloads", reloads + 1).await;
        eventually("a new audit file", || audit.exists().then_some(())).await;
        self.ledger.read(&old);
        sleep(CUT_WITHIN).await;
        moment.step();
    }
}

async fn counted(proxy: &Proxy, counter: &str) -> u64 {
    proxy.health().await["policy"][counter].as_u64().unwrap()
}

async fn count_reaches(proxy: &Proxy, counter: &str, count: u64) {
    let deadline = Instant::now() + HANGS_AFTER;
    while counted(proxy, counter).await < count {
        assert!(Instant::now() < deadline, "{counter} never came to {count}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the proxy holds no more than it did at the start.
async fn settle(proxy: &Proxy, fresh: Holdings) -> Option<String> {
    let deadline = Instant::now() + HANGS_AFTER;
    while Holdings::of(proxy.pid()).descriptors > fresh.descriptors {
        if Instant::now() > deadline {
            return Some(format!("{fresh:?} became {:?}", Holdings::of(proxy.pid())));
        }
        sleep(Duration::from_millis(200)).await;
    }
    None
}

/// Whether everything that was counted comes to the same, at the end of the process.
async fn add_up(mut proxy: Proxy, chaos: Chaos) -> Vec<String> {
    let Chaos { changes, broken, mut ledger } = chaos;
    let health = proxy.health().await;
    proxy.signal("TERM");
    let status = proxy.ended().await;
    ledger.read(&proxy.path("audit.jsonl"));
    let log = proxy.log();
    let left = log.rsplit_once("draining tasks=").map(|(_, rest)| rest.lines().next().unwrap());
    println!(
        "\naudit: {} allowed, {} denied, {} ended {:?}\nhealth: {health}\n\
         policies: {changes} changes, {broken} broken ones; tasks at the end: {}",
        ledger.allowed,
        ledger.denied,
        ledger.ended(),
        ledger.ends,
        left.unwrap_or("?"),
    );
    let count = |section: &str, name: &str| health[section][name].as_u64().unwrap();
    let mismatches = ledger.ends.get("sni_mismatch").copied().unwrap_or(0);
    let mut faults = ledger.faults;
    for (what, counted, expected) in [
        ("ends", ledger.ends.values().sum(), ledger.allowed),
        ("requests without an end", ledger.open.len() as u64, 0),
        // One that is noticed before its signal comes is read twice.
        ("changes not read", changes.saturating_sub(count("policy", "reloads")), 0),
        ("reload failures", count("policy", "reload_failures"), broken),
        ("SNI mismatches", count("tunnels", "sni_mismatches"), mismatches),
        ("audit records dropped", count("audit", "dropped"), 0),
        ("connections refused", count("limits", "connections"), 0),
        ("system calls refused", count("confinement", "calls_refused"), 0),
    ] {
        if counted != expected {
            faults.push(format!("{what}: {counted} and not {expected}"));
        }
    }
    // The listener is one, and the connection that asked for the health may be another.
    if left.and_then(|left| left.parse().ok()).is_none_or(|left: u64| left > 2) {
        faults.push(format!("tasks at the end: {left:?}"));
    }
    if !status.success() {
        faults.push(status.to_string());
    }
    faults
}

fn show(tallies: &BTreeMap<Deed, Tally>, took: Duration) {
    println!("{CLIENTS} clients, {:.0} s", took.as_secs_f64());
    println!("| deed | done | served | refused | failed | straddled | wrong | p50, ms | p99, ms |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for (deed, tally) in tallies {
        let mut times = tally.times.clone();
        times.sort();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        let fate = |fate: Fate| tally.fates.get(fate.as_str()).copied().unwrap_or(0);
        println!(
            "| {deed:?} | {} | {} | {} | {} | {} | {} | {:.1} | {:.1} |",
            times.len(),
            fate(Fate::Served),
            fate(Fate::Refused),
            fate(Fate::Failed),
            fate(Fate::Straddled),
            tally.faults.len(),
            at(50),
            at(99),
        );
    }
    let sum: usize = tallies.values().map(|tally| tally.times.len()).sum();
    println!("{sum} in all");
}
