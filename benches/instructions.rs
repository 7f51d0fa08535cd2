//! Instructions of one `Policy::decide`, counted by callgrind: the same on every machine, however busy.
//!
//! `cargo bench --bench instructions` runs itself under `valgrind`, which must be installed, once
//! for each class of hosts and number of rules, and prints a table.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a bench is a program for its developers"
)]

mod support;

use std::{env, fs, hint::black_box, process::Command};

use exeat::{net::Authority, policy::Policy};
use support::Class;

/// Hosts in a run.
const HOSTS: usize = 1_000;

/// More takes valgrind minutes to compile.
const MOST: usize = 10_000;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    match arguments.iter().position(|argument| argument == "--child") {
        Some(at) => child(&arguments[at + 1], &arguments[at + 2], &arguments[at + 3]),
        None => parent(),
    }
}

fn parent() {
    println!("instructions of one decision from a parsed host, mean of {HOSTS}\n");
    println!("| rules | hit | near | miss | deep | glob |\n|---|---|---|---|---|---|");
    for size in support::sizes().filter(|size| *size <= MOST) {
        let counts = Class::PLAIN.map(|class| instructions(size, Kind::Plain, class));
        println!("| {size} | {} | |", joined(&counts));
    }
    let counts = Class::ALL.map(|class| instructions(MOST, Kind::Globs, class));
    println!("| {MOST} and 20 globs | {} |", joined(&counts));
}

fn joined(counts: &[usize]) -> String {
    counts.iter().map(usize::to_string).collect::<Vec<_>>().join(" | ")
}

/// Whether wildcards inside labels stand among the rules.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Globs,
    Plain,
}

/// Runs this program under callgrind, counting inside `decide` only.
fn instructions(size: usize, kind: Kind, class: Class) -> usize {
    let out = env::temp_dir().join(format!("exeat-callgrind-{}", std::process::id()));
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=exeat::policy::evaluate::Policy::decide",
        ])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe().unwrap())
        .args(["--child", &size.to_string(), &format!("{kind:?}"), class.name()])
        .output()
        .unwrap_or_else(|error| panic!("valgrind cannot be started: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let profile = fs::read_to_string(&out).unwrap();
    if env::var_os("EXEAT_BENCH_KEEP").is_none() {
        fs::remove_file(&out).unwrap();
    } else {
        eprintln!("{}", out.display());
    }
    let summary = profile.lines().find_map(|line| line.strip_prefix("summary: ")).unwrap();
    summary.trim().parse::<usize>().unwrap() / HOSTS
}

fn child(size: &str, kind: &str, class: &str) {
    let class = Class::ALL.into_iter().find(|known| known.name() == class).unwrap();
    let names = support::names(size.parse().unwrap());
    let mut patterns = support::patterns(&names);
    if kind == format!("{:?}", Kind::Globs) {
        patterns.extend(support::globs());
    }
    let policy = support::policy(&support::policy_text(&patterns));
    let hosts = support::hosts(&names, class, HOSTS);
    let allowed = decide_all(&policy, &hosts);
    match class {
        Class::Hit | Class::Deep | Class::Glob => assert_eq!(allowed, HOSTS, "{class:?}"),
        // Among real names, a neighbour may lie below another rule.
        Class::Near => {}
        Class::Miss => assert_eq!(allowed, 0, "{class:?}"),
    }
}

fn decide_all(policy: &Policy, hosts: &[Authority]) -> usize {
    hosts.iter().filter(|host| black_box(policy.decide(black_box(host))).is_ok()).count()
}
