//! What the processes of a proxy use: processor time, memory, wake-ups; from clocks and `/proc`.

use std::{collections::BTreeMap, fs, time::Duration};

use nix::{time::clock_getcpuclockid, unistd::Pid};

/// A process and its descendants, as they are at the moment.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    processes: Vec<u32>,
}

impl Tree {
    /// That process and all below it.
    pub(crate) fn of(root: u32) -> Self {
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for process in all_processes() {
            if let Some(parent) = parent(process) {
                children.entry(parent).or_default().push(process);
            }
        }
        let mut processes = vec![root];
        let mut next = 0;
        while let Some(process) = processes.get(next) {
            next += 1;
            processes.extend(children.remove(process).unwrap_or_default());
        }
        Self { processes }
    }

    /// The processor time that they have used, in user space and in the kernel, to the nanosecond;
    /// with that of threads that have ended, without that of processes that have.
    pub(crate) fn processor_time(&self) -> Duration {
        self.processes.iter().filter_map(|process| processor_time(*process)).sum()
    }

    /// Their resident memory in bytes; what several of them share counts for each.
    pub(crate) fn resident(&self) -> u64 {
        let resident = |process: &u32| field(&status(*process)?, "VmRSS:");
        self.processes.iter().filter_map(resident).sum::<u64>() * 1024
    }

    /// Their memory in bytes, pages shared with other processes by their share (PSS); where that
    /// may not be read, what is resident. For differences: others may come to share, or leave.
    pub(crate) fn proportional(&self) -> u64 {
        let proportional = |process: &u32| {
            let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok();
            let share = text.and_then(|text| field(&text, "Pss:"));
            share.or_else(|| field(&status(*process)?, "VmRSS:"))
        };
        self.processes.iter().filter_map(proportional).sum::<u64>() * 1024
    }

    /// How often their threads gave up or lost a processor; each is a wake-up.
    pub(crate) fn switches(&self) -> u64 {
        self.processes.iter().map(|process| switches(*process)).sum()
    }
}

/// Processor time that all of the machine has spent on anything but waiting; in ticks of 10 ms.
pub(crate) fn machine_time() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbers = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let numbers: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; what guests used is in user.
    let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|place| numbers.get(*place)).sum::<u64>();
    Duration::from_millis(busy * 10)
}

/// Of one process; none if it is gone.
fn processor_time(process: u32) -> Option<Duration> {
    let pid = Pid::from_raw(i32::try_from(process).ok()?);
    Some(clock_getcpuclockid(pid).ok()?.now().ok()?.into())
}

fn all_processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn parent(process: u32) -> Option<u32> {
    field(&status(process)?, "PPid:")?.try_into().ok()
}

fn status(process: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{process}/status")).ok()
}

fn switches(process: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let of_task = |text: String| {
        let both = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
        both.iter().filter_map(|name| field(&text, name)).sum::<u64>()
    };
    tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok()).map(of_task).sum()
}

/// The number after that word at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
