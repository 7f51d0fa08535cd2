//! What the proxy says about itself: its audit, read as it is rotated, and its process.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
};

use serde_json::Value;

/// Audit records so far: every request has one decision, and every allowed one has one end.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
    pub(crate) ends: BTreeMap<String, u64>,
    /// Requests that were let through and have not ended.
    pub(crate) open: HashSet<u64>,
    pub(crate) faults: Vec<String>,
}

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    pub(crate) resident_kb: u64,
}

impl Ledger {
    /// Reads a file that is not written to any more.
    pub(crate) fn read(&mut self, path: &Path) {
        for line in fs::read_to_string(path).unwrap().lines() {
            self.take(&serde_json::from_str(line).unwrap());
        }
    }

    pub(crate) fn ended(&self) -> u64 {
        self.ends.values().sum()
    }

    fn take(&mut self, record: &Value) {
        let id = record["exeat.request.id"].as_u64().unwrap_or_default();
        match (record["event.name"].as_str(), record["network.policy.decision"].as_str()) {
            (Some("exeat.decision"), Some("allow")) => {
                self.allowed += 1;
                if !self.open.insert(id) {
                    self.faults.push(format!("two decisions: {record}"));
                }
            }
            (Some("exeat.decision"), Some(_)) => self.denied += 1,
            (Some("exeat.end"), _) => {
                let ending = record["exeat.ending"].as_str().unwrap_or_default();
                *self.ends.entry(ending.to_owned()).or_default() += 1;
                if !self.open.remove(&id) {
                    self.faults.push(format!("an end without a decision: {record}"));
                }
            }
            _ => self.faults.push(record.to_string()),
        }
    }
}

impl Holdings {
    pub(crate) fn of(pid: u32) -> Self {
        let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Self {
            descriptors: count("fd"),
            threads: count("task"),
            resident_kb: resident.trim().trim_end_matches(" kB").parse().unwrap(),
        }
    }
}
