//! A network namespace of a test's own: the test runs again, alone, in a process within.

use std::process::{Command, Stdio};

use super::skip_optional;

/// Set within.
const INSIDE: &str = "EXEAT_TEST_INSIDE";

/// Whether the caller is within such a network. If not, runs the test of that name there, if that can be
/// had, and passes on what it said.
pub(crate) fn in_own_network(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        skip_optional("a network namespace, which root makes");
        return false;
    }
    let child = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output();
    let Ok(child) = child else {
        skip_optional("unshare is not installed");
        return false;
    };
    let said = String::from_utf8_lossy(&child.stdout);
    print!("{said}{}", String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && said.contains("1 passed"));
    false
}

/// Gives addresses to its loopback; false if they cannot be had.
pub(crate) fn add_addresses(addresses: &[&str]) -> bool {
    let ip = |arguments: &[&str]| {
        let done = Command::new("ip").args(arguments).status();
        done.is_ok_and(|status| status.success())
    };
    ip(&["link", "set", "lo", "up"])
        && addresses.iter().all(|address| {
            let without_waiting: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
            ip(&[&["addr", "add", *address, "dev", "lo"], without_waiting].concat())
        })
}
