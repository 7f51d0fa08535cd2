//! No host costs far more than others, counted in instructions by callgrind: what an attacker can
//! choose is the host, and a decision must not be a way to burn the proxy's time.
//!
//! `exeat check` itself is what runs, with its decisions counted one by one.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

/// Every kind of rule, and bases at many depths under one domain.
fn policy() -> String {
    let mut allow: Vec<String> = (0..400).map(|n| format!("**.site{n}.com")).collect();
    allow.extend((0..200).map(|n| format!("host{n}.zone{}.example", n % 20)));
    allow.extend((0..30).map(|n| format!("node{n}-*.pool.example")));
    allow.extend((0..10).map(|n| format!("p{n}.example:8443")));
    let chain = (3..14).map(|labels| format!("*.{}deep.example", "d.".repeat(labels - 2)));
    allow.extend(chain);
    let deny: Vec<String> = (0..200).map(|n| format!("*.bad{n}.example")).collect();
    format!(
        "[experimental_network]\nenabled = true\nallowed_domains = {allow:?}\n\
         denied_domains = {deny:?}\n"
    )
}

/// Hosts that somebody who knows the rules would try.
fn hosts() -> Vec<String> {
    let many_labels = "a.".repeat(110);
    let long_labels = format!("{0}.{0}.{0}.", "a".repeat(63));
    let chains = (0..12).map(|labels| format!("{}deep.example", "d.".repeat(labels)));
    let ordinary = (0..40).map(|n| format!("www.site{n}.com"));
    let unknown = (0..40).map(|n| format!("www.unknown{n}.net"));
    let ends = ["site1.com", "deep.example", "zone1.example", "pool.example", "bad1.example"];
    let below = ends.iter().flat_map(|end| {
        [format!("{many_labels}{end}"), format!("{long_labels}{end}"), format!("x.{end}")]
    });
    let globs = ["node1-x.pool.example", "node1-y.z.pool.example", "node299.a-b.pool.example"];
    let rest = ["p1.example:8443", "p1.example:443", "localhost", "a.localhost", "10.0.0.1"];
    ordinary
        .chain(unknown)
        .chain(chains)
        .chain(below)
        .chain(globs.into_iter().chain(rest).map(str::to_owned))
        .collect()
}

#[test]
fn no_host_costs_ten_times_the_median() {
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        skipped();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (policy_file, hosts_file) = (dir.path().join("policy.toml"), dir.path().join("hosts"));
    let hosts = hosts();
    fs::write(&policy_file, policy()).unwrap();
    fs::write(&hosts_file, hosts.join("\n")).unwrap();
    let decide = "exeat::policy::evaluate::Policy::decide";
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={decide}"))
        .arg(format!("--dump-after={decide}"))
        .arg(format!("--callgrind-out-file={}", dir.path().join("profile").display()))
        .args([env!("CARGO_BIN_EXE_exeat"), "check", "--requirements"])
        .arg(&policy_file)
        .arg("-")
        .stdin(File::open(&hosts_file).unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let written = fs::read_dir(dir.path()).unwrap().count() - 3;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(written, hosts.len(), "{said}");
    let costs: Vec<u64> =
        (1..=hosts.len()).map(|number| instructions(dir.path(), number)).collect();
    let mut sorted = costs.clone();
    sorted.sort_unstable();
    let median = sorted[sorted.len() / 2];
    assert!(median > 0);
    let (worst, host) = costs.iter().zip(&hosts).max().unwrap();
    assert!(*worst <= 10 * median, "{worst} instructions for {host}, median {median}");
}

/// What was counted between two dumps.
fn instructions(dir: &Path, number: usize) -> u64 {
    let dump = fs::read_to_string(dir.join(format!("profile.{number}"))).unwrap();
    let total = dump.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
    total.trim().parse().unwrap()
}

/// Says so, or fails when everything that tests use has to be there.
#[expect(clippy::print_stderr, reason = "a test says what it did not do")]
fn skipped() {
    let required = std::env::var("EXEAT_TEST_CLIENTS").is_ok_and(|value| value == "required");
    assert!(!required, "valgrind is not installed");
    eprintln!("skipped: valgrind is not installed");
}
