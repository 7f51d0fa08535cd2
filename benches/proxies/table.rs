//! Tables in Markdown: medians of the rounds with their spread, and ratios made round by round.

use std::collections::BTreeMap;

use super::{
    measure::{Measure, Quantity},
    report::{Report, Subject},
};

/// One column: a quantity of a measure.
type Column = (Measure, Quantity);

const PROCESSOR: &[Column] = &[
    (Measure::Connect, Quantity::MicrosPerOperation),
    (Measure::Denied, Quantity::MicrosPerOperation),
    (Measure::Requests1, Quantity::MicrosPerOperation),
    (Measure::Requests64, Quantity::MicrosPerOperation),
    (Measure::Origins, Quantity::MicrosPerOperation),
    (Measure::Uploads, Quantity::MillisPerGigabyte),
    (Measure::Bulk1, Quantity::MillisPerGigabyte),
    (Measure::Bulk8, Quantity::MillisPerGigabyte),
    (Measure::BulkUp, Quantity::MillisPerGigabyte),
    (Measure::BulkTls, Quantity::MillisPerGigabyte),
];

const LATENCY: &[Column] = &[
    (Measure::PacedRequests, Quantity::Rate),
    (Measure::PacedRequests, Quantity::Median),
    (Measure::PacedRequests, Quantity::P99),
    (Measure::PacedConnect, Quantity::Rate),
    (Measure::PacedConnect, Quantity::Median),
    (Measure::PacedConnect, Quantity::P99),
];

const MEMORY: &[Column] = &[
    (Measure::Memory, Quantity::Base),
    (Measure::Idle1000, Quantity::PerTunnel),
    (Measure::Idle9000, Quantity::PerTunnel),
    (Measure::Idle9000, Quantity::Held),
    (Measure::Idle1000, Quantity::WakeUps),
    (Measure::Idle9000, Quantity::WakeUps),
];

const THROUGHPUT: &[Column] = &[
    (Measure::Connect, Quantity::Rate),
    (Measure::Denied, Quantity::Rate),
    (Measure::Requests1, Quantity::Rate),
    (Measure::Requests64, Quantity::Rate),
    (Measure::Origins, Quantity::Rate),
    (Measure::Uploads, Quantity::Throughput),
    (Measure::Bulk1, Quantity::Throughput),
    (Measure::Bulk8, Quantity::Throughput),
    (Measure::BulkUp, Quantity::Throughput),
    (Measure::BulkTls, Quantity::Throughput),
];

/// More failures than that among a hundred operations make a figure doubtful.
const DOUBTFUL: f64 = 1.0;

/// All tables, with what is to be known of them.
pub(crate) fn print(report: &Report) {
    print_subjects(report);
    println!("\nMedian of the rounds (least–most).\n");
    println!("### Processor time of the proxy\n");
    print_table(report, PROCESSOR, |subject, column| values(report, &subject.name, column));
    let against = &report.against;
    println!("\n### Processor time of {against}, as a multiple of each\n");
    print_table(report, PROCESSOR, |subject, column| ratios(report, &subject.name, column));
    println!("\n### Latency at half of its own peak rate\n");
    print_table(report, LATENCY, |subject, column| values(report, &subject.name, column));
    println!("\n### Memory\n");
    print_table(report, MEMORY, |subject, column| values(report, &subject.name, column));
    println!("\n### Throughput, beside load and origins on the same cores\n");
    print_table(report, THROUGHPUT, |subject, column| values(report, &subject.name, column));
    print_noise(report);
    print_failures(report);
}

/// Where, of what, and of what not.
pub(crate) fn print_subjects(report: &Report) {
    let machine = &report.machine;
    println!(
        "{}, {} ({} cores, {} GiB), Linux {}, {} descriptors, exeat at commit {}; {} rounds of {} s.\n",
        machine.date,
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.descriptors,
        machine.commit,
        report.rounds,
        report.seconds
    );
    println!("| proxy | version | rules | |\n|---|---|---|---|");
    for Subject { name, version, about, rules } in &report.proxies {
        let rules = if *rules == 0 { String::new() } else { rules.to_string() };
        println!("| {name} | {version} | {rules} | {about} |");
    }
    let named = |names: &[String]| if names.is_empty() { "none".into() } else { names.join(", ") };
    println!("\nNot found on this machine: {}.", named(&report.missing));
    for (name, why) in &report.broken {
        println!("Could not be started: {name}: {why}");
    }
}

/// One row a proxy; rows and columns without a figure are left out.
fn print_table(report: &Report, columns: &[Column], values: impl Fn(&Subject, Column) -> Vec<f64>) {
    let filled = |column: &&Column| {
        report.proxies.iter().any(|subject| !values(subject, **column).is_empty())
    };
    let columns: Vec<Column> = columns.iter().filter(filled).copied().collect();
    if columns.is_empty() {
        println!("Not measured.");
        return;
    }
    let heads = columns
        .iter()
        .map(|(measure, quantity)| format!(" {}, {} |", measure.name(), quantity.unit()));
    println!("| |{}", heads.collect::<String>());
    println!("|---|{}", "---|".repeat(columns.len()));
    for subject in &report.proxies {
        let cells: Vec<String> =
            columns.iter().map(|column| spread(values(subject, *column))).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            println!("| {} | {} |", subject.name, cells.join(" | "));
        }
    }
}

fn values(report: &Report, proxy: &str, (measure, quantity): Column) -> Vec<f64> {
    report.values(proxy, measure, quantity).into_values().collect()
}

/// Of the rounds in which both were measured, how many times the other's the one's figure is.
fn ratios(report: &Report, proxy: &str, (measure, quantity): Column) -> Vec<f64> {
    let other = report.values(proxy, measure, quantity);
    let one = report.values(&report.against, measure, quantity);
    let ratio = |(round, other): (u32, f64)| Some(one.get(&round)? / other);
    other.into_iter().filter_map(ratio).filter(|ratio| ratio.is_finite()).collect()
}

/// `median (least–most)`; nothing if there is nothing.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let Some(median) = median(&values) else { return String::new() };
    match values.as_slice() {
        [least, .., most] => format!("{} ({}–{})", short(median), short(*least), short(*most)),
        _ => short(median),
    }
}

/// Of sorted values.
fn median(values: &[f64]) -> Option<f64> {
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get(values.len().saturating_sub(1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// Three digits, or all before the point.
fn short(value: f64) -> String {
    match value {
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// What else the machine did.
fn print_noise(report: &Report) {
    let mut shares: Vec<f64> = report.cells.iter().filter_map(|cell| cell.strangers).collect();
    shares.sort_by(f64::total_cmp);
    if let (Some(median), Some(most)) = (median(&shares), shares.last()) {
        println!(
            "\nOther processes used {:.0} % of the cores (median of all measurements; most {:.0} %).",
            median * 100.0,
            most * 100.0
        );
    }
}

/// What went wrong; more than a few failures make a figure doubtful.
fn print_failures(report: &Report) {
    let mut failures: BTreeMap<(String, String, &str), (u64, usize)> = BTreeMap::new();
    for cell in &report.cells {
        for (what, count) in &cell.failed {
            let place = (cell.proxy.clone(), cell.measure.name(), what.as_str());
            let (failed, done) = failures.entry(place).or_default();
            *failed += count;
            *done += cell.done;
        }
    }
    for ((proxy, measure, what), (failed, done)) in failures {
        let share = failed as f64 * 100.0 / (failed as f64 + done as f64);
        let weight = if share > DOUBTFUL { "doubtful" } else { "few" };
        println!("Failed, {weight}: {proxy}, {measure}: {failed} beside {done} done: {what}");
    }
}
