//! `Policy::decide` on parsed hosts, for each class of hosts and 10 to 1,000,000 rules.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a bench is a program for its developers"
)]

mod support;

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::Class;

const HOSTS: usize = 1_024;

fn decide(criterion: &mut Criterion) {
    for size in support::sizes() {
        measure(criterion, "decide", size, &[], &Class::PLAIN);
    }
}

fn decide_with_globs(criterion: &mut Criterion) {
    measure(criterion, "decide among 20 globs", 10_000, &support::globs(), &Class::ALL);
}

fn measure(
    criterion: &mut Criterion,
    name: &str,
    size: usize,
    globs: &[String],
    classes: &[Class],
) {
    let names = support::names(size);
    let patterns = [&support::patterns(&names), globs].concat();
    let policy = support::policy(&support::policy_text(&patterns));
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(HOSTS.try_into().unwrap()));
    for class in classes {
        let hosts = support::hosts(&names, *class, HOSTS);
        group.bench_function(BenchmarkId::new(class.name(), size), |bencher| {
            bencher.iter(|| {
                hosts.iter().filter(|host| policy.decide(black_box(host)).is_ok()).count()
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = decide, decide_with_globs
}
criterion_main!(benches);
