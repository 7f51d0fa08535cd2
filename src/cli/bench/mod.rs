//! `exeat bench`: what the user's own rules cost, beside what they would use instead.
//!
//! It measures the very code that serves: rules are compiled as `serve` compiles them, and a
//! decision is `Policy::decide`. The others get what they need for free (a host in lower case, no
//! ports, no local addresses), and say yes or no without naming a rule.

mod contestants;
mod hosts;
mod measure;
mod plot;
mod report;
mod rules;

use std::path::PathBuf;

use clap::Args;

use self::{
    contestants::Contestants,
    hosts::Hosts,
    measure::{Progress, measure},
    report::Report,
    rules::Rules,
};
use super::{Exit, complain};
use crate::settings::Environment;

#[derive(Debug, Args)]
#[command(after_help = METHOD)]
pub(super) struct Bench {
    /// The managed requirements.toml [default: `$EXEAT_REQUIREMENTS`,
    /// then /etc/codex/requirements.toml]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["preset", "rules"])]
    requirements: Option<PathBuf>,
    /// A policy that is compiled in [default: `$EXEAT_PRESET`]
    #[arg(long, value_name = "NAME", conflicts_with = "rules")]
    preset: Option<String>,
    /// A plain list, a pattern a line, taken as a list of allows
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Hosts to ask for, one a line, a tab and its class (hit, near, miss, deep) behind it or not
    /// [default: made up from the rules]
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Also measure parts of the rules, and draw cost against number of rules
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// How long to measure, in seconds, compiling aside
    #[arg(long, value_name = "S", default_value_t = 8.0)]
    seconds: f64,
}

const METHOD: &str = "Times are of batches of 64 decisions (of one, where one takes long), all \
    matchers in turn: median and 99th percentile of the batches, in nanoseconds a decision. \
    Hosts: hit, a name that a rule speaks about; near, its neighbour; miss, a name of nobody; \
    deep, four to six labels below a rule.";

impl Bench {
    pub(super) fn run(self, environment: Environment) -> Exit {
        match self.measured(environment) {
            Ok(()) => Exit::Success,
            Err(exit) => exit,
        }
    }

    fn measured(self, environment: Environment) -> Result<(), Exit> {
        let config = |error: &dyn std::fmt::Display| complain(error, Exit::Config);
        if !(self.seconds.is_finite() && (0.01..=3_600.0).contains(&self.seconds)) {
            return Err(complain(&"--seconds must be from 0.01 to 3600", Exit::Usage));
        }
        let rules = match &self.rules {
            Some(path) => Rules::of_list(path)?,
            None => Rules::of_policy(self.requirements, self.preset, environment)?,
        };
        let mut progress = Progress::start();
        let (policy, compile) = rules.compile(&mut progress)?;
        let hosts = match &self.hosts {
            Some(path) => Hosts::read(path, &policy).map_err(|error| config(&error))?,
            None => Hosts::made_up(&policy),
        };
        let contestants = Contestants::of(&policy, &mut progress);
        let timings = measure(&policy, &contestants, &hosts, self.seconds, &mut progress);
        let steps = match &self.plot {
            Some(_) => plot::steps(&policy, self.seconds, &mut progress)?,
            None => Vec::new(),
        };
        progress.end();
        let report = Report { rules: &rules, policy: &policy, compile, hosts: &hosts, timings };
        if let Some(path) = &self.plot {
            std::fs::write(path, plot::draw(&steps, rules.name())).map_err(|error| {
                let message = format!("cannot write {}: {error}", path.display());
                complain(&message, Exit::Unavailable)
            })?;
        }
        report.print(self.json)
    }
}
