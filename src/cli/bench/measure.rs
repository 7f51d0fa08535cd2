//! The clock: batches of decisions, all matchers in turn, until the time is up.

#![expect(clippy::disallowed_types, reason = "a stopwatch measures real time")]

use std::{
    hint::black_box,
    io::{self, IsTerminal as _, Write as _},
    time::Instant,
};

use super::{
    contestants::{Contestants, Matcher},
    hosts::{Asked, Class, Hosts},
};
use crate::{net::Authority, policy::Policy};

/// What was measured of one matcher.
pub(super) struct Timing {
    pub(super) name: &'static str,
    /// By class, in the order of [`Class::ALL`]; or why it was left out.
    pub(super) classes: Result<[Option<Figure>; 4], String>,
    /// Hosts about which it says otherwise than ours.
    pub(super) disagrees: usize,
}

/// Nanoseconds of one decision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure {
    pub(super) median: f64,
    pub(super) p99: f64,
}

pub(super) struct Stopwatch(Instant);

/// A line on the terminal that says how far it is; nothing, if nobody is there.
pub(super) struct Progress {
    shown: bool,
}

/// What is put on the clock.
enum Runner<'a> {
    /// From a parsed host to a decision.
    Decide(&'a Policy),
    /// The same, from the bytes of a request's target.
    Parse(&'a Policy),
    Other(&'a Matcher),
}

/// Samples of one matcher and class.
struct Series<'a> {
    runner: Runner<'a>,
    hosts: &'a [Asked],
    batch: usize,
    at: usize,
    samples: Vec<f64>,
}

/// Decisions on the clock at once.
const BATCH: usize = 64;

/// How long one matcher is on the clock before the next, in seconds.
const TURN: f64 = 0.002;

/// A decision that takes longer is timed alone.
const SLOW: f64 = 0.000_1;

/// Hosts of a class whose answers are compared before the clock starts, for slow matchers.
const COMPARED: usize = 256;

pub(super) const DECIDE: &str = "exeat";
pub(super) const PARSE: &str = "exeat, from bytes";

/// Measures everybody for about so many seconds.
pub(super) fn measure(
    policy: &Policy,
    contestants: &Contestants,
    hosts: &Hosts,
    seconds: f64,
    progress: &mut Progress,
) -> Vec<Timing> {
    let ours = [(DECIDE, Ok(Runner::Decide(policy))), (PARSE, Ok(Runner::Parse(policy)))];
    let others = contestants
        .all
        .iter()
        .map(|(name, matcher)| (*name, matcher.as_ref().map(Runner::Other).map_err(String::clone)));
    let mut tracks: Vec<_> = ours
        .into_iter()
        .chain(others)
        .map(|(name, runner)| {
            progress.say(&format!("comparing the answers of {name}"));
            let disagrees = runner.as_ref().map_or(0, |runner| runner.disagreements(policy, hosts));
            let series = runner
                .map(|runner| Class::ALL.map(|class| Series::new(runner.again(), hosts.of(class))));
            (name, disagrees, series)
        })
        .collect();
    let watch = Stopwatch::start();
    while watch.seconds() < seconds {
        progress.bar("measuring", watch.seconds() / seconds);
        for class in 0..Class::ALL.len() {
            for (_, _, series) in &mut tracks {
                let series = series.as_mut().ok().and_then(|classes| classes.get_mut(class));
                series.into_iter().for_each(Series::turn);
            }
        }
    }
    let finished = |series: [Series<'_>; 4]| series.map(Series::figure);
    tracks
        .into_iter()
        .map(|(name, disagrees, series)| Timing { name, classes: series.map(finished), disagrees })
        .collect()
}

impl<'a> Runner<'a> {
    fn again(&self) -> Self {
        match self {
            Self::Decide(policy) => Self::Decide(policy),
            Self::Parse(policy) => Self::Parse(policy),
            Self::Other(matcher) => Self::Other(matcher),
        }
    }

    #[inline]
    fn allows(&self, asked: &Asked) -> bool {
        match self {
            Self::Decide(policy) => policy.decide(&asked.authority).is_ok(),
            Self::Parse(policy) => Authority::parse_connect(asked.target.as_bytes())
                .is_ok_and(|authority| policy.decide(&authority).is_ok()),
            Self::Other(matcher) => matcher.allows(asked),
        }
    }

    fn disagreements(&self, policy: &Policy, hosts: &Hosts) -> usize {
        let mut count = 0;
        for class in Class::ALL {
            let watch = Stopwatch::start();
            for (number, asked) in hosts.of(class).iter().enumerate() {
                if number >= COMPARED && watch.seconds() > 0.5 {
                    break;
                }
                let served = policy.decide(&asked.authority).is_ok();
                count += usize::from(self.allows(asked) != served);
            }
        }
        count
    }
}

impl<'a> Series<'a> {
    fn new(runner: Runner<'a>, hosts: &'a [Asked]) -> Self {
        let samples = Vec::with_capacity(1 << 12);
        let mut series = Self { runner, hosts, batch: 1, at: 0, samples };
        series.sample();
        let one = series.samples.drain(..).next().unwrap_or(0.0);
        if one < SLOW * 1e9 {
            series.batch = BATCH;
            (0..16).for_each(|_| series.sample());
            series.samples.clear();
        }
        series
    }

    /// Asks for all hosts twice, each time for as long as a turn lasts at most. The first time does
    /// not count: the others have been here, and the caches are theirs.
    fn turn(&mut self) {
        let before = self.samples.len();
        self.pass();
        self.samples.truncate(before);
        self.pass();
    }

    fn pass(&mut self) {
        let watch = Stopwatch::start();
        for _ in 0..self.hosts.len().div_ceil(self.batch) {
            self.sample();
            if watch.seconds() > TURN {
                return;
            }
        }
    }

    /// Puts one batch on the clock.
    fn sample(&mut self) {
        if self.hosts.is_empty() {
            return;
        }
        if self.at + self.batch > self.hosts.len() {
            self.at = 0;
        }
        let range = self.at..(self.at + self.batch).min(self.hosts.len());
        self.at = range.end;
        let hosts = self.hosts.get(range).unwrap_or_default();
        let watch = Stopwatch::start();
        for asked in hosts {
            black_box(self.runner.allows(black_box(asked)));
        }
        let taken = watch.seconds() * 1e9;
        self.samples.push(taken / f64::from(u32::try_from(hosts.len()).unwrap_or(1).max(1)));
    }

    fn figure(mut self) -> Option<Figure> {
        self.samples.sort_by(f64::total_cmp);
        let at = |hundredths: usize| {
            let place = self.samples.len().saturating_sub(1) * hundredths / 100;
            self.samples.get(place).copied()
        };
        Some(Figure { median: at(50)?, p99: at(99)? })
    }
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

impl Progress {
    pub(super) fn start() -> Self {
        Self { shown: io::stderr().is_terminal() }
    }

    pub(super) fn say(&mut self, what: &str) {
        if self.shown {
            write!(io::stderr(), "\r\x1b[K{what} ...").ok();
        }
    }

    /// `share` is what is done of it, from 0 to 1.
    pub(super) fn bar(&mut self, what: &str, share: f64) {
        const WIDTH: usize = 30;
        let done =
            (0..WIDTH).filter(|step| f64::from(u32::try_from(*step).unwrap_or(0)) < share * 30.0);
        let done = done.count();
        self.say(&format!("{what} [{}{}]", "#".repeat(done), ".".repeat(WIDTH - done)));
    }

    /// Clears the line.
    pub(super) fn end(&mut self) {
        if self.shown {
            write!(io::stderr(), "\r\x1b[K").ok();
        }
    }
}
