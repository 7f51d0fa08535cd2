//! The rounds: every measure of every proxy in turn, so that what else the machine does hits all alike.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_rustls::rustls::{ClientConnection, pki_types::ServerName};

use super::{
    description,
    installed::Installed,
    load::Target,
    machine::{Machine, raise_descriptors},
    measure::Measure,
    options::Options,
    process::{Tree, machine_time},
    report::{Cell, Report},
    running::Running,
    table,
    taking::Figures,
    world::World,
};

/// Longer than a measure takes that comes to an end.
const TAKEN_WITHIN: Duration = Duration::from_secs(120);

/// Measures what was asked for, and prints it.
pub(crate) async fn run(options: &Options) -> io::Result<()> {
    raise_descriptors()?;
    let mut descriptions = description::read_all(&options.peers)?;
    let known: BTreeSet<String> = descriptions.iter().map(|known| known.name.clone()).collect();
    for name in options.only.iter().chain(&options.without) {
        if !known.contains(name) {
            return Err(io::Error::other(format!("{name} is not described")));
        }
    }
    descriptions.retain(|description| {
        let name = &description.name;
        (options.only.is_empty() || options.only.contains(name)) && !options.without.contains(name)
    });
    let mut missing = Vec::new();
    let mut installed = Vec::new();
    for description in descriptions {
        let name = description.name.clone();
        match Installed::find(description) {
            Some(found) => installed.push(found),
            None => missing.push(name),
        }
    }
    let mut report = Report::new(Machine::look(), options, &installed, missing);
    if options.list {
        table::print_subjects(&report);
        return Ok(());
    }
    let mut world = World::start()?;
    let mut rounds = Rounds {
        options,
        world: &mut world,
        installed: &installed,
        started: Vec::new(),
        running: BTreeMap::new(),
    };
    rounds.start(&mut report).await;
    for round in 0..options.rounds {
        rounds.round(round, &mut report).await?;
    }
    table::print(&report);
    if let Some(path) = &options.json {
        report.write(path)?;
    }
    Ok(())
}

/// What is measured, and those that run; they are stopped while it is not their turn.
#[derive(Debug)]
struct Rounds<'a> {
    options: &'a Options,
    world: &'a mut World,
    installed: &'a [Installed],
    /// Places of those that could be started.
    started: Vec<usize>,
    running: BTreeMap<usize, Running>,
}

impl Rounds<'_> {
    /// Starts all; those that cannot be started are not measured.
    async fn start(&mut self, report: &mut Report) {
        for (place, installed) in self.installed.iter().enumerate() {
            match Running::start(installed, self.options.rules, self.world).await {
                Ok(running) => {
                    running.pause().ok();
                    self.running.insert(place, running);
                    self.started.push(place);
                }
                Err(error) => report.broken(&installed.description.name, &error),
            }
        }
    }

    /// Each measure, of one proxy after the other; who comes first is another one in each round.
    async fn round(&mut self, round: u32, report: &mut Report) -> io::Result<()> {
        let mut order = self.started.clone();
        let turn = usize::try_from(round / 2).unwrap_or(0) % order.len().max(1);
        order.rotate_left(turn);
        if round % 2 == 1 {
            order.reverse();
        }
        for measure in Measure::ALL {
            let wanted = self.options.measure.is_empty() || self.options.measure.contains(measure);
            let rare = measure.is_of_a_fresh_process() && round >= self.options.idle_rounds;
            if !wanted || rare {
                continue;
            }
            for place in &order {
                if let Some(installed) = self.installed.get(*place)
                    && installed.description.takes(*measure)
                {
                    let cell = self.cell(*place, installed, *measure, round).await;
                    eprintln!("{cell}");
                    report.cells.push(cell);
                }
            }
        }
        Ok(())
    }

    async fn cell(
        &mut self,
        place: usize,
        installed: &Installed,
        measure: Measure,
        round: u32,
    ) -> Cell {
        let name = installed.description.name.clone();
        let begun = Instant::now();
        let busy = machine_time();
        let us = Tree::of(std::process::id());
        let ours = us.processor_time();
        let taken = tokio::time::timeout(TAKEN_WITHIN, async {
            if measure.is_of_a_fresh_process() {
                let rules = self.options.rules;
                let running = Running::start(installed, rules, self.world).await?;
                return self.take(&running, measure).await;
            }
            if !self.running.contains_key(&place) {
                let again = Running::start(installed, self.options.rules, self.world).await?;
                self.running.insert(place, again);
            }
            let running = self.running.get(&place).ok_or(io::ErrorKind::NotFound)?;
            running.resume()?;
            let figures = self.take(running, measure).await;
            running.pause()?;
            figures
        });
        let mut figures = taken.await.unwrap_or_else(|late| Err(late.into()));
        if let Some(running) = self.running.get_mut(&place)
            && !running.is_alive()
        {
            figures = Err(io::Error::other(format!("it has ended: {}", running.last_words())));
            self.running.remove(&place);
        }
        let strangers = (machine_time() - busy).saturating_sub(us.processor_time() - ours);
        let cores = self.cores();
        let share = strangers.as_secs_f64() / begun.elapsed().as_secs_f64() / cores;
        // Processes that came and went meanwhile are not known to be ours.
        let share = (!measure.is_of_a_fresh_process()).then_some(share);
        Cell::new(round, name, measure, figures, share)
    }

    async fn take(&self, running: &Running, measure: Measure) -> io::Result<Figures> {
        let during = Duration::from_secs_f64(self.options.seconds);
        let target = Arc::new(target(running, self.world)?);
        measure.take(&target, &|| running.tree(), during).await
    }

    fn cores(&self) -> f64 {
        std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
    }
}

fn target(running: &Running, world: &World) -> io::Result<Target> {
    let host = running.host.clone();
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let mut client =
        ClientConnection::new(Arc::clone(&world.trust), name).map_err(io::Error::other)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    Ok(Target {
        proxy: running.address,
        host,
        http: world.http.clone(),
        opaque: world.opaque.clone(),
        tls: world.tls,
        trust: Arc::clone(&world.trust),
        hello,
    })
}
