//! The service for systemd.

use std::process::Command;

use super::{POLICY, is_healthy, start};
use crate::support::skip_optional;

const UNIT: &str = include_str!("../../../config/systemd/exeat.service");

/// The value of a key that stands once.
fn value<'t>(unit: &'t str, key: &str) -> &'t str {
    let values: Vec<&str> =
        unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect();
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values[0]
}

#[test]
fn the_service_starts_what_it_says() {
    let words: Vec<&str> = value(UNIT, "ExecStart").split_whitespace().collect();
    let (program, arguments) = words.split_first().unwrap();
    assert_eq!(*program, "/usr/local/bin/exeat");
    let directory = tempfile::tempdir().unwrap();
    let started = start(directory.path(), arguments, &[], &[POLICY]);
    assert!(is_healthy(&started.address));
    assert!(directory.path().join("audit.jsonl").exists());
    for (key, expected) in [("DynamicUser", "yes"), ("CapabilityBoundingSet", ""), ("Type", "exec")]
    {
        assert_eq!(value(UNIT, key), expected, "{key}");
    }
}

#[test]
fn systemd_reads_the_service() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("exeat.service");
    // What is not installed here would be complained about.
    let unit = UNIT.replace("/usr/local/bin/exeat", env!("CARGO_BIN_EXE_exeat"));
    let documented = |line: &&str| !line.starts_with("Documentation=");
    let unit: Vec<&str> = unit.lines().filter(documented).collect();
    std::fs::write(&path, unit.join("\n") + "\n").unwrap();
    match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let about_it: Vec<&str> = said.lines().filter(|line| line.contains("exeat")).collect();
            assert!(about_it.is_empty(), "{about_it:?}");
        }
        Err(error) => skip_optional(&format!("no systemd-analyze ({error})")),
    }
}
