//! Everything that was measured, with where and of what: what JSON has, and tables are made of.

use std::{collections::BTreeMap, fmt, fs, io, path::Path};

use serde::Serialize;

use super::{
    installed::Installed,
    machine::Machine,
    measure::{Measure, Quantity},
    options::Options,
    taking::Figures,
};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) against: String,
    pub(crate) proxies: Vec<Subject>,
    /// Described, and not on this machine.
    pub(crate) missing: Vec<String>,
    /// On this machine, and not to be started: why.
    pub(crate) broken: BTreeMap<String, String>,
    pub(crate) cells: Vec<Cell>,
}

/// A proxy that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) about: String,
    pub(crate) rules: u32,
}

/// One measure of one proxy in one round.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) round: u32,
    pub(crate) proxy: String,
    pub(crate) measure: Measure,
    pub(crate) numbers: BTreeMap<Quantity, f64>,
    /// Operations that were done.
    pub(crate) done: usize,
    /// What went wrong, and how often.
    pub(crate) failed: BTreeMap<String, u64>,
    /// The share of all cores that processes of others used meanwhile, where that is known.
    pub(crate) strangers: Option<f64>,
}

impl Report {
    pub(crate) fn new(
        machine: Machine,
        options: &Options,
        installed: &[Installed],
        missing: Vec<String>,
    ) -> Self {
        let subject = |installed: &Installed| Subject {
            name: installed.description.name.clone(),
            version: installed.version.clone(),
            about: installed.description.about.clone(),
            rules: installed.description.rules.unwrap_or(options.rules),
        };
        Self {
            machine,
            rounds: options.rounds,
            seconds: options.seconds,
            against: options.against.clone(),
            proxies: installed.iter().map(subject).collect(),
            missing,
            broken: BTreeMap::new(),
            cells: Vec::new(),
        }
    }

    /// That one could not be started.
    pub(crate) fn broken(&mut self, name: &str, error: &io::Error) {
        eprintln!("{name} could not be started: {error}");
        self.broken.insert(name.to_owned(), error.to_string());
    }

    /// Writes all of it as JSON.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")
    }

    /// What was measured, by round.
    pub(crate) fn values(
        &self,
        proxy: &str,
        measure: Measure,
        quantity: Quantity,
    ) -> BTreeMap<u32, f64> {
        let cells = self.cells.iter().filter(|cell| cell.proxy == proxy && cell.measure == measure);
        cells.filter_map(|cell| Some((cell.round, *cell.numbers.get(&quantity)?))).collect()
    }
}

impl Cell {
    pub(crate) fn new(
        round: u32,
        proxy: String,
        measure: Measure,
        figures: io::Result<Figures>,
        strangers: Option<f64>,
    ) -> Self {
        let (numbers, done, failed) = match figures {
            Ok(Figures { numbers, outcome }) => (numbers, outcome.took.len(), outcome.failed),
            Err(error) => (Vec::new(), 0, BTreeMap::from([(error.to_string(), 1)])),
        };
        let numbers = numbers.into_iter().collect();
        Self { round, proxy, measure, numbers, done, failed, strangers }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round, proxy, measure, .. } = self;
        write!(f, "round {} {} {proxy}:", round + 1, measure.name())?;
        for (quantity, value) in &self.numbers {
            write!(f, " {value:.2} {};", quantity.unit())?;
        }
        for (what, count) in &self.failed {
            write!(f, " {count} failed ({what});")?;
        }
        Ok(())
    }
}
