//! exeat and the proxies that people would use in its place, side by side: processor time of an
//! operation, memory of an idle tunnel, latency at half of the peak.
//!
//! One command starts origins, a floor, a reference and every proxy that it finds on this machine,
//! all on loopback, measures them in turn, round by round, and prints tables. What it measures and
//! what it cannot tell is written in `benches/README.md`. Linux, because it looks into `/proc`.
//!
//! The same binary is also the origins, the floor and the reference, as children of itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a program for measuring, which dials without a permit and by the wall's clock; what goes wrong ends it"
)]

mod description;
mod floor;
mod installed;
mod load;
mod machine;
mod matrix;
mod measure;
mod names;
mod options;
mod origin;
mod process;
mod reference;
mod report;
mod running;
mod table;
mod taking;
mod world;

use std::{io, process::ExitCode};

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use self::{options::Options, options::Role};

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.role {
        Some(Role::Origins { dir }) => origin::serve(dir),
        Some(Role::Floor { port, host, way }) => floor::serve(*port, host, *way),
        Some(Role::Reference { port, allow }) => reference::serve(*port, allow),
        None => measure_all(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxies: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Children are ended as values are dropped: also when a signal ends this.
fn measure_all(options: &Options) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = matrix::run(options) => done,
            _ = interrupt.recv() => Err(io::Error::other("interrupted")),
            _ = terminate.recv() => Err(io::Error::other("terminated")),
        }
    })
}
