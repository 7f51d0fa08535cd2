//! From the text of a policy file to a policy that serves, for 10 to 1,000,000 rules.

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

fn compile(criterion: &mut Criterion) {
    for size in support::sizes() {
        let text = support::policy_text(&support::patterns(&support::names(size)));
        let mut group = criterion.benchmark_group("compile");
        group.throughput(Throughput::Elements(size.try_into().unwrap()));
        group.bench_function(BenchmarkId::new("text", size), |bencher| {
            bencher.iter(|| support::policy(black_box(&text)));
        });
        let policy = support::policy(&text);
        group.bench_function(BenchmarkId::new("table", size), |bencher| {
            bencher.iter(|| policy.ruleset().rebuild(black_box(7)));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(10);
    targets = compile
}
criterion_main!(benches);
